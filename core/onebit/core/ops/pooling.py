"""LceBMaxPool2d on packed bits and MAX_POOL_2D on float32 and int8."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

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


@register
@dataclass(frozen=True)
class LceBMaxPool2d(_Pool, CustomOp):
    """Maximum of +1/-1: AND of the words of the window."""

    name = "LceBMaxPool2d"
    arity = (1, 1)

    @constraint
    def input_dtype(self, view: View) -> bool:
        """the input is packed bits"""
        return view.input(0).dtype is DType.BITS

    def evaluate(self, view: View, args: Sequence[Array | None]) -> Array:
        (words,) = args
        assert words is not None
        windows = patches(words, *self.window.axes(view.input(0)), -1)
        return np.asarray(np.bitwise_and.reduce(windows, axis=(3, 4)))

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


@register
@dataclass(frozen=True)
class MaxPool2d(_Pool, BuiltinOp):
    """Maximum over the window, then the fused activation; int8 input and output share their quantization."""

    name = "MAX_POOL_2D"
    arity = (1, 1)
    code = 17
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

    def evaluate(self, view: View, args: Sequence[Array | None]) -> Array:
        (x,) = args
        assert x is not None
        lowest = -128 if view.input(0).dtype is DType.INT8 else -np.inf
        y = patches(x, *self.window.axes(view.input(0)), lowest).max(axis=(3, 4))
        if view.input(0).dtype is DType.FLOAT32:
            return self.activation.apply(y)
        return np.asarray(np.clip(y, *self.activation.quantized_bounds(view.output.quant)), np.int8)

    @classmethod
    def from_options(cls, options: Options) -> MaxPool2d:
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
