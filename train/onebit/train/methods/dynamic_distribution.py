"""Feature distribution adjustment, the dynamic part: thresholds and gates computed from each image.

Source: as `feature_distribution`: Control and Decision 39(6), 2024, doi 10.13195/j.kzyjc.2022.1945, abstract only,
which names a group excitation and a feature refinement module. Their inside is inferred [I] from relatives: squeeze and
excite (arXiv 1709.01507), ECA (arXiv 1910.03151), DyBNN's dynamic thresholds.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the name PyTorch's own documentation uses
from torch import Tensor, nn

from onebit.core.errors import BadInputError
from onebit.train.layers import QuantConv2d, binary_layers
from onebit.train.methods.base import Attached, Method, checked_binary_layers
from onebit.train.methods.parts import replace_module
from onebit.train.options import option

TAPS = 3


class GroupedExcitation(nn.Module):
    """t + k tanh(W2 relu(W1 mean(x) + b1) + b2), [N, C, 1, 1]: a threshold per channel and image.

    W1 and W2 are block-diagonal with `groups` blocks. They are dense tensors, so that the device needs no grouped
    operator; `mask` keeps what is outside the blocks at 0. t and k start at 0 and 0.1.
    """

    def __init__(self, channels: int, groups: int, reduction: int) -> None:
        super().__init__()
        hidden = max(channels // reduction // groups, 1) * groups
        self.squeeze = nn.Conv2d(channels, hidden, 1)
        self.excite = nn.Conv2d(hidden, channels, 1)
        self.threshold = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.reach = nn.Parameter(torch.full((1, channels, 1, 1), 0.1))
        self.groups = groups
        self.mask()

    @torch.no_grad()
    def mask(self) -> None:
        """Sets weights between different groups to 0."""
        for conv in (self.squeeze, self.excite):
            outputs, inputs = conv.weight.shape[:2]
            of_output = torch.arange(outputs, device=conv.weight.device) * self.groups // outputs
            of_input = torch.arange(inputs, device=conv.weight.device) * self.groups // inputs
            conv.weight.mul_((of_output[:, None] == of_input[None, :])[:, :, None, None])

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, 1, 1]."""
        hidden = F.relu(self.squeeze(x.mean(dim=(2, 3), keepdim=True)))
        return torch.tanh(self.excite(hidden)) * self.reach + self.threshold


class Refinement(nn.Module):
    """1 + sigmoid(conv over the channels' means, 3 taps), [N, C, 1, 1].

    The taps are one dense matrix with three diagonals, for the device a 1x1 convolution; `tie` keeps it so.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(channels, channels, 1, bias=False)
        self.tie()

    @torch.no_grad()
    def tie(self) -> None:
        """Makes the matrix what 3 taps over the channels compute: each diagonal its mean, 0 elsewhere."""
        matrix = self.mix.weight[:, :, 0, 0]
        offsets = range(-(TAPS // 2), TAPS // 2 + 1)
        tied = torch.zeros_like(matrix)
        for offset in offsets:
            values = torch.diagonal(matrix, offset)
            if len(values):
                torch.diagonal(tied, offset).copy_(values.mean().expand_as(values))
        self.mix.weight.copy_(tied[:, :, None, None])

    def forward(self, y: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, 1, 1]."""
        return torch.sigmoid(self.mix(y.mean(dim=(2, 3), keepdim=True))) + 1.0


class DynamicConv2d(nn.Module):
    """y = conv(sign(x - excitation(x))), times refinement(y) where there is one."""

    def __init__(self, conv: QuantConv2d, groups: int, reduction: int, refine: bool) -> None:
        super().__init__()
        self.conv = conv
        self.excitation = GroupedExcitation(conv.in_channels, groups, reduction)
        self.refinement = Refinement(conv.out_channels) if refine else None

    def forward(self, x: Tensor) -> Tensor:
        """[N, I, H, W] -> [N, O, H', W']."""
        y: Tensor = self.conv(x - self.excitation(x))
        return y if self.refinement is None else y * self.refinement(y)


@dataclass(frozen=True)
class DynamicDistribution(Method):
    """s = sign(x - t - k tanh(W2 relu(W1 mean(x)))), W1, W2 of `groups` blocks.

    With `refine` the result is multiplied by 1 + sigmoid(3 taps over the channels' means). For binary convolutions.
    Leaves per layer MEAN, two 1x1 CONV_2D of C^2 / reduction weights each, TANH, MUL, ADD and SUB, with `refine` also
    MEAN, CONV_2D of C^2 weights, LOGISTIC, ADD and MUL: real arithmetic, and the map itself stays in int8 or float
    between layers. Choose it only where accuracy is worth that.
    """

    name = "dynamic_distribution"
    summary = "thresholds computed from each image; leaves small real-valued layers"
    groups: int = option(4, least=1)
    reduction: int = option(8, least=1)
    refine: bool = False

    def attach(self, net: nn.Module) -> Attached:
        checked_binary_layers(net, self)
        self.leaves(net)
        attached = _Dynamic(net)
        attached.excitations = [m for m in net.modules() if isinstance(m, GroupedExcitation)]
        attached.refinements = [m for m in net.modules() if isinstance(m, Refinement)]
        return attached

    def leaves(self, net: nn.Module) -> None:
        convs = {name: layer for name, layer in binary_layers(net).items() if isinstance(layer, QuantConv2d) and name}
        if not convs:
            raise BadInputError(
                f"method {self.name} needs binary convolutions and {type(net).__name__} has none inside",
                fix="use QuantConv2d, or train without the method",
            )
        for name, conv in convs.items():
            if conv.in_channels % self.groups:
                raise BadInputError(
                    f"method {self.name}: {conv.in_channels} channels in {self.groups} groups",
                    where=name,
                    fix="use groups= a divisor of the channels",
                )
            replace_module(net, name, DynamicConv2d(conv, self.groups, self.reduction, self.refine))


class _Dynamic(Attached):
    excitations: list[GroupedExcitation]
    refinements: list[Refinement]

    def after_step(self, learning_rate: float) -> None:
        for excitation in self.excitations:
            excitation.mask()
        for refinement in self.refinements:
            refinement.tie()
