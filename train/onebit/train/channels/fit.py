"""How many channels a network needs, and how many fit: widening before training, squeezing to a budget after it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from onebit.core.errors import BadInputError
from onebit.train.channels.choice import choose_channels
from onebit.train.channels.groups import Group, channel_graph
from onebit.train.channels.removal import WORD, keep_channels
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


def judged_groups(net: nn.Module) -> list[Group]:
    """The groups whose channels can be removed by the importance that batch norm gives them."""
    channels = channel_graph(net)
    return [group for group in channels.free() if group.norms(net) and (group.readers or channels.copies(group))]


def _scored(net: nn.Module) -> dict[str, Tensor]:
    """The importance of the channels of every group that can be judged, by the group's name."""
    return {group.name: _importance(net, group) for group in judged_groups(net)}


def _choices(net: nn.Module, multiple: int, limits: Sequence[float] | None = None) -> list[dict[str, list[int]]]:
    """The channels that stay above rising `limits` of importance (default: all that matter), one for each set of sizes.

    The first one removes nothing, unless groups are no multiple of `multiple`.
    """
    channels = channel_graph(net)
    score = _scored(net)
    limits = limits or [-1.0, *sorted({float(v) for values in score.values() for v in values}), math.inf]
    found: list[dict[str, list[int]]] = []
    for limit in limits:
        needed = {name: values > limit for name, values in score.items()}
        keep = choose_channels(channels, needed, score, multiple)
        if not found or [len(kept) for kept in keep.values()] != [len(kept) for kept in found[-1].values()]:
            found.append(keep)
    return found


def _pruned(net: nn.Module, keep: Mapping[str, list[int]]) -> nn.Module:
    """A copy of `net` with only these channels; batch norm makes the others 0 before they go."""
    silent = copy.deepcopy(net)
    with torch.no_grad():
        for group in channel_graph(silent).free():
            gone = torch.ones(group.size, dtype=torch.bool)
            gone[keep[group.name]] = False
            for norm in group.norms(silent):
                norm.weight[gone] = 0.0
                norm.bias[gone] = 0.0
    return keep_channels(silent, keep)


def narrowest(net: nn.Module, *, multiple: int = WORD) -> nn.Module:
    """The smallest copy of `net` that `fit_channels` considers."""
    return _pruned(net, _choices(net, multiple, [math.inf])[0])


def fit_channels(net: nn.Module, fits: Callable[[nn.Module], bool], *, multiple: int = WORD) -> nn.Module:
    """The widest squeezed copy of the trained `net` for which `fits` is true; to be trained further.

    `fits` says whether a network stays within its budget of flash and RAM (train knows no device: the caller asks the
    code generator). Channels go in the order of their batch norm factors, relative to their group's mean, over the
    whole network; every group keeps a multiple of `multiple`, a group that repeats another's channels copies of those
    that stay there. Fits are assumed to be monotone in the channels.
    BadInputError if not even the narrowest copy fits.
    """
    if fits(net):
        return copy.deepcopy(net)
    choices = _choices(net, multiple)
    low, high, best = 0, len(choices) - 1, None
    while low <= high:
        middle = (low + high) // 2
        candidate = _pruned(net, choices[middle])
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
