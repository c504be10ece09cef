"""Move a shift per channel next to a residual sum into the convolution that is one of its terms. For conversion only.

The batch norm of a shortcut and the shifts of RPReLU are additions of constants beside the sum of a shortcut and a
convolution: (s + c) + y, or (s + y) + c. As s + (y + c), c is part of the convolution's bias. The order of roundings
changes, which the converter may do under its tolerance and code generation must not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from onebit.core.graph import DType, Graph, Node, Tensor
from onebit.core.ops import Activation, Add, Conv2d, DepthwiseConv2d, LceBconv2d, Op
from onebit.core.passes.naming import fresh_name
from onebit.core.passes.pipeline import rewrite_all

#: operators with a bias per channel, and the position of that input
BIAS: dict[type[Op], int] = {Conv2d: 2, DepthwiseConv2d: 2, LceBconv2d: 3}


def fold_shift(graph: Graph) -> Graph:
    """``ADD(ADD(s, c), y)`` and ``ADD(ADD(s, y), c)`` become ``ADD(s, y')``, with c in the bias of what computes y.

    c is constant per channel, y a float32 convolution without activation that nothing else reads; the inner ADD has one
    reader and no activation. The result keeps its name, with its value up to rounding.
    """
    return rewrite_all(graph, _rewrite_one)


def _rewrite_one(graph: Graph) -> Graph | None:
    for shift in graph.nodes:
        if not _is_shift(graph, shift):
            continue
        for total in _sums_beside(graph, shift):
            for position, term in enumerate(total.terms):
                source = graph.producer(term)
                if source is not None and _takes(graph, source, total):
                    return _rewrite(graph, shift, total, position, source)
    return None


@dataclass(frozen=True)
class _Sum:
    """What is left of a shift and the sum beside it: `terms` to add, with the operator and the output of `last`."""

    node: Node
    terms: tuple[str, ...]
    last: Node


def _sums_beside(graph: Graph, shift: Node) -> Iterator[_Sum]:
    """The residual sum that reads the result of `shift`, and the one that computes its input."""
    assert isinstance(shift.op, Add)
    x = shift.inputs[0] or ""
    behind, before = graph.sole_consumer(shift.output), graph.producer(x)
    if behind is not None and isinstance(behind.op, Add) and shift.op.activation is Activation.NONE:
        rest = [name for name in behind.inputs if name is not None and name != shift.output]
        if len(rest) == 1 and not graph.tensors[rest[0]].is_constant:
            yield _Sum(behind, (x, rest[0]), behind)
    if before is not None and isinstance(before.op, Add) and before.op.activation is Activation.NONE:
        terms = [name for name in before.inputs if name is not None and not graph.tensors[name].is_constant]
        if len(set(terms)) == 2 and graph.sole_consumer(x) is shift:
            yield _Sum(before, tuple(terms), shift)


def _is_shift(graph: Graph, node: Node) -> bool:
    """Whether it adds a constant per channel."""
    y = graph.tensors[node.output]
    if not isinstance(node.op, Add) or y.dtype is not DType.FLOAT32:
        return False
    x, constant = (graph.tensor(name) for name in node.inputs)
    if x is None or constant is None or x.is_constant or not constant.is_constant:
        return False
    return constant.elements in (1, x.shape[-1]) and y.shape == x.shape


def _takes(graph: Graph, source: Node, total: _Sum) -> bool:
    """Whether the bias of `source` reaches every element of the sum, and nothing else."""
    if not isinstance(source.op, Conv2d | DepthwiseConv2d | LceBconv2d) or len(source.inputs) <= BIAS[type(source.op)]:
        return False
    y = graph.tensors[source.output]
    if y.dtype is not DType.FLOAT32 or y.shape != graph.tensors[total.last.output].shape:
        return False
    # the activation of a binary convolution comes before its bias
    linear = isinstance(source.op, LceBconv2d) or source.op.activation is Activation.NONE
    return linear and graph.sole_consumer(source.output) is not None


def _rewrite(graph: Graph, shift: Node, total: _Sum, position: int, source: Node) -> Graph:
    at = BIAS[type(source.op)]
    bias, constant = (graph.tensors[name or ""].constant() for name in (source.inputs[at], shift.inputs[1]))
    value = (bias.astype(np.float64) + constant.reshape(-1)).astype(np.float32)
    shifted = Tensor(fresh_name(graph, f"{source.output}/bias"), value.shape, DType.FLOAT32, None, value)
    moved = replace(graph.tensors[source.output], name=fresh_name(graph, f"{source.output}/shifted"))
    inputs = (*source.inputs[:at], shifted.name, *source.inputs[at + 1 :])
    terms = tuple(moved.name if i == position else term for i, term in enumerate(total.terms))
    nodes = (Node(source.op, inputs, (moved.name,)), Node(total.last.op, terms, total.last.outputs))
    return graph.rewrite(remove=(source, shift, total.node), insert=nodes, tensors=(shifted, moved))
