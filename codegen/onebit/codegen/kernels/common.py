"""Pieces that several kernels' lowerings share."""

from __future__ import annotations

import numpy as np

from onebit.codegen.kernel import Constant, Fields, Literal, Pitch, Struct
from onebit.core.graph import Array, DType, Tensor
from onebit.core.ops import Activation, Axis, Requantization, View


def window_fields(rows: Axis, cols: Axis) -> Fields:
    """The `ob_window` of a sliding window."""
    return {
        "in_h": rows.size, "in_w": cols.size, "out_h": rows.out, "out_w": cols.out,
        "kernel_h": rows.kernel, "kernel_w": cols.kernel, "stride_h": rows.stride, "stride_w": cols.stride,
        "dilation_h": rows.dilation, "dilation_w": cols.dilation, "pad_h": rows.before, "pad_w": cols.before,
    }  # fmt: skip


def constant(role: str, tensor: Tensor) -> Constant:
    """A constant tensor in stored form, packed bits as uint32."""
    return Constant(role, as_c(tensor.constant(), tensor), f"{tensor.dtype.value} {list(tensor.shape)}")


def as_c(data: Array, tensor: Tensor) -> Array:
    """The stored words of a bits tensor as uint32, anything else unchanged."""
    return data.view(np.uint32) if tensor.dtype.value == "bits" else data


def bias_of(view: View, dtype: type[np.generic]) -> Constant:
    """The bias of a linear operator; zeros where it has none."""
    bias = view.optional(2)
    data = np.zeros(view.output.shape[-1], dtype) if bias is None else bias.constant()
    return Constant("bias", data)


def stage_params(stage: Requantization) -> Struct:
    """The `ob_requantize_params` of an int8 output stage."""
    low, high = stage.clamp
    fields = {"zero_point": stage.zero_point, "low": low, "high": high, "half_up": stage.half_up}
    return Struct("ob_requantize_params", fields)


def float_bounds(activation: Activation) -> tuple[Literal, Literal]:
    """Clamp range of a float kernel."""
    low, high = activation.bounds
    return Literal(low), Literal(high)


def pitch_of(view: View) -> Pitch | int:
    """The field `pitch` of convolutions; kernels that write packed bits do not use it."""
    return 0 if view.output.dtype is DType.BITS else Pitch()


def pixels(tensor: Tensor) -> int:
    """Number of pixels (elements over channels)."""
    return tensor.elements // tensor.shape[-1]


def over_operands(view: View) -> tuple[int, ...]:
    """`Kernel.in_place` of kernels that write element i after they read element i of every operand of full size.

    An operand whose elements are as large as the output's, or larger where the output is int8, which C lets alias
    anything.
    """
    y = view.output
    size = y.dtype.numpy.itemsize
    return tuple(
        i
        for i, x in enumerate(view.inputs)
        if x is not None and not x.is_constant and x.elements == y.elements
        and (x.dtype.numpy.itemsize == size or (y.dtype is DType.INT8 and x.dtype.numpy.itemsize > size))
    )  # fmt: skip


def over_window(rows: Axis, cols: Axis) -> tuple[int, ...]:
    """`Kernel.in_place` of kernels that go over output pixels and channels in order, and read each window before that.

    What a window reads must not lie before the pixel that is written.
    """
    y0 = np.maximum(np.arange(rows.out) * rows.stride - rows.before, 0)
    x0 = np.maximum(np.arange(cols.out) * cols.stride - cols.before, 0)
    read = y0[:, None] * cols.size + x0
    written = np.arange(rows.out * cols.out).reshape(rows.out, cols.out)
    return (0,) if (read >= written).all() else ()
