"""LceBconv2d: binary convolution by XOR and popcount.

With K = KH * KW * channels per group and p the number of differing signs in a window, the dot product of the signs is
K - 2p. onebit works with the doubled popcount ``x = 2p`` (dot = K - x), because with zero padding a tap outside the
image contributes ``channels``/2 to p, which need not be whole, but always a whole number to x.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onebit.core import bits
from onebit.core.fixed_point import round_half_away
from onebit.core.graph import Array, DType, Quantization, Tensor
from onebit.core.ops.base import CustomOp, Options, Shape, View, constraint, register
from onebit.core.ops.window import Activation, Axis, Border, Padding, filter_axes, padding_code, patches


@dataclass(frozen=True)
class BinaryWindow:
    """Geometry of a binary convolution: input ``[1, H, W, channels_in]``, filter ``[O, KH, KW, channels_in/groups]``.

    `pad_value` is what SAME padding adds: +1, or 0 (which no packed bit can express). A border is of +1.
    """

    channels_in: int
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: Padding | Border = Padding.VALID
    pad_value: int = 0

    @property
    def zero_padded(self) -> bool:
        """Whether pixels outside the image count as 0 (else as +1)."""
        return self.padding is Padding.SAME and self.pad_value == 0

    def axes(self, x: Tensor, filters: Tensor) -> tuple[Axis, Axis]:
        """The vertical and the horizontal axis."""
        return filter_axes(x, filters, self.stride, self.dilation, self.padding)

    def groups(self, filters: Tensor) -> int:
        """Number of groups: input channels over channels of one filter."""
        return self.channels_in // filters.shape[3]

    def taps(self, filters: Tensor) -> int:
        """K, the number of sign products in one full window."""
        return filters.shape[1] * filters.shape[2] * filters.shape[3]

    def accumulate(self, x: Tensor, filters: Tensor, words: Array, filter_words: Array) -> Array:
        """The doubled popcounts x = K - dot as int32 ``[N, OH, OW, O]``, from packed words.

        The dot products come from a matrix product of +1/-1 (0 for zero padding) in float32, which is exact below 2**24
        terms, or in float64.
        """
        rows, cols = self.axes(x, filters)
        groups, per_group = self.groups(filters), filters.shape[3]
        outs = filters.shape[0] // groups
        values = bits.signs(words, self.channels_in)
        weights = bits.signs(filter_words, per_group)
        exact: type[np.floating[Any]] = np.float32 if self.taps(filters) < 2**24 else np.float64
        dots = np.empty((words.shape[0], rows.out, cols.out, filters.shape[0]), exact)
        pad = 0.0 if self.zero_padded else 1.0
        for g in range(groups):
            part = patches(values[..., g * per_group : (g + 1) * per_group], rows, cols, pad)
            flat = part.reshape(-1, self.taps(filters)).astype(exact, copy=False)
            kernel = weights[g * outs : (g + 1) * outs].reshape(outs, -1).astype(exact, copy=False)
            dots[..., g * outs : (g + 1) * outs] = np.matmul(flat, kernel.T).reshape(*dots.shape[:3], outs)
        return np.subtract(self.taps(filters), dots, out=dots).astype(np.int32)


@dataclass(frozen=True, eq=False)
class OutputTransform:
    """The float output stage of one LceBconv2d, per output channel: ``y = f32(f32(clamp(x)) * multiplier) + bias``.

    multiplier = f32(-m / scale) and bias = f32((b + K*m) / scale + zero point), both computed in double and rounded
    once; x is clamped to [K - high, K - low], the fused activation acting on the integer dot product. Two float32
    roundings, no fused multiply-add. int8: round half away from zero, then saturate.
    """

    multiplier: Array
    bias: Array
    clamp: tuple[int, int]
    dtype: DType

    @classmethod
    def fold(
        cls, multiplier: Array, bias: Array, taps: int, activation: Activation, dtype: DType, quant: Quantization
    ) -> OutputTransform:
        """Fold K, output scale and zero point into multiplier and bias as the LCE kernels do when they are prepared."""
        scale, zero_point = (quant.scale, quant.zero_point) if dtype is DType.INT8 else (1.0, 0)
        wide = multiplier.astype(np.float64)
        low, high = (int(np.clip(v, -taps, taps)) for v in activation.bounds)
        return cls(
            multiplier=(-wide / scale).astype(np.float32),
            bias=((bias.astype(np.float64) + taps * wide) / scale + zero_point).astype(np.float32),
            clamp=(taps - high, taps - low),
            dtype=dtype,
        )

    def real(self, x: Array) -> Array:
        """float32 outputs for doubled popcounts ``[..., O]``, in steps of the output scale and not yet rounded."""
        clamped = np.clip(x, *self.clamp).astype(np.float32)
        clamped *= self.multiplier
        clamped += self.bias
        return np.asarray(clamped)

    def __call__(self, x: Array) -> Array:
        """Outputs for doubled popcounts ``[..., O]``: float32 or int8."""
        y = self.real(x)
        if self.dtype is DType.FLOAT32:
            return y
        return np.clip(round_half_away(y), -128, 127).astype(np.int8)


@register
@dataclass(frozen=True)
class LceBconv2d(CustomOp):
    """Inputs: bits, filter bits, multiplier f32[O], bias f32[O] (float32 and int8 output) or threshold int32[O] (bits).

    Bits output: bit = (p > threshold). Semantics are those of the reference kernel (`use_reference_bconv`).
    """

    name = "LceBconv2d"
    arity = (5, 5)

    window: BinaryWindow
    activation: Activation = Activation.NONE

    @constraint
    def input_dtype(self, view: View) -> bool:
        """the input is packed bits [1, H, W, channels_in]"""
        x = view.input(0)
        return x.dtype is DType.BITS and len(x.shape) == 4 and x.shape[3] == self.window.channels_in

    @constraint
    def filter_is_constant(self, view: View) -> bool:
        """the filter is a constant of packed bits [O, KH, KW, channels_in / groups]"""
        filters = view.input(1)
        return filters.is_constant and filters.dtype is DType.BITS and len(filters.shape) == 4

    @constraint
    def groups(self, view: View) -> bool:
        """with several groups, the channels of each are a multiple of 32 and the filters divide evenly"""
        filters = view.input(1)
        groups, rest = divmod(self.window.channels_in, filters.shape[3])
        return rest == 0 and (groups == 1 or (filters.shape[3] % 32 == 0 and filters.shape[0] % groups == 0))

    @constraint
    def positive_steps(self, view: View) -> bool:
        """strides and dilations are at least 1, strides and kernel extents at most 1024, and the kernel fits"""
        return all(axis.is_legal for axis in self.window.axes(view.input(0), view.input(1)))

    def packed_channels(self, inputs: Sequence[Tensor], output: Tensor) -> int | None:
        known = output.dtype is DType.INT32 and len(inputs) > 1 and inputs[1].shape
        return inputs[1].shape[0] if known else None

    @constraint
    def output_stage(self, view: View) -> bool:
        """float32 and int8 outputs have constant float32 multiplier and bias [O], bits constant int32 thresholds"""
        outs = view.input(1).shape[0]
        multiplier, bias, threshold = (view.optional(i) for i in (2, 3, 4))
        if view.output.dtype is DType.BITS:
            dtype, needed, unused = DType.INT32, [threshold], [multiplier, bias]
        else:
            dtype, needed, unused = DType.FLOAT32, [multiplier, bias], [threshold]
        return not any(unused) and all(
            t is not None and t.is_constant and t.shape == (outs,) and t.dtype is dtype for t in needed
        )

    @constraint
    def finite_output_stage(self, view: View) -> bool:
        """multiplier and bias are still finite float32 numbers with the scale of an int8 output folded in"""
        if view.output.dtype is not DType.INT8:
            return True
        with np.errstate(over="ignore"):
            stage = self.output_transform(view)
        return bool(np.isfinite(stage.multiplier).all() and np.isfinite(stage.bias).all())

    @constraint
    def pad_value(self, view: View) -> bool:
        """pixels outside the image are 0 or +1 (pad_values 0 or 1)"""
        return self.window.pad_value in (0, 1)

    @constraint
    def bits_are_not_zero_padded(self, view: View) -> bool:
        """bits outputs use VALID or one-padding (LCE has no zero-padded form)"""
        return view.output.dtype is not DType.BITS or not self.window.zero_padded

    def infer(self, view: View) -> tuple[Shape, DType]:
        rows, cols = self.window.axes(view.input(0), view.input(1))
        return (1, rows.out, cols.out, view.input(1).shape[0]), view.output.dtype

    def output_transform(self, view: View) -> OutputTransform:
        """The float output stage (float32 and int8 outputs)."""
        return OutputTransform.fold(
            view.input(2).constant(), view.input(3).constant(), self.window.taps(view.input(1)),
            self.activation, view.output.dtype, view.output.quant,
        )  # fmt: skip

    def evaluate(self, view: View, args: Sequence[Array | None]) -> Array:
        assert args[0] is not None and args[1] is not None
        x = self.window.accumulate(view.input(0), view.input(1), args[0], args[1])
        if view.output.dtype is DType.BITS:
            return bits.pack(x > 2 * view.input(4).constant().astype(np.int64))
        return self.output_transform(view)(x)

    def macs(self, view: View) -> tuple[int, int]:
        return view.output.elements * self.window.taps(view.input(1)), 0

    @classmethod
    def from_options(cls, options: Options) -> LceBconv2d:
        return cls(
            BinaryWindow(
                channels_in=options["channels_in"],
                stride=(options["stride_height"], options["stride_width"]),
                dilation=(options["dilation_height_factor"], options["dilation_width_factor"]),
                padding=Padding(options["padding"]),
                pad_value=options["pad_values"],
            ),
            Activation(options["fused_activation_function"]),
        )

    def to_options(self) -> dict[str, int]:
        w = self.window
        return {
            "channels_in": w.channels_in,
            "dilation_height_factor": w.dilation[0],
            "dilation_width_factor": w.dilation[1],
            "fused_activation_function": int(self.activation),
            "pad_values": w.pad_value,
            "padding": padding_code(w.padding),
            "stride_height": w.stride[0],
            "stride_width": w.stride[1],
        }
