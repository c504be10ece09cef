"""For every constraint of DEPTHWISE_CONV_2D, MEAN and REDUCE_MAX the graphs that break just it."""

from __future__ import annotations

import numpy as np

from onebit.core import DType, Graph, Quantization
from onebit.core.ops import Mean, Padding, ReduceMax
from support.edits import with_node, with_op, with_tensor
from support.nets import Net

QUANT = Quantization.per_tensor(0.05, 3)


def _depthwise() -> dict[str, list[Graph]]:
    real, small = (Net((1, 4, 5, 3), dtype, quant).depthwise(2).graph() for dtype, quant in _KINDS)
    filters = real.tensors["filter_0"].constant()
    scales = tuple(0.1 for _ in range(6))

    def with_filter(data: np.ndarray) -> Graph:
        return with_tensor(real, "filter_0", shape=data.shape, data=data)

    return {
        "dtypes": [
            with_tensor(real, real.outputs[0], dtype=DType.INT8, quantization=QUANT),
            with_tensor(small, "input", dtype=DType.FLOAT32),
        ],
        "constant_parameters": [
            with_node(real, 0, inputs=("input", "input", "bias_0")),
            with_filter(filters[0]),
            with_tensor(real, "bias_0", shape=(1,), data=np.zeros(1, np.float32)),
            with_tensor(small, "bias_0", dtype=DType.FLOAT32, data=np.zeros(6, np.float32)),
        ],
        "symmetric_filter": [
            with_tensor(small, "filter_0", quantization=Quantization.per_tensor(0.1, 1)),
            with_tensor(small, "filter_0", quantization=Quantization(scales, (0,) * 6, 0)),
            with_tensor(small, "filter_0", quantization=Quantization(scales[:3], (0,) * 3, 3)),
        ],
        "accumulator_fits": [
            with_tensor(small, "bias_0", data=np.array([0, 0, 0, 0, 0, 2**31 - 1], np.int32)),
            with_tensor(small, small.outputs[0], quantization=Quantization.per_tensor(1e-9, 0)),
        ],
        "four_dimensions": [with_tensor(real, "input", shape=(1, 20, 3)), with_filter(filters[..., None])],
        "positive_steps": [
            with_op(real, 0, stride=(0, 1)),
            with_op(real, 0, dilation=(1, 0)),
            with_op(real, 0, dilation=(2, 2), padding=Padding.VALID),
        ],
        "shapes": [
            with_tensor(real, "input", shape=(1, 4, 5, 4)),
            with_filter(filters.reshape(3, 1, 3, 6)),
        ],
    }


def _reduction(op: Mean | ReduceMax) -> dict[str, list[Graph]]:
    real, small = (Net((1, 4, 5, 3), dtype, quant).reduce(op).graph() for dtype, quant in _KINDS)

    def with_axes(*axes: int) -> Graph:
        return with_tensor(real, "axes_0", shape=(len(axes),), data=np.array(axes, np.int32))

    integers = with_tensor(real, "input", dtype=DType.INT32)
    wide = with_tensor(real, "axes_0", dtype=DType.FLOAT32, data=np.array([1, 2], np.float32))
    return {
        "dtypes": [
            with_tensor(small, "input", dtype=DType.FLOAT32),
            with_tensor(integers, real.outputs[0], dtype=DType.INT32),
        ],
        "neighbouring_axes": [
            *(with_axes(*axes) for axes in ((0,), (0, 1), (-4, 1), (1, 3), (4,), (-5,))),
            wide,
            with_node(real, 0, inputs=("input", "input")),
        ],
    }


def _mean() -> dict[str, list[Graph]]:
    small = Net((1, 4, 5, 3), DType.INT8, QUANT)
    return {**_reduction(Mean()), "sum_fits": [small.reduce(Mean(), (1, 2), Quantization.per_tensor(1e-9, 0)).graph()]}


def _reduce_max() -> dict[str, list[Graph]]:
    quants = (Quantization.per_tensor(0.05, 4), Quantization.per_tensor(0.06, 3))
    graphs = [Net((1, 4, 5, 3), DType.INT8, QUANT).reduce(ReduceMax(), (1, 2), quant).graph() for quant in quants]
    return {**_reduction(ReduceMax()), "same_quantization": graphs}


_KINDS = ((DType.FLOAT32, None), (DType.INT8, QUANT))
FAULTS = {"DEPTHWISE_CONV_2D": _depthwise(), "MEAN": _mean(), "REDUCE_MAX": _reduce_max()}
