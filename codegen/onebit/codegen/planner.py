"""Memory planning: offsets in one arena for values whose lifetimes are known."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

#: offsets and sizes are multiples of this, enough for float and 32-bit words
ALIGNMENT = 4
#: orders tried where the simple ones miss the lower bound; some tenths of a second for a hundred values
SEARCH_STEPS = 400


@dataclass(frozen=True)
class Lifetime:
    """`size` bytes that are live from step `first` to step `last`, both included."""

    name: str
    size: int
    first: int
    last: int

    @property
    def aligned_size(self) -> int:
        """The size rounded up to the alignment."""
        return -(-self.size // ALIGNMENT) * ALIGNMENT

    def overlaps(self, other: Lifetime) -> bool:
        """Whether both are live at some step."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class Plan:
    """Offsets in bytes by name, the arena they need, and the least any plan could need."""

    offsets: dict[str, int]
    arena_bytes: int
    lower_bound_bytes: int


def plan_memory(values: Sequence[Lifetime]) -> Plan:
    """Place every value at the lowest offset free during its life, in several orders; the smallest arena wins.

    The lower bound is the largest sum of live bytes over all steps. Where no order meets it, exchanging pairs of values
    in the best one is tried, a bounded number of times (seeded: equal values give equal plans).
    """
    bound = lower_bound(values)
    orders: list[Callable[[Lifetime], tuple[int, ...]]] = [
        lambda v: (-v.aligned_size, v.first),
        lambda v: (v.first, -v.aligned_size),
        lambda v: (-(v.last - v.first), -v.aligned_size),
        lambda v: (-v.aligned_size * (v.last - v.first + 1), v.first),
        lambda v: (v.last, -v.aligned_size),
    ]
    best: list[Lifetime] = []
    arena: int | None = None
    for order in orders:
        candidate = sorted(values, key=lambda v: (*order(v), v.name))
        needed = _arena_bytes(candidate)
        if arena is None or needed < arena:
            best, arena = candidate, needed
        if arena == bound:
            break
    assert arena is not None
    if arena > bound:
        best = _exchange_pairs(best, bound)
    return Plan(_first_fit(best), _arena_bytes(best), bound)


def _arena_bytes(order: Sequence[Lifetime]) -> int:
    offsets = _first_fit(order)
    return max((offsets[v.name] + v.aligned_size for v in order), default=0)


def _exchange_pairs(order: list[Lifetime], bound: int) -> list[Lifetime]:
    """Hill climbing over orders: keep an exchange that does not enlarge the arena, stop at the bound.

    First fit reaches every optimal plan in some order: that of its offsets.
    """
    rng = random.Random(0)
    arena = _arena_bytes(order)
    for _ in range(SEARCH_STEPS):
        i, j = rng.randrange(len(order)), rng.randrange(len(order))
        candidate = order.copy()
        candidate[i], candidate[j] = candidate[j], candidate[i]
        needed = _arena_bytes(candidate)
        if needed <= arena:
            order, arena = candidate, needed
        if arena == bound:
            break
    return order


def lower_bound(values: Sequence[Lifetime]) -> int:
    """Largest sum of live bytes over all steps."""
    steps = {v.first for v in values}
    return max((sum(v.aligned_size for v in values if v.first <= s <= v.last) for s in steps), default=0)


def _first_fit(values: Sequence[Lifetime]) -> dict[str, int]:
    placed: list[tuple[int, Lifetime]] = []
    offsets: dict[str, int] = {}
    for value in values:
        offset = 0
        for start, other in sorted(((o, v) for o, v in placed if v.overlaps(value)), key=lambda p: p[0]):
            if offset + value.aligned_size <= start:
                break
            offset = max(offset, start + other.aligned_size)
        offsets[value.name] = offset
        placed.append((offset, value))
    return offsets
