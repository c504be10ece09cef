"""SLICE, STRIDED_SLICE and SPLIT: a regular part of the input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import EllipsisType
from typing import Any

import numpy as np

from onebit.core.bits import WORD_BITS, channels_in
from onebit.core.graph import Array, DType, Tensor
from onebit.core.ops.base import BuiltinOp, Options, Shape, View, constraint, register
from onebit.core.ops.movement import MAX_DIMENSIONS, Movement, Part, constant_values, known_values, normal_axis
from onebit.core.rounding import Rounding

Position = slice | int | EllipsisType | None


def _indexed_shape(shape: Shape, index: tuple[Position, ...]) -> Shape:
    """The shape of ``x[index]``, computed without memory for x."""
    return np.broadcast_to(np.int8(0), shape)[index].shape


def _are_whole(x: Tensor, words: int) -> bool:
    """Whether `words` words of the pixels of packed bits are known channels: all, or some of them in full words."""
    return words == x.stored_shape[-1] or x.shape[-1] % WORD_BITS == 0


def _shape_of_part(x: Tensor, index: tuple[Position, ...]) -> Shape:
    """The shape of a part of `x`, of which an index counts the words where it is packed bits."""
    shape = _indexed_shape(x.stored_shape, index)
    return (*shape[:-1], channels_in(shape[-1], x.shape[-1])) if x.dtype is DType.BITS else shape


@register
@dataclass(frozen=True)
class Slice(Movement, BuiltinOp):
    """A box of the input: begin and size per axis are the second and third input; size -1 means up to the end."""

    name = "SLICE"
    arity = (3, 3)
    code = 65
    moves_bits = True

    @constraint
    def box(self, view: View) -> bool:
        """begin and size are int32 constants, one value per axis, of a box that is not empty and lies in the input"""
        shape, begin, size = view.input(0).stored_shape, constant_values(view, 1), constant_values(view, 2)
        if begin is None or size is None or not len(begin) == len(size) == len(shape):
            return False
        ends = self._ends(shape, begin, size)
        return all(0 <= b < e <= d for b, e, d in zip(begin, ends, shape, strict=True))

    @constraint
    def whole_words(self, view: View) -> bool:
        """of packed bits, whose words the box counts, all channels are taken, or they are a multiple of 32"""
        x = view.input(0)
        return x.dtype is not DType.BITS or _are_whole(x, _indexed_shape(x.stored_shape, self._index(view))[-1])

    @staticmethod
    def _ends(shape: Shape, begin: Sequence[int], size: Sequence[int]) -> list[int]:
        return [d if s == -1 else b + s for d, b, s in zip(shape, begin, size, strict=True)]

    def _index(self, view: View) -> tuple[Position, ...]:
        begin = known_values(view, 1)
        ends = self._ends(view.input(0).stored_shape, begin, known_values(view, 2))
        return (slice(None), *(slice(b, e) for b, e in zip(begin[1:], ends[1:], strict=True)))

    def infer(self, view: View) -> tuple[Shape, DType]:
        return _shape_of_part(view.input(0), self._index(view)), view.input(0).dtype

    def parts(self, view: View, inputs: Sequence[Array], output: Array) -> list[Part]:
        return [(output, inputs[0][self._index(view)])]

    @classmethod
    def from_options(cls, options: Options) -> Slice:
        return cls()

    def to_options(self) -> dict[str, Any]:
        return {}


@register
@dataclass(frozen=True)
class StridedSlice(Movement, BuiltinOp):
    """``x[begin:end:stride]`` per axis with Python's rules; the inputs 2 to 4 hold begin, end and strides.

    Bit i of a mask concerns position i: begin and end are ignored, the position is an ellipsis, a new axis of one
    element, or an index that removes its axis.
    """

    name = "STRIDED_SLICE"
    arity = (4, 4)
    code = 45
    options_table = "StridedSliceOptions"
    moves_bits = True

    begin_mask: int = 0
    end_mask: int = 0
    ellipsis_mask: int = 0
    new_axis_mask: int = 0
    shrink_axis_mask: int = 0
    offset: bool = False

    @constraint
    def indices(self, view: View) -> bool:
        """begin, end and strides are int32 constants of one length from 1 to 5, no stride is 0, and offset is off"""
        lists = [constant_values(view, i) for i in (1, 2, 3)]
        lengths = {0 if values is None else len(values) for values in lists}
        legal = len(lengths) == 1 and 1 <= max(lengths) <= MAX_DIMENSIONS
        return legal and 0 not in (lists[2] or ()) and not self.offset

    @constraint
    def no_ellipsis(self, view: View) -> bool:
        """there is no ellipsis with --rounding tflm, as TFLM takes no notice of it"""
        return view.rounding is Rounding.LITERT or not self.ellipsis_mask

    @constraint
    def masks(self, view: View) -> bool:
        """a position is one of ellipsis, new axis, removed axis or range; a removed axis has a begin and stride 1"""
        special = (self.ellipsis_mask, self.new_axis_mask, self.shrink_axis_mask)
        disjoint = sum(special) == special[0] | special[1] | special[2]
        exist = 0 <= sum(special) < 1 << len(known_values(view, 1)) and min(special) >= 0
        removed = [s for i, s in enumerate(known_values(view, 3)) if self.shrink_axis_mask >> i & 1]
        return disjoint and exist and not self.begin_mask & self.shrink_axis_mask and set(removed) <= {1}

    @constraint
    def positions_fit(self, view: View) -> bool:
        """ranges and indices have an axis each, one is left for an ellipsis, and with new axes there are up to 5"""
        dimensions, positions = len(view.input(0).shape), self._positions(view)
        ellipses, new_axes = positions.count(...), positions.count(None)
        axes = len(positions) - ellipses - new_axes
        return ellipses <= 1 and axes + ellipses <= dimensions and dimensions + new_axes <= MAX_DIMENSIONS

    @constraint
    def batch_is_kept(self, view: View) -> bool:
        """the batch is neither removed nor preceded by a new axis"""
        return isinstance(self._index(view)[0], slice)

    @constraint
    def in_range(self, view: View) -> bool:
        """indices exist and no range is empty"""
        try:
            return min(_indexed_shape(view.input(0).stored_shape, self._index(view))) >= 1
        except IndexError:
            return False

    @constraint
    def whole_words(self, view: View) -> bool:
        """of packed bits, whose words a range counts, all channels are taken in order, or they are a multiple of 32"""
        x, last = view.input(0), self._index(view)[-1]
        if x.dtype is not DType.BITS:
            return True
        if not isinstance(last, slice):
            return False
        words = range(x.stored_shape[-1])[last]
        return _are_whole(x, len(words)) and (words.step == 1 or x.shape[-1] % WORD_BITS == 0)

    def _positions(self, view: View) -> list[Position]:
        begin, end, strides = (known_values(view, i) for i in (1, 2, 3))

        def position(i: int) -> Position:
            bit = 1 << i
            if self.ellipsis_mask & bit:
                return ...
            if self.new_axis_mask & bit:
                return None
            if self.shrink_axis_mask & bit:
                return begin[i]
            return slice(
                None if self.begin_mask & bit else begin[i], None if self.end_mask & bit else end[i], strides[i]
            )

        return [position(i) for i in range(len(begin))]

    def _index(self, view: View) -> tuple[Position, ...]:
        """One position for every axis of the input, new axes between them; an ellipsis at the end is the default."""
        positions = self._positions(view)
        if ... not in positions:
            positions.append(...)
        at = positions.index(...)
        rest = len(view.input(0).shape) - sum(p not in (None, ...) for p in positions)
        return (*positions[:at], *[slice(None)] * rest, *positions[at + 1 :])

    def _index_of_samples(self, view: View) -> tuple[Position, ...]:
        """The index for N samples: the batch is one element, and a range that is not empty takes all of it."""
        return (slice(None), *self._index(view)[1:])

    def infer(self, view: View) -> tuple[Shape, DType]:
        return _shape_of_part(view.input(0), self._index(view)), view.input(0).dtype

    def parts(self, view: View, inputs: Sequence[Array], output: Array) -> list[Part]:
        return [(output, inputs[0][self._index_of_samples(view)])]

    @classmethod
    def from_options(cls, options: Options) -> StridedSlice:
        return cls(
            begin_mask=options["begin_mask"],
            end_mask=options["end_mask"],
            ellipsis_mask=options["ellipsis_mask"],
            new_axis_mask=options["new_axis_mask"],
            shrink_axis_mask=options["shrink_axis_mask"],
            offset=options["offset"],
        )

    def to_options(self) -> dict[str, Any]:
        return {
            "begin_mask": self.begin_mask,
            "end_mask": self.end_mask,
            "ellipsis_mask": self.ellipsis_mask,
            "new_axis_mask": self.new_axis_mask,
            "shrink_axis_mask": self.shrink_axis_mask,
            "offset": self.offset,
        }


@register
@dataclass(frozen=True)
class Split(Movement, BuiltinOp):
    """Part `index` of `num` equal parts along `axis`.

    One node is one result: the reader makes `num` nodes of one SPLIT operator, and the writer joins them again.
    """

    name = "SPLIT"
    arity = (1, 1)
    code = 49
    options_table = "SplitOptions"
    moves_bits = True

    axis: int = 1
    num: int = 1
    index: int = 0

    @constraint
    def equal_parts(self, view: View) -> bool:
        """the axis, a constant, exists, is not the batch, and its extent is a multiple of the number of parts"""
        shape = view.input(0).shape
        axis = normal_axis(self.axis, len(shape))
        return bool(axis) and self.num >= 1 and 0 <= self.index < self.num and shape[axis or 0] % self.num == 0

    @constraint
    def whole_words(self, view: View) -> bool:
        """packed bits are split along the channels only into parts of a multiple of 32"""
        x = view.input(0)
        last = normal_axis(self.axis, len(x.shape)) == len(x.shape) - 1
        return x.dtype is not DType.BITS or not last or x.shape[-1] // self.num % WORD_BITS == 0

    def infer(self, view: View) -> tuple[Shape, DType]:
        shape = list(view.input(0).shape)
        shape[self.axis] //= self.num
        return tuple(shape), view.input(0).dtype

    def parts(self, view: View, inputs: Sequence[Array], output: Array) -> list[Part]:
        size = view.input(0).stored_shape[self.axis] // self.num
        part = slice(self.index * size, (self.index + 1) * size)
        return [(output, np.moveaxis(np.moveaxis(inputs[0], self.axis, 0)[part], 0, self.axis))]

    @classmethod
    def from_options(cls, options: Options) -> Split:
        """The number of parts; axis and index follow from the operator's tensors (`onebit.core.flatbuffer.results`)."""
        return cls(num=int(options["num_splits"]))

    def to_options(self) -> dict[str, Any]:
        return {"num_splits": self.num}
