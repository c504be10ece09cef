"""Operators of two operands: of one shape, or one of them repeated along the leading axes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onebit.core.graph import Array, DType, Tensor
from onebit.core.ops.base import BuiltinOp, Shape, View, constraint

#: axes up to which LiteRT's kernels repeat an operand
MAX_REPEATED_AXES = 4


def repeats(shape: Shape, whole: Shape) -> bool:
    """Whether a value of `shape` fills `whole` when it is repeated along leading axes only."""
    last = next((i for i, extent in enumerate(shape) if extent != 1), len(shape))
    core = shape[last:]
    return len(shape) <= len(whole) and core == whole[len(whole) - len(core) :]


def aligned(tensor: Tensor, value: Array, rank: int) -> Array:
    """The value of an operand with its axes where an output of `rank` axes has them, N samples or a constant."""
    leading = (1,) * (rank - len(tensor.shape))
    if tensor.is_constant:
        return value.reshape(*leading, *tensor.shape)
    return value.reshape(len(value), *leading, *value.shape[1:])


def run_length(view: View) -> int:
    """Elements of a run, from whose end on an operand repeats: all, unless an operand of several values does."""
    least = min(view.input(0).elements, view.input(1).elements)
    return least if least > 1 else view.output.elements


@dataclass(frozen=True)
class Binary(BuiltinOp):
    """y = f(a, b), element by element, in float32 or on int8 values."""

    arity = (2, 2)

    @constraint
    def same_dtype(self, view: View) -> bool:
        """both inputs are float32 or both are int8"""
        return view.input(0).dtype is view.input(1).dtype and view.input(0).dtype in (DType.FLOAT32, DType.INT8)

    @constraint
    def broadcasting(self, view: View) -> bool:
        """the inputs have one shape, or one repeats along the leading axes of the other, which has at most 4"""
        a, b = view.input(0).shape, view.input(1).shape
        few = max(len(a), len(b)) <= MAX_REPEATED_AXES
        return a == b or (few and (repeats(a, b) or repeats(b, a)))

    @constraint
    def computed(self, view: View) -> bool:
        """one of the inputs is computed, and an int8 constant has one scale"""
        inputs = (view.input(0), view.input(1))
        return any(not t.is_constant for t in inputs) and all(len(t.quant.scales) == 1 for t in inputs)

    def infer(self, view: View) -> tuple[Shape, DType]:
        return np.broadcast_shapes(view.input(0).shape, view.input(1).shape), view.input(0).dtype

    def evaluate(self, view: View, args: Sequence[Array | None]) -> Array:
        rank = len(view.output.shape)
        a, b = (aligned(view.input(i), value, rank) for i, value in enumerate(args) if value is not None)
        return self.real(a, b) if view.input(0).dtype is DType.FLOAT32 else self.quantized(view, a, b)

    @abstractmethod
    def real(self, a: Array, b: Array) -> Array:
        """The output for float32 operands that NumPy can broadcast."""

    @abstractmethod
    def quantized(self, view: View, a: Array, b: Array) -> Array:
        """The output for int8 operands that NumPy can broadcast."""
