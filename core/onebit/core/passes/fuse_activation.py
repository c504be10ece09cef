"""Fuse an activation of the ReLU family into the operator in front of it. No rounding is involved.

CONV_2D and its kin, ADD, MUL and the pools clamp their result in their last step, so the fused form is the same
function. A binary convolution clamps its integer before multiplier and bias: it takes an activation only where those
do nothing.
"""

from __future__ import annotations

from dataclasses import replace

from onebit.core.graph import Graph, Node
from onebit.core.ops import (
    Activation,
    Add,
    AveragePool2d,
    Conv2d,
    DepthwiseConv2d,
    FullyConnected,
    LceBconv2d,
    MaxPool2d,
    Mul,
    Op,
    Relu,
    Relu6,
    ReluN1To1,
    Sub,
)
from onebit.core.passes.pipeline import rewrite_all

ACTIVATIONS: dict[type[Op], Activation] = {
    Relu: Activation.RELU,
    Relu6: Activation.RELU6,
    ReluN1To1: Activation.RELU_N1_TO_1,
}
FUSING = Add | AveragePool2d | Conv2d | DepthwiseConv2d | FullyConnected | LceBconv2d | MaxPool2d | Mul | Sub


def fuse_activation(graph: Graph) -> Graph:
    """``RELU(CONV_2D(x))`` becomes CONV_2D with the activation, where nothing else reads what is between them.

    The result keeps the activation's name; float32 only, because int8 operators have scales of their own.
    """
    return rewrite_all(graph, _rewrite_one)


def _rewrite_one(graph: Graph) -> Graph | None:
    for node in graph.nodes:
        activation = ACTIVATIONS.get(type(node.op))
        source = graph.producer(node.inputs[0])
        if activation is None or source is None or graph.sole_consumer(source.output) is not node:
            continue
        x, y = graph.tensors[source.output], graph.tensors[node.output]
        if x.dtype is not y.dtype or x.quantization is not None or not _takes(graph, source):
            continue
        assert isinstance(source.op, FUSING)
        fused = Node(replace(source.op, activation=activation), source.inputs, node.outputs)
        return graph.rewrite(remove=(source, node), insert=(fused,))
    return None


def _takes(graph: Graph, node: Node) -> bool:
    if not isinstance(node.op, FUSING) or node.op.activation is not Activation.NONE:
        return False
    if not isinstance(node.op, LceBconv2d):
        return True
    multiplier, bias = (graph.tensors[name or ""].constant() for name in node.inputs[2:4])
    return bool((multiplier == 1).all() and (bias == 0).all())
