"""A dense layer on signs whose weights are +c and -c becomes a binary convolution: one bit per weight in place of 32.

LCE's converter binarizes convolutions only. A binary dense layer arrives as LceQuantize - LceDequantize -
FULLY_CONNECTED with float32 weights.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from onebit.core.bits import words_for
from onebit.core.graph import Array, DType, Graph, Node, Tensor
from onebit.core.ops import (
    Activation,
    Add,
    BinaryWindow,
    FullyConnected,
    LceBconv2d,
    LceDequantize,
    LceQuantize,
    Mul,
    Op,
    Padding,
    Reshape,
    ReshapeBits,
)
from onebit.core.ops.shape import keeps_words
from onebit.core.ops.window import MAX_EXTENT
from onebit.core.passes.naming import constant_tensor, unique_name

#: the sum of so many signs is a float32 whatever it is, and so is twice the number of differing ones
MAX_SIGNS = 2**23
#: a map whose packed words are more than so many times those of its flat form is flattened
MAX_WASTE = 2


def binary_dense(graph: Graph) -> Graph:
    """``LceDequantize - FULLY_CONNECTED (float32, weights +-c[o])`` to ``LceBconv2d - MUL - ADD - RESHAPE``.

    The kernel covers the whole map, or ``[1, 1, 1, in]``. LceBconv2d gives the sum of signs, a whole number and exact;
    MUL scales it with c[o] and ADD adds the bias, one float32 rounding each. That is the value of FULLY_CONNECTED with
    the fewest roundings. The float sum itself has no order that LiteRT promises, so that its result is compared under
    the tolerance of unordered sums; the two are identical where every c is a power of two, because then every partial
    sum is exact.
    """
    for node in graph.nodes:
        if isinstance(node.op, FullyConnected) and graph.tensors[node.output].dtype is DType.FLOAT32:
            graph = _rewrite(graph, node) or graph
    return graph


def _rewrite(graph: Graph, dense: Node) -> Graph | None:
    weights = graph.tensors[dense.inputs[1] or ""].constant()
    scale = np.abs(weights[:, 0])
    dequantize = _behind_reshapes(graph, dense.inputs[0])
    if dequantize is None or not isinstance(dequantize.op, LceDequantize) or weights.shape[1] > MAX_SIGNS:
        return None
    if (np.abs(weights) != scale[:, None]).any():
        return None
    new = _New(dict(graph.tensors), [], [])
    signs = _signs(graph, dequantize, new)
    if signs is None:
        return None
    filters = new.constant(f"{dense.output}/filter", (weights < 0).reshape(-1, *signs.shape[1:]))
    ones = new.constant(f"{dense.output}/ones", np.ones(len(scale), np.float32))
    zeros = new.constant(f"{dense.output}/zeros", np.zeros(len(scale), np.float32))
    op = LceBconv2d(BinaryWindow(signs.shape[3], padding=Padding.VALID))
    shape = (1, 1, 1, len(scale))
    name = new.node(op, (signs.name, filters, ones, zeros, None), f"{dense.output}/sum", shape)
    name = _scaled(graph, dense, scale, name, new)
    new.nodes.append(Node(Reshape(graph.tensors[dense.output].shape), (name,), (dense.output,)))
    return graph.rewrite(_gone(graph, dense, new.nodes), new.nodes, new.tensors)


@dataclass
class _New:
    """Nodes and tensors under construction; `taken` are the names in use."""

    taken: dict[str, Tensor]
    nodes: list[Node]
    tensors: list[Tensor]

    def add(self, tensor: Tensor) -> str:
        self.tensors.append(tensor)
        self.taken[tensor.name] = tensor
        return tensor.name

    def constant(self, wanted: str, data: Array) -> str:
        return self.add(constant_tensor(self.taken, wanted, data))

    def node(
        self, op: Op, inputs: tuple[str | None, ...], wanted: str, shape: tuple[int, ...], dtype: DType = DType.FLOAT32
    ) -> str:
        name = self.add(Tensor(unique_name(self.taken, wanted), shape, dtype))
        self.nodes.append(Node(op, inputs, (name,)))
        return name


def _scaled(graph: Graph, dense: Node, scale: Array, name: str, new: _New) -> str:
    """``activation(sum * scale + bias)`` with the operators that are needed."""
    assert isinstance(dense.op, FullyConnected)
    bias = graph.tensor(dense.inputs[2]) if len(dense.inputs) > 2 else None
    steps: list[tuple[type[Mul | Add], str]] = []
    has_bias = bias is not None and bias.constant().any()
    if (scale != 1).any() or (dense.op.activation is not Activation.NONE and not has_bias):
        one = scale[:1] if (scale == scale[0]).all() else scale
        steps.append((Mul, new.constant(f"{dense.output}/scale", one)))
    if bias is not None and has_bias:
        steps.append((Add, bias.name))
    for i, (op, operand) in enumerate(steps):
        activation = dense.op.activation if i == len(steps) - 1 else Activation.NONE
        name = new.node(op(activation), (name, operand), f"{dense.output}/{op.name.lower()}", (1, 1, 1, len(scale)))
    return name


def _behind_reshapes(graph: Graph, name: str | None) -> Node | None:
    """The node that computes a tensor, reshapes apart."""
    node = graph.producer(name)
    while node is not None and node.op.alias:
        node = graph.producer(node.inputs[0])
    return node


def _signs(graph: Graph, dequantize: Node, new: _New) -> Tensor | None:
    """Packed bits ``[1, H, W, C]``: those that there are, under the shape of the map they come from, or flat.

    Behind a binary convolution whose channels do not fill their words, signs are taken anew of the map in front of the
    reshape, so that the convolution can give bits.
    """
    signs = graph.tensors[dequantize.inputs[0] or ""]
    if _is_usable(signs):
        return signs
    quantize = graph.producer(signs.name)
    if quantize is None or not isinstance(quantize.op, LceQuantize):
        return signs if _fits(signs) else None
    source = graph.tensors[quantize.inputs[0] or ""]
    reshape = graph.producer(source.name)
    while not _is_usable(source) and reshape is not None and reshape.op.alias:
        source = graph.tensors[reshape.inputs[0] or ""]
        reshape = graph.producer(source.name)
    if not _is_usable(source):
        source = replace(source, shape=(1, 1, 1, signs.elements))
    elif not keeps_words(signs.shape, source.shape) and _is_behind_binary_convolution(graph, source.name):
        return new.taken[new.node(LceQuantize(), (source.name,), f"{signs.name}/map", source.shape, DType.BITS)]
    shape = source.shape if keeps_words(signs.shape, source.shape) else (1, 1, 1, signs.elements)
    if not keeps_words(signs.shape, shape):
        return None
    return new.taken[new.node(ReshapeBits(), (signs.name,), f"{signs.name}/map", shape, DType.BITS)]


def _is_behind_binary_convolution(graph: Graph, name: str) -> bool:
    """Whether a chain of operators on the first input leads back to a LceBconv2d."""
    node = graph.producer(name)
    while node is not None and not isinstance(node.op, LceBconv2d):
        node = graph.producer(node.inputs[0])
    return node is not None


def _fits(tensor: Tensor) -> bool:
    return len(tensor.shape) == 4 and max(tensor.shape[1:3]) <= MAX_EXTENT


def _is_usable(tensor: Tensor) -> bool:
    """Whether a kernel can cover the map, and its channels fill their words."""
    words = tensor.elements // tensor.shape[-1] * words_for(tensor.shape[-1])
    return _fits(tensor) and words <= MAX_WASTE * words_for(tensor.elements)


def _gone(graph: Graph, dense: Node, new: list[Node]) -> list[Node]:
    """The layer, and what only it needed."""
    gone, needed = [dense], {name for node in new for name in node.inputs}
    node = graph.producer(dense.inputs[0])
    while node is not None and node.output not in needed and graph.sole_consumer(node.output) is gone[-1]:
        if not (node.op.alias or isinstance(node.op, LceDequantize | LceQuantize)):
            break
        gone.append(node)
        node = graph.producer(node.inputs[0])
    return gone
