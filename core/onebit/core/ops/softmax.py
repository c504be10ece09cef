"""SOFTMAX over the last axis, float32 and int8.

int8: the output scale is fixed at 1/256, zero point -128. A table holds exp(beta * scale * -d) for the distance d to
the largest value. LiteRT's built-in kernel takes a float32 table, a float32 sum in element order, and
floor(p * 256 + 0.5) - 128; TFLM computes all of it in fixed point (`onebit.core.fixed_functions`).
float32 computes in double and rounds once here; the C has an exp of its own (below 1 ULP), the same on every target.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onebit.core.fixed_functions import divide_by_power, exp_negative, one_over_one_plus, product
from onebit.core.fixed_point import quantize_multiplier, requantize
from onebit.core.graph import Array, DType, Quantization
from onebit.core.ops.base import BuiltinOp, Options, Shape, View, constraint, register
from onebit.core.rounding import Rounding

OUTPUT_QUANTIZATION = Quantization.per_tensor(1 / 256, -128)
#: bits of TFLM's sum of exponentials before the point
SUM_BITS = 12


@register
@dataclass(frozen=True)
class Softmax(BuiltinOp):
    """exp(beta * (x - max)) / sum."""

    name = "SOFTMAX"
    arity = (1, 1)
    code = 25
    options_table = "SoftmaxOptions"

    beta: float = 1.0

    @constraint
    def dtypes(self, view: View) -> bool:
        """input and output are both float32 or both int8"""
        return view.input(0).dtype is view.output.dtype and view.output.dtype in (DType.FLOAT32, DType.INT8)

    @constraint
    def channels(self, view: View) -> bool:
        """the input has a last axis beside the batch"""
        return len(view.input(0).shape) >= 2

    @constraint
    def finite_beta(self, view: View) -> bool:
        """beta is finite and not negative"""
        return math.isfinite(self.beta) and self.beta >= 0

    @constraint
    def output_quantization(self, view: View) -> bool:
        """an int8 output has scale 1/256 and zero point -128"""
        return view.output.dtype is not DType.INT8 or view.output.quant == OUTPUT_QUANTIZATION

    def infer(self, view: View) -> tuple[Shape, DType]:
        return view.input(0).shape, view.input(0).dtype

    @constraint
    def row_fits(self, view: View) -> bool:
        """the last axis of an int8 operator has at most 4095 values with --rounding tflm"""
        exact = view.rounding is Rounding.LITERT or view.output.dtype is not DType.INT8
        return exact or view.input(0).shape[-1] < 2**SUM_BITS

    def exp_table(self, view: View) -> Array:
        """exp of the scaled distance to the maximum: float32[256], or for TFLM int32[256] in steps of 2**-31."""
        quant = view.input(0).quant
        if view.rounding is Rounding.TFLM:
            return self._fixed_table(quant)
        step = np.float32(-np.float32(quant.scale) * np.float32(self.beta))
        distance = np.arange(256, dtype=np.float32)
        exponent = (step * distance).astype(np.float32)
        return np.asarray(np.exp(exponent.astype(np.float64)), np.float32)

    def evaluate(self, view: View, args: Sequence[Array | None]) -> Array:
        x = args[0]
        assert x is not None
        if view.output.dtype is DType.FLOAT32:
            shifted = (x - x.max(axis=-1, keepdims=True)).astype(np.float32)
            e = np.exp((shifted * np.float32(self.beta)).astype(np.float64))
            return np.asarray(e / e.sum(axis=-1, keepdims=True), np.float32)
        terms = self.exp_table(view)[x.max(axis=-1, keepdims=True).astype(np.int32) - x]
        q = _fixed_quotient(terms) if view.rounding is Rounding.TFLM else _float_quotient(terms)
        return np.asarray(np.clip(q - 128, -128, 127), np.int8)

    @classmethod
    def from_options(cls, options: Options) -> Softmax:
        return cls(float(np.float32(options["beta"])))

    def to_options(self) -> dict[str, Any]:
        return {"beta": self.beta}

    def _fixed_table(self, quant: Quantization) -> Array:
        """Distances in Q(5), below 31 * 2**31 / q of the multiplier q; exp is 0 from there on."""
        q, exponent = quantize_multiplier(min(self.beta * quant.scale * 2.0**26, 2.0**31 - 1))
        radius = math.floor(math.ldexp(31.0, 26 - exponent))
        distance = np.arange(256, dtype=np.int64)
        scaled = requantize(-np.minimum(distance, radius), q, exponent)
        return np.where(distance <= radius, exp_negative(scaled, 5), 0).astype(np.int32)


def _float_quotient(terms: Array) -> Array:
    """Each term over the sum along the last axis, in steps of 1/256: float32, rounded half up."""
    # cumulative sums are sequential, unlike np.sum, which adds pairwise
    total = np.cumsum(terms, axis=-1, dtype=np.float32)[..., -1:]
    inverse = (np.float32(1) / (total * np.float32(OUTPUT_QUANTIZATION.scale))).astype(np.float32)
    return np.asarray(np.floor((terms * inverse).astype(np.float32) + np.float32(0.5)))


def _fixed_quotient(terms: Array) -> Array:
    """The same in fixed point: the sum in Q(12), its reciprocal by Newton's method."""
    terms = terms.astype(np.int64)
    total = divide_by_power(terms, SUM_BITS).sum(axis=-1, keepdims=True)
    # zeros in front of the first one of 32 bits; a sum below 2**32 is exact in double
    zeros = 32 - np.frexp(total.astype(np.float64))[1].astype(np.int64)
    inverse = one_over_one_plus((total << zeros) - 2**31)
    return divide_by_power(product(inverse, terms), SUM_BITS - zeros + 23)
