"""The mean of a whole map with a scale of its own.

int8 AVERAGE_POOL_2D has the quantization of its input, though a mean over a whole map spreads far less than the pixels:
several of the 8 bits are lost in front of the last layer. MEAN computes the same float sum in the same order, and its
int8 form has its own scale.
"""

from __future__ import annotations

import numpy as np

from onebit.convert.int8.calibration import Ranges
from onebit.core import DType, Graph, Node, Tensor
from onebit.core.ops import Activation, AveragePool2d, Mean, Padding
from onebit.core.passes.naming import fresh_name

GAIN = 1.5
"""How much narrower than its input's the output's range must be."""


def mean_for_global_pool(graph: Graph, ranges: Ranges) -> Graph:
    """Every AVERAGE_POOL_2D over a whole map becomes MEAN where its range is narrower than its input's by `GAIN`."""
    for node in graph.nodes:
        x = graph.tensor(node.inputs[0])
        if x is None or not _is_global(node, x) or _width(ranges, x.name) < GAIN * _width(ranges, node.output):
            continue
        axes = Tensor(fresh_name(graph, f"{node.output}/axes"), (2,), DType.INT32, None, np.array([1, 2], np.int32))
        mean = Node(Mean(keep_dims=True), (x.name, axes.name), node.outputs)
        graph = graph.rewrite([node], [mean], [axes])
    return graph


def _is_global(node: Node, x: Tensor) -> bool:
    op = node.op
    if not isinstance(op, AveragePool2d) or op.activation is not Activation.NONE:
        return False
    return op.window.size == x.shape[1:3] and op.window.padding is Padding.VALID


def _width(ranges: Ranges, name: str) -> float:
    low, high = ranges[name]
    return max(high, 0.0) - min(low, 0.0)
