"""GREATER and GREATER_EQUAL: float32 or int8 operands, a bool result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from onebit.core.fixed_point import quantize_multiplier, requantize
from onebit.core.graph import Array, DType
from onebit.core.ops.base import Options, Shape, View, constraint, register
from onebit.core.ops.operands import Binary

#: bits to the left of an int8 operand, before it is scaled
SHIFT = 8


@dataclass(frozen=True)
class Comparison(Binary):
    """int8: (a << 8) * scale of a, against the same of b, as fixed-point products rounded half away from zero."""

    function: ClassVar[np.ufunc]

    @constraint
    def scales_below_one(self, view: View) -> bool:
        """int8 inputs have scales below 1"""
        return view.input(0).dtype is not DType.INT8 or max(view.input(i).quant.scale for i in (0, 1)) < 1.0

    def infer(self, view: View) -> tuple[Shape, DType]:
        return super().infer(view)[0], DType.BOOL

    def real(self, a: Array, b: Array) -> Array:
        return np.asarray(self.function(a, b))

    def quantized(self, view: View, a: Array, b: Array) -> Array:
        scaled = []
        for value, tensor in ((a, view.input(0)), (b, view.input(1))):
            steps = (value.astype(np.int64) - tensor.quant.zero_point) << SHIFT
            scaled.append(requantize(steps, *quantize_multiplier(tensor.quant.scale), away=True))
        return self.real(*scaled)

    @classmethod
    def from_options(cls, options: Options) -> Comparison:
        return cls()

    def to_options(self) -> dict[str, Any]:
        return {}


@register
@dataclass(frozen=True)
class Greater(Comparison):
    """x > y."""

    name = "GREATER"
    code = 61
    function = np.greater


@register
@dataclass(frozen=True)
class GreaterEqual(Comparison):
    """x >= y."""

    name = "GREATER_EQUAL"
    code = 62
    function = np.greater_equal
