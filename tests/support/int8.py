"""int8 CONV_2D, DEPTHWISE_CONV_2D and FULLY_CONNECTED with chosen scales, zero points and biases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from onebit.core import DType, Quantization
from onebit.core.graph import Array
from onebit.core.ops import Conv2d, DepthwiseConv2d, FullyConnected
from support.nets import Net


def int8_linear(
    op: Conv2d | DepthwiseConv2d | FullyConnected,
    shape: Sequence[int],
    filters: Sequence[int],
    *,
    scales: tuple[float, float | Array, float],
    zero_points: tuple[int, int] = (-3, 5),
    bias: Any = "random",
    lowest_weight: int = -127,
    seed: int = 0,
) -> Net:
    """A net of one operator; `scales` of input, filter (one or one per channel) and output, `bias` values or None."""
    net = Net(shape, DType.INT8, Quantization.per_tensor(scales[0], zero_points[0]), seed=seed)
    weight_scales = np.atleast_1d(np.asarray(scales[1], np.float32))
    zeros, axis = (0,) * len(weight_scales), op.channel_axis
    weights = net.rng.integers(lowest_weight, 128, filters)
    weights.flat[0] = lowest_weight
    quant = Quantization(tuple(map(float, weight_scales)), zeros, axis)
    inputs = [net.constant("filter", weights, DType.INT8, quant=quant)]
    if bias is not None:
        values = net.rng.integers(-1000, 1000, filters[axis]) if isinstance(bias, str) else bias
        bias_scales = tuple(float(np.float32(scales[0]) * s) for s in weight_scales)
        inputs.append(net.constant("bias", values, DType.INT32, quant=Quantization(bias_scales, zeros)))
    return net.node(op, *inputs, dtype=DType.INT8, quant=Quantization.per_tensor(scales[2], zero_points[1]))
