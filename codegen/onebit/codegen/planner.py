"""Memory planning: offsets in one arena for blocks of values whose lifetimes are known."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

#: the arena and every block in it start at a multiple of this: enough for float and 32-bit words
ALIGNMENT: Final = 4
#: orders tried where the simple ones miss the lower bound; some tenths of a second for a hundred values
SEARCH_STEPS = 400


def _aligned(size: int) -> int:
    """Rounded up to the alignment."""
    return -(-size // ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True)
class Lifetime:
    """`size` bytes that are live from step `first` to step `last`, both included."""

    name: str
    size: int
    first: int
    last: int

    def overlaps(self, other: Lifetime) -> bool:
        """Whether both are live at some step."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class Member:
    """A value `offset` bytes behind the start of its block; `start` and `end` are rounded outwards to the alignment."""

    offset: int
    value: Lifetime

    @property
    def start(self) -> int:
        """First byte that no other block may use while the value lives."""
        return self.offset // ALIGNMENT * ALIGNMENT

    @property
    def end(self) -> int:
        """The byte behind the last one."""
        return max(_aligned(self.offset + self.value.size), self.start)


@dataclass(frozen=True)
class Block:
    """Values at fixed distances from each other: parts of one another, or one after the other in the same place."""

    members: tuple[Member, ...]

    @classmethod
    def of(cls, value: Lifetime) -> Block:
        """A block of one value."""
        return cls((Member(0, value),))

    @property
    def name(self) -> str:
        """The least name of its values, for orders that do not depend on how blocks were found."""
        return min(member.value.name for member in self.members)

    @property
    def bytes(self) -> int:
        """Bytes of the block at all times together."""
        return max(member.end for member in self.members)

    @property
    def first(self) -> int:
        """The first step at which some value is live."""
        return min(member.value.first for member in self.members)

    @property
    def last(self) -> int:
        """The last step at which some value is live."""
        return max(member.value.last for member in self.members)

    def live_bytes(self, step: int) -> int:
        """Bytes that its values occupy at a step; values that share memory count once."""
        spans = sorted((m.start, m.end) for m in self.members if m.value.first <= step <= m.value.last)
        live, reached = 0, 0
        for start, end in spans:
            live += max(0, end - max(start, reached))
            reached = max(reached, end)
        return live


@dataclass(frozen=True)
class Plan:
    """Offsets of values in bytes by name, the arena they need, and the least any plan could need."""

    offsets: dict[str, int]
    arena_bytes: int
    lower_bound_bytes: int


def plan_memory(blocks: Sequence[Block]) -> Plan:
    """Place every block at the lowest offset free during its life, in several orders; the smallest arena wins.

    The lower bound is the largest sum of live bytes over all steps. Where no order meets it, exchanging pairs of blocks
    in the best one is tried, a bounded number of times (seeded: equal blocks give equal plans).
    """
    bound = lower_bound(blocks)
    orders: list[Callable[[Block], tuple[int, ...]]] = [
        lambda b: (-b.bytes, b.first),
        lambda b: (b.first, -b.bytes),
        lambda b: (-(b.last - b.first), -b.bytes),
        lambda b: (-b.bytes * (b.last - b.first + 1), b.first),
        lambda b: (b.last, -b.bytes),
    ]
    best: list[Block] = []
    arena: int | None = None
    for order in orders:
        candidate = sorted(blocks, key=lambda b: (*order(b), b.name))
        needed = _arena_bytes(candidate)
        if arena is None or needed < arena:
            best, arena = candidate, needed
        if arena == bound:
            break
    assert arena is not None
    if arena > bound:
        best = _exchange_pairs(best, bound)
    offsets = {m.value.name: base + m.offset for block, base in _first_fit(best) for m in block.members}
    return Plan(offsets, _arena_bytes(best), bound)


def _arena_bytes(order: Sequence[Block]) -> int:
    return max((base + block.bytes for block, base in _first_fit(order)), default=0)


def _exchange_pairs(order: list[Block], bound: int) -> list[Block]:
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


def lower_bound(blocks: Sequence[Block]) -> int:
    """Largest sum of live bytes over all steps."""
    steps = {member.value.first for block in blocks for member in block.members}
    return max((sum(block.live_bytes(step) for block in blocks) for step in steps), default=0)


def _first_fit(blocks: Sequence[Block]) -> list[tuple[Block, int]]:
    """Every block with its offset: the lowest at which none of its values meets one that is placed and lives then."""
    placed: list[tuple[int, Member]] = []
    found: list[tuple[Block, int]] = []
    for block in blocks:
        base = 0
        for first, free in sorted(_forbidden(block, placed)):
            if base <= first:
                break
            base = max(base, free)
        found.append((block, base))
        placed += [(base, member) for member in block.members]
    return found


def _forbidden(block: Block, placed: Sequence[tuple[int, Member]]) -> Iterator[tuple[int, int]]:
    """Pairs of offsets between which, exclusively, `block` cannot start."""
    for member in block.members:
        for base, other in placed:
            if member.value.overlaps(other.value) and member.end > member.start and other.end > other.start:
                yield base + other.start - member.end, base + other.end - member.start
