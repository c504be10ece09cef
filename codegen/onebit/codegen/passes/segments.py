"""Any int8 function of the accumulator as straight segments in 32-bit arithmetic, proven by construction.

A segment gives q = ((x * M + B) mod 2**32 >> 24) - 128. It equals the function on a range if and only if
(q + 128) * 2**24 <= x * M + B < (q + 129) * 2**24 holds there; on a run of equal q both sides are extreme at its two
ends. For a given M that leaves an interval of B, or none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from onebit.codegen.ops import NO_END
from onebit.codegen.ops import SEGMENT_FRACTION as FRACTION
from onebit.core.graph import Array

#: multipliers that are tried around the slope between both ends
_NEIGHBOURS = np.arange(-8, 9)
#: distance, in steps of q, of a real value from the line between both ends, from which on the function bends there
_BEND = 0.25


@dataclass(frozen=True)
class Segment:
    """q for x below `end` (and not below the end of the segment before): multiplier and offset as signed 32 bits."""

    end: int
    multiplier: int
    offset: int


@dataclass(frozen=True, eq=False)
class _Runs:
    """Runs of equal q of one channel: first and last x of each, q + 128, and the real values at both."""

    first: Array
    last: Array
    level: Array
    real: Array


def solve_segments(x: Array, q: Array, real: Array) -> list[Segment]:
    """Few segments that equal q int8 [X] on all accumulators x int64 [X], ascending.

    `real` float64 [X] are values that q is a rounding of: they guide the search for slopes and bends, no more.
    """
    start = np.flatnonzero(np.concatenate([[True], q[1:] != q[:-1]]))
    stop = np.append(start[1:], len(q)) - 1
    real = np.where(np.isfinite(real), real, q)
    runs = _Runs(x[start], x[stop], q[start].astype(np.int64) + 128, np.stack([real[start], real[stop]], axis=1))
    found = list(_cover(runs, 0, len(start)))
    ends = [*(int(runs.first[stop]) for _, stop, _, _ in found[:-1]), NO_END]
    return [Segment(end, m, _signed(b)) for end, (_, _, m, b) in zip(ends, found, strict=True)]


def _signed(value: int) -> int:
    return (value + 2**31) % 2**32 - 2**31


def _cover(runs: _Runs, start: int, stop: int) -> Iterator[tuple[int, int, int, int]]:
    """(first run, end run, M, B) of segments that cover the runs start .. stop - 1, in order."""
    # saturation and activations leave runs at both ends that no line meets
    for left, right in ((0, 0), (1, 0), (0, 1), (1, 1)):
        inner = start + left, stop - right
        line = _line(runs, *inner) if inner[0] < inner[1] else None
        if line is not None:
            ends = [(start, inner[0]), inner, (inner[1], stop)]
            yield from ((*part, *(_line(runs, *part) or line)) for part in ends if part[0] < part[1])
            return
    middle = _bend(runs, start, stop)
    yield from _cover(runs, start, middle)
    yield from _cover(runs, middle, stop)


def _line(runs: _Runs, start: int, stop: int) -> tuple[int, int] | None:
    """(M, B) of a segment that equals the runs start .. stop - 1; a single run always has one."""
    level = runs.level[start:stop] << FRACTION
    if stop == start + 1:
        return 0, int(level[0]) + (1 << (FRACTION - 1))
    length = int(runs.last[stop - 1] - runs.first[start])
    slope = (runs.real[stop - 1, 1] - runs.real[start, 0]) / length * 2.0**FRACTION
    if abs(slope) >= 2.0**31 - len(_NEIGHBOURS):
        return None
    m = int(np.rint(slope)) + _NEIGHBOURS[:, np.newaxis]
    products = runs.first[start:stop] * m, runs.last[start:stop] * m
    lower = (level - np.minimum(*products)).max(axis=1)
    upper = (level + ((1 << FRACTION) - 1) - np.maximum(*products)).min(axis=1)
    best = int((upper - lower).argmax())
    return (int(m[best, 0]), int(lower[best] + upper[best]) // 2) if lower[best] <= upper[best] else None


def _bend(runs: _Runs, start: int, stop: int) -> int:
    """The run at which to split: where the real values are farthest from the line between both ends, or the middle."""
    x, real = runs.first[start:stop].astype(np.float64), runs.real[start:stop, 0]
    chord = real[0] + (x - x[0]) * ((real[-1] - real[0]) / (x[-1] - x[0]))
    distance = np.abs(real - chord)
    farthest = int(distance.argmax())
    bends = distance[farthest] > _BEND and farthest > 0
    return start + (farthest if bends else (stop - start) // 2)
