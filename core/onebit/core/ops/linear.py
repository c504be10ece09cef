"""CONV_2D and FULLY_CONNECTED, float32 and int8: one accumulator, one requantization."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onebit.core.fixed_point import quantize_multiplier, requantize
from onebit.core.graph import Array, DType, Tensor
from onebit.core.ops.base import BuiltinOp, Op, Options, Shape, View, constraint, register
from onebit.core.ops.window import Activation, Axis, Padding, patches


@dataclass(frozen=True, eq=False)
class Requantization:
    """int32 accumulator to int8: scale per output channel, add the zero point, clamp to the fused activation.

    The real multiplier input scale * filter scale / output scale is taken in double, and becomes a 31-bit fixed-point
    number with exponent (`onebit.core.fixed_point`).
    """

    q: Array
    exponent: Array
    zero_point: int
    clamp: tuple[int, int]

    def __call__(self, acc: Array) -> Array:
        """int8 outputs of int32 accumulators ``[..., O]``, the input zero point and bias already included."""
        scaled = requantize(acc, self.q, self.exponent) + self.zero_point
        return np.clip(scaled, *self.clamp).astype(np.int8)


@dataclass(frozen=True)
class _Linear(Op):
    activation: Activation = Activation.NONE

    @constraint
    def dtypes(self, view: View) -> bool:
        """input, filter and output are all float32 or all int8"""
        kinds = {view.input(0).dtype, view.input(1).dtype, view.output.dtype}
        return len(kinds) == 1 and kinds <= {DType.FLOAT32, DType.INT8}

    @constraint
    def constant_parameters(self, view: View) -> bool:
        """filter and bias are constants; the bias has one float32 (int8 operators: int32) value per output channel"""
        filters, bias = view.input(1), view.optional(2)
        if not filters.is_constant:
            return False
        wanted = DType.FLOAT32 if filters.dtype is DType.FLOAT32 else DType.INT32
        return bias is None or (bias.is_constant and bias.shape == (filters.shape[0],) and bias.dtype is wanted)

    @constraint
    def symmetric_filter(self, view: View) -> bool:
        """an int8 filter has zero point 0, with one scale or one per output channel (axis 0)"""
        filters = view.input(1)
        if filters.dtype is not DType.INT8:
            return True
        quant = filters.quant
        return set(quant.zero_points) == {0} and len(quant.scales) in (1, filters.shape[0]) and quant.axis == 0

    @constraint
    def accumulator_fits(self, view: View) -> bool:
        """an int8 operator's accumulator fits in 32 bits for all inputs, also where the scales shift it to the left"""
        if view.output.dtype is not DType.INT8:
            return True
        filters, bias = view.input(1), view.optional(2)
        zero_point = view.input(0).quant.zero_point
        weights = np.abs(filters.constant().astype(np.int64)).reshape(filters.shape[0], -1).sum(axis=1)
        largest = weights * max(127 - zero_point, zero_point + 128)
        if bias is not None:
            largest = largest + np.abs(bias.constant().astype(np.int64))
        left = np.maximum(self.requantization(view).exponent, 0)
        return bool((largest.astype(np.float64) * 2.0**left < 2.0**31).all())

    def requantization(self, view: View) -> Requantization:
        """The int8 output stage.

        LiteRT multiplies input and filter scale in double for one scale per channel, and in float32 for
        FULLY_CONNECTED with one scale per tensor.
        """
        x, filters, y = view.input(0), view.input(1), view.output
        if self.name == "FULLY_CONNECTED" and len(filters.quant.scales) == 1:
            products = [float(np.float32(x.quant.scale) * np.float32(filters.quant.scale))]
        else:
            products = [x.quant.scale * s for s in filters.quant.scales]
        pairs = [quantize_multiplier(p / y.quant.scale) for p in products]
        q, exponent = (np.broadcast_to(np.array(v, np.int64), (filters.shape[0],)) for v in zip(*pairs, strict=True))
        return Requantization(q, exponent, y.quant.zero_point, self.activation.quantized_bounds(y.quant))

    def _finish(self, view: View, flat: Array, filters: Array, bias: Array | None) -> Array:
        """``[M, K] x [O, K]`` to ``[M, O]``: int8 exactly, float32 with accumulation in double and one rounding."""
        weights = filters.reshape(filters.shape[0], -1).astype(np.float64)
        acc = flat.astype(np.float64) @ weights.T
        if bias is not None:
            acc = acc + bias
        if view.output.dtype is DType.INT8:
            return self.requantization(view)(acc.astype(np.int64))
        return self.activation.apply(acc.astype(np.float32))


