"""Which values share memory: parts of one another (slices, joins, reshapes), and results written over their operands.

Values end up in groups at fixed distances. Two values of a group may meet in a byte at a time when both live only if
they hold the same content there, or if one is written over the other by a kernel that allows it. Everything that
follows here is that rule, applied to one candidate after the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from onebit.codegen.planner import Block, Lifetime, Member
from onebit.core.graph import DType


class Memory(Enum):
    """Where a value lies."""

    #: the caller's input: only read
    INPUT = "input"
    #: the caller's output: nothing may reach beyond the model's output
    OUTPUT = "output"
    ARENA = "arena"


@dataclass(frozen=True)
class Origin:
    """`size` bytes that some value was computed with: those from `start` of `name`."""

    name: str
    start: int
    size: int


Content = tuple[Origin, ...]


def cut(content: Content, start: int, end: int) -> Content:
    """The content of the bytes from `start` to `end`, neighbouring pieces of one value joined."""
    found: list[Origin] = []
    at = 0
    for origin in content:
        low, high = max(start, at), min(end, at + origin.size)
        if low < high:
            piece = Origin(origin.name, origin.start + low - at, high - low)
            if found and (found[-1].name, found[-1].start + found[-1].size) == (piece.name, piece.start):
                last = found.pop()
                piece = Origin(last.name, last.start, last.size + piece.size)
            found.append(piece)
        at += origin.size
    return tuple(found)


@dataclass(frozen=True)
class Value:
    """A tensor with its life, counted in nodes, and its content as consecutive pieces of what was computed.

    A value that is `written` is stored by a kernel. The model's input is not, nor is a part of another value as long as
    it lies inside it.
    """

    life: Lifetime
    dtype: DType
    memory: Memory
    content: Content
    written: bool = True


@dataclass(frozen=True)
class Place:
    """A value `offset` bytes behind the start of the group `group`."""

    group: str
    offset: int


_NOTHING: Final[frozenset[tuple[str, str]]] = frozenset()


class Sharing:
    """Groups of values, each value alone at first. A group has the name of one of its values."""

    def __init__(self, values: Iterable[Value]) -> None:
        self.values: dict[str, Value] = {}
        self._places: dict[str, Place] = {}
        for value in values:
            self.values[value.life.name] = value
            self._places[value.life.name] = Place(value.life.name, 0)

    def lies_in(self, part: str, whole: str, offset: int) -> bool:
        """Whether `part` starts `offset` bytes behind the start of `whole`."""
        a, b = self._places[part], self._places[whole]
        return a.group == b.group and a.offset == b.offset + offset

    def put(self, part: str, whole: str, offset: int) -> bool:
        """Let `part` start `offset` bytes behind the start of `whole`, if that is allowed."""
        return self.lies_in(part, whole, offset) or self._merge(whole, part, offset, _NOTHING)

    def take_piece(self, piece: str, whole: str, offset: int) -> None:
        """Let `piece` be a part of `whole`, `offset` bytes behind its start; where that fails, it will be written."""
        if not self.put(piece, whole, offset):
            self.values[piece] = replace(self.values[piece], written=True)

    def write_over(self, operand: str, result: str) -> bool:
        """Let `result` start where `operand` does, which its kernel is the last to read, if that is allowed."""
        if self.values[operand].life.last != self.values[result].life.first:
            return False
        return self._merge(operand, result, 0, frozenset({(operand, result)}))

    def group(self, name: str) -> dict[str, int]:
        """The values of a value's group, by their offsets."""
        group = self._places[name].group
        return {other: place.offset for other, place in self._places.items() if place.group == group}

    def blocks(self) -> list[Block]:
        """The groups that need memory in the arena."""
        groups: dict[str, list[str]] = {}
        for name, place in self._places.items():
            groups.setdefault(place.group, []).append(name)
        return [
            Block(tuple(Member(self._places[name].offset, self.values[name].life) for name in names))
            for names in groups.values()
            if self.memory(names[0]) is Memory.ARENA
        ]

    def memory(self, name: str) -> Memory:
        """Where a value lies: the caller's memory if any value of its group does."""
        return next((m for m in self._memories(self.group(name))), Memory.ARENA)

    def offset_in_memory(self, name: str) -> int:
        """Bytes from the start of the caller's input or output to a value that lies there."""
        start = next(o for n, o in self.group(name).items() if self.values[n].memory is not Memory.ARENA)
        return self._places[name].offset - start

    def _memories(self, names: Iterable[str]) -> list[Memory]:
        return [self.values[name].memory for name in names if self.values[name].memory is not Memory.ARENA]

    def _merge(self, base: str, name: str, distance: int, allowed: frozenset[tuple[str, str]]) -> bool:
        """One group of two, `name` starting `distance` bytes behind `base`; False, and no change, where that fails."""
        here, there = self.group(base), self.group(name)
        if name in here:
            return False
        shift = here[base] + distance - there[name]
        there = {other: offset + shift for other, offset in there.items()}
        together = {**here, **there}
        if not self._fits_callers_memory(together):
            return False
        for a, start_a in here.items():
            for b, start_b in there.items():
                if (a, b) not in allowed and self._meet(self.values[a], start_a, self.values[b], start_b):
                    return False
        least = min(together.values())
        places = {other: Place(self._places[base].group, offset - least) for other, offset in together.items()}
        if any(place.offset % self.values[other].dtype.numpy.itemsize for other, place in places.items()):
            return False
        self._places |= places
        return True

    def _fits_callers_memory(self, group: Mapping[str, int]) -> bool:
        memories = self._memories(group)
        if len(memories) > 1:
            return False
        if memories == [Memory.INPUT]:
            return not any(self.values[name].written for name in group)
        for name, start in group.items():
            output = self.values[name]
            if output.memory is Memory.OUTPUT:
                return all(
                    self.values[other].dtype is output.dtype
                    and start <= offset
                    and offset + self.values[other].life.size <= start + output.life.size
                    for other, offset in group.items()
                )
        return True

    @staticmethod
    def _meet(a: Value, start_a: int, b: Value, start_b: int) -> bool:
        """Whether two values, at these offsets, have different content in a byte while both live."""
        low, high = max(start_a, start_b), min(start_a + a.life.size, start_b + b.life.size)
        if low >= high or not a.life.overlaps(b.life):
            return False
        return cut(a.content, low - start_a, high - start_a) != cut(b.content, low - start_b, high - start_b)
