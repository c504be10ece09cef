"""Fold a batch norm (MUL and ADD per channel) into the linear operator in front of it. For conversion only.

Folding changes roundings: ``f32(f32(x*w)*g)`` becomes ``x*f32(w*g)``. The converter may do so, because it compares its
result with the source model under a tolerance. Code generation must not, because it owes the `.tflite` every bit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from onebit.core.graph import Array, DType, Graph, Node, Tensor
from onebit.core.ops import Activation, Add, Conv2d, DepthwiseConv2d, FullyConnected, LceBconv2d, Mul
from onebit.core.passes.naming import fresh_name
from onebit.core.passes.pipeline import rewrite_all

LINEAR = Conv2d | DepthwiseConv2d | FullyConnected


def fold_batch_norm(graph: Graph) -> Graph:
    """Fold chains of MUL and ADD with constants per channel directly behind a linear float32 operator.

    CONV_2D, DEPTHWISE_CONV_2D and FULLY_CONNECTED (without activation): w *= g, bias = bias*g + c; an activation fused
    into the last MUL or ADD becomes theirs. LceBconv2d: multiplier *= g, bias = bias*g + c; its own activation acts on
    the integer before both and stays. Computed in float64 over the whole chain and rounded to float32 once. The output
    of the chain keeps its name; the tensors inside the chain disappear.
    """
    return rewrite_all(graph, _rewrite_one)


@dataclass(frozen=True)
class _Chain:
    """``y = activation(x * g + c)`` per output channel, as the nodes that compute it."""

    nodes: tuple[Node, ...]
    g: Array
    c: Array
    activation: Activation


def _rewrite_one(graph: Graph) -> Graph | None:
    for node in graph.nodes:
        if graph.tensors[node.output].dtype is not DType.FLOAT32:
            continue
        if isinstance(node.op, LceBconv2d):
            chain = _chain_behind(graph, node, may_activate=False)
            if chain is not None:
                return _fold_into_binary(graph, node, chain)
        elif isinstance(node.op, LINEAR) and node.op.activation is Activation.NONE:
            chain = _chain_behind(graph, node, may_activate=True)
            if chain is not None:
                return _fold_into_linear(graph, node, node.op, chain)
    return None


def _chain_behind(graph: Graph, node: Node, *, may_activate: bool) -> _Chain | None:
    """The longest foldable chain that starts at the output of `node`; None if there is none."""
    channels = graph.tensors[node.output].shape[-1]
    g, c = np.ones(channels), np.zeros(channels)
    nodes: list[Node] = []
    last, activation = node, Activation.NONE
    while activation is Activation.NONE:
        reader = graph.sole_consumer(last.output)
        if reader is None or not isinstance(reader.op, Mul | Add) or reader.inputs[0] != last.output:
            break
        if reader.op.activation is not Activation.NONE and not may_activate:
            break
        operand = graph.tensor(reader.inputs[1])
        if operand is None or operand.data is None or operand.elements not in (1, channels):
            break
        value = operand.data.astype(np.float64).reshape(-1)
        g, c = (g * value, c * value) if isinstance(reader.op, Mul) else (g, c + value)
        activation = reader.op.activation
        nodes.append(reader)
        last = reader
    return _Chain(tuple(nodes), g, c, activation) if nodes else None


def _fold_into_binary(graph: Graph, node: Node, chain: _Chain) -> Graph:
    x, filters, multiplier, bias, _ = node.inputs
    assert multiplier is not None and bias is not None
    scale = graph.tensors[multiplier].constant().astype(np.float64)
    shift = graph.tensors[bias].constant().astype(np.float64)
    folded = (
        _constant(graph, multiplier, scale * chain.g),
        _constant(graph, bias, shift * chain.g + chain.c),
    )
    inputs = (x, filters, folded[0].name, folded[1].name, None)
    new = Node(node.op, inputs, chain.nodes[-1].outputs)
    return graph.rewrite(remove=(node, *chain.nodes), insert=(new,), tensors=folded)


def _fold_into_linear(graph: Graph, node: Node, op: Conv2d | DepthwiseConv2d | FullyConnected, chain: _Chain) -> Graph:
    x, filters, *rest = node.inputs
    assert filters is not None
    weights = graph.tensors[filters].constant().astype(np.float64)
    old_bias = graph.tensor(rest[0]) if rest else None
    shift = np.zeros(len(chain.g)) if old_bias is None else old_bias.constant().astype(np.float64)
    g = chain.g.reshape([-1 if axis == op.channel_axis else 1 for axis in range(weights.ndim)])
    folded = (
        _constant(graph, filters, weights * g),
        _constant(graph, f"{filters}/bias" if old_bias is None else old_bias.name, shift * chain.g + chain.c),
    )
    inputs = (x, folded[0].name, folded[1].name)
    new = Node(replace(op, activation=chain.activation), inputs, chain.nodes[-1].outputs)
    return graph.rewrite(remove=(node, *chain.nodes), insert=(new,), tensors=folded)


def _constant(graph: Graph, old: str, value: Array) -> Tensor:
    data = value.astype(np.float32)
    return Tensor(fresh_name(graph, f"{old}/folded"), data.shape, DType.FLOAT32, None, data)
