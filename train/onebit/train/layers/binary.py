"""Binary layers: both factors of every product are -1 or +1. The package's docstring has the converter's protocol.

Legend: N batch, C channels, H height, W width, O output channels, I input channels; tensors are NCHW, weights OIHW.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812 - the name PyTorch's own documentation uses
from torch import Tensor, nn

from onebit.core.errors import BadInputError
from onebit.train.layers.padding import pad_around, pad_mode_of
from onebit.train.layers.per_channel import PerChannel
from onebit.train.quantizers import Quantizer, get_quantizer

WeightTransform: TypeAlias = Callable[[Tensor], Tensor]
"""What a training method does to a latent weight before its quantizer: same shape, differentiable."""


def _transformed(layer: QuantConv2d | QuantLinear) -> Tensor:
    return layer.weight if layer.weight_transform is None else layer.weight_transform(layer.weight)


class QuantConv2d(PerChannel, nn.Conv2d):
    """Binary 2-D convolution: y = conv(q_in(x), q_kernel(w)), both factors -1 or +1, with what `PerChannel` adds.

    The padding is applied behind the input quantizer. ``padding="same"`` with ``pad_value=1`` surrounds the image with
    +1, which is a bit like any other on the device; ``pad_value=0`` ("same-zero") needs a correction there and forbids
    packed output. A number for `padding` is PyTorch's symmetric padding, which at stride 2 on even maps starts one
    pixel earlier than "same" and costs a copy of the packed map on the device. The result is an integer in [-K, K],
    K = kh * kw * I / groups, exact in float32 for K < 2^24.
    """

    onebit_kind: ClassVar[str] = "quant_conv2d"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        *,
        stride: int | tuple[int, int] = 1,
        padding: str | int | tuple[int, int] = "same",
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        pad_value: int = 1,
        input_quantizer: str | Quantizer = "ste_sign",
        kernel_quantizer: str | Quantizer = "ste_sign",
    ) -> None:
        mode, symmetric = pad_mode_of(padding)
        super().__init__(
            in_channels, out_channels, kernel_size, stride, symmetric, dilation=dilation, groups=groups, bias=False
        )
        if pad_value not in (0, 1):
            raise BadInputError(f"pad_value {pad_value!r} of a binary convolution", fix="use 1 or 0")
        self.pad_mode = mode
        self.pad_value = pad_value
        self.input_quantizer = get_quantizer(input_quantizer)
        self.kernel_quantizer = get_quantizer(kernel_quantizer)
        self.weight_transform: WeightTransform | None = None
        self.register_parameter("input_threshold", None)
        self.register_parameter("output_scale", None)

    def quantized_weight(self) -> Tensor:
        """What `kernel_quantizer` makes of the weight, float32 OIHW: -1.0 / +1.0 unless it scales them."""
        return self.kernel_quantizer(_transformed(self))

    def forward(self, x: Tensor) -> Tensor:
        """[N, I, H, W] -> [N, O, H', W']."""
        return self._scaled(self.convolve(x, self.quantized_weight()))

    def convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        """The padded signs of `x` convolved with `weight`."""
        x = pad_around(self.input_quantizer(self._thresholded(x)), self, float(self.pad_value))
        return F.conv2d(x, weight, None, self.stride, 0, self.dilation, self.groups)

    def extra_repr(self) -> str:
        inherited: str = super().extra_repr()  # type: ignore[no-untyped-call]
        return f"{inherited}, pad_mode={self.pad_mode}, pad_value={self.pad_value}"


class XnorConv2d(QuantConv2d):
    """Binary convolution with XNOR-Net's scale: y = a * conv(q_in(x), q_kernel(w)), a[o] = mean |w[o]| > 0.

    The mean takes part in the gradient. On the device a goes into the output multiplier or the thresholds.
    Source: Rastegari, Ordonez, Redmon, Farhadi, "XNOR-Net", 2016 (arXiv 1603.05279).
    """

    def channel_scale(self) -> Tensor:
        """a as float32 [O, 1, 1, 1]."""
        return _transformed(self).abs().mean(dim=(1, 2, 3), keepdim=True)

    def quantized_weight(self) -> Tensor:
        """The weight as -a / +a, float32 OIHW."""
        return super().quantized_weight() * self.channel_scale()

    def forward(self, x: Tensor) -> Tensor:
        """[N, I, H, W] -> [N, O, H', W']: an exact integer times a, rounded once."""
        y = self.convolve(x, super().quantized_weight()) * self.channel_scale().flatten()[:, None, None]
        return self._scaled(y)


class QuantLinear(PerChannel, nn.Linear):
    """Binary dense layer: y = q_in(x) @ q_kernel(w).T, an integer in [-in_features, in_features].

    With what `PerChannel` adds.
    """

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
        self.register_parameter("input_threshold", None)
        self.register_parameter("output_scale", None)

    def quantized_weight(self) -> Tensor:
        """What `kernel_quantizer` makes of the weight, float32 [out_features, in_features]; see QuantConv2d."""
        return self.kernel_quantizer(_transformed(self))

    def forward(self, x: Tensor) -> Tensor:
        """[N, in_features] -> [N, out_features]."""
        return self._scaled(F.linear(self.input_quantizer(self._thresholded(x)), self.quantized_weight()))


BinaryLayer: TypeAlias = QuantConv2d | QuantLinear


def binary_layers(module: nn.Module) -> dict[str, BinaryLayer]:
    """All binary layers in `module` by their qualified name, in module order."""
    return {name: layer for name, layer in module.named_modules() if isinstance(layer, QuantConv2d | QuantLinear)}


def binary_weights(module: nn.Module) -> list[Tensor]:
    """The latent weights of all binary layers in `module`, in module order."""
    return [layer.weight for layer in binary_layers(module).values()]


def bake_weights(layer: BinaryLayer) -> None:
    """Moves the weight transform into the latent weight: `quantized_weight` stays, and what learns on can flip it.

    The latent weight keeps its mean magnitude, where `quantized_weight` does not depend on it. A transform may have a
    ``latent``, which gives the same signs as the transform itself, and in a second call the same once more.
    """
    transform = layer.weight_transform
    if transform is None:
        return
    with torch.no_grad():
        wanted, exact, magnitude = layer.quantized_weight(), transform(layer.weight), layer.weight.abs().mean()
        latent = getattr(transform, "latent", transform)(layer.weight)
        layer.weight_transform = None
        layer.weight.copy_(latent * (magnitude / latent.abs().mean()))
        if not torch.equal(layer.quantized_weight(), wanted):
            layer.weight.copy_(exact)
