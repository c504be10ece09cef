"""Move operators that work element by element in front of a reshape, next to the binary convolution they follow."""

from __future__ import annotations

from dataclasses import replace

from onebit.core.graph import Graph, Node
from onebit.core.ops import Dequantize, Quantize, Unary
from onebit.core.passes.enumeration import find_chain
from onebit.core.passes.naming import fresh_name
from onebit.core.passes.pipeline import rewrite_all


def elementwise_before_reshape(graph: Graph) -> Graph:
    """``QUANTIZE(RESHAPE(x))`` becomes ``RESHAPE(QUANTIZE(x))``, and so do DEQUANTIZE and activations.

    Only where x is computed channel by channel from a LceBconv2d and the reshape does not keep its channels; then the
    operator joins the arithmetic behind the convolution. A reshape moves no element in memory, so that operators which
    round by an element's place round alike.
    """
    return rewrite_all(graph, _rewrite_one)


def _rewrite_one(graph: Graph) -> Graph | None:
    for node in graph.nodes:
        chain = find_chain(graph, node)
        reshape = graph.sole_consumer(chain.output) if chain is not None else None
        if chain is None or reshape is None or not reshape.op.alias:
            continue
        reader = graph.sole_consumer(reshape.output)
        if reader is None or not isinstance(reader.op, Unary | Quantize | Dequantize):
            continue
        result = graph.tensors[reader.output]
        name = fresh_name(graph, f"{reader.output}/before_reshape")
        moved = replace(result, name=name, shape=graph.tensors[chain.output].shape)
        nodes = (
            Node(reader.op, (chain.output, *reader.inputs[1:]), (name,)),
            Node(reshape.op, (name, *reshape.inputs[1:]), reader.outputs),
        )
        return graph.rewrite((reshape, reader), nodes, (moved,))
    return None
