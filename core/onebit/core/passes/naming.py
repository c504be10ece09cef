"""Tensors that a pass adds, and their names."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import replace

import numpy as np

from onebit.core.bits import pack
from onebit.core.graph import Array, DType, Graph, Node, Tensor


def unique_name(taken: Container[str], wanted: str) -> str:
    """`wanted`, or the first of ``wanted_1``, ``wanted_2``, ... that is not taken."""
    name, count = wanted, 0
    while name in taken:
        count += 1
        name = f"{wanted}_{count}"
    return name


def fresh_name(graph: Graph, wanted: str) -> str:
    """A name that no tensor of `graph` has: a new value never goes under an old name."""
    return unique_name(graph.tensors, wanted)


def constant_tensor(taken: Container[str], wanted: str, data: Array) -> Tensor:
    """A constant under a name that is not taken: int32 or float32 as they are, bool as packed bits (True is -1)."""
    if data.dtype == np.bool_:
        return Tensor(unique_name(taken, wanted), data.shape, DType.BITS, None, pack(data))
    return Tensor(unique_name(taken, wanted), data.shape, DType(data.dtype.name), None, data)


def renamed(graph: Graph, new: Mapping[str, str]) -> Graph:
    """The graph with other names for its tensors; `new` has one for each of them."""

    def of(names: tuple[str | None, ...]) -> tuple[str | None, ...]:
        return tuple(None if name is None else new[name] for name in names)

    tensors = {new[t.name]: replace(t, name=new[t.name]) for t in graph.tensors.values()}
    nodes = tuple(Node(n.op, of(n.inputs), tuple(new[name] for name in n.outputs)) for n in graph.nodes)
    inputs, outputs = (tuple(new[name] for name in names) for names in (graph.inputs, graph.outputs))
    return replace(graph, tensors=tensors, nodes=nodes, inputs=inputs, outputs=outputs)


def short_constants(graph: Graph) -> Graph:
    """The graph with constants named after the last part of their path: the layer's name stands at its output.

    Several constants of a dense layer repeat that name; with 1,024 inputs and 10 outputs it is 8 % of the layer.
    """
    taken = {name: name for name, tensor in graph.tensors.items() if not tensor.is_constant}
    for name, tensor in graph.tensors.items():
        if tensor.is_constant:
            taken[name] = unique_name(taken.values(), name.rpartition("/")[2])
    return renamed(graph, taken)
