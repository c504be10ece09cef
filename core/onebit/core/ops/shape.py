"""RESHAPE, SQUEEZE and EXPAND_DIMS: the same bytes under another shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from onebit.core.bits import WORD_BITS
from onebit.core.graph import Array, DType, Tensor
from onebit.core.ops.base import BuiltinOp, Op, Options, Shape, View, constraint, register
from onebit.core.ops.movement import constant_scalar, moved_channels, normal_axis


@dataclass(frozen=True)
class _Alias(Op):
    """The same bytes: of packed bits, too, where every word stays what it is."""

    alias = True

    def packed_channels(self, inputs: Sequence[Tensor], output: Tensor) -> int | None:
        return moved_channels(inputs, output)

    @constraint
    def dtype(self, view: View) -> bool:
        """the input is computed, and the output has its dtype, float32, int8 or packed bits, and its quantization"""
        x, y = view.input(0), view.output
        known = x.dtype in (DType.FLOAT32, DType.INT8, DType.BITS)
        return known and x.dtype is y.dtype and x.quant == y.quant and not x.is_constant

    def evaluate(self, view: View, args: Sequence[Array | None]) -> Array:
        x = args[0]
        assert x is not None
        return x.reshape(x.shape[0], *view.output.stored_shape[1:])


@register
@dataclass(frozen=True)
class Reshape(_Alias, BuiltinOp):
    """The declared output shape counts; an optional second input only repeats it."""

    name = "RESHAPE"
    arity = (1, 2)
    code = 22
    options_table = "ReshapeOptions"

    #: the target shape; empty where the second input gives it
    new_shape: tuple[int, ...] = ()

    @constraint
    def same_size(self, view: View) -> bool:
        """input and output hold the same number of elements, and the batch stays 1"""
        return view.input(0).elements == view.output.elements and view.output.shape[0] == 1

    @constraint
    def whole_words(self, view: View) -> bool:
        """packed bits, whose words the target shape counts, keep their channels, or have multiples of 32 of them"""
        return view.output.dtype is not DType.BITS or keeps_words(view.input(0).shape, view.output.shape)

    @constraint
    def target_shape(self, view: View) -> bool:
        """the target shape, in the options or as a constant second input, is the output's (one size may be -1)"""
        given = view.optional(1)
        if given is None:
            target = self.new_shape
        elif given.data is not None and given.dtype is DType.INT32:
            target = tuple(int(size) for size in given.data.reshape(-1))
        else:
            return False
        matches = [t in (-1, size) for t, size in zip(target, view.output.stored_shape, strict=False)]
        return len(target) == len(view.output.shape) and all(matches) and target.count(-1) <= 1

    def infer(self, view: View) -> tuple[Shape, DType]:
        return view.output.shape, view.input(0).dtype

    @classmethod
    def from_options(cls, options: Options) -> Reshape:
        shape = options["new_shape"]
        return cls(() if shape is None else tuple(int(d) for d in shape))

    def to_options(self) -> dict[str, Any]:
        return {"new_shape": list(self.new_shape)}


@register
@dataclass(frozen=True)
class ReshapeBits(Op):
    """Packed bits under another shape, where every word stays what it is."""

    name = "onebit.ReshapeBits"
    arity = (1, 1)
    internal = True
    alias = True

    @constraint
    def dtypes(self, view: View) -> bool:
        """input and output are packed bits, and the input is computed"""
        return view.input(0).dtype is view.output.dtype is DType.BITS and not view.input(0).is_constant

    @constraint
    def same_words(self, view: View) -> bool:
        """input and output hold the same signs, with equal numbers of channels or multiples of 32"""
        x, y = view.input(0), view.output
        return keeps_words(x.shape, y.shape) and y.shape[0] == 1

    def infer(self, view: View) -> tuple[Shape, DType]:
        return view.output.shape, DType.BITS

    def evaluate(self, view: View, args: Sequence[Array | None]) -> Array:
        (words,) = args
        assert words is not None
        return words.reshape(len(words), *view.output.stored_shape[1:])


def keeps_words(before: Shape, after: Shape) -> bool:
    """Whether packed signs have the same words under both shapes."""
    aligned = before[-1] == after[-1] or before[-1] % WORD_BITS == after[-1] % WORD_BITS == 0
    return aligned and prod(before) == prod(after)


@register
@dataclass(frozen=True)
class Squeeze(_Alias, BuiltinOp):
    """Drops axes of one element: those listed, or all where none is."""

    name = "SQUEEZE"
    arity = (1, 1)
    code = 43
    options_table = "SqueezeOptions"

    dims: tuple[int, ...] = ()

    @constraint
    def axes_of_one(self, view: View) -> bool:
        """the axes to drop exist and have one element"""
        shape = view.input(0).shape
        axes = [normal_axis(d, len(shape)) for d in self.dims]
        return all(axis is not None and shape[axis] == 1 for axis in axes)

    @constraint
    def whole_words(self, view: View) -> bool:
        """of packed bits, whose words count as the last axis, that axis is not dropped"""
        x = view.input(0)
        last = len(x.shape) - 1
        kept = last not in {d % len(x.shape) for d in self.dims} if self.dims else x.stored_shape[-1] != 1
        return x.dtype is not DType.BITS or kept

    def infer(self, view: View) -> tuple[Shape, DType]:
        shape = view.input(0).shape
        listed = {d % len(shape) for d in self.dims}
        kept = [d for axis, d in enumerate(shape) if (axis not in listed if self.dims else d != 1)]
        return tuple(kept), view.input(0).dtype

    @classmethod
    def from_options(cls, options: Options) -> Squeeze:
        dims = options["squeeze_dims"]
        return cls(() if dims is None else tuple(int(d) for d in dims))

    def to_options(self) -> dict[str, Any]:
        return {"squeeze_dims": list(self.dims)}


@register
@dataclass(frozen=True)
class ExpandDims(_Alias, BuiltinOp):
    """Inserts an axis of one element where the second input says, counted in the output."""

    name = "EXPAND_DIMS"
    arity = (2, 2)
    code = 70

    @constraint
    def axis_exists(self, view: View) -> bool:
        """the second input is one int32 constant, an axis of the output"""
        axis = constant_scalar(view.input(1))
        return axis is not None and normal_axis(axis, len(view.input(0).shape) + 1) is not None

    @constraint
    def whole_words(self, view: View) -> bool:
        """packed bits have no axis behind their channels"""
        axis, dimensions = constant_scalar(view.input(1)), len(view.input(0).shape)
        return view.input(0).dtype is not DType.BITS or normal_axis(axis or 0, dimensions + 1) != dimensions

    def infer(self, view: View) -> tuple[Shape, DType]:
        shape, axis = list(view.input(0).shape), constant_scalar(view.input(1))
        assert axis is not None
        shape.insert(axis % (len(shape) + 1), 1)
        return tuple(shape), view.input(0).dtype

    @classmethod
    def from_options(cls, options: Options) -> ExpandDims:
        return cls()

    def to_options(self) -> dict[str, Any]:
        return {}
