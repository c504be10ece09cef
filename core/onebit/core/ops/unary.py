"""RELU, RELU6, RELU_N1_TO_1, LEAKY_RELU, HARD_SWISH, LOGISTIC, TANH, ABS, SIGN and ROUND.

On int8 each is a function of 256 values; generated code holds it as a table that `evaluate` makes. The formulas are
LiteRT's built-in kernels: fixed-point multipliers from quotients of scales, rounded half away from zero.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from onebit.core.fixed_point import quantize_multiplier, requantize
from onebit.core.graph import Array, DType
from onebit.core.ops.base import BuiltinOp, Options, Shape, View, constraint, register
from onebit.core.ops.window import Activation, clamp
from onebit.core.rounding import Rounding

#: an int8 value shifted left by more would leave 32 bits
MAX_GAIN = 2.0**22


def rescale(x: Array, gain: float) -> Array:
    """Integers times a real number of either sign, rounded half away from zero, as int64."""
    q, exponent = quantize_multiplier(abs(gain))
    return requantize(x, q if gain >= 0 else -q, exponent, away=True)


def quotient(view: View, factor: float = 1.0) -> float:
    """Input scale * factor / output scale: in double (TFLM), or with the float32 roundings of LiteRT's set-up code."""
    x, y = view.input(0).quant.scale, view.output.quant.scale
    if view.rounding is Rounding.TFLM:
        return x * float(np.float32(factor)) / y
    return float(np.float32(np.float32(x) * np.float32(factor)) / np.float32(y))


@dataclass(frozen=True)
class Unary(BuiltinOp):
    """y = f(x), element by element."""

    arity = (1, 1)

    @constraint
    def same_dtype(self, view: View) -> bool:
        """input and output are both float32 or both int8"""
        return view.input(0).dtype is view.output.dtype and view.output.dtype in (DType.FLOAT32, DType.INT8)

    def infer(self, view: View) -> tuple[Shape, DType]:
        return view.input(0).shape, view.input(0).dtype

    def evaluate(self, view: View, args: Sequence[Array | None]) -> Array:
        (x,) = args
        assert x is not None
        if view.input(0).dtype is DType.FLOAT32:
            return np.asarray(self.real(view, x), np.float32)
        return np.clip(self.quantized(view, x.astype(np.int64)), -128, 127).astype(np.int8)

    @abstractmethod
    def real(self, view: View, x: Array) -> Array:
        """f of float32 values."""

    @abstractmethod
    def quantized(self, view: View, x: Array) -> Array:
        """f of int8 values given as int64, not yet saturated."""

    @classmethod
    def from_options(cls, options: Options) -> Unary:
        return cls()

    def to_options(self) -> dict[str, Any]:
        return {}


@dataclass(frozen=True)
class _Scaled(Unary):
    @constraint
    def scale_ratio(self, view: View) -> bool:
        """the input scale of an int8 operator, times a negative slope, is below 2**22 output scales"""
        return view.input(0).dtype is not DType.INT8 or all(
            abs(quotient(view, slope)) < MAX_GAIN for slope in (1.0, self.slope)
        )

    @property
    def slope(self) -> float:
        """The slope for negative values."""
        return 1.0


@dataclass(frozen=True)
class Clamp(_Scaled):
    """The ReLU family: comparisons, so that NaN and -0.0 pass."""

    bounds: ClassVar[tuple[float, float]]

    def real(self, view: View, x: Array) -> Array:
        return clamp(x, *self.bounds)

    def quantized(self, view: View, x: Array) -> Array:
        result = view.output.quant
        y = rescale(x - view.input(0).quant.zero_point, quotient(view)) + result.zero_point
        return np.clip(y, *self.fused.quantized_bounds(result))

    #: the fused activation that is the same clamp
    fused: ClassVar[Activation]


@register
@dataclass(frozen=True)
class Relu(Clamp):
    """max(x, 0)."""

    name = "RELU"
    code = 19
    bounds = (0.0, float("inf"))
    fused = Activation.RELU


