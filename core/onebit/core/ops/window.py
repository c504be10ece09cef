"""Sliding windows: padding rules, fused activations, and patch extraction."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from onebit.core.graph import Array, Quantization, Tensor

LARGEST = float(np.finfo(np.float32).max)


def clamp(x: Array, low: float, high: float) -> Array:
    """float32 values limited to low..high by comparison, so that NaN and -0.0 pass, as LiteRT and generated code do."""
    return np.where(x < low, np.float32(low), np.where(x > high, np.float32(high), x)).astype(np.float32)


class Padding(IntEnum):
    """TFLite padding; the value is its code in the flatbuffer."""

    SAME = 0
    VALID = 1


@dataclass(frozen=True)
class Border:
    """Pixels before and after rows and columns that windows reach, too. Only inside onebit: no file has it."""

    rows: tuple[int, int]
    cols: tuple[int, int]


def padding_code(padding: Padding | Border) -> int:
    """The code of a padding in the flatbuffer."""
    assert isinstance(padding, Padding), "a border has no flatbuffer form"
    return int(padding)


class Activation(IntEnum):
    """Fused activation; the value is its code in the flatbuffer."""

    NONE = 0
    RELU = 1
    RELU_N1_TO_1 = 2
    RELU6 = 3

    @property
    def bounds(self) -> tuple[float, float]:
        """Clamp range in real numbers; an infinite value becomes the largest finite one, as in LiteRT."""
        return {0: (-LARGEST, LARGEST), 1: (0.0, LARGEST), 2: (-1.0, 1.0), 3: (0.0, 6.0)}[int(self)]

    def apply(self, x: Array) -> Array:
        """Clamp a float32 array; NaN and -0.0 stay, see `clamp`. May return `x` itself."""
        if self is Activation.NONE and np.isfinite(x).all():
            return x
        return clamp(x, *self.bounds)

    def quantized_bounds(self, quant: Quantization) -> tuple[int, int]:
        """Clamp range of an int8 tensor: zero point + round(bound / scale) in float32, half away from zero."""

        def quantize(bound: float, limit: int) -> int:
            if abs(bound) == LARGEST:
                return limit
            with np.errstate(over="ignore"):
                steps = float(np.clip(np.float32(bound) / np.float32(quant.scale), -(2.0**31), 2.0**31))
            return quant.zero_point + int(np.copysign(np.floor(abs(steps) + 0.5), steps))

        low, high = self.bounds
        return max(-128, quantize(low, -128)), min(127, quantize(high, 127))


#: largest stride and largest extent of a dilated kernel, in pixels
MAX_EXTENT = 1024


@dataclass(frozen=True)
class Axis:
    """One spatial axis of a window: input extent, kernel, stride, dilation, and what follows by TensorFlow's rule.

    SAME: out = ceil(in / stride), the total padding max((out-1)*stride + effective kernel - in, 0) is split with the
    smaller half before. VALID: out = floor((in - effective kernel) / stride) + 1. A pair is the pixels that are added
    before and after, then VALID's rule holds.
    """

    size: int
    kernel: int
    stride: int
    dilation: int
    padding: Padding | tuple[int, int]

    @property
    def effective_kernel(self) -> int:
        """Extent of the dilated kernel."""
        return (self.kernel - 1) * self.dilation + 1

    @property
    def is_legal(self) -> bool:
        """Kernel, stride and dilation are at least 1, stride and extent at most MAX_EXTENT, and the kernel fits."""
        steps = min(self.kernel, self.stride, self.dilation) >= 1
        return steps and max(self.stride, self.effective_kernel) <= MAX_EXTENT and self.out >= 1

    @property
    def out(self) -> int:
        """Output extent; 0 or less if the kernel does not fit."""
        if self.padding is Padding.SAME:
            return -(-self.size // self.stride)
        border = sum(self.padding) if isinstance(self.padding, tuple) else 0
        return (self.size + border - self.effective_kernel) // self.stride + 1

    @property
    def total_padding(self) -> int:
        """Padding before and after, in pixels."""
        if isinstance(self.padding, tuple):
            return sum(self.padding)
        if self.padding is Padding.VALID:
            return 0
        return max((self.out - 1) * self.stride + self.effective_kernel - self.size, 0)

    @property
    def before(self) -> int:
        """Padding before, in pixels."""
        return self.padding[0] if isinstance(self.padding, tuple) else self.total_padding // 2


def filter_axes(
    x: Tensor, filters: Tensor, stride: tuple[int, int], dilation: tuple[int, int], padding: Padding | Border
) -> tuple[Axis, Axis]:
    """The vertical and the horizontal axis of a filter ``[O, KH, KW, I]`` over ``[1, H, W, I]``."""
    rows, cols = (padding.rows, padding.cols) if isinstance(padding, Border) else (padding, padding)
    return (
        Axis(x.shape[1], filters.shape[1], stride[0], dilation[0], rows),
        Axis(x.shape[2], filters.shape[2], stride[1], dilation[1], cols),
    )


def patches(x: Array, rows: Axis, cols: Axis, pad: float) -> Array:
    """Windows of ``[N, H, W, C]`` as a view ``[N, OH, OW, KH, KW, C]``; pixels outside the image are `pad`."""
    widths = [
        (0, 0),
        (rows.before, rows.total_padding - rows.before),
        (cols.before, cols.total_padding - cols.before),
        (0, 0),
    ]
    padded = np.pad(x, widths, constant_values=pad)
    extent = (rows.effective_kernel, cols.effective_kernel)
    windows: Array = np.lib.stride_tricks.sliding_window_view(padded, extent, (1, 2))  # type: ignore[call-overload]
    strided: Array = windows[
        :, : rows.stride * rows.out : rows.stride, : cols.stride * cols.out : cols.stride, :,
        :: rows.dilation, :: cols.dilation,
    ]  # fmt: skip
    return strided.transpose(0, 1, 2, 4, 5, 3)
