"""LOGISTIC, TANH and HARD_SWISH.

int8 LOGISTIC and TANH follow LiteRT's built-in kernels, which compute each of the 256 values in float32, or those of
TFLM, in 32-bit fixed point; it is done here, so that the device looks the result up. int8 HARD_SWISH is 16-bit fixed
point. float32 is computed in double and rounded once; the originals and generated code stay within 1e-5 of the range.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onebit.core import fixed_functions
from onebit.core.fixed_functions import divide_by_power
from onebit.core.fixed_point import quantize_multiplier, requantize, round_half_away
from onebit.core.graph import Array, DType, Quantization
from onebit.core.ops.base import View, constraint, register
from onebit.core.ops.unary import Unary
from onebit.core.rounding import Rounding


@dataclass(frozen=True)
class _Sigmoid(Unary):
    #: the int8 quantization of the output in the TFLite standard; 2**-bits is its scale
    bits: ClassVar[int]
    zero_point: ClassVar[int]

    @abstractmethod
    def exact(self, x: Array) -> Array:
        """f of float64 values."""

    @abstractmethod
    def fixed(self, x: Array) -> Array:
        """f in Q(0) of values in Q(4), see `onebit.core.fixed_functions`."""

    def real(self, view: View, x: Array) -> Array:
        return self.exact(x.astype(np.float64)).astype(np.float32)

    def single(self, view: View, x: Array) -> Array:
        """f of float32 values as LiteRT makes int8 tables: `real`, unless float32 arithmetic shows."""
        return self.real(view, x)

    def quantized(self, view: View, x: Array) -> Array:
        source, result = view.input(0).quant, view.output.quant
        if view.rounding is Rounding.TFLM:
            return self._fixed_point(x - source.zero_point, source.scale)
        real = np.float32(source.scale) * (x - source.zero_point).astype(np.float32)
        steps = self.single(view, real) * (np.float32(1) / np.float32(result.scale))
        return round_half_away(steps) + result.zero_point

    def _fixed_point(self, x: Array, scale: float) -> Array:
        """TFLM: steps become Q(4); from a radius on, a real value between 7.5 and 15, the result is saturated."""
        q, exponent = quantize_multiplier(scale * 2.0**27)
        radius = math.floor(math.ldexp(15.0, 27 - exponent))
        small = np.clip(x, 1 - radius, radius - 1)
        y = divide_by_power(self.fixed(requantize(small, q, exponent, away=True)), 31 - self.bits) + self.zero_point
        return np.where(x <= -radius, -128, np.where(x >= radius, 127, y))


@register
@dataclass(frozen=True)
class Logistic(_Sigmoid):
    """1 / (1 + exp(-x))."""

    name = "LOGISTIC"
    code = 14
    bits = 8
    zero_point = -128

    @constraint
    def output_quantization(self, view: View) -> bool:
        """an int8 output has scale 1/256 and zero point -128"""
        return view.output.dtype is not DType.INT8 or view.output.quant == Quantization.per_tensor(1 / 256, -128)

    def exact(self, x: Array) -> Array:
        small = np.exp(-np.abs(x))
        return np.asarray(np.where(x < 0, small, 1.0) / (1.0 + small))

    def single(self, view: View, x: Array) -> Array:
        """Every step rounded to float32: next to a half of an output step it shows."""
        with np.errstate(over="ignore"):
            exponential = np.exp(-x.astype(np.float64)).astype(np.float32)
        return np.asarray(np.float32(1) / (np.float32(1) + exponential))

    def fixed(self, x: Array) -> Array:
        return fixed_functions.logistic(x, 4)


@register
@dataclass(frozen=True)
class Tanh(_Sigmoid):
    """tanh(x). On int8 the result of TFLM has scale 1/128 and zero point 0, whatever the file says."""

    name = "TANH"
    code = 28
    bits = 7
    zero_point = 0

    def exact(self, x: Array) -> Array:
        return np.tanh(x)

    def fixed(self, x: Array) -> Array:
        return fixed_functions.tanh(x, 4)


@register
@dataclass(frozen=True)
class HardSwish(Unary):
    """x * clamp(x + 3, 0, 6) / 6."""

    name = "HARD_SWISH"
    code = 117

    @constraint
    def scale_ratio(self, view: View) -> bool:
        """the input scale of an int8 operator is from 2**-9 to below 2**7 output scales, and below 384"""
        if view.input(0).dtype is not DType.INT8:
            return True
        (_, gate_exponent), (_, exponent) = _hard_swish_multipliers(view.input(0).quant, view.output.quant)
        return -15 <= exponent <= 0 and gate_exponent <= 15

    def real(self, view: View, x: Array) -> Array:
        return np.asarray(x * np.clip(x + np.float32(3), 0, 6) / np.float32(6))

    def quantized(self, view: View, x: Array) -> Array:
        """LiteRT's formula: 7 more bits, a hard sigmoid on [-1, 1) in Q15, one truncating product."""
        source, result = view.input(0).quant, view.output.quant
        (gate_q, gate_exponent), (q, exponent) = _hard_swish_multipliers(source, result)
        wide = (x - source.zero_point) << 7
        gate = _saturate16(wide << max(gate_exponent - 1, 0))
        gate = _high_product(gate, gate_q)
        gate = _saturate16(gate << 1) if gate_exponent > 0 else divide_by_power(gate, -gate_exponent)
        product = np.fix(((gate + (1 << 15)) >> 1) * _high_product(wide, q) / (1 << 15)).astype(np.int64)
        return divide_by_power(product, -exponent) + result.zero_point


Multiplier = tuple[int, int]


def _hard_swish_multipliers(source: Quantization, result: Quantization) -> tuple[Multiplier, Multiplier]:
    """16-bit multipliers with exponents: input/128 to steps of 3/32768, and to the output scale."""
    fine = np.float32(1 / 128) * np.float32(source.scale)
    pairs = (quantize_multiplier(float(fine / s)) for s in (np.float32(3 / 32768), np.float32(result.scale)))
    gate, output = ((min((q + (1 << 15)) >> 16, 2**15 - 1), exponent) for q, exponent in pairs)
    return gate, output


def _saturate16(x: Array) -> Array:
    return np.clip(x, -(2**15), 2**15 - 1)


def _high_product(x: Array, q: int) -> Array:
    """x * q / 2**15, rounded half up; |x| and q fit 16 bits."""
    return (x * q + (1 << 14)) >> 15
