"""How many channels a network needs, and how many fit: widening before training, squeezing to a budget after it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from onebit.core.errors import BadInputError
from onebit.train.channels.groups import Group, channel_graph
from onebit.train.channels.removal import WORD, squeeze
from onebit.train.quantizers import hard_sign


def widened(widths: Sequence[int], factor: float, *, multiple: int = WORD) -> tuple[int, ...]:
    """The widths times `factor`, rounded up to multiples of `multiple`."""
    return tuple(math.ceil(width * factor / multiple) * multiple for width in widths)


def representable_width(
    features: Tensor, *, share: float = 0.95, factors: Sequence[float] = (1.0, 1.5, 2.0, 3.0, 4.0), seed: int = 0
) -> int:
    """The smallest d = factor * c whose binary features explain `share` of the variance of `features` [N, c].

    sign(F P) Q ~ F with a random projection P [c, d] and Q by least squares (with a constant): how many binary channels
    stand for c real-valued ones. The largest factor's d if none suffices. N should be well above d.
    Source: source 3 of the project (Liu et al., 2020, arXiv 2002.00555), abstract only; this reading is inferred [I].
    """
    values = features.detach().double()
    values = values - values.mean(dim=0)
    total = values.square().sum().clamp_min(1e-30)
    c = values.shape[1]
    generator = torch.Generator().manual_seed(seed)
    projection = torch.randn(c, math.ceil(max(factors) * c), generator=generator, dtype=torch.float64)
    for factor in sorted(factors):
        d = math.ceil(factor * c)
        binary = torch.cat([hard_sign(values @ projection[:, :d]), torch.ones(len(values), 1, dtype=torch.float64)], 1)
        fit = torch.linalg.lstsq(binary, values, driver="gelsd").solution
        if 1.0 - (values - binary @ fit).square().sum() / total >= share:
            return d
    return d


def _importance(net: nn.Module, group: Group) -> Tensor:
    """[channels]: the sum of |factor| over the group's batch norms, as a share of the group's mean."""
    total = torch.stack([norm.weight.detach().abs().double() for norm in group.norms(net)]).sum(dim=0)
    return total / total.mean().clamp_min(1e-30)


def _silenced(net: nn.Module, limit: float, multiple: int) -> nn.Module:
    """A copy in which every free group gives 0 in its less important channels; a multiple of `multiple` stays."""
    result = copy.deepcopy(net)
    with torch.no_grad():
        for group in channel_graph(result).free():
            norms = group.norms(result)
            if not norms or not group.readers:
                continue
            importance = _importance(result, group)
            alive = int((importance > limit).sum())
            kept = min(max(math.ceil(alive / multiple), 1) * multiple, group.size)
            weakest = importance.argsort()[: group.size - kept]
            for norm in norms:
                norm.weight[weakest] = 0.0
                norm.bias[weakest] = 0.0
    return result


def fit_channels(net: nn.Module, fits: Callable[[nn.Module], bool], *, multiple: int = WORD) -> nn.Module:
    """The widest squeezed copy of the trained `net` for which `fits` is true; to be trained further.

    `fits` says whether a network stays within its budget of flash and RAM (train knows no device: the caller asks the
    code generator). Channels go in the order of their batch norm factors, relative to their group's mean, over the
    whole network; every group keeps a multiple of `multiple`. Fits are assumed to be monotone in the channels.
    BadInputError if not even the narrowest copy fits.
    """
    if fits(net):
        return copy.deepcopy(net)
    groups = [group for group in channel_graph(net).free() if group.norms(net) and group.readers]
    limits = sorted({float(v) for group in groups for v in _importance(net, group)})
    low, high, best = 0, len(limits) - 1, None
    while low <= high:
        middle = (low + high) // 2
        candidate = squeeze(_silenced(net, limits[middle], multiple), multiple=multiple)
        if fits(candidate):
            best, high = candidate, middle - 1
        else:
            low = middle + 1
    if best is None:
        raise BadInputError(
            f"does not fit the budget even with {multiple} channels per layer",
            where=type(net).__name__,
            fix="use a smaller network, smaller images, or a larger budget",
        )
    return best
