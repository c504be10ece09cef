"""Arithmetic per channel between an int8 value and its sign becomes the sign's threshold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onebit.codegen.ops import Int8Sign
from onebit.core.graph import Array, DType, Graph, Node, Quantization, Tensor
from onebit.core.ops import LceQuantize
from onebit.core.passes.enumeration import Refusal, maps_channels, tabulate
from onebit.core.passes.naming import constant_tensor, unique_name

#: all int8 values, ascending
VALUES = np.arange(-128, 128).astype(np.int8)


def fold_into_int8_sign(graph: Graph) -> Graph:
    """``x (int8) - ... - LceQuantize`` to ``Int8Sign``, one comparison per channel.

    In between stands what works channel by channel (`maps_channels`) and nothing else reads: a learned threshold
    ``x - t``, a batch norm, an activation. Each channel's sign is a function of 256 values, tabulated by the operators
    themselves. Applied where it is a single step in every channel, rising or falling.
    """
    for sign in graph.nodes:
        chain = _chain_of(graph, sign)
        solved = solve_int8_signs(graph, chain) if chain else None
        if solved is not None:
            graph = _rewrite(graph, chain, solved)
    return graph


@dataclass(frozen=True, eq=False)
class Int8Thresholds:
    """bit = (x < threshold), or its inverse in the channels of `inverted`: int8 [C] and bool [C]."""

    threshold: Array
    inverted: Array


def _chain_of(graph: Graph, sign: Node) -> list[Node]:
    """The longest chain in front of this LceQuantize that starts with int8, and the LceQuantize; or no nodes."""
    if not isinstance(sign.op, LceQuantize):
        return []
    nodes, chain = [sign], []
    while True:
        source = _computed_input(graph, nodes[0])
        if graph.tensors[source].dtype is DType.INT8 and len(nodes) > 1:
            chain = nodes.copy()
        node = graph.producer(source)
        if node is None or graph.sole_consumer(source) is None or not maps_channels(graph, node):
            return chain
        nodes.insert(0, node)


def _computed_input(graph: Graph, node: Node) -> str:
    return next(name for name in node.inputs if name is not None and not graph.tensors[name].is_constant)


def solve_int8_signs(graph: Graph, chain: list[Node]) -> Int8Thresholds | None:
    """The thresholds that equal the chain's signs on all values of every channel; None where one is no single step."""
    channels = graph.tensors[chain[-1].output].shape[-1]
    table = tabulate(graph, chain, np.repeat(VALUES[:, None], channels, axis=1))
    if isinstance(table, Refusal):
        return None
    negative = table[-1]
    # -1 for the largest value: everything that is not -1 is below it
    inverted = negative[-1].copy()
    below = negative ^ inverted
    threshold = VALUES[below.sum(axis=0)]
    return Int8Thresholds(threshold, inverted) if ((VALUES[:, None] < threshold) == below).all() else None


def _rewrite(graph: Graph, chain: list[Node], solved: Int8Thresholds) -> Graph:
    output = graph.tensors[chain[-1].output]
    name = unique_name(graph.tensors, f"{output.name}/threshold")
    threshold = Tensor(name, solved.threshold.shape, DType.INT8, Quantization.per_tensor(1.0, 0), solved.threshold)
    inverted = constant_tensor(graph.tensors, f"{output.name}/inverted", solved.inverted)
    inputs = (_computed_input(graph, chain[0]), threshold.name, inverted.name)
    return graph.rewrite(chain, [Node(Int8Sign(), inputs, (output.name,))], [threshold, inverted])
