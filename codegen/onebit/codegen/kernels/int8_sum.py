"""int8 ADD and SUB as one fixed-point expression, proven on all pairs of values.

LiteRT scales both operands and then the sum, three products with a rounding each. Up to those roundings the result is
(a * p + b * q + r) >> shift with real p, q and r. Integers near them are right if they agree with the operator on every
pair that can occur: at most 65,536.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

from onebit.core.graph import Array, DType, Tensor
from onebit.core.ops import Add, View
from onebit.core.ops.elementwise import Arithmetic, OperandRounding, SumSteps
from onebit.core.ops.operands import run_length

#: how far the factors may lie from the real ones: a tie that goes away from zero needs them a little larger
REACH: Final = 8
#: beyond every bound of an offset
FAR: Final = 2**62


@dataclass(frozen=True)
class FixedSum:
    """(a * first + b * second + offset) >> shift, saturated to int8: in 32 bits throughout, the shift is arithmetic."""

    first: int
    second: int
    offset: int
    shift: int

    def __call__(self, a: Array, b: Array) -> Array:
        return (a * self.first + b * self.second + self.offset) >> self.shift


@dataclass(frozen=True)
class _Sum:
    """What decides about the values of an int8 sum; equal ones are solved once."""

    steps: SumSteps
    ratios: tuple[float, float]
    zero_point: int
    roundings: tuple[OperandRounding, ...]
    operands: tuple[bytes, bytes]


def fixed_sum(view: View) -> FixedSum | None:
    """The expression that equals this int8 ADD or SUB; None where none was found, or positions round differently."""
    op, (a, b, y) = view.node.op, (view.input(0), view.input(1), view.output)
    assert isinstance(op, Arithmetic)
    steps = op.steps(view)
    assert isinstance(steps, SumSteps)
    roundings = {OperandRounding.AWAY}
    if isinstance(op, Add):
        block = op.block_rounding(view)
        whole = block is not OperandRounding.AWAY and run_length(view) % block.value == 0
        roundings = {block} if whole else {block, OperandRounding.AWAY}
    ratios = a.quant.scale / y.quant.scale, steps.sign * b.quant.scale / y.quant.scale
    ordered = tuple(sorted(roundings, key=lambda rounding: rounding.value))
    return _solve(_Sum(steps, ratios, y.quant.zero_point, ordered, (_values(a), _values(b))))


def _values(tensor: Tensor) -> bytes:
    """The int8 values that a tensor can have, ascending."""
    return (np.arange(-128, 128).astype(np.int8) if tensor.data is None else np.unique(tensor.data)).tobytes()


@lru_cache(maxsize=1024)
def _solve(problem: _Sum) -> FixedSum | None:
    a, b = (np.frombuffer(values, np.int8).astype(np.int64) for values in problem.operands)
    a, b = a[:, np.newaxis], b[np.newaxis, :]
    found = [problem.steps(a, b, rounding) + problem.zero_point for rounding in problem.roundings]
    y = np.clip(found[0], -128, 127)
    if any((np.clip(other, -128, 127) != y).any() for other in found[1:]):
        return None
    ends = int(np.abs(a).max()), int(np.abs(b).max())
    shift = _largest_shift(problem.ratios, ends, int(np.abs(found[0]).max()) + 2)
    if shift < 1:
        return None
    p, q = (round(ratio * 2.0**shift) for ratio in problem.ratios)
    z = a * p + b * q
    least = np.where(y > -128, y << shift, -FAR) - z
    most = np.where(y < 127, ((y + 1) << shift) - 1, FAR) - z
    # only pairs next to a step can decide: no factor within reach moves another one so far
    margin = 2 * REACH * sum(ends)
    near = (least > least.max() - margin) | (most < most.min() + margin)
    rows, columns = near.nonzero()
    least, most, some_a, some_b = least[near], most[near], a[rows, 0], b[0, columns]
    zeros = problem.steps.zero_points
    middle = round((problem.zero_point + 0.5 - float(np.dot(zeros, problem.ratios))) * 2.0**shift)
    for i, j in _spiral():
        moved = some_a * i + some_b * j
        smallest, largest = int((least - moved).max()), int((most - moved).min())
        if smallest > largest:
            continue
        solution = FixedSum(p + i, q + j, max(smallest, min(middle, largest)), shift)
        if _fits(solution, a, b) and (np.clip(solution(a, b), -128, 127) == y).all():
            return solution
    return None


def _spiral() -> Iterator[tuple[int, int]]:
    """What may be added to both factors, the smallest first."""
    steps = range(-REACH, REACH + 1)
    return iter(sorted(((i, j) for i in steps for j in steps), key=lambda pair: (abs(pair[0]) + abs(pair[1]), pair)))


def _largest_shift(ratios: tuple[float, float], ends: tuple[int, int], largest: int) -> int:
    """The most bits behind the point with which results up to `largest` and the sum of the products fit 32 bits."""
    products = ends[0] * abs(ratios[0]) + ends[1] * abs(ratios[1]) + 1
    return min(31 - int(max(largest, products)).bit_length(), 30)


def _fits(found: FixedSum, a: Array, b: Array) -> bool:
    """Whether no intermediate value leaves 32 bits."""
    products = a * found.first + b * found.second
    steps = (a * found.first, b * found.second, products, products + found.offset, np.array([found.offset]))
    return all(bool((np.abs(step) < 2**31).all()) for step in steps)


def has_fixed_sum(view: View) -> bool:
    """Whether `ob_add_i8_fixed` computes this sum: without a bound inside int8, both operands of several elements."""
    op, x = view.node.op, view.input(0)
    assert isinstance(op, Arithmetic)
    if x.dtype is not DType.INT8 or op.activation.quantized_bounds(view.output.quant) != (-128, 127):
        return False
    several = min(x.elements, view.input(1).elements) > 1 or view.output.elements == 1
    return several and fixed_sum(view) is not None
