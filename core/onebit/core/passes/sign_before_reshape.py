"""Move the sign in front of a reshape, so that a binary convolution in front of both can give bits."""

from __future__ import annotations

from onebit.core.graph import DType, Graph, Node, Tensor
from onebit.core.ops import LceQuantize, ReshapeBits
from onebit.core.ops.shape import keeps_words
from onebit.core.passes.naming import fresh_name
from onebit.core.passes.pipeline import rewrite_all


def sign_before_reshape(graph: Graph) -> Graph:
    """``LceQuantize(RESHAPE(x))`` becomes ``ReshapeBits(LceQuantize(x))``, where the packed words are the same.

    That is where the channel counts on both sides are equal or multiples of 32. Only where nothing else reads the
    reshape, which moves no byte in either form. No flatbuffer can hold the result.
    """
    return rewrite_all(graph, _rewrite_one)


def _rewrite_one(graph: Graph) -> Graph | None:
    for sign in graph.nodes:
        reshape = graph.producer(sign.inputs[0])
        if not isinstance(sign.op, LceQuantize) or reshape is None or not reshape.op.alias:
            continue
        x, y = graph.tensors[reshape.inputs[0] or ""], graph.tensors[sign.output]
        if graph.sole_consumer(reshape.output) is not sign or not keeps_words(x.shape, y.shape):
            continue
        signs = Tensor(fresh_name(graph, f"{x.name}/sign"), x.shape, DType.BITS)
        nodes = Node(LceQuantize(), (x.name,), (signs.name,)), Node(ReshapeBits(), (signs.name,), sign.outputs)
        return graph.rewrite((reshape, sign), nodes, (signs,))
    return None