@register
@dataclass(frozen=True)
class Relu6(Clamp):
    """x limited to 0..6. On int8 TFLM only clamps: the result has the input's quantization, whatever the file says."""

    name = "RELU6"
    code = 21
    bounds = (0.0, 6.0)
    fused = Activation.RELU6

    def quantized(self, view: View, x: Array) -> Array:
        if view.rounding is Rounding.TFLM:
            return np.clip(x, *self.fused.quantized_bounds(view.input(0).quant))
        return super().quantized(view, x)


@register
@dataclass(frozen=True)
class ReluN1To1(Clamp):
    """x limited to -1..1."""

    name = "RELU_N1_TO_1"
    code = 20
    bounds = (-1.0, 1.0)
    fused = Activation.RELU_N1_TO_1


@register
@dataclass(frozen=True)
class LeakyRelu(_Scaled):
    """x if x >= 0, else alpha * x.

    TFLM multiplies +0 and -0 too, and rounds ties towards 0 where it multiplies int8 by a negative alpha.
    """

    name = "LEAKY_RELU"
    code = 98
    options_table = "LeakyReluOptions"

    alpha: float = 0.0

    @constraint
    def finite_alpha(self, view: View) -> bool:
        """alpha is finite"""
        return bool(np.isfinite(self.alpha))

    @property
    def slope(self) -> float:
        return self.alpha

    def least_kept(self, view: View) -> np.float32:
        """The least float32 number that is not multiplied by alpha."""
        return np.float32(0) if view.rounding is Rounding.LITERT else np.finfo(np.float32).smallest_subnormal

    def real(self, view: View, x: Array) -> Array:
        return np.where(x >= self.least_kept(view), x, x * np.float32(self.alpha))

    def quantized(self, view: View, x: Array) -> Array:
        centered = x - view.input(0).quant.zero_point
        positive = rescale(centered, quotient(view))
        # the sign with the value, or (TFLM) with the rounded product
        sign = -1 if self.alpha < 0 and view.rounding is Rounding.TFLM else 1
        negative = sign * rescale(centered, sign * quotient(view, self.alpha))
        return np.where(centered >= 0, positive, negative) + view.output.quant.zero_point

    @classmethod
    def from_options(cls, options: Options) -> LeakyRelu:
        return cls(float(np.float32(options["alpha"])))

    def to_options(self) -> dict[str, Any]:
        return {"alpha": self.alpha}


@register
@dataclass(frozen=True)
class Abs(_Scaled):
    """|x|."""

    name = "ABS"
    code = 101

    def real(self, view: View, x: Array) -> Array:
        return np.abs(x)

    def quantized(self, view: View, x: Array) -> Array:
        return rescale(np.abs(x - view.input(0).quant.zero_point), quotient(view)) + view.output.quant.zero_point


@dataclass(frozen=True)
class _FloatOnly(Unary):
    @constraint
    def float_only(self, view: View) -> bool:
        """the input is float32"""
        return view.input(0).dtype is DType.FLOAT32

    def quantized(self, view: View, x: Array) -> Array:
        raise TypeError(f"{self.name} is float32 only")  # the constraint keeps int8 away


@register
@dataclass(frozen=True)
class Sign(_FloatOnly):
    """1 above 0, -1 below 0, else (0, -0.0, NaN) 0."""

    name = "SIGN"
    code = 158

    def real(self, view: View, x: Array) -> Array:
        return (x > 0).astype(np.float32) - (x < 0).astype(np.float32)


@register
@dataclass(frozen=True)
class Round(_FloatOnly):
    """The nearest integer, ties to even; values in [-0.5, 0) give +0."""

    name = "ROUND"
    code = 116

    def real(self, view: View, x: Array) -> Array:
        floor = np.floor(x)
        rest = x - floor
        up = (rest > 0.5) | ((rest == 0.5) & (np.fmod(floor, 2) != 0))
        return np.where(up, floor + 1, floor)
