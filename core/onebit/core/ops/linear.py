"""CONV_2D, DEPTHWISE_CONV_2D and FULLY_CONNECTED, float32 and int8: one accumulator, one requantization."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, ClassVar

import numpy as np

from onebit.core.fixed_point import quantize_multiplier, requantize
from onebit.core.graph import Array, DType, Tensor
from onebit.core.ops.base import BuiltinOp, Op, Options, Shape, View, constraint, register
from onebit.core.ops.window import Activation, Axis, Border, Padding, filter_axes, padding_code, patches
from onebit.core.rounding import Rounding


@dataclass(frozen=True, eq=False)
class Requantization:
    """int32 accumulator to int8: scale per output channel, add the zero point, clamp to the fused activation.

    The real multiplier input scale * filter scale / output scale is taken in double, and becomes a 31-bit fixed-point
    number with exponent (`onebit.core.fixed_point`). Channels from `half_up` on round half away from zero.
    """

    q: Array
    exponent: Array
    zero_point: int
    clamp: tuple[int, int]
    half_up: int

    def __call__(self, acc: Array) -> Array:
        """int8 outputs of int32 accumulators ``[..., O]``, the input zero point and bias already included."""
        scaled = requantize(acc, self.q, self.exponent, np.arange(len(self.q)) >= self.half_up) + self.zero_point
        return np.clip(scaled, *self.clamp).astype(np.int8)


@dataclass(frozen=True)
class _Linear(Op):
    #: the axis of the filter that counts output channels
    channel_axis: ClassVar[int] = 0
    #: output channels that LiteRT's vector code takes at a time
    vector_channels: ClassVar[int] = 1

    activation: Activation = Activation.NONE

    def outputs(self, filters: Tensor) -> int:
        """Number of output channels."""
        # a filter without that axis has none, and is refused
        return prod(filters.shape[self.channel_axis : self.channel_axis + 1] or (0,))

    @constraint
    def dtypes(self, view: View) -> bool:
        """input, filter and output are all float32 or all int8"""
        kinds = {view.input(0).dtype, view.input(1).dtype, view.output.dtype}
        return len(kinds) == 1 and kinds <= {DType.FLOAT32, DType.INT8}

    @constraint
    def constant_parameters(self, view: View) -> bool:
        """filter and bias are constants; the bias has one float32 (int8 operators: int32) value per output channel"""
        filters, bias = view.input(1), view.optional(2)
        if not filters.is_constant or not self.outputs(filters):
            return False
        wanted = DType.FLOAT32 if filters.dtype is DType.FLOAT32 else DType.INT32
        return bias is None or (bias.is_constant and bias.shape == (self.outputs(filters),) and bias.dtype is wanted)

    @constraint
    def symmetric_filter(self, view: View) -> bool:
        """an int8 filter has zero point 0, with one scale or one per output channel (the filter's axis of O)"""
        filters = view.input(1)
        if filters.dtype is not DType.INT8:
            return True
        quant = filters.quant
        per_channel = len(quant.scales) == self.outputs(filters) and quant.axis == self.channel_axis
        return set(quant.zero_points) == {0} and (len(quant.scales) == 1 or per_channel)

    @constraint
    def accumulator_fits(self, view: View) -> bool:
        """an int8 operator's accumulator fits in 32 bits for all inputs, also where the scales shift it to the left"""
        if view.output.dtype is not DType.INT8:
            return True
        filters, bias = view.input(1), view.optional(2)
        zero_point = view.input(0).quant.zero_point
        rows = np.moveaxis(filters.constant(), self.channel_axis, 0).reshape(self.outputs(filters), -1)
        largest = np.abs(rows.astype(np.int64)).sum(axis=1) * max(127 - zero_point, zero_point + 128)
        if bias is not None:
            largest = largest + np.abs(bias.constant().astype(np.int64))
        left = np.maximum(self.requantization(view).exponent, 0)
        return bool((largest.astype(np.float64) * 2.0**left < 2.0**31).all())

    def half_up(self, view: View) -> int:
        """Number of output channels, from the first on, whose requantization rounds half up: LiteRT's vector code."""
        return view.rounding.blocks(self.outputs(view.input(1)), self.vector_channels)

    def requantization(self, view: View) -> Requantization:
        """The int8 output stage.

        Input and filter scale are multiplied in double, but in float32 by LiteRT for FULLY_CONNECTED with one scale per
        tensor.
        """
        x, filters, y = view.input(0), view.input(1), view.output
        if view.rounding is Rounding.LITERT and self.name == "FULLY_CONNECTED" and len(filters.quant.scales) == 1:
            products = [float(np.float32(x.quant.scale) * np.float32(filters.quant.scale))]
        else:
            products = [x.quant.scale * s for s in filters.quant.scales]
        pairs = [quantize_multiplier(p / y.quant.scale) for p in products]
        outputs = self.outputs(filters)
        q, exponent = (np.broadcast_to(np.array(v, np.int64), (outputs,)) for v in zip(*pairs, strict=True))
        clamp = self.activation.quantized_bounds(y.quant)
        return Requantization(q, exponent, y.quant.zero_point, clamp, self.half_up(view))

    def finish(self, view: View, acc: Array, bias: Array | None) -> Array:
        """Outputs of float64 accumulators ``[..., O]``: int8 exactly, float32 with one rounding of the sum."""
        if bias is not None:
            acc = acc + bias
        if view.output.dtype is DType.INT8:
            return self.requantization(view)(acc.astype(np.int64))
        return self.activation.apply(acc.astype(np.float32))


@dataclass(frozen=True)
class _Convolution(_Linear, BuiltinOp):
    """A filter with height and width in axes 1 and 2 over an input ``[1, H, W, I]``; padding pixels are real 0."""

    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: Padding | Border = Padding.SAME

    @constraint
    def four_dimensions(self, view: View) -> bool:
        """the input is [1, H, W, I] and the filter has four dimensions"""
        return len(view.input(0).shape) == len(view.input(1).shape) == 4

    @constraint
    def positive_steps(self, view: View) -> bool:
        """strides and dilations are at least 1, strides and kernel extents at most 1024, and the kernel fits"""
        return all(axis.is_legal for axis in self.axes(view.input(0), view.input(1)))

    def axes(self, x: Tensor, filters: Tensor) -> tuple[Axis, Axis]:
        """The vertical and the horizontal axis."""
        return filter_axes(x, filters, self.stride, self.dilation, self.padding)

    def infer(self, view: View) -> tuple[Shape, DType]:
        rows, cols = self.axes(view.input(0), view.input(1))
        return (1, rows.out, cols.out, self.outputs(view.input(1))), view.input(0).dtype

    def windows(self, view: View, x: Array) -> Array:
        """Windows ``[N, OH, OW, KH, KW, I]`` in float32, the zero point of an int8 input subtracted."""
        centered = x.astype(np.float32) - np.float32(view.input(0).quant.zero_point)
        return patches(centered, *self.axes(view.input(0), view.input(1)), 0.0)

    @abstractmethod
    def accumulate(self, view: View, x: Array, filters: Array) -> Array:
        """Accumulators without bias in float64 ``[N, OH, OW, O]``, whole numbers where the input is int8."""

    def evaluate(self, view: View, args: Sequence[Array | None]) -> Array:
        x, filters, *rest = args
        assert x is not None and filters is not None
        return self.finish(view, self.accumulate(view, x, filters), rest[0] if rest else None)

    def macs(self, view: View) -> tuple[int, int]:
        return 0, view.output.elements * (view.input(1).elements // self.outputs(view.input(1)))

    @classmethod
    def from_options(cls, options: Options) -> _Convolution:
        return cls(
            Activation(options["fused_activation_function"]),
            stride=(options["stride_h"], options["stride_w"]),
            dilation=(options["dilation_h_factor"], options["dilation_w_factor"]),
            padding=Padding(options["padding"]),
        )

    def to_options(self) -> dict[str, Any]:
        return {
            "padding": padding_code(self.padding),
            "stride_w": self.stride[1],
            "stride_h": self.stride[0],
            "fused_activation_function": int(self.activation),
            "dilation_w_factor": self.dilation[1],
            "dilation_h_factor": self.dilation[0],
        }


@register
@dataclass(frozen=True)
class Conv2d(_Convolution):
    """Convolution of ``[1, H, W, I]`` with a filter OHWI; padding pixels are real 0."""

    name = "CONV_2D"
    arity = (2, 3)
    code = 3
    options_table = "Conv2DOptions"

    @constraint
    def shapes(self, view: View) -> bool:
        """the filter is [O, KH, KW, I]"""
        return view.input(0).shape[3] == view.input(1).shape[3]

    def accumulate(self, view: View, x: Array, filters: Array) -> Array:
        windows = self.windows(view, x)
        flat = windows.reshape(-1, filters[0].size).astype(np.float64)
        acc = flat @ filters.reshape(filters.shape[0], -1).T.astype(np.float64)
        return acc.reshape(*windows.shape[:3], -1)


@register
@dataclass(frozen=True)
class DepthwiseConv2d(_Convolution):
    """Convolution of every channel with M = O / I filters of its own: output channel o reads input channel o // M.

    The filter is ``[1, KH, KW, O]``, with per-channel scales along axis 3.
    """

    name = "DEPTHWISE_CONV_2D"
    arity = (2, 3)
    code = 4
    options_table = "DepthwiseConv2DOptions"
    channel_axis = 3
    vector_channels = 8

    #: as the file states it; like LiteRT, onebit takes M from the shapes
    depth_multiplier: int = 1

    @constraint
    def shapes(self, view: View) -> bool:
        """the filter is [1, KH, KW, O] with O a multiple of I"""
        x, filters = view.input(0), view.input(1)
        return filters.shape[0] == 1 and filters.shape[3] % x.shape[3] == 0

    def accumulate(self, view: View, x: Array, filters: Array) -> Array:
        windows = self.windows(view, x)
        kernel = filters.reshape(*filters.shape[1:3], x.shape[3], -1).astype(np.float64)
        acc = np.zeros((*windows.shape[:3], *kernel.shape[2:]))
        for ky, kx in np.ndindex(kernel.shape[:2]):
            acc += windows[:, :, :, ky, kx, :, np.newaxis] * kernel[ky, kx]
        return acc.reshape(*windows.shape[:3], -1)

    @classmethod
    def from_options(cls, options: Options) -> DepthwiseConv2d:
        plain = super().from_options(options)
        assert isinstance(plain, DepthwiseConv2d)
        return replace(plain, depth_multiplier=options["depth_multiplier"])

    def to_options(self) -> dict[str, Any]:
        return {**super().to_options(), "depth_multiplier": self.depth_multiplier}


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
        acc = x.reshape(-1, filters.shape[1]).astype(np.float64) @ filters.T.astype(np.float64)
        return self.finish(view, acc, rest[0] if rest else None)

    def macs(self, view: View) -> tuple[int, int]:
        return 0, view.input(1).elements

    @classmethod
    def from_options(cls, options: Options) -> FullyConnected:
        return cls(Activation(options["fused_activation_function"]))

    def to_options(self) -> dict[str, Any]:
        return {"fused_activation_function": int(self.activation)}
