"""LceQuantize: sign to packed bits. LceDequantize: packed bits to +1/-1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onebit.core import bits
from onebit.core.fixed_point import round_half_away
from onebit.core.graph import Array, DType, Quantization, Tensor
from onebit.core.ops.base import CustomOp, Options, Shape, View, constraint, register


@register
@dataclass(frozen=True)
class LceQuantize(CustomOp):
    """bit = (x < zero point): +0, -0 and NaN become +1 (bit 0). int8 is compared as integers; bool: bit = not x.

    float32: LiteRT flushes denormals to zero while it runs, so that they are +1 too: bit = (x <= -2**-126).
    """

    name = "LceQuantize"
    arity = (1, 1)

    @constraint
    def input_dtype(self, view: View) -> bool:
        """the input is float32, int8 or bool"""
        return view.input(0).dtype in (DType.FLOAT32, DType.INT8, DType.BOOL)

    @constraint
    def channels(self, view: View) -> bool:
        """the input has a last axis beside the batch"""
        return len(view.input(0).shape) >= 2

    def infer(self, view: View) -> tuple[Shape, DType]:
        return view.input(0).shape, DType.BITS

    def packed_channels(self, inputs: Sequence[Tensor], output: Tensor) -> int | None:
        return inputs[0].shape[-1] if inputs and inputs[0].shape else None

    def largest_negative(self, view: View) -> np.float32:
        """The float32 number nearest to 0 that counts as negative."""
        limits = np.finfo(np.float32)
        return np.float32(-limits.tiny if view.rounding.flushes_denormals else -limits.smallest_subnormal)

    def evaluate(self, view: View, args: Sequence[Array | None]) -> Array:
        (x,) = args
        assert x is not None
        if view.input(0).dtype is DType.FLOAT32:
            return bits.pack(x <= self.largest_negative(view))
        if view.input(0).dtype is DType.BOOL:
            return bits.pack(~x)
        return bits.pack(x < view.input(0).quant.zero_point)

    @classmethod
    def from_options(cls, options: Options) -> LceQuantize:
        return cls()

    def to_options(self) -> dict[str, int]:
        return {}


def dequantized_levels(quant: Quantization) -> tuple[int, int]:
    """The int8 values of +1 and -1: zero point +- round(1 / scale) in float32, half away from zero, saturated."""
    step = int(round_half_away(np.asarray(np.float32(1.0) / np.float32(quant.scale))))
    return min(127, quant.zero_point + step), max(-128, quant.zero_point - step)


@register
@dataclass(frozen=True)
class LceDequantize(CustomOp):
    """Packed bits to +1/-1 as float32, to the int8 values that stand for them, or to bool: true for +1."""

    name = "LceDequantize"
    arity = (1, 1)

    @constraint
    def input_dtype(self, view: View) -> bool:
        """the input is packed bits"""
        return view.input(0).dtype is DType.BITS

    @constraint
    def output_dtype(self, view: View) -> bool:
        """the output is float32, int8 or bool"""
        return view.output.dtype in (DType.FLOAT32, DType.INT8, DType.BOOL)

    @constraint
    def step_fits(self, view: View) -> bool:
        """the scale of an int8 output is at least 2**-30, so that its reciprocal fits in 32 bits"""
        return view.output.dtype is not DType.INT8 or view.output.quant.scale >= 2.0**-30

    def infer(self, view: View) -> tuple[Shape, DType]:
        return view.input(0).shape, view.output.dtype

    def evaluate(self, view: View, args: Sequence[Array | None]) -> Array:
        (words,) = args
        assert words is not None
        negative = bits.unpack(words, view.output.shape[-1])
        if view.output.dtype is DType.FLOAT32:
            return np.where(negative, np.float32(-1), np.float32(1))
        if view.output.dtype is DType.BOOL:
            return ~negative
        plus, minus = dequantized_levels(view.output.quant)
        return np.where(negative, minus, plus).astype(np.int8)

    @classmethod
    def from_options(cls, options: Options) -> LceDequantize:
        return cls()

    def to_options(self) -> dict[str, int]:
        return {}