@register
@dataclass(frozen=True)
class Conv2d(_Linear, BuiltinOp):
    """Convolution of ``[1, H, W, I]`` with a filter OHWI; padding pixels are real 0."""

    name = "CONV_2D"
    arity = (2, 3)
    code = 3
    options_table = "Conv2DOptions"

    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: Padding = Padding.SAME

    @constraint
    def shapes(self, view: View) -> bool:
        """the input is [1, H, W, I] and the filter [O, KH, KW, I]"""
        x, filters = view.input(0), view.input(1)
        return len(x.shape) == 4 and len(filters.shape) == 4 and x.shape[3] == filters.shape[3]

    @constraint
    def positive_steps(self, view: View) -> bool:
        """strides and dilations are at least 1, strides and kernel extents at most 1024, and the kernel fits"""
        return all(axis.is_legal for axis in self.axes(view.input(0), view.input(1)))

    def axes(self, x: Tensor, filters: Tensor) -> tuple[Axis, Axis]:
        """The vertical and the horizontal axis."""
        return (
            Axis(x.shape[1], filters.shape[1], self.stride[0], self.dilation[0], self.padding),
            Axis(x.shape[2], filters.shape[2], self.stride[1], self.dilation[1], self.padding),
        )

    def infer(self, view: View) -> tuple[Shape, DType]:
        rows, cols = self.axes(view.input(0), view.input(1))
        return (1, rows.out, cols.out, view.input(1).shape[0]), view.input(0).dtype

    def accumulate(self, view: View, x: Array, filters: Array) -> Array:
        """int8 accumulators without bias as int64 ``[N, OH, OW, O]``, the input zero point subtracted."""
        centered = x.astype(np.float32) - view.input(0).quant.zero_point
        windows = patches(centered, *self.axes(view.input(0), view.input(1)), 0.0)
        flat = windows.reshape(-1, filters[0].size).astype(np.float64)
        acc = flat @ filters.reshape(filters.shape[0], -1).T.astype(np.float64)
        return acc.reshape(*windows.shape[:3], -1).astype(np.int64)

    def evaluate(self, view: View, args: Sequence[Array | None]) -> Array:
        x, filters, *rest = args
        assert x is not None and filters is not None
        bias = rest[0] if rest else None
        if view.output.dtype is DType.INT8:
            acc = self.accumulate(view, x, filters)
            return self.requantization(view)(acc if bias is None else acc + bias)
        windows = patches(x, *self.axes(view.input(0), view.input(1)), 0.0)
        flat = windows.reshape(-1, filters[0].size)
        return self._finish(view, flat, filters, bias).reshape(*windows.shape[:3], -1)

    def macs(self, view: View) -> tuple[int, int]:
        return 0, view.output.elements * (view.input(1).elements // view.input(1).shape[0])

    @classmethod
    def from_options(cls, options: Options) -> Conv2d:
        return cls(
            Activation(options["fused_activation_function"]),
            stride=(options["stride_h"], options["stride_w"]),
            dilation=(options["dilation_h_factor"], options["dilation_w_factor"]),
            padding=Padding(options["padding"]),
        )

    def to_options(self) -> dict[str, Any]:
        return {
            "padding": int(self.padding),
            "stride_w": self.stride[1],
            "stride_h": self.stride[0],
            "fused_activation_function": int(self.activation),
            "dilation_w_factor": self.dilation[1],
            "dilation_h_factor": self.dilation[0],
        }


@register
@dataclass(frozen=True)
class FullyConnected(_Linear, BuiltinOp):
    """``[1, ..., I]`` flattened to rows of I, times a filter ``[O, I]``."""

    name = "FULLY_CONNECTED"
    arity = (2, 3)
    code = 9
    options_table = "FullyConnectedOptions"

    @constraint
    def shapes(self, view: View) -> bool:
        """the filter is [O, I] and the input holds I values"""
        filters = view.input(1)
        return len(filters.shape) == 2 and view.input(0).elements == filters.shape[1]

    def infer(self, view: View) -> tuple[Shape, DType]:
        return (1, view.input(1).shape[0]), view.input(0).dtype

    def evaluate(self, view: View, args: Sequence[Array | None]) -> Array:
        x, filters, *rest = args
        assert x is not None and filters is not None
        if view.output.dtype is DType.INT8:
            x = x.astype(np.int32) - view.input(0).quant.zero_point
        return self._finish(view, x.reshape(-1, filters.shape[1]), filters, rest[0] if rest else None)

    def macs(self, view: View) -> tuple[int, int]:
        return 0, view.input(1).elements

    @classmethod
    def from_options(cls, options: Options) -> FullyConnected:
        return cls(Activation(options["fused_activation_function"]))

    def to_options(self) -> dict[str, Any]:
        return {"fused_activation_function": int(self.activation)}
