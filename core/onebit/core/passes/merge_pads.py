"""One border instead of two around each other: PAD behind PAD, PADV2 behind PADV2, with the same value."""

from __future__ import annotations

from onebit.core.graph import Graph, Node, Tensor
from onebit.core.ops import Pad, PadV2
from onebit.core.passes.naming import fresh_name
from onebit.core.passes.pipeline import rewrite_all


def merge_pads(graph: Graph) -> Graph:
    """``pad(pad(x, a), b)`` becomes ``pad(x, a + b)`` where nothing else reads the inner one; data moves only."""
    return rewrite_all(graph, _merge_one)


def _merge_one(graph: Graph) -> Graph | None:
    for outer in graph.nodes:
        inner = graph.producer(outer.inputs[0])
        if not isinstance(outer.op, Pad | PadV2) or inner is None or type(inner.op) is not type(outer.op):
            continue
        if graph.sole_consumer(inner.output) is not outer or not _same_value(graph, inner, outer):
            continue
        first, second = (graph.tensors[str(node.inputs[1])] for node in (inner, outer))
        amounts = first.constant() + second.constant()
        total = Tensor(fresh_name(graph, f"{outer.output}/paddings"), first.shape, first.dtype, data=amounts)
        merged = Node(outer.op, (inner.inputs[0], total.name, *outer.inputs[2:]), outer.outputs)
        return graph.rewrite(remove=(inner, outer), insert=(merged,), tensors=(total,))
    return None


def _same_value(graph: Graph, inner: Node, outer: Node) -> bool:
    if isinstance(outer.op, Pad):
        return True
    values = [graph.tensors[str(node.inputs[2])].constant() for node in (inner, outer)]
    return bool(values[0].item() == values[1].item())
