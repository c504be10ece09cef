"""Operators that exist only between the graph IR and the C code: integer forms of what a .tflite states in float."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from onebit.core import bits
from onebit.core.graph import Array, DType
from onebit.core.ops import BinaryWindow, Conv2d, Op, View, register
from onebit.core.ops.base import Shape, constraint
from onebit.core.ops.pooling import BinaryPooling

#: bits behind the point of a `BinaryConvSegments` sum, and the end of a channel's last segment
SEGMENT_FRACTION: Final = 24
NO_END: Final = 2**31 - 1


@dataclass(frozen=True)
class IntegerBconv2d(Op):
    """A binary convolution whose output stage is integer arithmetic on doubled popcounts x (see `LceBconv2d`).

    Inputs: bits, filter bits, then the constants of the output stage.
    """

    internal = True
    #: how many of the last inputs are not by output channel
    shared: ClassVar[int] = 0

    window: BinaryWindow

    @constraint
    def input_dtype(self, view: View) -> bool:
        """the input is packed bits [1, H, W, channels_in]"""
        return view.input(0).dtype is DType.BITS and view.input(0).shape[3] == self.window.channels_in

    @constraint
    def constants(self, view: View) -> bool:
        """filter and output stage are constants, with one row per output channel"""
        outs = view.input(1).shape[0]
        rest = [view.input(i) for i in range(1, len(view.inputs))]
        return all(t.is_constant for t in rest) and all(t.shape[0] == outs for t in rest[: len(rest) - self.shared])

    def _accumulate(self, view: View, args: Sequence[Array | None]) -> Array:
        assert args[0] is not None and args[1] is not None
        return self.window.accumulate(view.input(0), view.input(1), args[0], args[1])

    def _shape(self, view: View) -> Shape:
        rows, cols = self.window.axes(view.input(0), view.input(1))
        return (1, rows.out, cols.out, view.input(1).shape[0])

    def index_shift(self, view: View) -> int:
        """1 where all accumulators are even, so that a table has K + 1 columns, else 0."""
        return 0 if self.window.zero_padded and view.input(1).shape[3] % 2 else 1

    def macs(self, view: View) -> tuple[int, int]:
        return view.output.elements * self.window.taps(view.input(1)), 0


@register
@dataclass(frozen=True)
class BinaryConvSign(IntegerBconv2d):
    """Packed bits out: bit = (x > threshold), int32 thresholds on doubled popcounts. Any padding, any channel count."""

    name = "onebit.BinaryConvSign"
    arity = (3, 3)

    def infer(self, view: View) -> tuple[Shape, DType]:
        return self._shape(view), DType.BITS

    def evaluate(self, view: View, args: Sequence[Array | None]) -> Array:
        return bits.pack(self._accumulate(view, args) > view.input(2).constant())


@register
@dataclass(frozen=True)
class BinaryConvRange(IntegerBconv2d):
    """Packed bits out: bit = (below < x < end), inverted in the channels whose bit of `outside` is set.

    Inputs behind the filter: below and end int32 [O] on doubled popcounts, outside bits [O].
    """

    name = "onebit.BinaryConvRange"
    arity = (5, 5)

    def infer(self, view: View) -> tuple[Shape, DType]:
        return self._shape(view), DType.BITS

    def evaluate(self, view: View, args: Sequence[Array | None]) -> Array:
        x = self._accumulate(view, args)
        below, end, outside = (view.input(i).constant() for i in (2, 3, 4))
        return bits.pack((x > below) & (x < end)) ^ outside


@register
@dataclass(frozen=True)
class BinaryConvBitTable(IntegerBconv2d):
    """Packed bits out by lookup: bit n of table[o] with n = x >> 1, or n = x (see `index_shift`)."""

    name = "onebit.BinaryConvBitTable"
    arity = (3, 3)

    def infer(self, view: View) -> tuple[Shape, DType]:
        return self._shape(view), DType.BITS

    def evaluate(self, view: View, args: Sequence[Array | None]) -> Array:
        index = self._accumulate(view, args) >> self.index_shift(view)
        table = bits.unpack(view.input(2).constant(), view.input(2).shape[1])
        return bits.pack(table[np.arange(table.shape[0]), index])


@register
@dataclass(frozen=True)
class BinaryPool(BinaryPooling):
    """Largest sign of a window, or the smallest in the channels whose bit of the second input, bits [C], is set."""

    name = "onebit.BinaryPool"
    arity = (2, 2)
    internal = True

    @constraint
    def dtypes(self, view: View) -> bool:
        """the input is packed bits, the second a constant of as many bits as it has channels"""
        x, minima = view.input(0), view.input(1)
        return x.dtype is minima.dtype is DType.BITS and minima.is_constant and minima.shape == x.shape[3:]

    def evaluate(self, view: View, args: Sequence[Array | None]) -> Array:
        words, minima = args
        assert words is not None and minima is not None
        # the smallest sign is the largest of the negated ones
        return self.largest(view, words ^ minima) ^ minima


@register
@dataclass(frozen=True)
class BinaryConvScale(IntegerBconv2d):
    """int8 out: clamp((x * multiplier + offset) >> shift, low, high), int32 multiplier and offset, no overflow.

    The shift is arithmetic (floor). Requires |x * multiplier + offset| < 2**31 for all x in 0..2K.
    """

    name = "onebit.BinaryConvScale"
    arity = (4, 4)

    shift: int = 0

    def infer(self, view: View) -> tuple[Shape, DType]:
        return self._shape(view), DType.INT8

    def evaluate(self, view: View, args: Sequence[Array | None]) -> Array:
        return self.scale(self._accumulate(view, args), view.input(2).constant(), view.input(3).constant())

    def scale(self, x: Array, multiplier: Array, offset: Array) -> Array:
        """The output stage alone, for doubled popcounts ``[..., O]``."""
        y = (x.astype(np.int64) * multiplier + offset) >> self.shift
        return np.clip(y, -128, 127).astype(np.int8)


@register
@dataclass(frozen=True)
class BinaryConvSegments(IntegerBconv2d):
    """int8 out: ((x * multiplier + offset) mod 2**32 >> 24) - 128, by the first segment of the channel with x < end.

    Inputs behind the filter: first int32 [O], the index of each channel's first segment in segments int32 [S, 3], rows
    of end, multiplier and offset. The last end of a channel is 2**31 - 1.
    """

    name = "onebit.BinaryConvSegments"
    arity = (4, 4)
    shared = 1

    def infer(self, view: View) -> tuple[Shape, DType]:
        return self._shape(view), DType.INT8

    def evaluate(self, view: View, args: Sequence[Array | None]) -> Array:
        x = self._accumulate(view, args)
        first, segments = view.input(2).constant(), view.input(3).constant().astype(np.int64)
        y = np.empty(x.shape, np.int8)
        for o, start in enumerate(first):
            stop = start + 1 + int((segments[start:, 0] == NO_END).argmax())
            rows = segments[start:stop][np.searchsorted(segments[start:stop, 0], x[..., o], side="right")]
            y[..., o] = ((x[..., o] * rows[..., 1] + rows[..., 2]) % 2**32 >> SEGMENT_FRACTION) - 128
        return y


@register
@dataclass(frozen=True)
class BinaryConvTable(IntegerBconv2d):
    """int8 out by lookup: table[o][x >> 1], or table[o][x] where zero padding meets an odd channel count."""

    name = "onebit.BinaryConvTable"
    arity = (3, 3)

    def infer(self, view: View) -> tuple[Shape, DType]:
        return self._shape(view), DType.INT8

    def evaluate(self, view: View, args: Sequence[Array | None]) -> Array:
        index = self._accumulate(view, args) >> self.index_shift(view)
        table = view.input(2).constant()
        return np.asarray(table[np.arange(table.shape[0]), index])


@register
@dataclass(frozen=True)
class ConvSign(Op):
    """An int8 CONV_2D directly to packed bits: bit = (acc < threshold).

    acc = sum over the window of (x - input zero point) * w, without bias. Inputs: x, filter, int32 thresholds.
    """

    name = "onebit.ConvSign"
    arity = (3, 3)
    internal = True

    conv: Conv2d

    @constraint
    def dtypes(self, view: View) -> bool:
        """input and filter are int8, filter and thresholds are constant"""
        filters, thresholds = view.input(1), view.input(2)
        return (
            view.input(0).dtype is DType.INT8
            and filters.dtype is DType.INT8
            and filters.is_constant
            and thresholds.is_constant
        )

    def infer(self, view: View) -> tuple[Shape, DType]:
        rows, cols = self.conv.axes(view.input(0), view.input(1))
        return (1, rows.out, cols.out, view.input(1).shape[0]), DType.BITS

    def evaluate(self, view: View, args: Sequence[Array | None]) -> Array:
        assert args[0] is not None and args[1] is not None
        return bits.pack(self.conv.accumulate(view, args[0], args[1]) < view.input(2).constant())

    def macs(self, view: View) -> tuple[int, int]:
        return self.conv.macs(view)


@register
@dataclass(frozen=True)
class Int8Sign(Op):
    """int8 to packed bits, by channel: bit = (x < threshold), inverted in the channels whose bit of `inverted` is set.

    Inputs: x, threshold int8 [C], inverted bits [C].
    """

    name = "onebit.Int8Sign"
    arity = (3, 3)
    internal = True

    @constraint
    def inputs(self, view: View) -> bool:
        """the input is int8, thresholds int8 and inverted bits are constants of as many channels"""
        x, threshold, inverted = (view.input(i) for i in range(3))
        constants = all(t.is_constant and t.shape == x.shape[-1:] for t in (threshold, inverted))
        return constants and x.dtype is threshold.dtype is DType.INT8 and inverted.dtype is DType.BITS

    def infer(self, view: View) -> tuple[Shape, DType]:
        return view.input(0).shape, DType.BITS

    def evaluate(self, view: View, args: Sequence[Array | None]) -> Array:
        x, threshold, inverted = args
        assert x is not None and threshold is not None and inverted is not None
        return bits.pack(x < threshold) ^ inverted


@register
@dataclass(frozen=True)
class ConvertLayout(Op):
    """Packed bits into another memory layout: the value is the same, the scheduled form says which layouts."""

    name = "onebit.ConvertLayout"
    arity = (1, 1)
    internal = True

    @constraint
    def dtype(self, view: View) -> bool:
        """the input is packed bits"""
        return view.input(0).dtype is DType.BITS

    def infer(self, view: View) -> tuple[Shape, DType]:
        return view.input(0).shape, DType.BITS

    def evaluate(self, view: View, args: Sequence[Array | None]) -> Array:
        assert args[0] is not None
        return args[0]
