"""SOFTMAX over the last axis, float32 and int8.

int8 follows LiteRT's built-in kernel: a table of exp(beta * scale * -d) in float32 for the distance d to the largest
value, a float32 sum in element order, and floor(p * 256 + 0.5) - 128. The output scale is fixed at 1/256, zero point
-128. float32 computes in double and rounds once here; the C has an exp of its own (below 1
ULP), the same on every target.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onebit.core.graph import Array, DType, Quantization
from onebit.core.ops.base import BuiltinOp, Options, Shape, View, constraint, register

OUTPUT_QUANTIZATION = Quantization.per_tensor(1 / 256, -128)


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

    def exp_table(self, quant: Quantization) -> Array:
        """float32[256]: exp of the scaled distance to the maximum."""
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
        table = self.exp_table(view.input(0).quant)
        terms = table[x.max(axis=-1, keepdims=True).astype(np.int32) - x]
        # cumulative sums are sequential, unlike np.sum, which adds pairwise
        total = np.cumsum(terms, axis=-1, dtype=np.float32)[..., -1:]
        inverse = (np.float32(1) / (total * np.float32(OUTPUT_QUANTIZATION.scale))).astype(np.float32)
        q = np.floor((terms * inverse).astype(np.float32) + np.float32(0.5)) - 128
        return np.asarray(np.clip(q, -128, 127), np.int8)

    @classmethod
    def from_options(cls, options: Options) -> Softmax:
        return cls(float(np.float32(options["beta"])))

    def to_options(self) -> dict[str, Any]:
        return {"beta": self.beta}
