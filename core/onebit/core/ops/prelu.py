"""PRELU, float32 and int8."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onebit.core.graph import Array, DType
from onebit.core.ops.base import BuiltinOp, Options, Shape, View, constraint, register
from onebit.core.ops.operands import MAX_REPEATED_AXES, aligned, repeats
from onebit.core.ops.unary import quotient, rescale

#: a product of two int8 values shifted left by more would leave 32 bits
MAX_GAIN = 2.0**14


@register
@dataclass(frozen=True)
class Prelu(BuiltinOp):
    """x if x >= 0, else alpha * x. int8: both branches rounded half away from zero, multipliers as in LEAKY_RELU."""

    name = "PRELU"
    arity = (2, 2)
    code = 54

    @constraint
    def same_dtype(self, view: View) -> bool:
        """input, alpha and output are all float32 or all int8"""
        kinds = {view.input(0).dtype, view.input(1).dtype, view.output.dtype}
        return len(kinds) == 1 and kinds <= {DType.FLOAT32, DType.INT8}

    @constraint
    def alpha(self, view: View) -> bool:
        """alpha is a constant with one scale, and repeats along the leading axes of the input, which has at most 4"""
        x, alpha = view.input(0), view.input(1)
        fits = len(x.shape) <= MAX_REPEATED_AXES and repeats(alpha.shape, x.shape)
        return fits and alpha.is_constant and len(alpha.quant.scales) == 1 and not x.is_constant

    @constraint
    def scale_ratio(self, view: View) -> bool:
        """the input scale of an int8 operator, alone and times that of alpha, is below 2**14 output scales"""
        return view.input(0).dtype is not DType.INT8 or max(self.gains(view)) < MAX_GAIN

    def gains(self, view: View) -> tuple[float, float]:
        """Output steps per input step, and per product of an input and an alpha step (int8)."""
        return quotient(view), quotient(view, view.input(1).quant.scale)

    def infer(self, view: View) -> tuple[Shape, DType]:
        return view.input(0).shape, view.input(0).dtype

    def evaluate(self, view: View, args: Sequence[Array | None]) -> Array:
        x, alpha = args
        assert x is not None and alpha is not None
        alpha = aligned(view.input(1), alpha, len(view.input(0).shape))
        if view.input(0).dtype is DType.FLOAT32:
            return np.where(x >= 0, x, x * alpha)
        centered = x.astype(np.int64) - view.input(0).quant.zero_point
        product = centered * (alpha.astype(np.int64) - view.input(1).quant.zero_point)
        positive, negative = (rescale(v, gain) for v, gain in zip((centered, product), self.gains(view), strict=True))
        y = np.where(centered >= 0, positive, negative) + view.output.quant.zero_point
        return np.clip(y, -128, 127).astype(np.int8)

    @classmethod
    def from_options(cls, options: Options) -> Prelu:
        return cls()

    def to_options(self) -> dict[str, Any]:
        return {}
