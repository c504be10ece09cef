"""QuickNet: binary 3x3 residual layers, real-valued transitions with blurred pooling.

Legend: C channels, H height, W width; `input_shape` is (C, H, W), logits are [N, classes].
"""

from __future__ import annotations

import torch
from torch import nn

from onebit.train.layers import QuantConv2d, SameConv2d
from onebit.train.models.blocks import Residual, pooled_head, real_conv

Shape = tuple[int, int, int]


def blur(channels: int) -> SameConv2d:
    """Depthwise 3x3 convolution of stride 2 with the fixed filter (1 2 1) x (1 2 1) / 16.

    Source: Zhang, "Making Convolutional Networks Shift-Invariant Again", 2019 (arXiv 1904.11486).
    """
    layer = SameConv2d(channels, channels, 3, stride=2, groups=channels, bias=False)
    row = torch.tensor([0.25, 0.5, 0.25])
    with torch.no_grad():
        layer.weight.copy_(torch.outer(row, row).expand_as(layer.weight))
    return layer.requires_grad_(False)


def _unit(width: int, quantizer: str) -> nn.Module:
    """x + norm(relu(conv(sign(x)))): the activation acts on the integers, where it costs nothing."""
    conv = QuantConv2d(width, width, 3, input_quantizer=quantizer)
    return Residual(nn.Sequential(conv, nn.ReLU(), nn.BatchNorm2d(width)))


def _transition(channels: int, width: int) -> nn.Module:
    return nn.Sequential(nn.ReLU(), nn.MaxPool2d(2, stride=1), blur(channels), real_conv(channels, width, 1))


def quicknet(
    input_shape: Shape = (3, 32, 32),
    classes: int = 10,
    *,
    widths: tuple[int, ...] = (32, 64, 128),
    blocks: tuple[int, ...] = (2, 2, 2),
    stem_width: int = 8,
    stem_strides: tuple[int, int] = (1, 2),
    quantizer: str = "ste_sign",
) -> nn.Sequential:
    """QuickNet. The paper's: widths 64, 128, 256, 512, blocks of 4, a stem of 16 channels with strides 2 and 2.

    Source: Bannink et al., "Larq Compute Engine", 2020 (arXiv 2011.09398), after its Keras form in Larq Zoo.
    """
    layers: list[nn.Module] = [
        real_conv(input_shape[0], stem_width, stride=stem_strides[0], activation=nn.ReLU()),
        real_conv(stem_width, stem_width, stride=stem_strides[1], groups=stem_width),
        real_conv(stem_width, widths[0], 1),
    ]
    channels = widths[0]
    for i, (width, count) in enumerate(zip(widths, blocks, strict=True)):
        if i > 0:
            layers.append(_transition(channels, width))
        layers += [_unit(width, quantizer) for _ in range(count)]
        channels = width
    return nn.Sequential(*layers, nn.ReLU(), pooled_head(channels, classes))
