"""Builds a float graph operator by operator, in the IR's layout (NHWC, batch 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from onebit.core import DType, Graph, Node, Tensor
from onebit.core.bits import pack
from onebit.core.graph import Array
from onebit.core.metadata import ModelMetadata
from onebit.core.ops import (
    Activation,
    Add,
    Conv2d,
    FullyConnected,
    LceBconv2d,
    LceQuantize,
    MaxPool2d,
    Mul,
    Op,
    Reshape,
    View,
)
from onebit.core.passes.naming import unique_name


@dataclass(frozen=True)
class Value:
    """Where a value of the source lives.

    `flat`: the source sees [N, features] in the order C, H, W, while the tensor may still be [1, H, W, C]; else the
    source sees [N, C, H, W] and the tensor is [1, H, W, C].
    """

    tensor: str
    flat: bool


class GraphBuilder:
    """Appends operators to a graph. A layer's output has the layer's name; no name is ever used for a second value."""

    def __init__(self, shape: Sequence[int]) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._taken: set[str] = set()
        self.nodes: list[Node] = []
        self.input = self._add(Tensor("input", tuple(shape), DType.FLOAT32))
        self._signs: dict[str, str] = {}
        self._reshaped: dict[tuple[str, tuple[int, ...]], str] = {}

    def _add(self, tensor: Tensor) -> str:
        self.tensors[tensor.name] = tensor
        self._taken.add(tensor.name)
        return tensor.name

    def shape(self, tensor: str) -> tuple[int, ...]:
        """The shape of a tensor."""
        return self.tensors[tensor].shape

    def constant(self, name: str, data: Array, dtype: DType = DType.FLOAT32) -> str:
        """Add a constant; bits are given as bool (True is -1) in logical shape."""
        stored = pack(data) if dtype is DType.BITS else np.ascontiguousarray(data.astype(dtype.numpy))
        return self._add(Tensor(unique_name(self._taken, name), tuple(data.shape), dtype, None, stored))

    def node(
        self, op: Op, inputs: tuple[str | None, ...], name: str, *, dtype: DType = DType.FLOAT32, shape: Any = (1,)
    ) -> str:
        """Append an operator and return its output; `shape` counts for RESHAPE only, elsewhere it is inferred."""
        name = unique_name(self._taken, name)
        node = Node(op, inputs, (name,))
        draft = Tensor(name, tuple(shape), dtype)
        view = View(node, tuple(None if i is None else self.tensors[i] for i in inputs), (draft,))
        self.nodes.append(node)
        return self._add(replace(draft, shape=op.infer(view)[0]))

    def sign(self, tensor: str) -> str:
        """Packed signs of a tensor; the same ones for all layers that read it."""
        if tensor not in self._signs:
            self._signs[tensor] = self.node(LceQuantize(), (tensor,), f"{tensor}/sign", dtype=DType.BITS)
        return self._signs[tensor]

    def reshape(self, tensor: str, shape: tuple[int, ...]) -> str:
        """The tensor under another shape; the same one for all layers that read it so."""
        if self.shape(tensor) == shape:
            return tensor
        if (tensor, shape) not in self._reshaped:
            name = f"{tensor}/reshape"
            self._reshaped[tensor, shape] = self.node(Reshape(shape), (tensor,), name, shape=shape)
        return self._reshaped[tensor, shape]

    def fuse(self, activation: Activation, tensor: str, name: str) -> str | None:
        """Fuse an activation into the operator that computes `tensor` (which nothing else may read).

        Returns the output under its new name, None where the operator cannot take it: it has one already, or it is a
        binary convolution whose multiplier and bias do more than nothing, since its activation comes before them.
        """
        i = next((i for i, node in enumerate(self.nodes) if node.output == tensor), None)
        if i is None:
            return None
        node = self.nodes[i]
        op = node.op
        if not isinstance(op, Conv2d | FullyConnected | Add | Mul | MaxPool2d | LceBconv2d):
            return None
        if op.activation is not Activation.NONE:
            return None
        if isinstance(op, LceBconv2d) and not self._is_plain(node):
            return None
        old = self.tensors.pop(tensor)
        new = self._add(replace(old, name=unique_name(self._taken, name)))
        self.nodes[i] = Node(replace(op, activation=activation), node.inputs, (new,))
        return new

    def _is_plain(self, node: Node) -> bool:
        multiplier, bias = (self.tensors[name or ""].constant() for name in node.inputs[2:4])
        return bool((multiplier == 1).all() and (bias == 0).all())

    def graph(self, output: str, metadata: ModelMetadata | None) -> Graph:
        """The finished graph; tensors that nothing reads are left out."""
        used = {self.input, output}
        for node in self.nodes:
            used.update(name for name in (*node.inputs, *node.outputs) if name is not None)
        tensors = {name: tensor for name, tensor in self.tensors.items() if name in used}
        return Graph(tensors, tuple(self.nodes), (self.input,), (output,), metadata)
