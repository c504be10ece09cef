"""Binary and real-valued layers with TensorFlow's SAME padding.

Legend: N batch, C channels, H height, W width, O output channels, I input channels; tensors are NCHW, weights OIHW.

The converter reads these layers by duck typing, without importing this package. The protocol, stable by contract:

| attribute | on | meaning |
|---|---|---|
| ``onebit_kind`` | all | "quant_conv2d", "quant_linear" or "same_conv2d" |
| ``input_quantizer`` | quant_* | callable applied to the input, with ``name`` and ``deploys_as`` (see quantizers) |
| ``kernel_quantizer`` | quant_* | the same for the weight |
| ``quantized_weight()`` | quant_* | the weight as exactly -1.0 or +1.0, OIHW or [out, in] |
| ``pad_mode`` | *_conv2d | "same" (TensorFlow's rule) or "valid" |
| ``pad_value`` | *_conv2d | what surrounds the input: 1 or 0 behind the sign (quant), 0 (real-valued) |
| ``kernel_size stride dilation groups in_channels out_channels`` | *_conv2d | as in `torch.nn.Conv2d` |
| ``in_features out_features`` | quant_linear | as in `torch.nn.Linear` |

Traced with torch.fx they are leaves: a tracer must return True from ``is_leaf_module`` for a module that has
``onebit_kind``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812 - the name PyTorch's own documentation uses
from torch import Tensor, nn

from onebit.core.errors import BadInputError
from onebit.train.quantizers import Quantizer, get_quantizer

PAD_MODES = ("same", "valid")


def same_padding(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """(before, after) of TensorFlow's SAME rule along one axis of `size` elements.

    The output has ceil(size / stride) elements; of an odd total the larger half goes behind the data. At stride 2 this
    differs from PyTorch's symmetric ``padding=k//2``, which is why that one is not used.
    """
    output = -(-size // stride)
    total = max((output - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


def pad_same(x: Tensor, conv: nn.Conv2d, value: float) -> Tensor:
    """`x` [N, C, H, W] padded with `value` for the kernel, stride and dilation of `conv`."""
    top, bottom = same_padding(x.shape[2], conv.kernel_size[0], conv.stride[0], conv.dilation[0])
    left, right = same_padding(x.shape[3], conv.kernel_size[1], conv.stride[1], conv.dilation[1])
    return F.pad(x, (left, right, top, bottom), value=value) if top + bottom + left + right else x


def _checked_pad_mode(pad_mode: str) -> str:
    if pad_mode not in PAD_MODES:
        raise BadInputError(f"unknown padding {pad_mode!r}", fix=f"use one of: {', '.join(PAD_MODES)}")
    return pad_mode


WeightTransform: TypeAlias = Callable[[Tensor], Tensor]
"""What a training method does to a latent weight before its quantizer: same shape, differentiable."""


def _transformed(layer: QuantConv2d | QuantLinear) -> Tensor:
    return layer.weight if layer.weight_transform is None else layer.weight_transform(layer.weight)


class QuantConv2d(nn.Conv2d):
    """Binary 2-D convolution without bias: y = conv(q_in(x), q_kernel(w)), both factors -1 or +1.

    The padding is applied behind the input quantizer. ``padding="same"`` with ``pad_value=1`` surrounds the image with
    +1, which is a bit like any other on the device; ``pad_value=0`` ("same-zero") needs a correction there and forbids
    packed output. The result is an integer in [-K, K], K = kh * kw * I / groups, exact in float32 for K < 2^24.
    """

    onebit_kind: ClassVar[str] = "quant_conv2d"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        *,
        stride: int | tuple[int, int] = 1,
        padding: str = "same",
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        pad_value: int = 1,
        input_quantizer: str | Quantizer = "ste_sign",
        kernel_quantizer: str | Quantizer = "ste_sign",
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride=stride, dilation=dilation, groups=groups, bias=False
        )
        if pad_value not in (0, 1):
            raise BadInputError(f"pad_value {pad_value!r} of a binary convolution", fix="use 1 or 0")
        self.pad_mode = _checked_pad_mode(padding)
        self.pad_value = pad_value
        self.input_quantizer = get_quantizer(input_quantizer)
        self.kernel_quantizer = get_quantizer(kernel_quantizer)
        self.weight_transform: WeightTransform | None = None

    def quantized_weight(self) -> Tensor:
        """The weight as -1.0 / +1.0, float32 OIHW."""
        return self.kernel_quantizer(_transformed(self))

    def forward(self, x: Tensor) -> Tensor:
        """[N, I, H, W] -> [N, O, H', W']."""
        x = self.input_quantizer(x)
        if self.pad_mode == "same":
            x = pad_same(x, self, float(self.pad_value))
        return F.conv2d(x, self.quantized_weight(), None, self.stride, 0, self.dilation, self.groups)

    def extra_repr(self) -> str:
        inherited: str = super().extra_repr()  # type: ignore[no-untyped-call]
        return f"{inherited}, pad_mode={self.pad_mode}, pad_value={self.pad_value}"


class QuantLinear(nn.Linear):
    """Binary dense layer without bias: y = q_in(x) @ q_kernel(w).T, an integer in [-in_features, in_features]."""

    onebit_kind: ClassVar[str] = "quant_linear"

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        input_quantizer: str | Quantizer = "ste_sign",
        kernel_quantizer: str | Quantizer = "ste_sign",
    ) -> None:
        super().__init__(in_features, out_features, bias=False)
        self.input_quantizer = get_quantizer(input_quantizer)
        self.kernel_quantizer = get_quantizer(kernel_quantizer)
        self.weight_transform: WeightTransform | None = None

    def quantized_weight(self) -> Tensor:
        """The weight as -1.0 / +1.0, float32 [out_features, in_features]."""
        return self.kernel_quantizer(_transformed(self))

    def forward(self, x: Tensor) -> Tensor:
        """[N, in_features] -> [N, out_features]."""
        return F.linear(self.input_quantizer(x), self.quantized_weight())


class SameConv2d(nn.Conv2d):
    """Real-valued 2-D convolution, with TensorFlow's SAME zero padding at any stride (or VALID)."""

    onebit_kind: ClassVar[str] = "same_conv2d"
    pad_value: ClassVar[int] = 0

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        *,
        stride: int | tuple[int, int] = 1,
        padding: str = "same",
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride=stride, dilation=dilation, groups=groups, bias=bias
        )
        self.pad_mode = _checked_pad_mode(padding)

    def forward(self, x: Tensor) -> Tensor:
        """[N, I, H, W] -> [N, O, H', W']."""
        x = pad_same(x, self, 0.0) if self.pad_mode == "same" else x
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)

    def extra_repr(self) -> str:
        inherited: str = super().extra_repr()  # type: ignore[no-untyped-call]
        return f"{inherited}, pad_mode={self.pad_mode}"


BinaryLayer: TypeAlias = QuantConv2d | QuantLinear


def binary_layers(module: nn.Module) -> dict[str, BinaryLayer]:
    """All binary layers in `module` by their qualified name, in module order."""
    return {name: layer for name, layer in module.named_modules() if isinstance(layer, QuantConv2d | QuantLinear)}


def binary_weights(module: nn.Module) -> list[Tensor]:
    """The latent weights of all binary layers in `module`, in module order."""
    return [layer.weight for layer in binary_layers(module).values()]


def bake_weights(layer: BinaryLayer) -> None:
    """Replaces the latent weight by what it stands for, -1.0 or +1.0, and drops the weight transform."""
    with torch.no_grad():
        layer.weight.copy_(layer.quantized_weight())
    layer.weight_transform = None
