"""Small changes to a valid graph, to break one rule at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from onebit.core import Graph, Tensor
from onebit.core.graph import Node


def with_tensor(graph: Graph, name: str, **changes: Any) -> Graph:
    """The graph with fields of one tensor replaced."""
    return replace(graph, tensors={**graph.tensors, name: replace(graph.tensors[name], **changes)})


def with_extra(graph: Graph, tensor: Tensor) -> Graph:
    """The graph with one more tensor."""
    return replace(graph, tensors={**graph.tensors, tensor.name: tensor})


def with_node(graph: Graph, index: int, **changes: Any) -> Graph:
    """The graph with fields of one node (op, inputs, outputs) replaced."""
    nodes = list(graph.nodes)
    nodes[index] = replace(nodes[index], **changes)
    return replace(graph, nodes=tuple(nodes))


def with_op(graph: Graph, index: int, **changes: Any) -> Graph:
    """The graph with attributes of one operator replaced."""
    return with_node(graph, index, op=replace(graph.nodes[index].op, **changes))


def without_input(graph: Graph, index: int, position: int) -> Graph:
    """The graph in which one input of a node is absent."""
    node: Node = graph.nodes[index]
    inputs = tuple(None if i == position else name for i, name in enumerate(node.inputs))
    return with_node(graph, index, inputs=inputs)
