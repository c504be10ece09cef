"""Networks with a shortcut around every binary convolution: Bi-Real ResNet, RealToBinary, ReActNet, hybrid ResNet-8.

Legend: C channels, H height, W width; `input_shape` is (C, H, W), logits are [N, classes].
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from onebit.core.errors import BadInputError
from onebit.train.layers import ChannelGate, ChannelPReLU, ChannelScale, QuantConv2d, RPReLU, RSign
from onebit.train.models.blocks import (
    Joined,
    Residual,
    binary_conv,
    growing_shortcut,
    pooled_head,
    real_conv,
    real_shortcut,
    shrink,
)

Shape = tuple[int, int, int]

SUM_SHARE = 0.2
"""What a branch without batch norm adds to its residual stream, relative to its own size, before training."""

#: name -> what makes the activation behind a residual sum of that many channels
ACTIVATIONS: dict[str, Callable[[int], nn.Module]] = {
    "none": lambda _channels: nn.Identity(),
    "hardtanh": lambda _channels: nn.Hardtanh(),
    "prelu": ChannelPReLU,
    "rprelu": RPReLU,
}


def _stages(
    widths: tuple[int, ...], blocks: tuple[int, ...], first: int, make: Callable[[int, int, int], nn.Module]
) -> list[nn.Module]:
    """``make(in, out, stride)`` for every block; each stage but the first starts with stride 2."""
    layers, channels = [], first
    for i, (width, count) in enumerate(zip(widths, blocks, strict=True)):
        for j in range(count):
            layers.append(make(channels, width, 2 if i > 0 and j == 0 else 1))
            channels = width
    return layers


def residual_net(
    input_shape: Shape = (3, 32, 32),
    classes: int = 10,
    *,
    widths: tuple[int, ...],
    units: tuple[int, ...],
    activation: str = "none",
    threshold: bool = False,
    quantizer: str = "approx_sign",
    norm: bool = True,
) -> nn.Sequential:
    """Binary 3x3 convolutions, each with a shortcut around it: `units` of them per stage, all but the first halving.

    Every width is a multiple of the one before. ``units[0] == 0`` halves the map in the first binary convolution: most
    multiplications then happen where channels are many, which is where 32 of them fill a word. `activation` stands
    behind each sum: "none", "hardtanh", "prelu" or "rprelu"; also behind the stem, which else is followed by none.
    With `threshold` every sign has a learned threshold per channel (RSign).

    Without `norm` there is no batch norm: a learned scale per channel, `SUM_SHARE` at first, stands in its place, and
    the stem has a bias. Results of binary convolutions must then be of unit size, which the method `normalizer_free`
    sees to; train such a network with it. Source: Chen et al., "BNN - BN = ?", 2021 (arXiv 2104.08215); its factor in
    front of the sign (0.93 to 1 for four units a stage) only scales gradients and is left out [I].
    """
    if activation not in ACTIVATIONS:
        raise BadInputError(f"unknown activation {activation!r}", fix=f"known: {', '.join(ACTIVATIONS)}")
    after = ACTIVATIONS[activation]

    def unit(channels: int, width: int, stride: int) -> nn.Module:
        scale = None if norm else ChannelScale(width, SUM_SHARE)
        conv = binary_conv(channels, width, stride=stride, quantizer=quantizer, norm=scale)
        body = nn.Sequential(RSign(channels), *conv) if threshold else nn.Sequential(*conv)
        return Residual(body, growing_shortcut(channels, width, stride, norm=norm), after(width))

    behind = None if activation == "none" else after(widths[0])
    stem = real_conv(input_shape[0], widths[0], activation=behind, norm=norm)
    return nn.Sequential(stem, *_stages(widths, units, widths[0], unit), pooled_head(widths[-1], classes))


def bireal_resnet(
    input_shape: Shape = (3, 32, 32),
    classes: int = 10,
    *,
    blocks: tuple[int, ...],
    widths: tuple[int, ...] = (16, 32, 64),
    activation: str = "none",
    quantizer: str = "approx_sign",
) -> nn.Sequential:
    """Residual network for small images, two binary convolutions per block: `blocks` (1, 1, 1) makes ResNet-8.

    (3, 3, 3) makes ResNet-20. `activation` as in `residual_net`, "none" as published.
    Source: Liu, Wu, Luo, Yang, Liu, Cheng, "Bi-Real Net", 2018 (arXiv 1808.00278).
    """
    units = tuple(2 * count for count in blocks)
    return residual_net(input_shape, classes, widths=widths, units=units, activation=activation, quantizer=quantizer)


class _GatedConv(nn.Module):
    """prelu(gate(x) * conv(sign(norm(x)))): the gate sees the real values that the sign drops."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, quantizer: str) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(in_channels)
        self.conv = QuantConv2d(in_channels, out_channels, 3, stride=stride, input_quantizer=quantizer)
        self.gate = ChannelGate(in_channels, out_channels)
        self.activation = ChannelPReLU(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(x)
        out: Tensor = self.activation(self.conv(y) * self.gate(y))
        return out


def real_to_binary(
    input_shape: Shape = (3, 32, 32),
    classes: int = 10,
    *,
    blocks: tuple[int, ...] = (1, 1, 1),
    widths: tuple[int, ...] = (32, 64, 128),
    quantizer: str = "ste_sign",
) -> nn.Sequential:
    """Residual network whose binary convolutions are scaled by a gate computed from their real-valued input.

    Source: Martinez, Yang, Bulat, Tzimiropoulos, "Training binary neural networks with real-to-binary convolutions",
    2020 (arXiv 2003.11535).
    """

    def unit(channels: int, width: int, stride: int) -> nn.Module:
        return Residual(_GatedConv(channels, width, stride, quantizer), real_shortcut(channels, width, stride))

    layers = _stages(widths, tuple(2 * n for n in blocks), widths[0], unit)
    stem = real_conv(input_shape[0], widths[0], activation=ChannelPReLU(widths[0]))
    return nn.Sequential(stem, *layers, pooled_head(widths[-1], classes))


def _reactnet_unit(channels: int, width: int, stride: int, kernel_size: int, quantizer: str) -> nn.Module:
    """Threshold, binary convolution, batch norm, shortcut, RPReLU; a width twice as large joins two convolutions."""

    def half() -> nn.Module:
        conv = binary_conv(channels, channels, kernel_size, stride=stride, quantizer=quantizer)
        body = nn.Sequential(RSign(channels), *conv)
        return Residual(body, nn.Sequential(*shrink(stride)))

    halves = [half() for _ in range(width // channels)]
    return nn.Sequential(halves[0] if len(halves) == 1 else Joined(*halves), RPReLU(width))


def reactnet(
    input_shape: Shape = (3, 32, 32),
    classes: int = 10,
    *,
    widths: tuple[int, ...] = (32, 64, 64, 128, 128),
    first_stride: int = 1,
    quantizer: str = "approx_sign",
) -> nn.Sequential:
    """MobileNet-shaped: per width a binary 3x3 and a binary 1x1 convolution, each with shortcut, RSign and RPReLU.

    Every width is the one before or twice as large; where it doubles, the 3x3 convolution has stride 2.
    Source: Liu, Shen, Savvides, Cheng, "ReActNet", 2020 (arXiv 2003.03488).
    """
    layers: list[nn.Module] = [real_conv(input_shape[0], widths[0], stride=first_stride)]
    channels = widths[0]
    for width in widths:
        stride = 2 if width > channels else 1
        layers += [
            _reactnet_unit(channels, channels, stride, 3, quantizer),
            _reactnet_unit(channels, width, 1, 1, quantizer),
        ]
        channels = width
    return nn.Sequential(*layers, pooled_head(channels, classes))


def resnet8_hybrid(
    input_shape: Shape = (3, 32, 32),
    classes: int = 10,
    *,
    widths: tuple[int, int, int] = (16, 32, 64),
    quantizer: str = "ste_sign",
) -> nn.Sequential:
    """ResNet-8 whose first stage is real-valued (8-bit) and whose later ones are binary, depthwise and pointwise.

    A later stage joins the pooled map and a binary separable convolution of it, which doubles the channels, then adds
    another separable convolution. Every width is twice the one before. The topology is that of MLPerf Tiny's image
    classifier (Banbury et al., 2021, arXiv 2106.07597), but for the ReLU behind the first stage: its sign would be +1
    everywhere.
    """

    def separable(channels: int, stride: int) -> nn.Sequential:
        depthwise = binary_conv(channels, channels, stride=stride, groups=channels, quantizer=quantizer)
        return nn.Sequential(*depthwise, *binary_conv(channels, channels, 1, quantizer=quantizer))

    first = widths[0]
    body = nn.Sequential(real_conv(first, first, activation=nn.ReLU()), real_conv(first, first))
    layers: list[nn.Module] = [
        real_conv(input_shape[0], first, activation=nn.ReLU()),
        Residual(body),
    ]
    for channels in widths[:-1]:
        layers += [Joined(*shrink(2), separable(channels, 2)), Residual(separable(2 * channels, 1))]
    return nn.Sequential(*layers, pooled_head(widths[-1], classes))
