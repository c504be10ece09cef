"""The mean of a whole map: with a scale of its own, and by the accurate one of LiteRT's two kernels.

int8 AVERAGE_POOL_2D has the quantization of its input, though a mean over a whole map spreads far less than the pixels:
several of the 8 bits are lost in front of the last layer. MEAN computes the same float sum in the same order, and its
int8 form has its own scale. LiteRT's MEAN over axes written as 1 and 2 rounds the zero points to whole output steps, up
to half a step off for every element; over axes written as -3 and -2 it does not.
"""

from __future__ import annotations

import numpy as np

from onebit.convert.int8.calibration import Ranges
from onebit.core import DType, Graph, Node, Tensor
from onebit.core.ops import Activation, AveragePool2d, Mean, Padding
from onebit.core.passes.naming import fresh_name

GAIN = 1.5
"""How much narrower than its input's a pool's range must be to become a MEAN."""


def accurate_means(graph: Graph, ranges: Ranges) -> Graph:
    """Means of whole maps in the form that loses least in int8; every float32 value stays as it is.

    AVERAGE_POOL_2D over a whole map becomes MEAN where its range is narrower than its input's by `GAIN`, and the axes
    of MEAN are counted from behind.
    """
    for node in graph.nodes:
        x = graph.tensor(node.inputs[0])
        if x is None or not (_is_wide_pool(node, x, ranges) or _is_image_mean(graph, node, x)):
            continue
        data = np.array([-3, -2], np.int32)
        axes = Tensor(fresh_name(graph, f"{node.output}/axes"), data.shape, DType.INT32, None, data)
        graph = graph.rewrite([node], [Node(Mean(keep_dims=True), (x.name, axes.name), node.outputs)], [axes])
    return graph


def _is_wide_pool(node: Node, x: Tensor, ranges: Ranges) -> bool:
    op = node.op
    if not isinstance(op, AveragePool2d) or op.activation is not Activation.NONE:
        return False
    whole = op.window.size == x.shape[1:3] and op.window.padding is Padding.VALID
    return whole and _width(ranges, x.name) >= GAIN * _width(ranges, node.output)


def _is_image_mean(graph: Graph, node: Node, x: Tensor) -> bool:
    if not isinstance(node.op, Mean) or not node.op.keep_dims or len(x.shape) != 4:
        return False
    written = graph.tensors[node.inputs[1] or ""].constant().reshape(-1).tolist()
    return sorted(written) == [1, 2]


def _width(ranges: Ranges, name: str) -> float:
    low, high = ranges[name]
    return max(high, 0.0) - min(low, 0.0)
