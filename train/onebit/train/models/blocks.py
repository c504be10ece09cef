"""The blocks that the architectures are built from.

All binary convolutions use one-padding, so that their signs stay packed bits on the device, and a batch norm stands in
front of a max pool, never behind it: then any gamma folds (see `onebit.train.models.digits`).

Legend: C channels, H height, W width; maps are [N, C, H, W].
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from onebit.train.layers import QuantConv2d, QuantLinear, RepeatChannels, SameConv2d
from onebit.train.quantizers import get_quantizer


def real_valued(net: nn.Module) -> nn.Module:
    """`net` itself with the identity for every quantizer of its binary layers: a teacher of the same topology."""
    for layer in net.modules():
        if isinstance(layer, QuantConv2d | QuantLinear):
            layer.input_quantizer = layer.kernel_quantizer = get_quantizer("no_op")
    return net


def binary_conv(
    in_channels: int,
    out_channels: int,
    kernel_size: int = 3,
    *,
    quantizer: str,
    stride: int = 1,
    groups: int = 1,
    norm: nn.Module | None = None,
) -> list[nn.Module]:
    """Binary convolution with one-padding, and its batch norm, or `norm` in its place."""
    conv = QuantConv2d(
        in_channels, out_channels, kernel_size,
        stride=stride, groups=groups, padding="same", pad_value=1, input_quantizer=quantizer,
    )  # fmt: skip
    return [conv, nn.BatchNorm2d(out_channels) if norm is None else norm]


def binary_block(
    in_channels: int, out_channels: int, kernel_size: int = 3, *, quantizer: str, pool: nn.Module | bool = False
) -> nn.Sequential:
    """`binary_conv`, and a max pool if there is one (True: 2x2)."""
    layers = binary_conv(in_channels, out_channels, kernel_size, quantizer=quantizer)
    if pool is not False:
        layers.append(nn.MaxPool2d(2) if pool is True else pool)
    return nn.Sequential(*layers)


def real_conv(
    in_channels: int,
    out_channels: int,
    kernel_size: int = 3,
    *,
    stride: int = 1,
    groups: int = 1,
    activation: nn.Module | None = None,
    pool: nn.Module | None = None,
    norm: bool = True,
) -> nn.Sequential:
    """Real-valued convolution (int8 on the device), batch norm, then an activation and a pool where given.

    Without `norm` the convolution has a bias instead.
    """
    conv = SameConv2d(in_channels, out_channels, kernel_size, stride=stride, groups=groups, bias=not norm)
    norms = [nn.BatchNorm2d(out_channels)] if norm else []
    behind = [layer for layer in (activation, pool) if layer is not None]
    return nn.Sequential(conv, *norms, *behind)


class Residual(nn.Module):
    """y = after(body(x) + shortcut(x)); both default to the identity."""

    def __init__(self, body: nn.Module, shortcut: nn.Module | None = None, after: nn.Module | None = None) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut or nn.Identity()
        self.after = after or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """[N, I, H, W] -> [N, O, H', W']."""
        y: Tensor = self.after(self.body(x) + self.shortcut(x))
        return y


class Joined(nn.Module):
    """The results of several branches on the same input, one behind the other along the channels."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        """[N, I, H, W] -> [N, sum of the branches' channels, H', W']."""
        return torch.cat([branch(x) for branch in self.branches], dim=1)


def shrink(stride: int) -> list[nn.Module]:
    """The average pool of a shortcut; the last windows of an odd map are cut off, as SAME padding wants it."""
    return [nn.AvgPool2d(stride, ceil_mode=True)] if stride > 1 else []


def growing_shortcut(in_channels: int, out_channels: int, stride: int, *, norm: bool = True) -> nn.Module:
    """A shortcut without weights: average pool, the channels repeated, batch norm; the identity where nothing changes.

    `out_channels` is a multiple of `in_channels`. On the device: AVERAGE_POOL_2D, CONCATENATION, MUL, ADD; without
    `norm` only the first two.
    """
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    norms = [nn.BatchNorm2d(out_channels)] if norm else []
    return nn.Sequential(*shrink(stride), RepeatChannels(out_channels // in_channels), *norms)


def real_shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """Average pool, real-valued 1x1 convolution and batch norm; the identity where nothing changes."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return nn.Sequential(*shrink(stride), real_conv(in_channels, out_channels, 1))


def pooled_head(channels: int, classes: int) -> nn.Sequential:
    """Mean over the map, and a real-valued dense layer."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


def binary_head(features: int, hidden: tuple[int, ...], classes: int, *, quantizer: str) -> nn.Sequential:
    """Flattening, then binary dense layers, each with its batch norm."""
    sizes = (features, *hidden, classes)
    dense = [
        layer
        for size, out in pairwise(sizes)
        for layer in (QuantLinear(size, out, input_quantizer=quantizer), nn.BatchNorm1d(out))
    ]
    return nn.Sequential(nn.Flatten(), *dense)


def flat_features(body: nn.Module, input_shape: tuple[int, int, int]) -> int:
    """Number of values that `body` makes of one image (C, H, W)."""
    training = body.training
    with torch.no_grad():
        features = int(body.eval()(torch.zeros(1, *input_shape)).numel())
    body.train(training)
    return features
