"""Move the sign behind a reshape of packed bits, which no flatbuffer can hold: the form for files."""

from __future__ import annotations

from onebit.core.graph import Graph, Node, Tensor
from onebit.core.ops import LceQuantize, Reshape, ReshapeBits
from onebit.core.passes.naming import fresh_name
from onebit.core.passes.pipeline import rewrite_all


def sign_behind_reshape(graph: Graph) -> Graph:
    """``ReshapeBits(LceQuantize(x))`` becomes ``LceQuantize(RESHAPE(x))``, the inverse of `sign_before_reshape`.

    Where x is a reshape itself, of a tensor that has the wanted shape, the sign is that tensor's. Exact.
    """
    return rewrite_all(graph, _rewrite_one)


def _rewrite_one(graph: Graph) -> Graph | None:
    for reshape in graph.nodes:
        sign = graph.producer(reshape.inputs[0])
        if not isinstance(reshape.op, ReshapeBits) or sign is None or not isinstance(sign.op, LceQuantize):
            continue
        shape = graph.tensors[reshape.output].shape
        x, between = _of_shape(graph, sign.inputs[0] or "", shape)
        if x is not None:
            gone = _unread(graph, (reshape, sign, *between))
            return graph.rewrite(gone, (Node(LceQuantize(), (x,), reshape.outputs),))
        source = graph.tensors[sign.inputs[0] or ""]
        flat = Tensor(fresh_name(graph, f"{source.name}/map"), shape, source.dtype, source.quantization)
        nodes = Node(Reshape(shape), (source.name,), (flat.name,)), Node(LceQuantize(), (flat.name,), reshape.outputs)
        return graph.rewrite(_unread(graph, (reshape, sign)), nodes, (flat,))
    return None


def _of_shape(graph: Graph, name: str, shape: tuple[int, ...]) -> tuple[str | None, list[Node]]:
    """The tensor of that shape of which `name` is a reshape, or `name` itself; and the reshapes, the last one first."""
    between: list[Node] = []
    while graph.tensors[name].shape != shape:
        reshape = graph.producer(name)
        if reshape is None or not reshape.op.alias or reshape.inputs[0] is None:
            return None, between
        between.append(reshape)
        name = reshape.inputs[0]
    return name, between


def _unread(graph: Graph, chain: tuple[Node, ...]) -> list[Node]:
    """Of a chain, the last node first: those that nothing reads once the first of them is gone."""
    gone = [chain[0]]
    for node in chain[1:]:
        if graph.sole_consumer(node.output) is not gone[-1]:
            break
        gone.append(node)
    return gone
