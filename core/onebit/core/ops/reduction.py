"""MEAN and REDUCE_MAX over neighbouring axes, float32 and int8."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from onebit.core.fixed_point import quantize_multiplier
from onebit.core.graph import Array, DType
from onebit.core.ops.base import BuiltinOp, Options, Shape, View, constraint, register
from onebit.core.ops.linear import Requantization
from onebit.core.rounding import Rounding


@dataclass(frozen=True)
class _Reduction(BuiltinOp):
    """The second input names the axes; they fall away, or stay with extent 1 (`keep_dims`)."""

    arity = (2, 2)
    options_table = "ReducerOptions"

    keep_dims: bool = False

    @constraint
    def dtypes(self, view: View) -> bool:
        """input and output are both float32 or both int8"""
        return view.input(0).dtype is view.output.dtype and view.output.dtype in (DType.FLOAT32, DType.INT8)

    @constraint
    def neighbouring_axes(self, view: View) -> bool:
        """the axes are a constant int32 tensor, neighbours, and not the batch"""
        axes, rank = view.input(1), len(view.input(0).shape)
        if not axes.is_constant or axes.dtype is not DType.INT32:
            return False
        given = axes.constant().reshape(-1)
        if not ((-rank <= given) & (given < rank)).all():
            return False
        found = self.axes(view)
        return found[:1] > (0,) and found == tuple(range(found[0], found[-1] + 1))

    def axes(self, view: View) -> tuple[int, ...]:
        """The axes in ascending order, each once."""
        rank = len(view.input(0).shape)
        return tuple(sorted({int(axis) % rank for axis in view.input(1).constant().reshape(-1)}))

    def extents(self, view: View) -> tuple[int, int, int]:
        """Elements before, in and behind the reduced axes: the input as ``[outer, count, inner]``."""
        shape, axes = view.input(0).shape, self.axes(view)
        return prod(shape[: axes[0]]), prod(shape[axes[0] : axes[-1] + 1]), prod(shape[axes[-1] + 1 :])

    def infer(self, view: View) -> tuple[Shape, DType]:
        shape, axes = view.input(0).shape, self.axes(view)
        if self.keep_dims:
            return tuple(1 if i in axes else size for i, size in enumerate(shape)), view.input(0).dtype
        return tuple(size for i, size in enumerate(shape) if i not in axes), view.input(0).dtype

    @classmethod
    def from_options(cls, options: Options) -> _Reduction:
        return cls(bool(options["keep_dims"]))

    def to_options(self) -> dict[str, Any]:
        return {"keep_dims": self.keep_dims}


@dataclass(frozen=True, eq=False)
class IntegerMean:
    """int8 outputs of sums: `stage` requantizes sum - `start`, one row of `stage` per element behind the axes."""

    start: int
    stage: Requantization


@register
@dataclass(frozen=True)
class Mean(_Reduction):
    """Arithmetic mean; an int8 output has a scale of its own.

    float32: the sum in index order, over the count. LiteRT adds in that order too, unless the last axis is reduced.
    int8: LiteRT has two kernels, TFLM only the second of them. The optimized one, for [1, H, W, C] with `keep_dims` and
    the axes written as 1 and 2, puts the zero points into a rounded constant and takes 16 channels at a time, which
    round half up while the rest rounds half away from zero. The other takes sum - count * zero point, and divides the
    fixed-point multiplier of the scales by the count.
    """

    name = "MEAN"
    code = 40

    @constraint
    def sum_fits(self, view: View) -> bool:
        """the sum of an int8 input fits in 32 bits, also where the scales shift it to the left"""
        if view.output.dtype is not DType.INT8:
            return True
        mean = self.integer_mean(view)
        largest = 128.0 * self.extents(view)[1] + abs(mean.start)
        scaled = largest * 2.0 ** max(int(mean.stage.exponent[0]), 0)
        return scaled + abs(mean.stage.zero_point) < 2**31

    def integer_mean(self, view: View) -> IntegerMean:
        """The fixed-point form of an int8 mean."""
        x, y, (_, count, inner) = view.input(0).quant, view.output.quant, self.extents(view)
        written = view.input(1).constant().reshape(-1).tolist()
        optimized = self.keep_dims and len(view.input(0).shape) == 4 and sorted(written) == [1, 2]
        if optimized and view.rounding is Rounding.LITERT:
            in_scale, out_scale = np.float32(x.scale), np.float32(y.scale)
            with np.errstate(over="ignore"):
                ratio = in_scale / (np.float32(count) * out_scale)
                offset = np.float32(x.zero_point) * in_scale / out_scale
            # what is not even finite must not fit either
            q, exponent = quantize_multiplier(min(float(ratio), 2.0**40))
            offset = np.clip(offset, -(2.0**40), 2.0**40)
            zero_point = y.zero_point - int(np.trunc(offset + np.copysign(np.float32(0.5), offset)))
            start, half_up = 0, view.rounding.blocks(inner, 16)
        else:
            q, exponent = quantize_multiplier(x.scale / y.scale)
            shift = min(count.bit_length() - 1, 31 + exponent)
            q, exponent = (q << shift) // count, exponent - shift
            start, zero_point, half_up = x.zero_point * count, y.zero_point, 0
        rows = np.full(inner, q, np.int64), np.full(inner, exponent, np.int64)
        return IntegerMean(start, Requantization(*rows, zero_point, (-128, 127), half_up))

    def evaluate(self, view: View, args: Sequence[Array | None]) -> Array:
        x = args[0]
        assert x is not None
        _, count, inner = self.extents(view)
        rows = x.reshape(-1, count, inner)
        if view.output.dtype is DType.INT8:
            form = self.integer_mean(view)
            y = form.stage(rows.sum(axis=1, dtype=np.int64) - form.start)
        else:
            # cumulative sums are sequential, unlike np.sum, which adds pairwise
            y = np.cumsum(rows, axis=1, dtype=np.float32)[:, -1] / np.float32(count)
        return y.reshape(x.shape[0], *self.infer(view)[0][1:])


@register
@dataclass(frozen=True)
class ReduceMax(_Reduction):
    """Maximum, of -0.0 and 0.0 the last, or (TFLM) the first; int8 input and output share their quantization.

    TFLM makes the lowest finite float of -infinity.
    """

    name = "REDUCE_MAX"
    code = 82

    @constraint
    def same_quantization(self, view: View) -> bool:
        """int8 input and output have the same scale and zero point"""
        return view.input(0).dtype is not DType.INT8 or view.input(0).quant == view.output.quant

    def evaluate(self, view: View, args: Sequence[Array | None]) -> Array:
        x = args[0]
        assert x is not None
        _, count, inner = self.extents(view)
        rows = x.reshape(-1, count, inner)[:, :: -1 if self.backwards(view) else 1]
        best = rows[:, 0]
        if x.dtype == np.float32:
            best = np.where(best < self.lowest(view), self.lowest(view), best)
        for i in range(1, count):
            best = np.where(best > rows[:, i], best, rows[:, i])
        return best.reshape(x.shape[0], *self.infer(view)[0][1:])

    def backwards(self, view: View) -> bool:
        """Whether the first of equal values counts, which is the last from the end."""
        return view.rounding is Rounding.TFLM

    def lowest(self, view: View) -> np.float32:
        """The float32 value that a maximum starts from."""
        return np.float32(-np.inf) if view.rounding is Rounding.LITERT else np.finfo(np.float32).min
