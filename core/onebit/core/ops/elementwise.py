"""ADD and MUL in float32: the form in which a batch norm survives that could not be folded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onebit.core.graph import Array, DType
from onebit.core.ops.base import BuiltinOp, Op, Options, Shape, View, constraint, register
from onebit.core.ops.window import Activation


@dataclass(frozen=True)
class _Elementwise(Op):
    activation: Activation = Activation.NONE

    @constraint
    def dtypes(self, view: View) -> bool:
        """both inputs and the output are float32"""
        return {view.input(0).dtype, view.input(1).dtype, view.output.dtype} == {DType.FLOAT32}

    @constraint
    def broadcasting(self, view: View) -> bool:
        """the first input is computed; the second has its shape, or one value per channel (last axis), or one value"""
        x, other = view.input(0), view.input(1)
        if x.is_constant or len(other.shape) > len(x.shape):
            return False
        per_channel = other.shape[-1:] == x.shape[-1:] and other.elements == x.shape[-1]
        return other.shape == x.shape or other.elements == 1 or per_channel

    def infer(self, view: View) -> tuple[Shape, DType]:
        return view.input(0).shape, DType.FLOAT32

    def _operands(self, view: View, args: Sequence[Array | None]) -> tuple[Array, Array]:
        x, other = args
        assert x is not None and other is not None
        return x, other if view.input(1).shape == view.input(0).shape else other.reshape(-1)


@register
@dataclass(frozen=True)
class Add(_Elementwise, BuiltinOp):
    """x + y, one float32 rounding."""

    name = "ADD"
    arity = (2, 2)
    code = 0
    options_table = "AddOptions"

    def evaluate(self, view: View, args: Sequence[Array | None]) -> Array:
        x, other = self._operands(view, args)
        return self.activation.apply(np.add(x, other, dtype=np.float32))

    @classmethod
    def from_options(cls, options: Options) -> Add:
        return cls(Activation(options["fused_activation_function"]))

    def to_options(self) -> dict[str, Any]:
        return {"fused_activation_function": int(self.activation)}


@register
@dataclass(frozen=True)
class Mul(_Elementwise, BuiltinOp):
    """x * y, one float32 rounding."""

    name = "MUL"
    arity = (2, 2)
    code = 18
    options_table = "MulOptions"

    def evaluate(self, view: View, args: Sequence[Array | None]) -> Array:
        x, other = self._operands(view, args)
        return self.activation.apply(np.multiply(x, other, dtype=np.float32))

    @classmethod
    def from_options(cls, options: Options) -> Mul:
        return cls(Activation(options["fused_activation_function"]))

    def to_options(self) -> dict[str, Any]:
        return {"fused_activation_function": int(self.activation)}
