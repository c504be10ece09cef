"""Remove what nothing reads."""

from __future__ import annotations

from dataclasses import replace

from onebit.core.graph import Graph, Node


def remove_dead_branches(graph: Graph) -> Graph:
    """Nodes go whose output is neither read, directly or through others, by a graph output, nor is one itself.

    A converter leaves such branches where a model gave more than one output, and a SPLIT has parts that nothing reads.
    They cost time and memory, and hide from other passes that a value has a single reader.
    """
    needed = set(graph.outputs)
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if not needed.isdisjoint(node.outputs):
            kept.append(node)
            needed.update(name for name in node.inputs if name is not None)
    if len(kept) == len(graph.nodes):
        return graph
    kept.reverse()
    named = {*graph.inputs, *needed, *(name for node in kept for name in node.outputs)}
    tensors = {name: tensor for name, tensor in graph.tensors.items() if name in named}
    return replace(graph, nodes=tuple(kept), tensors=tensors)
