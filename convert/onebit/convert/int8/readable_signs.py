"""Signs behind a PReLU or leaky ReLU, taken where int8 can still tell them.

A small slope moves negative values next to zero, where they round to zero, whose sign is +1. The sign does not depend
on how large a positive slope is: with slope 1 it is that of the input. A slope of zero or less makes every value
non-negative, as slope -1 does.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from onebit.core import DType, Graph, Node, Tensor
from onebit.core.ops import LceQuantize, LeakyRelu, Prelu
from onebit.core.passes.naming import fresh_name


def readable_signs(graph: Graph, thresholds: Collection[str]) -> Graph:
    """Signs behind PRELU and LEAKY_RELU read its input, or that with slopes of +-1; every bit stays as it is.

    `thresholds` are the outputs that become integer thresholds and are left alone.
    """
    for node in graph.nodes:
        signs = [reader for reader in graph.consumers(node.output) if isinstance(reader.op, LceQuantize)]
        if not signs or node.output in thresholds:
            continue
        if isinstance(node.op, LeakyRelu):
            slopes = np.array([node.op.alpha], np.float32)
        elif isinstance(node.op, Prelu):
            slopes = graph.tensors[node.inputs[1] or ""].constant()
        else:
            continue
        source, added, tensors = node.inputs[0], list[Node](), list[Tensor]()
        if (slopes <= 0).any():
            unit = np.where(slopes > 0, 1, -1).astype(np.float32)
            tensors = [
                Tensor(fresh_name(graph, f"{node.output}/slope_signs"), unit.shape, DType.FLOAT32, None, unit),
                Tensor(fresh_name(graph, f"{node.output}/signed"), graph.tensors[node.output].shape, DType.FLOAT32),
            ]
            added = [Node(Prelu(), (source, tensors[0].name), (tensors[1].name,))]
            source = tensors[1].name
        added += [Node(sign.op, (source,), sign.outputs) for sign in signs]
        only = len(signs) == len(graph.consumers(node.output)) and node.output not in graph.outputs
        # in front of the node: what it reads need not live on behind it
        graph = graph.rewrite(signs, ()).rewrite([node], [*added, *(() if only else (node,))], tensors)
    return graph
