"""Real-valued layers around the binary ones: convolution, activations, shifts and scales per channel, shortcuts, gates.

Legend: N batch, C channels, H height, W width; maps are [N, C, H, W]. All but `SameConv2d` are made of operations that
torch.fx traces, so that the converter needs to know none of them by name.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F  # noqa: N812 - the name PyTorch's own documentation uses
from torch import Tensor, nn

from onebit.train.layers.padding import pad_around, pad_mode_of


class SameConv2d(nn.Conv2d):
    """Real-valued 2-D convolution, with TensorFlow's SAME zero padding at any stride, VALID, or PyTorch's padding.

    With ``groups=in_channels`` it is a depthwise convolution.
    """

    onebit_kind: ClassVar[str] = "same_conv2d"
    pad_value: ClassVar[int] = 0

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
        bias: bool = True,
    ) -> None:
        mode, symmetric = pad_mode_of(padding)
        super().__init__(
            in_channels, out_channels, kernel_size, stride, symmetric, dilation=dilation, groups=groups, bias=bias
        )
        self.pad_mode = mode

    def forward(self, x: Tensor) -> Tensor:
        """[N, I, H, W] -> [N, O, H', W']."""
        x = pad_around(x, self, 0.0)
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)

    def extra_repr(self) -> str:
        inherited: str = super().extra_repr()  # type: ignore[no-untyped-call]
        return f"{inherited}, pad_mode={self.pad_mode}"


def _per_channel(channels: int, value: float) -> nn.Parameter:
    return nn.Parameter(torch.full((1, channels, 1, 1), value))


class RSign(nn.Module):
    """Learned threshold per channel in front of a binary layer: y = x - t, whose sign the binary layer takes.

    On the device it moves into the thresholds of the layer before, or stays one addition behind a residual sum.
    Source: Liu, Shen, Savvides, Cheng, "ReActNet", 2020 (arXiv 2003.03488).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.threshold = _per_channel(channels, 0.0)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> the same shape."""
        return x - self.threshold


class ChannelShift(nn.Module):
    """y = x + b with one learned b per channel, 0 at first."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shift = _per_channel(channels, 0.0)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> the same shape."""
        return x + self.shift


class ChannelScale(nn.Module):
    """y = x * a with one learned a per channel, `initial` at first; behind a binary convolution it costs nothing."""

    def __init__(self, channels: int, initial: float = 1.0) -> None:
        super().__init__()
        self.scale = _per_channel(channels, initial)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> the same shape."""
        return x * self.scale


class ChannelPReLU(nn.Module):
    """y = x for x >= 0, else slope * x, with one learned slope per channel.

    `nonnegative` uses |weight| as the slope: the function then never falls, sign(y) == sign(x) for slopes above 0, and
    the sign of the next binary layer can be taken before it.
    """

    def __init__(self, channels: int, *, slope: float = 0.25, nonnegative: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), slope))
        self.nonnegative = nonnegative

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> the same shape."""
        return F.prelu(x, self.weight.abs() if self.nonnegative else self.weight)


class RPReLU(nn.Sequential):
    """PReLU between two learned shifts: y = prelu(x + b) + c per channel.

    Source: Liu, Shen, Savvides, Cheng, "ReActNet", 2020 (arXiv 2003.03488).
    """

    def __init__(self, channels: int, *, nonnegative: bool = True) -> None:
        super().__init__(
            ChannelShift(channels), ChannelPReLU(channels, nonnegative=nonnegative), ChannelShift(channels)
        )


class RepeatChannels(nn.Module):
    """The channels one after the other, `times` times, and then the first `rest` of them once more.

    A shortcut that grows without weights; on the device a CONCATENATION (with `rest` also a SLICE).
    """

    def __init__(self, times: int, rest: int = 0) -> None:
        super().__init__()
        self.times = times
        self.rest = rest

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, times * C + rest, H, W]."""
        parts = [x] * self.times + ([x[:, : self.rest]] if self.rest else [])
        return torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]

    def extra_repr(self) -> str:
        return f"times={self.times}, rest={self.rest}"


class ChannelGate(nn.Module):
    """A factor in (0, 1) per channel, computed from the means of the input's channels: squeeze and excite.

    gate = sigmoid(W2 relu(W1 mean(x) + b1) + b2), with in_channels // reduction values in between.
    Source: Hu, Shen, Sun, "Squeeze-and-Excitation Networks", 2018 (arXiv 1709.01507).
    """

    def __init__(self, in_channels: int, out_channels: int, *, reduction: int = 8) -> None:
        super().__init__()
        hidden = max(in_channels // reduction, 1)
        self.squeeze = nn.Conv2d(in_channels, hidden, 1)
        self.excite = nn.Conv2d(hidden, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, I, H, W] -> [N, O, 1, 1]."""
        return torch.sigmoid(self.excite(F.relu(self.squeeze(x.mean(dim=(2, 3), keepdim=True)))))
