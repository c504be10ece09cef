"""Operators that only move elements: what goes where is stated once, as pairs of NumPy views.

`Movement.parts` pairs a view of the output with a view of an input. Assigning one to the other is the semantics; the
offsets and strides of the same two views are the parameters of the C kernel.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from onebit.core.bits import channels_in
from onebit.core.graph import Array, DType, Tensor
from onebit.core.ops.base import BuiltinOp, Op, Options, Shape, View, constraint, register

#: dimensions of a tensor that is moved, the batch included
MAX_DIMENSIONS = 5

Part = tuple[Array, Array]


def constant_values(view: View, index: int) -> list[int] | None:
    """The values of an int32 constant with one dimension, None for anything else."""
    tensor = view.optional(index)
    if tensor is None or tensor.data is None or tensor.dtype is not DType.INT32 or len(tensor.shape) != 1:
        return None
    return [int(v) for v in tensor.data]


def known_values(view: View, index: int) -> list[int]:
    """`constant_values` where a constraint has already demanded them."""
    values = constant_values(view, index)
    assert values is not None
    return values


def constant_scalar(tensor: Tensor) -> int | None:
    """The value of an int32 constant of one element, None for anything else."""
    if tensor.data is None or tensor.dtype is not DType.INT32 or tensor.elements != 1:
        return None
    return int(tensor.data.item())


def normal_axis(axis: int, dimensions: int) -> int | None:
    """An axis counted from the front, None where it does not exist; negative ones count from the back."""
    return axis % dimensions if -dimensions <= axis < dimensions else None


def moved_channels(inputs: Sequence[Tensor], output: Tensor) -> int | None:
    """`Op.packed_channels` of an operator that moves whole words of its first input."""
    if not inputs or inputs[0].dtype is not DType.BITS or not output.shape:
        return None
    return channels_in(output.shape[-1], inputs[0].shape[-1])


@dataclass(frozen=True)
class Movement(Op):
    """Every element of the output is an element of an input, or the fill value."""

    #: how many of the inputs hold elements, from the first; None for all. The others are constant indices
    sources: ClassVar[int | None] = 1
    #: whether packed bits may be moved, whole words at a time
    moves_bits: ClassVar[bool] = False

    def moved(self, view: View) -> range:
        """Positions of the inputs whose elements are moved."""
        return range(self.sources or len(view.inputs))

    def packed_channels(self, inputs: Sequence[Tensor], output: Tensor) -> int | None:
        return moved_channels(inputs, output) if self.moves_bits else None

    @constraint
    def inputs_present(self, view: View) -> bool:
        """no input is absent, and the input that is moved (one of them, where there are more) is computed"""
        return None not in view.inputs and not all(view.input(i).is_constant for i in self.moved(view))

    @constraint
    def same_elements(self, view: View) -> bool:
        """what is moved and the output are float32, int8 or (not PADV2) packed bits, with one quantization for all"""
        y, moved = view.output, [view.input(i) for i in self.moved(view)]
        known = y.dtype in (DType.FLOAT32, DType.INT8) or (self.moves_bits and y.dtype is DType.BITS)
        return known and all(x.dtype is y.dtype and x.quant == y.quant for x in moved)

    @constraint
    def dimensions(self, view: View) -> bool:
        """what is moved has 2 to 5 dimensions"""
        return all(2 <= len(view.input(i).shape) <= MAX_DIMENSIONS for i in self.moved(view))

    @abstractmethod
    def parts(self, view: View, inputs: Sequence[Array], output: Array) -> list[Part]:
        """For every input that is moved, in order: the view of `output` that it fills, and what of it goes there.

        Both views have the same shape; `inputs` and `output` have N samples in front.
        """

    def fill(self, view: View) -> int | float | None:
        """The value of the elements that no part covers, None where all are covered."""
        return None

    def evaluate(self, view: View, args: Sequence[Array | None]) -> Array:
        inputs = [x for x in args[: len(self.moved(view))] if x is not None]
        fill = self.fill(view)
        y = np.empty((max(map(len, inputs)), *view.output.stored_shape[1:]), view.output.dtype.numpy)
        if fill is not None:
            y[...] = fill
        for target, source in self.parts(view, inputs, y):
            target[...] = source
        return y


@register
@dataclass(frozen=True)
class Transpose(Movement, BuiltinOp):
    """Axes in another order; the second input holds the permutation."""

    name = "TRANSPOSE"
    arity = (2, 2)
    code = 39
    moves_bits = True

    @constraint
    def permutation(self, view: View) -> bool:
        """the second input is an int32 constant, a permutation of the axes that leaves the batch in front"""
        values = constant_values(view, 1)
        return values is not None and values[:1] == [0] and sorted(values) == list(range(len(view.input(0).shape)))

    @constraint
    def whole_words(self, view: View) -> bool:
        """of packed bits the channels stay the last axis"""
        return view.input(0).dtype is not DType.BITS or known_values(view, 1)[-1] == len(view.input(0).shape) - 1

    def infer(self, view: View) -> tuple[Shape, DType]:
        x = view.input(0)
        return tuple(x.shape[axis] for axis in known_values(view, 1)), x.dtype

    def parts(self, view: View, inputs: Sequence[Array], output: Array) -> list[Part]:
        return [(output, inputs[0].transpose(known_values(view, 1)))]

    @classmethod
    def from_options(cls, options: Options) -> Transpose:
        return cls()

    def to_options(self) -> dict[str, Any]:
        return {}
