"""Networks whose features accumulate by concatenation: BinaryDenseNet and MeliusNet.

Legend: C channels, H height, W width; `input_shape` is (C, H, W), logits are [N, classes].
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from onebit.train.layers import QuantConv2d
from onebit.train.models.blocks import Joined, pooled_head, real_conv

Shape = tuple[int, int, int]


def _growth(channels: int, growth: int, quantizer: str) -> nn.Module:
    """The input, and `growth` new channels: a binary 3x3 convolution of its normalized values."""
    conv = QuantConv2d(channels, growth, 3, input_quantizer=quantizer)
    return Joined(nn.Identity(), nn.Sequential(nn.BatchNorm2d(channels), conv))


class Improvement(nn.Module):
    """A binary 3x3 convolution of all channels is added to the last `growth` of them."""

    def __init__(self, channels: int, growth: int, quantizer: str) -> None:
        super().__init__()
        self.kept = channels - growth
        self.norm = nn.BatchNorm2d(channels)
        self.conv = QuantConv2d(channels, growth, 3, input_quantizer=quantizer)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> the same shape."""
        return torch.cat([x[:, : self.kept], x[:, self.kept :] + self.conv(self.norm(x))], dim=1)


def _transition(channels: int, width: int) -> nn.Module:
    """Batch norm, max pool, ReLU and a real-valued 1x1 convolution that narrows the map."""
    narrow = nn.Conv2d(channels, width, 1, bias=False)
    return nn.Sequential(nn.BatchNorm2d(channels), nn.MaxPool2d(2), nn.ReLU(), narrow)


def _dense_network(
    input_shape: Shape, classes: int, layers: tuple[int, ...], growth: int, quantizer: str, *, improve: bool
) -> nn.Sequential:
    channels = 2 * growth
    parts: list[nn.Module] = [real_conv(input_shape[0], channels)]
    for i, count in enumerate(layers):
        if i > 0:
            parts.append(_transition(channels, channels // 2))
            channels //= 2
        for _ in range(count):
            parts.append(_growth(channels, growth, quantizer))
            channels += growth
            if improve:
                parts.append(Improvement(channels, growth, quantizer))
    return nn.Sequential(*parts, nn.BatchNorm2d(channels), nn.ReLU(), pooled_head(channels, classes))


def binary_densenet(
    input_shape: Shape = (3, 32, 32),
    classes: int = 10,
    *,
    layers: tuple[int, ...] = (2, 2, 2),
    growth: int = 32,
    quantizer: str = "ste_sign",
) -> nn.Sequential:
    """Every binary convolution adds `growth` channels to the map; a real-valued 1x1 halves them between the blocks.

    Source: Bethge, Yang, Bornstein, Meinel, "Back to Simplicity", 2019 (arXiv 1906.08637).
    """
    return _dense_network(input_shape, classes, layers, growth, quantizer, improve=False)


def meliusnet(
    input_shape: Shape = (3, 32, 32),
    classes: int = 10,
    *,
    layers: tuple[int, ...] = (1, 1, 1),
    growth: int = 32,
    quantizer: str = "ste_sign",
) -> nn.Sequential:
    """BinaryDenseNet, where a second binary convolution improves the channels that each layer adds.

    Source: Bethge, Bartz, Yang, Chen, Meinel, "MeliusNet", 2020 (arXiv 2001.05936).
    """
    return _dense_network(input_shape, classes, layers, growth, quantizer, improve=True)
