"""LceBMaxPool2d on packed bits, MAX_POOL_2D and AVERAGE_POOL_2D on float32 and int8."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.core.graph import Array, DType, Tensor
from onebit.core.ops.base import BuiltinOp, CustomOp, Op, Options, Shape, View, constraint, register
from onebit.core.ops.window import Activation, Axis, Padding, patches


@dataclass(frozen=True)
class PoolWindow:
    """Filter size, stride and padding of a pooling operator; the window is clipped to the image."""

    size: tuple[int, int]
    stride: tuple[int, int]
    padding: Padding

    def axes(self, x: Tensor) -> tuple[Axis, Axis]:
        """The vertical and the horizontal axis."""
        return (
            Axis(x.shape[1], self.size[0], self.stride[0], 1, self.padding),
            Axis(x.shape[2], self.size[1], self.stride[1], 1, self.padding),
        )


@dataclass(frozen=True)
class _Pool(Op):
    window: PoolWindow

    @constraint
    def four_dimensions(self, view: View) -> bool:
        """the input is [1, H, W, C]"""
        return len(view.input(0).shape) == 4

    @constraint
    def window_fits(self, view: View) -> bool:
        """filter and strides are at least 1 and at most 1024, and the filter fits the input"""
        return all(axis.is_legal for axis in self.window.axes(view.input(0)))

    def infer(self, view: View) -> tuple[Shape, DType]:
        x = view.input(0)
        rows, cols = self.window.axes(x)
        return (1, rows.out, cols.out, x.shape[3]), x.dtype


@dataclass(frozen=True)
class BinaryPooling(_Pool):
    """Pools on packed bits."""

    def largest(self, view: View, words: Array) -> Array:
        """Maximum of +1/-1: AND of the words of the window."""
        return np.asarray(np.bitwise_and.reduce(patches(words, *self.window.axes(view.input(0)), -1), axis=(3, 4)))


@register
@dataclass(frozen=True)
class LceBMaxPool2d(BinaryPooling, CustomOp):
    """Maximum of +1/-1."""

    name = "LceBMaxPool2d"
    arity = (1, 1)

    @constraint
    def input_dtype(self, view: View) -> bool:
        """the input is packed bits"""
        return view.input(0).dtype is DType.BITS

    def packed_channels(self, inputs: Sequence[Tensor], output: Tensor) -> int | None:
        return inputs[0].shape[-1] if inputs and inputs[0].shape else None

    def evaluate(self, view: View, args: Sequence[Array | None]) -> Array:
        (words,) = args
        assert words is not None
        return self.largest(view, words)

    @classmethod
    def from_options(cls, options: Options) -> LceBMaxPool2d:
        return cls(
            PoolWindow(
                size=(options["filter_height"], options["filter_width"]),
                stride=(options["stride_height"], options["stride_width"]),
                padding=Padding(options["padding"]),
            )
        )

    def to_options(self) -> dict[str, int]:
        w = self.window
        return {
            "filter_height": w.size[0],
            "filter_width": w.size[1],
            "padding": int(w.padding),
            "stride_height": w.stride[0],
            "stride_width": w.stride[1],
        }


@dataclass(frozen=True)
class _Pool2d(_Pool, BuiltinOp):
    """float32 or int8; the fused activation clamps the result."""

    arity = (1, 1)
    options_table = "Pool2DOptions"

    activation: Activation = Activation.NONE

    @constraint
    def input_dtype(self, view: View) -> bool:
        """the input is float32 or int8"""
        return view.input(0).dtype in (DType.FLOAT32, DType.INT8)

    @constraint
    def same_quantization(self, view: View) -> bool:
        """int8 input and output have the same scale and zero point"""
        return view.input(0).dtype is not DType.INT8 or view.input(0).quant == view.output.quant

    def clamp(self, view: View, y: Array) -> Array:
        """The fused activation on float32 or whole numbers."""
        if view.input(0).dtype is DType.FLOAT32:
            return self.activation.apply(y)
        return np.asarray(np.clip(y, *self.activation.quantized_bounds(view.output.quant)), np.int8)

    @classmethod
    def from_options(cls, options: Options) -> _Pool2d:
        return cls(
            PoolWindow(
                size=(options["filter_height"], options["filter_width"]),
                stride=(options["stride_h"], options["stride_w"]),
                padding=Padding(options["padding"]),
            ),
            Activation(options["fused_activation_function"]),
        )

    def to_options(self) -> dict[str, Any]:
        return {
            "padding": int(self.window.padding),
            "stride_w": self.window.stride[1],
            "stride_h": self.window.stride[0],
            "filter_width": self.window.size[1],
            "filter_height": self.window.size[0],
            "fused_activation_function": int(self.activation),
        }


@register
@dataclass(frozen=True)
class MaxPool2d(_Pool2d):
    """Maximum over the window, the first of -0.0 and 0.0, then the fused activation; int8 keeps its quantization."""

    name = "MAX_POOL_2D"
    code = 17

    def evaluate(self, view: View, args: Sequence[Array | None]) -> Array:
        (x,) = args
        assert x is not None
        lowest = -128 if view.input(0).dtype is DType.INT8 else -np.inf
        windows = patches(x, *self.window.axes(view.input(0)), lowest)
        best: Array = windows[:, :, :, 0, 0]
        for ky, kx in np.ndindex(windows.shape[3:5]):
            best = np.where(windows[:, :, :, ky, kx] > best, windows[:, :, :, ky, kx], best)
        return self.clamp(view, best)


@register
@dataclass(frozen=True)
class AveragePool2d(_Pool2d):
    """Mean of the pixels of the window that lie inside the image, then the fused activation.

    int8: the sum of the stored values over their count, half away from zero, whatever the zero point is.
    float32: the sum in row-major order from 0, over the count, each step rounded.
    """

    name = "AVERAGE_POOL_2D"
    code = 1

    def counts(self, x: Tensor) -> NDArray[np.int64]:
        """Pixels inside the image of every window, int64 ``[OH, OW]``."""
        rows, cols = (_inside(axis) for axis in self.window.axes(x))
        return np.outer(rows, cols)

    def evaluate(self, view: View, args: Sequence[Array | None]) -> Array:
        (x,) = args
        assert x is not None
        real = view.input(0).dtype is DType.FLOAT32
        windows = patches(x.astype(np.float32 if real else np.int64), *self.window.axes(view.input(0)), 0)
        total: Array = np.zeros_like(windows[:, :, :, 0, 0])
        for ky, kx in np.ndindex(windows.shape[3:5]):
            total = total + windows[:, :, :, ky, kx]
        count = self.counts(view.input(0))[..., np.newaxis]
        if real:
            return self.clamp(view, total / count.astype(np.float32))
        return self.clamp(view, np.sign(total) * ((np.abs(total) + count // 2) // count))


def _inside(axis: Axis) -> list[int]:
    """Pixels inside the image of the window at every output position."""
    starts = [i * axis.stride - axis.before for i in range(axis.out)]
    return [min(start + axis.kernel, axis.size) - max(start, 0) for start in starts]
