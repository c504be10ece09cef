"""CONCATENATION, PACK, PAD and PADV2: inputs in regular places of the output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onebit.core.bits import WORD_BITS
from onebit.core.graph import Array, DType, Tensor
from onebit.core.ops.base import BuiltinOp, Options, Shape, View, constraint, register
from onebit.core.ops.movement import MAX_DIMENSIONS, Movement, Part, normal_axis
from onebit.core.ops.window import Activation
from onebit.core.rounding import Rounding

#: far above what any model joins
MAX_INPUTS = 1024


@register
@dataclass(frozen=True)
class Concatenation(Movement, BuiltinOp):
    """Tensors one after the other along `axis`. Packed bits, which the file holds as int32, whole words at a time."""

    name = "CONCATENATION"
    arity = (1, MAX_INPUTS)
    code = 2
    options_table = "ConcatenationOptions"
    sources = None
    moves_bits = True

    axis: int = -1
    activation: Activation = Activation.NONE

    @constraint
    def no_activation(self, view: View) -> bool:
        """there is no fused activation"""
        return self.activation is Activation.NONE

    @constraint
    def shapes(self, view: View) -> bool:
        """the axis exists and is not the batch, and the inputs differ in its extent only"""
        shapes = [view.input(i).shape for i in self.moved(view)]
        axis = normal_axis(self.axis, len(shapes[0]))
        return bool(axis) and len({(len(s), s[:axis], s[axis + 1 :]) for s in shapes}) == 1  # type: ignore[operator]

    @constraint
    def whole_words(self, view: View) -> bool:
        """packed bits are not joined along the channels, unless all but the last have a multiple of 32 of them"""
        parts = [view.input(i) for i in self.moved(view)]
        inner = normal_axis(self.axis, len(parts[0].shape)) != len(parts[0].shape) - 1
        return view.output.dtype is not DType.BITS or inner or all(t.shape[-1] % WORD_BITS == 0 for t in parts[:-1])

    def packed_channels(self, inputs: Sequence[Tensor], output: Tensor) -> int | None:
        if not inputs or any(part.dtype is not DType.BITS for part in inputs):
            return None
        last = self.axis in (-1, len(inputs[0].shape) - 1)
        return sum(part.shape[-1] for part in inputs) if last else inputs[0].shape[-1]

    def infer(self, view: View) -> tuple[Shape, DType]:
        shape = list(view.input(0).shape)
        shape[self.axis] = sum(view.input(i).shape[self.axis] for i in self.moved(view))
        return tuple(shape), view.input(0).dtype

    def parts(self, view: View, inputs: Sequence[Array], output: Array) -> list[Part]:
        ends = np.cumsum([x.shape[self.axis] for x in inputs])[:-1]
        return list(zip(np.split(output, ends, self.axis), inputs, strict=True))

    @classmethod
    def from_options(cls, options: Options) -> Concatenation:
        return cls(int(options["axis"]), Activation(options["fused_activation_function"]))

    def to_options(self) -> dict[str, Any]:
        return {"axis": self.axis, "fused_activation_function": int(self.activation)}


@register
@dataclass(frozen=True)
class Pack(Movement, BuiltinOp):
    """Tensors of one shape, stacked along a new axis `axis` of the output."""

    name = "PACK"
    arity = (1, MAX_INPUTS)
    code = 83
    options_table = "PackOptions"
    sources = None
    moves_bits = True

    axis: int = 1
    count: int = 1

    @constraint
    def equal_shapes(self, view: View) -> bool:
        """the inputs, as many as the options say, have one shape of at most 4 dimensions"""
        shapes = {view.input(i).shape for i in self.moved(view)}
        return len(shapes) == 1 and self.count == len(view.inputs) and len(view.input(0).shape) < MAX_DIMENSIONS

    @constraint
    def new_axis(self, view: View) -> bool:
        """the new axis is not in front of the batch"""
        return bool(normal_axis(self.axis, len(view.input(0).shape) + 1))

    @constraint
    def whole_words(self, view: View) -> bool:
        """packed bits are not stacked behind their channels"""
        dimensions = len(view.input(0).shape)
        return view.output.dtype is not DType.BITS or normal_axis(self.axis, dimensions + 1) != dimensions

    def infer(self, view: View) -> tuple[Shape, DType]:
        shape = list(view.input(0).shape)
        shape.insert(self.axis % (len(shape) + 1), len(view.inputs))
        return tuple(shape), view.input(0).dtype

    def parts(self, view: View, inputs: Sequence[Array], output: Array) -> list[Part]:
        return list(zip(np.moveaxis(output, self.axis, 0), inputs, strict=True))

    @classmethod
    def from_options(cls, options: Options) -> Pack:
        return cls(int(options["axis"]), int(options["values_count"]))

    def to_options(self) -> dict[str, Any]:
        return {"values_count": self.count, "axis": self.axis}


@dataclass(frozen=True)
class _Pad(Movement):
    @constraint
    def paddings(self, view: View) -> bool:
        """the second input is an int32 constant [dimensions, 2] of values from 0, with 0 for the batch"""
        tensor, dimensions = view.input(1), len(view.input(0).shape)
        if tensor.data is None or tensor.dtype is not DType.INT32 or tensor.shape != (dimensions, 2):
            return False
        return bool((tensor.data >= 0).all()) and not tensor.data[0].any()

    def _widths(self, view: View) -> list[tuple[int, int]]:
        return [(int(before), int(after)) for before, after in view.input(1).constant()]

    def infer(self, view: View) -> tuple[Shape, DType]:
        x = view.input(0)
        return tuple(d + sum(w) for d, w in zip(x.shape, self._widths(view), strict=True)), x.dtype

    def parts(self, view: View, inputs: Sequence[Array], output: Array) -> list[Part]:
        sizes = zip(self._widths(view), inputs[0].shape, strict=True)
        return [(output[tuple(slice(before, before + size) for (before, _), size in sizes)], inputs[0])]


@register
@dataclass(frozen=True)
class Pad(_Pad, BuiltinOp):
    """A border of real zeros: the zero point in int8. Of packed bits, which the file holds as int32, a border of +1."""

    name = "PAD"
    arity = (2, 2)
    code = 34
    moves_bits = True

    @constraint
    def whole_words(self, view: View) -> bool:
        """packed bits are padded along other axes than the channels"""
        return view.output.dtype is not DType.BITS or not view.input(1).constant()[-1].any()

    def fill(self, view: View) -> int | float | None:
        return 0.0 if view.output.dtype is DType.FLOAT32 else view.output.quant.zero_point

    @classmethod
    def from_options(cls, options: Options) -> Pad:
        return cls()

    def to_options(self) -> dict[str, Any]:
        return {}


@register
@dataclass(frozen=True)
class PadV2(_Pad, BuiltinOp):
    """A border of the third input's value; LiteRT makes 0.0 of -0.0, as it clears the memory for both."""

    name = "PADV2"
    arity = (3, 3)
    code = 60

    @constraint
    def pad_value(self, view: View) -> bool:
        """the third input is one constant value, of the input's dtype and quantization"""
        x, value = view.input(0), view.input(2)
        return value.is_constant and value.elements == 1 and value.dtype is x.dtype and value.quant == x.quant

    def fill(self, view: View) -> int | float | None:
        value: int | float = view.input(2).constant().item()
        return value + 0 if view.rounding is Rounding.LITERT else value

    @classmethod
    def from_options(cls, options: Options) -> PadV2:
        return cls()

    def to_options(self) -> dict[str, Any]:
        return {}
