"""Pieces that several kernels' lowerings share."""

from __future__ import annotations

import numpy as np

from onebit.codegen.kernel import Constant, Fields, Literal, Struct
from onebit.core.graph import Array, Tensor
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
    return Struct("ob_requantize_params", {"zero_point": stage.zero_point, "low": low, "high": high})


def float_bounds(activation: Activation) -> tuple[Literal, Literal]:
    """Clamp range of a float kernel."""
    low, high = activation.bounds
    return Literal(low), Literal(high)


def pixels(tensor: Tensor) -> int:
    """Number of pixels (elements over channels)."""
    return tensor.elements // tensor.shape[-1]
