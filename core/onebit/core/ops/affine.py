"""QUANTIZE and DEQUANTIZE: between float32 and int8, and from one int8 quantization to another.

LiteRT's built-in kernels take whole blocks of elements and the rest one by one, and the two round differently. In
blocks of eight QUANTIZE of float32 multiplies with the float32 reciprocal of the scale and rounds ties to even, in the
rest it divides in double and rounds ties away from zero; QUANTIZE of int8 rounds ties up in blocks of 16 and away from
zero in the rest; DEQUANTIZE rounds twice in blocks of eight and once in the rest. Both are part of what the interpreter
computes, so `evaluate` and the kernels do the same. TFLM treats all elements like the rest, but divides in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onebit.core.fixed_point import quantize_multiplier, requantize, round_half_away
from onebit.core.graph import Array, DType, Quantization
from onebit.core.ops.base import BuiltinOp, Options, Shape, View, constraint, register
from onebit.core.rounding import Rounding

BLOCK = 8
#: of QUANTIZE from int8 to int8
INT8_BLOCK = 16
#: beyond every int8 value whatever the zero point; larger quotients saturate
FAR = 512.0


def _blockwise(
    view: View, x: Array, block: Callable[[Array], Array], rest: Callable[[Array], Array], size: int = BLOCK
) -> Array:
    """`block` of the first elements of every sample, those in whole blocks of `size`, `rest` of the others."""
    flat = x.reshape(len(x), -1)
    cut = view.rounding.blocks(flat.shape[1], size)
    return np.concatenate([block(flat[:, :cut]), rest(flat[:, cut:])], axis=1).reshape(x.shape)


@dataclass(frozen=True)
class _Affine(BuiltinOp):
    arity = (1, 1)

    def infer(self, view: View) -> tuple[Shape, DType]:
        return view.input(0).shape, view.output.dtype

    @classmethod
    def from_options(cls, options: Options) -> _Affine:
        return cls()

    def to_options(self) -> dict[str, Any]:
        return {}


@register
@dataclass(frozen=True)
class Quantize(_Affine):
    """The int8 value nearest to x / scale + zero point, saturated. NaN gives the lowest value."""

    name = "QUANTIZE"
    code = 114

    @constraint
    def dtypes(self, view: View) -> bool:
        """the input is float32 or int8, the output int8"""
        return view.input(0).dtype in (DType.FLOAT32, DType.INT8) and view.output.dtype is DType.INT8

    @constraint
    def scale_ratio(self, view: View) -> bool:
        """an int8 input's scale is below 2**22 output scales"""
        return view.input(0).dtype is not DType.INT8 or view.input(0).quant.scale < 2.0**22 * view.output.quant.scale

    def evaluate(self, view: View, args: Sequence[Array | None]) -> Array:
        (x,) = args
        assert x is not None
        source, result = view.input(0).quant, view.output.quant
        if view.input(0).dtype is DType.FLOAT32:
            steps = _blockwise(view, x, lambda v: self.block(v, result), lambda v: self.rest(v, result, view.rounding))
        else:
            steps = _blockwise(
                view,
                x,
                lambda v: self.requantized(v, source, result, away=False),
                lambda v: self.requantized(v, source, result, away=True),
                INT8_BLOCK,
            )
        return np.clip(steps + result.zero_point, -128, 127).astype(np.int8)

    def requantized(self, x: Array, source: Quantization, result: Quantization, *, away: bool) -> Array:
        """Steps of the output scale of int8 values, int64: ties go up, or away from zero."""
        multiplier = quantize_multiplier(source.scale / result.scale)
        return requantize(x.astype(np.int64) - source.zero_point, *multiplier, away)

    def block(self, x: Array, quant: Quantization) -> Array:
        """Steps of float32 values in a whole block, int64."""
        quotient = x * (np.float32(1) / np.float32(quant.scale))
        return np.rint(_limited(quotient)).astype(np.int64)

    def rest(self, x: Array, quant: Quantization, rounding: Rounding) -> Array:
        """Steps of float32 values behind the last whole block, int64."""
        wide = np.dtype(np.float64 if rounding is Rounding.LITERT else np.float32)
        return round_half_away(_limited(x.astype(wide) / np.array(quant.scale, wide)))


def _limited(quotient: Array) -> Array:
    return np.where(quotient > -FAR, np.minimum(quotient, FAR), -FAR)


@register
@dataclass(frozen=True)
class Dequantize(_Affine):
    """scale * (q - zero point) in float32."""

    name = "DEQUANTIZE"
    code = 6

    @constraint
    def dtypes(self, view: View) -> bool:
        """the input is int8, the output float32"""
        return view.input(0).dtype is DType.INT8 and view.output.dtype is DType.FLOAT32

    def evaluate(self, view: View, args: Sequence[Array | None]) -> Array:
        (q,) = args
        assert q is not None
        scale, zero_point = np.float32(view.input(0).quant.scale), np.float32(view.input(0).quant.zero_point)
        offset = np.float32(-scale * zero_point)
        real = q.astype(np.float32)
        return _blockwise(view, real, lambda v: v * scale + offset, lambda v: (v - zero_point) * scale)
