"""LOGISTIC, TANH and HARD_SWISH.

int8 LOGISTIC and TANH follow LiteRT's built-in kernels: float32 arithmetic for each of the 256 values, done here, so
that the device looks the result up. int8 HARD_SWISH is 16-bit fixed point. float32 is computed in double and rounded
once; LiteRT's own approximations and generated code stay within 1e-5 of the range.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np

from onebit.core.fixed_point import quantize_multiplier, round_half_away
from onebit.core.graph import Array, DType, Quantization
from onebit.core.ops.base import View, constraint, register
from onebit.core.ops.unary import Unary


@dataclass(frozen=True)
class _Sigmoid(Unary):
    @abstractmethod
    def exact(self, x: Array) -> Array:
        """f of float64 values."""

    def real(self, x: Array) -> Array:
        return self.exact(x.astype(np.float64)).astype(np.float32)

    def single(self, x: Array) -> Array:
        """f of float32 values as int8 tables are made: `real`, unless float32 arithmetic shows."""
        return self.real(x)

    def quantized(self, x: Array, source: Quantization, result: Quantization) -> Array:
        real = np.float32(source.scale) * (x - source.zero_point).astype(np.float32)
        steps = self.single(real) * (np.float32(1) / np.float32(result.scale))
        return round_half_away(steps) + result.zero_point


@register
@dataclass(frozen=True)
class Logistic(_Sigmoid):
    """1 / (1 + exp(-x))."""

    name = "LOGISTIC"
    code = 14

    @constraint
    def output_quantization(self, view: View) -> bool:
        """an int8 output has scale 1/256 and zero point -128"""
        return view.output.dtype is not DType.INT8 or view.output.quant == Quantization.per_tensor(1 / 256, -128)

    def exact(self, x: Array) -> Array:
        small = np.exp(-np.abs(x))
        return np.asarray(np.where(x < 0, small, 1.0) / (1.0 + small))

    def single(self, x: Array) -> Array:
        """Every step rounded to float32: next to a half of an output step it shows."""
        with np.errstate(over="ignore"):
            exponential = np.exp(-x.astype(np.float64)).astype(np.float32)
        return np.asarray(np.float32(1) / (np.float32(1) + exponential))


@register
@dataclass(frozen=True)
class Tanh(_Sigmoid):
    """tanh(x)."""

    name = "TANH"
    code = 28

    def exact(self, x: Array) -> Array:
        return np.tanh(x)


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

    def real(self, x: Array) -> Array:
        return np.asarray(x * np.clip(x + np.float32(3), 0, 6) / np.float32(6))

    def quantized(self, x: Array, source: Quantization, result: Quantization) -> Array:
        """LiteRT's formula: 7 more bits, a hard sigmoid on [-1, 1) in Q15, one truncating product."""
        (gate_q, gate_exponent), (q, exponent) = _hard_swish_multipliers(source, result)
        wide = (x - source.zero_point) << 7
        gate = _saturate16(wide << max(gate_exponent - 1, 0))
        gate = _high_product(gate, gate_q)
        gate = _saturate16(gate << 1) if gate_exponent > 0 else _shift_half_away(gate, -gate_exponent)
        product = np.fix(((gate + (1 << 15)) >> 1) * _high_product(wide, q) / (1 << 15)).astype(np.int64)
        return _shift_half_away(product, -exponent) + result.zero_point


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


def _shift_half_away(x: Array, bits: int) -> Array:
    half = (1 << bits) >> 1
    return np.asarray(np.sign(x) * ((np.abs(x) + half) >> bits))
