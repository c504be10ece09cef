"""ADD, SUB, MUL, MAXIMUM and MINIMUM, float32 and int8.

int8 follows LiteRT's built-in kernels: fixed-point multipliers of `onebit.core.fixed_point`, rounded half away from
zero. Their vector code keeps the result in 16 bits before it adds the zero point, their scalar code in 32;
`result_fits` refuses scales for which that shows. Their vector code for ADD also brings the operands to one scale in
ways of its own (`OperandRounding`), in whole blocks of elements; what is left over goes through the scalar code, which
is all that TFLM has.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, ClassVar

import numpy as np

from onebit.core.fixed_point import quantize_multiplier, requantize
from onebit.core.graph import Array, DType, Tensor
from onebit.core.ops.base import Options, View, constraint, register
from onebit.core.ops.operands import Binary, run_length
from onebit.core.ops.window import Activation
from onebit.core.rounding import Rounding

Multiplier = tuple[int, int]

#: bits to the left of an operand of ADD and SUB, before it is scaled
SUM_SHIFT = 20


class OperandRounding(Enum):
    """How an operand (x - zero point) << 20 times a multiplier below 1 is rounded; the value is the size of a block."""

    #: half away from zero: the scalar code
    AWAY = 0
    #: the last shift down: blocks of eight elements, one operand a single value
    DOWN = 8
    #: once, the two shifts taken together first: blocks of 16 elements
    ONCE = 16


@dataclass(frozen=True)
class SumSteps:
    """Steps of the output scale: ((a << 20) * first + sign * (b << 20) * second) * output.

    a and b are without their zero points; first and second bring them to twice the larger input scale, output brings
    the sum to the output scale. The last product is rounded half away from zero, the others as `rounding` says.
    """

    zero_points: tuple[int, int]
    first: Multiplier
    second: Multiplier
    output: Multiplier
    sign: int

    @classmethod
    def of(cls, view: View, sign: int) -> SumSteps:
        """The multipliers in double, as LiteRT computes them."""
        a, b, y = (tensor.quant for tensor in (view.input(0), view.input(1), view.output))
        common = 2 * max(a.scale, b.scale)
        first, second, output = (
            quantize_multiplier(m) for m in (a.scale / common, b.scale / common, common / ((1 << SUM_SHIFT) * y.scale))
        )
        return cls((a.zero_point, b.zero_point), first, second, output, sign)

    def __call__(self, a: Array, b: Array, rounding: OperandRounding = OperandRounding.AWAY) -> Array:
        first = _scaled(a.astype(np.int64) - self.zero_points[0], self.first, rounding)
        second = _scaled(b.astype(np.int64) - self.zero_points[1], self.second, rounding)
        return requantize(first + self.sign * second, *self.output, away=True)


def _scaled(x: Array, multiplier: Multiplier, rounding: OperandRounding) -> Array:
    q, exponent = multiplier
    if rounding is OperandRounding.ONCE:
        shift = SUM_SHIFT + exponent
        return requantize(x << max(shift, 0) >> max(-shift, 0), q, 0)
    if rounding is OperandRounding.DOWN:
        return requantize(x << SUM_SHIFT, q, 0) >> -exponent
    return requantize(x << SUM_SHIFT, q, exponent, away=True)


@dataclass(frozen=True)
class ProductSteps:
    """Steps of the output scale: a * b * output, rounded half away from zero, a and b without their zero points."""

    zero_points: tuple[int, int]
    output: Multiplier

    @classmethod
    def of(cls, view: View) -> ProductSteps:
        """The multiplier in double, as LiteRT computes it."""
        a, b, y = (tensor.quant for tensor in (view.input(0), view.input(1), view.output))
        return cls((a.zero_point, b.zero_point), quantize_multiplier(a.scale * b.scale / y.scale))

    def __call__(self, a: Array, b: Array) -> Array:
        product = (a.astype(np.int64) - self.zero_points[0]) * (b.astype(np.int64) - self.zero_points[1])
        return requantize(product, *self.output, away=True)


@dataclass(frozen=True)
class Arithmetic(Binary):
    """ADD, SUB and MUL: an activation may be fused."""

    function: ClassVar[np.ufunc]

    activation: Activation = Activation.NONE

    @constraint
    def result_fits(self, view: View) -> bool:
        """the result of an int8 operator stays within 16 bits in steps of the output scale"""
        if view.input(0).dtype is not DType.INT8:
            return True
        # sums and products of two ranges are extreme at their ends
        corners = self.steps(view)(_ends(view.input(0))[:, np.newaxis], _ends(view.input(1)))
        return bool((np.abs(corners) < 2**15 - 128).all())

    @abstractmethod
    def steps(self, view: View) -> SumSteps | ProductSteps:
        """The int8 arithmetic."""

    def real(self, a: Array, b: Array) -> Array:
        return self.activation.apply(self.function(a, b, dtype=np.float32))

    def result(self, view: View, a: Array, b: Array) -> Array:
        """int8 operands to steps of the output scale."""
        return self.steps(view)(a, b)

    def quantized(self, view: View, a: Array, b: Array) -> Array:
        quant = view.output.quant
        y = self.result(view, a, b) + quant.zero_point
        return np.clip(y, *self.activation.quantized_bounds(quant)).astype(np.int8)

    @classmethod
    def from_options(cls, options: Options) -> Arithmetic:
        return cls(Activation(options["fused_activation_function"]))

    def to_options(self) -> dict[str, Any]:
        return {"fused_activation_function": int(self.activation)}


def _ends(tensor: Tensor) -> Array:
    """The least and the largest value of an int8 tensor."""
    data = np.array([-128, 127]) if tensor.data is None else tensor.data
    return np.array([data.min(), data.max()])


@register
@dataclass(frozen=True)
class Add(Arithmetic):
    """x + y, one float32 rounding."""

    name = "ADD"
    code = 0
    options_table = "AddOptions"
    function = np.add

    def steps(self, view: View) -> SumSteps:
        return SumSteps.of(view, sign=1)

    def block_rounding(self, view: View) -> OperandRounding:
        """The rounding in whole blocks of a run (`run_length`); AWAY where vector code takes none."""
        single = view.output.elements > 1 == min(view.input(0).elements, view.input(1).elements)
        rounding = OperandRounding.DOWN if single else OperandRounding.ONCE
        return rounding if view.rounding.blocks(run_length(view), rounding.value) else OperandRounding.AWAY

    def result(self, view: View, a: Array, b: Array) -> Array:
        steps, rounding, run = self.steps(view), self.block_rounding(view), run_length(view)
        if rounding is OperandRounding.AWAY:
            return steps(a, b)
        position = (np.arange(view.output.elements) % run).reshape(view.output.shape)
        in_block = position < view.rounding.blocks(run, rounding.value)
        return np.where(in_block, steps(a, b, rounding), steps(a, b))


@register
@dataclass(frozen=True)
class Sub(Arithmetic):
    """x - y, one float32 rounding."""

    name = "SUB"
    code = 41
    options_table = "SubOptions"
    function = np.subtract

    def steps(self, view: View) -> SumSteps:
        return SumSteps.of(view, sign=-1)


@register
@dataclass(frozen=True)
class Mul(Arithmetic):
    """x * y, one float32 rounding."""

    name = "MUL"
    code = 18
    options_table = "MulOptions"
    function = np.multiply

    def steps(self, view: View) -> ProductSteps:
        return ProductSteps.of(view)


@dataclass(frozen=True)
class Extremum(Binary):
    """The first operand if it is strictly beyond the second, else the second: what NaN and -0.0 give follows."""

    beyond: ClassVar[np.ufunc]

    @constraint
    def same_quantization(self, view: View) -> bool:
        """int8 inputs and output have the same scale and zero point"""
        return view.input(0).dtype is not DType.INT8 or (
            view.input(0).quant == view.input(1).quant == view.output.quant
        )

    def evaluate(self, view: View, args: Sequence[Array | None]) -> Array:
        if self.swaps(view):
            view = replace(view, inputs=view.inputs[::-1])
            args = args[::-1]
        return super().evaluate(view, args)

    def swaps(self, view: View) -> bool:
        """LiteRT takes a single value as the second operand, wherever it stands; TFLM keeps the order."""
        return view.rounding is Rounding.LITERT and view.input(0).elements == 1 != view.input(1).elements

    def real(self, a: Array, b: Array) -> Array:
        return np.where(self.beyond(a, b), a, b)

    def quantized(self, view: View, a: Array, b: Array) -> Array:
        return self.real(a, b)

    @classmethod
    def from_options(cls, options: Options) -> Extremum:
        return cls()

    def to_options(self) -> dict[str, Any]:
        return {}


@register
@dataclass(frozen=True)
class Maximum(Extremum):
    """x if x > y, else y."""

    name = "MAXIMUM"
    code = 55
    beyond = np.greater


@register
@dataclass(frozen=True)
class Minimum(Extremum):
    """x if x < y, else y."""

    name = "MINIMUM"
    code = 57
    beyond = np.less
