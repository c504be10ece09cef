"""The signs behind a binary convolution as a table, and as integer thresholds where they are a single step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onebit.core.graph import Array, Graph
from onebit.core.passes.enumeration import Chain, Refusal, enumerate_chain, sign_chains


@dataclass(frozen=True, eq=False)
class SignTable:
    """Signs of every channel on every accumulator, and how they pass the max pools of the chain.

    `x` int64 [X] are the accumulators, `negative` bool [X, O] the signs without the pools (True is -1). For each pool,
    `falling` bool [O] says where the sign falls as the pooled value rises: there the sign of the largest value is the
    smallest sign, elsewhere the largest sign.
    """

    x: Array
    negative: Array
    falling: tuple[Array, ...]

    @property
    def takes_minima(self) -> bool:
        """Whether some channel takes the smallest sign of a window."""
        return any(channels.any() for channels in self.falling)


@dataclass(frozen=True, eq=False)
class Thresholds:
    """bit = (x > threshold) on doubled popcounts x, after the filters of the channels in `flip` are negated."""

    doubled: Array
    flip: Array


def solve_signs(graph: Graph, chain: Chain) -> SignTable | Refusal:
    """The chain's signs as a function of the accumulator, with the pools behind it; or why there is none.

    A pool may move behind the sign only if the sign is a single step of the value that is pooled.
    """
    table = enumerate_chain(graph, chain)
    if isinstance(table, Refusal):
        return table
    negative = table.values[-1]
    falling = []
    for pool in chain.pools:
        pooled = table.entering(chain, pool).astype(np.float64)
        if np.isnan(pooled).any():
            return Refusal("a value that is pooled is not a number")
        rises, falls = _is_step(pooled, negative), _is_step(pooled, ~negative)
        neither = np.flatnonzero(~(rises | falls))
        if len(neither):
            return Refusal(f"channel {neither[0]}: its sign is not a single step of the value that is pooled")
        falling.append(~rises)
    return SignTable(table.x, negative, tuple(falling))


def _is_step(value: Array, low: Array) -> Array:
    """Per channel: whether all values where `low` holds are smaller than all others."""
    highest = np.where(low, value, -np.inf).max(axis=0)
    lowest = np.where(low, np.inf, value).min(axis=0)
    return np.asarray((highest < lowest) | ~low.any(axis=0) | low.all(axis=0))


def solve_thresholds(table: SignTable) -> Thresholds | None:
    """Thresholds that equal the signs on every accumulator of every channel; None where one is no single step."""
    flip = table.negative[0] & ~table.negative[-1]
    # in terms of the negated filter the accumulator is 2K - x, so a falling step becomes a rising one
    rising = np.where(flip, table.negative[::-1], table.negative)
    count = rising.sum(axis=0)
    steps = np.arange(len(table.x))[:, None] >= len(table.x) - count
    if (steps != rising).any():
        return None
    # negative for the last `count` values: x > the value before them
    doubled = table.x[-1] - int(table.x[1] - table.x[0]) * count
    return Thresholds(doubled.astype(np.int64), flip)


def refusals(graph: Graph) -> Sequence[tuple[Chain, Refusal]]:
    """The chains of the graph that end in a sign which is no function of the accumulator, with the reasons."""
    solved = ((chain, solve_signs(graph, chain)) for chain in sign_chains(graph))
    return [(chain, result) for chain, result in solved if isinstance(result, Refusal)]
