"""The NumPy reference: what a graph computes, tensor by tensor, equal to the interpreter that its rounding names."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from onebit.core.graph import Array, Graph, Node
from onebit.core.ops.base import View

#: samples evaluated together; bounds the memory of the extracted windows
CHUNK = 32


def evaluate(graph: Graph, x: Array, tensors: Collection[str] | None = None) -> dict[str, Array]:
    """Values of the named tensors (default: the outputs) for inputs ``[N, ...]`` in the input's stored dtype.

    Each value has N in front in place of the batch dimension; packed bits come as int32 words.
    """
    wanted = list(graph.outputs if tensors is None else tensors)
    if x.shape[1:] != graph.input.stored_shape[1:] or x.dtype != graph.input.dtype.numpy:
        raise ValueError(f"the input must be {graph.input.describe()}, got {x.dtype} {list(x.shape)}")
    parts: dict[str, list[Array]] = {name: [] for name in wanted}
    for start in range(0, len(x), CHUNK):
        values = _run(graph, x[start : start + CHUNK])
        for name in wanted:
            parts[name].append(values[name])
    return {name: chunks[0] if len(chunks) == 1 else np.concatenate(chunks) for name, chunks in parts.items()}


def _run(graph: Graph, x: Array) -> dict[str, Array]:
    values: dict[str, Array] = {t.name: t.data for t in graph.tensors.values() if t.data is not None}
    values[graph.input.name] = x
    with np.errstate(over="ignore", invalid="ignore"):
        for node in graph.nodes:
            values[node.output] = evaluate_node(graph, node, values)
    return values


def evaluate_node(graph: Graph, node: Node, values: Mapping[str, Array]) -> Array:
    """The output of one node for the `values` of its inputs, activations as ``[N, ...]``."""
    args = [None if name is None else values[name] for name in node.inputs]
    return node.op.evaluate(View.of(graph, node), args)
