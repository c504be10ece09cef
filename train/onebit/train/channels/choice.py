"""Which channels of each group stay, given those that are needed and an order of merit.

A group that repeats its base keeps copies of channels that the base keeps, in the order in which `RepeatChannels`
makes them: channel j is a copy of the base's channel j % n. So each kept channel of the base has equally many copies,
or the first ones have one more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from onebit.core.errors import BadInputError
from onebit.train.channels.groups import ChannelGraph, Group


def choose_channels(
    channels: ChannelGraph, needed: Mapping[str, Tensor], score: Mapping[str, Tensor], multiple: int
) -> dict[str, list[int]]:
    """The channels to keep, by group: the `needed` ones, filled up to a multiple of `multiple` by the best of the rest.

    `needed` is bool and `score` float, [channels] of each group by its name. At least `multiple` channels of a group
    stay (all of a smaller one), and a group that is not in `needed` keeps all. Needed channels of a copy go with the
    base's channel that they repeat.
    """
    kept: dict[str, list[int]] = {}
    for group in channels.free():
        base = channels.base_of(group)
        wanted = needed.get(group.name, torch.ones(group.size, dtype=torch.bool)).tolist()
        merit = score.get(group.name, torch.zeros(group.size)).tolist()
        if base is None:
            ranked = _ranked(range(group.size), wanted, merit)
            chosen = ranked[: _rounded_up(sum(wanted), multiple, group.size)]
            copies = _needed_copies(channels, group, needed)
            kept[group.name] = sorted(chosen, key=lambda i: (-copies[i], i))
        else:
            order = kept.get(base.name, list(range(base.size))) if base.writers else list(range(base.size))
            kept[group.name] = _repeated(order, base.size, wanted, merit, multiple)
    return kept


def _rounded_up(count: int, multiple: int, size: int) -> int:
    return min(max(math.ceil(count / multiple), 1) * multiple, size)


def _ranked(items: Sequence[int], wanted: Sequence[bool], merit: Sequence[float]) -> list[int]:
    return sorted(items, key=lambda i: (not wanted[i], -merit[i], i))


def _needed_copies(channels: ChannelGraph, base: Group, needed: Mapping[str, Tensor]) -> list[int]:
    """How many needed channels repeat each channel of `base`; 0 everywhere if nothing repeats it."""
    total = torch.zeros(base.size, dtype=torch.int64)
    for group in channels.copies(base):
        mask = needed.get(group.name, torch.ones(group.size, dtype=torch.bool))
        total += mask.reshape(-1, base.size).sum(dim=0)
    return [int(count) for count in total]


def _repeated(
    order: Sequence[int], base_size: int, wanted: Sequence[bool], merit: Sequence[float], multiple: int
) -> list[int]:
    """The fewest copies, a multiple of `multiple` or all, that hold the wanted ones of the base's channels `order`."""
    size = len(wanted)
    ranked = [_ranked(range(channel, size, base_size), wanted, merit) for channel in order]
    least = [sum(wanted[i] for i in each) for each in ranked]
    most = len(order) * (size // base_size)
    for count in (*range(multiple, most, multiple), most):
        each, more = divmod(count, len(order))
        if all(each + (i < more) >= n for i, n in enumerate(least)):
            break
    return [ranked[j % len(order)][j // len(order)] for j in range(count)]


def check_copies(channels: ChannelGraph, keep: Mapping[str, list[int]]) -> dict[str, list[int]]:
    """`keep`, with the copies of the channels kept of a base where their group is not in it.

    BadInputError for a name that is no free group's, and for channels that are no copies of those kept, in order.
    """
    groups = {group.name: group for group in channels.free()}
    for name in keep:
        if name not in groups:
            raise BadInputError(
                f"has no channels that can be removed; groups are {', '.join(groups)}",
                where=name,
                fix="name one of them",
            )
    whole = dict(keep)
    for name, group in groups.items():
        base = channels.base_of(group)
        if base is None:
            continue
        order = whole.get(base.name, range(base.size)) if base.writers else range(base.size)
        times = group.size // base.size
        kept = whole.setdefault(name, [channel + i * base.size for i in range(times) for channel in order])
        if any(channel % base.size != order[j % len(order)] for j, channel in enumerate(kept)):
            raise BadInputError(
                "its channels repeat those of another group, and these are no copies of the ones that stay there",
                where=name,
                fix=f"leave it out, or keep copies of the channels of {base.name} in their order",
            )
    return whole
