"""Memory planning: offsets in one arena for values whose lifetimes are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

#: offsets and sizes are multiples of this, enough for float and 32-bit words
ALIGNMENT = 4


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

    The lower bound is the largest sum of live bytes over all steps. Ties and orders are deterministic.
    """
    bound = lower_bound(values)
    orders: list[Callable[[Lifetime], tuple[int, ...]]] = [
        lambda v: (-v.aligned_size, v.first),
        lambda v: (v.first, -v.aligned_size),
        lambda v: (-(v.last - v.first), -v.aligned_size),
        lambda v: (-v.aligned_size * (v.last - v.first + 1), v.first),
        lambda v: (v.last, -v.aligned_size),
    ]
    best: Plan | None = None
    for order in orders:
        offsets = _first_fit(sorted(values, key=lambda v: (*order(v), v.name)))
        arena = max((offsets[v.name] + v.aligned_size for v in values), default=0)
        if best is None or arena < best.arena_bytes:
            best = Plan(offsets, arena, bound)
        if arena == bound:
            break
    assert best is not None
    return best


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
