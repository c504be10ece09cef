"""Small PyTorch networks with random weights and random batch norm statistics, that the tests of `convert` share."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name PyTorch's own documentation uses
from torch import Tensor, nn

from onebit.train.layers import (
    ChannelPReLU,
    ChannelScale,
    ChannelShift,
    QuantConv2d,
    QuantLinear,
    RSign,
    SameConv2d,
)
from onebit.train.models.digits import DigitsNet


def randomized(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module in eval mode with seeded weights.

    Batch norms get statistics near those of what they read, and gammas of either sign, so that few channels are dead.
    """
    generator = torch.Generator().manual_seed(seed)
    deviation = 1.0
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
                assert layer.running_mean is not None
                assert layer.running_var is not None
                layer.running_mean.normal_(0, 0.3 * deviation, generator=generator)
                layer.running_var.uniform_(0.5 * deviation**2, 1.5 * deviation**2, generator=generator)
                if not layer.affine:
                    continue
                layer.weight.uniform_(0.5, 1.5, generator=generator)
                layer.weight.mul_(torch.randint(0, 2, layer.weight.shape, generator=generator) * 2 - 1)
                layer.bias.normal_(0, 0.3, generator=generator)
            elif isinstance(layer, nn.Conv2d | nn.Linear):
                fan_in = layer.weight[0].numel()
                deviation = fan_in**0.5 if isinstance(layer, QuantConv2d | QuantLinear) else 1.0
                layer.weight.normal_(0, fan_in**-0.5, generator=generator)
                if layer.bias is not None:
                    layer.bias.normal_(0, 0.1, generator=generator)
            elif isinstance(layer, ChannelPReLU | nn.PReLU):
                layer.weight.uniform_(0.05, 0.6, generator=generator)
            elif isinstance(layer, RSign | ChannelShift | ChannelScale):
                for parameter in layer.parameters():
                    parameter.normal_(0, 0.3, generator=generator)
    return module.eval()


def digits() -> nn.Module:
    return DigitsNet()


def odd_channels() -> nn.Module:
    """31 and 33 channels, stride 2, VALID and SAME-one on odd maps, two dense layers behind a map of several pixels."""
    return nn.Sequential(
        SameConv2d(3, 31, 3, stride=2, bias=True), nn.BatchNorm2d(31),
        QuantConv2d(31, 33, 3, stride=2), nn.BatchNorm2d(33),
        QuantConv2d(33, 40, 2, padding="valid"), nn.BatchNorm2d(40),
        nn.Flatten(),
        QuantLinear(40 * 3 * 4, 33), nn.BatchNorm1d(33),
        QuantLinear(33, 31), nn.BatchNorm1d(31),
        QuantLinear(31, 5), nn.BatchNorm1d(5),
    )  # fmt: skip


def zero_padded_float_head() -> nn.Module:
    """A real-valued binary convolution output with SAME-zero padding in front of it, then float dense and softmax."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32),
        QuantConv2d(32, 32, 3, pad_value=0), nn.BatchNorm2d(32),
        QuantConv2d(32, 16, 3, stride=2, pad_value=0), nn.BatchNorm2d(16), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(), nn.Linear(16 * 3 * 3, 12), nn.ReLU6(), nn.Linear(12, 4), nn.Softmax(dim=1),
    )  # fmt: skip


def real_valued() -> nn.Module:
    """No binary layer: activations fused into convolutions, batch norms, dense layers and a pool."""
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, padding="same"), nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1),
        nn.Conv2d(6, 7, 3, stride=(2, 1), bias=False), nn.BatchNorm2d(7), nn.ReLU6(), nn.MaxPool2d(2), nn.ReLU(),
        nn.Flatten(), nn.Linear(7 * 1 * 3, 9), nn.Hardtanh(), nn.Identity(), nn.Linear(9, 3, bias=False),
    )  # fmt: skip


def vectors() -> nn.Module:
    """Dense layers on vectors."""
    return nn.Sequential(
        nn.Linear(20, 33), nn.BatchNorm1d(33), QuantLinear(33, 31), nn.BatchNorm1d(31), nn.Hardtanh(),
        QuantLinear(31, 10), nn.BatchNorm1d(10),
    )  # fmt: skip


def grouped_dilated() -> nn.Module:
    """Two groups of 32 channels, dilation 2, ReLU between a binary convolution and its batch norm."""
    return nn.Sequential(
        SameConv2d(1, 64, (3, 1)), nn.BatchNorm2d(64),
        QuantConv2d(64, 32, 3, groups=2, dilation=2), nn.BatchNorm2d(32),
        QuantConv2d(32, 32, (1, 3), padding="valid"), nn.ReLU(), nn.BatchNorm2d(32), nn.MaxPool2d(2),
        nn.Flatten(), QuantLinear(32 * 5 * 4, 6),
    )  # fmt: skip


class Functional(nn.Module):
    """Written with functions and methods instead of modules; the dense layer is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = QuantConv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.dense = nn.Linear(8 * 4 * 4, 8 * 4 * 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.norm(self.conv(x)), 2)
        x = self.dense(x.view(x.size(0), -1))
        x = F.relu(x)
        return F.softmax(self.dense(F.dropout(x, training=self.training)), dim=1)


def pool_before_norm() -> nn.Module:
    """The costly order: batch norm behind the pool."""
    return nn.Sequential(
        SameConv2d(1, 32, 3), nn.BatchNorm2d(32), nn.MaxPool2d(2),
        QuantConv2d(32, 32, 3), nn.MaxPool2d(2), nn.BatchNorm2d(32),
        nn.Flatten(), QuantLinear(32 * 2 * 2, 10), nn.BatchNorm1d(10),
    )  # fmt: skip


#: name -> (network, input shape in torch's layout)
NETS = {
    "digits": (digits, (1, 28, 28)),
    "odd_channels": (odd_channels, (3, 13, 17)),
    "zero_padded_float_head": (zero_padded_float_head, (1, 12, 12)),
    "real_valued": (real_valued, (2, 15, 15)),
    "vectors": (vectors, (20,)),
    "grouped_dilated": (grouped_dilated, (1, 10, 10)),
    "functional": (Functional, (3, 8, 8)),
    "pool_before_norm": (pool_before_norm, (1, 8, 8)),
}

#: sizes at which a conversion, a compilation and a run take about a second
SMALL_ARCHITECTURES: dict[str, dict[str, Any]] = {
    "vgg-small": {"widths": (16, 32)},
    "binarynet": {"widths": (32, 33), "hidden": (40,)},
    "small-cifar": {},
    "bireal-resnet8": {"widths": (8, 16, 32)},
    "bireal-resnet20": {"widths": (8, 16, 32), "activation": "rprelu"},
    "quicknet": {"widths": (32, 33), "blocks": (1, 2)},
    "reactnet": {"widths": (16, 32, 32)},
    "binary-densenet": {"layers": (1, 2), "growth": 16},
    "meliusnet": {"layers": (1, 1), "growth": 16},
    "real-to-binary": {"widths": (16, 32), "blocks": (1, 1)},
    "binary-alexnet": {"widths": (16, 32, 32, 32, 32), "hidden": (32,)},
    "resnet8-hybrid": {"widths": (8, 16, 32)},
}
