"""Builds a float graph operator by operator, in the IR's layout (NHWC, batch 1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from math import prod
from typing import Any

import numpy as np

from onebit.core import DType, Graph, Node, Tensor
from onebit.core.bits import pack
from onebit.core.graph import Array
from onebit.core.metadata import ModelMetadata
from onebit.core.ops import LceQuantize, Op, Reshape, Transpose, View
from onebit.core.passes.naming import unique_name


class Layout(Enum):
    """How the elements of a tensor of the graph lie, compared with the source's."""

    #: the source sees [N, C, H, W], the tensor is [1, H, W, C]
    IMAGE = "image"
    #: the source sees [N, features] in the order C, H, W, the tensor still is [1, H, W, C]
    FLAT = "flat"
    #: the tensor has the source's dimensions in their order
    PLAIN = "plain"


@dataclass(frozen=True)
class Value:
    """Where a value of the source lives, and how."""

    tensor: str
    layout: Layout
    #: the map [1, H, W, C] whose elements a FLAT tensor of another shape holds in that order
    map_shape: tuple[int, ...] | None = None

    def as_source(self, stored: Array, shape: tuple[int, ...]) -> Array:
        """Values [M, ...] of the tensor in the source's order and in `shape`, the source's, with M in front."""
        if self.map_shape is not None:
            stored = stored.reshape(len(stored), *self.map_shape[1:])
        ordered = stored if self.layout is Layout.PLAIN or stored.ndim != 4 else stored.transpose(0, 3, 1, 2)
        return np.ascontiguousarray(ordered).reshape(len(stored), *shape[1:])


class GraphBuilder:
    """Appends operators to a graph. A layer's output has the layer's name; no name is ever used for a second value."""

    def __init__(self, shape: Sequence[int]) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._taken: set[str] = set()
        self.nodes: list[Node] = []
        self.input = self._add(Tensor("input", tuple(shape), DType.FLOAT32))
        #: layer -> what is worth knowing about how it is deployed
        self.notes: dict[str, str] = {}
        self._once: dict[tuple[str, object], str] = {}

    def _add(self, tensor: Tensor) -> str:
        self.tensors[tensor.name] = tensor
        self._taken.add(tensor.name)
        return tensor.name

    def shape(self, tensor: str) -> tuple[int, ...]:
        """The shape of a tensor."""
        return self.tensors[tensor].shape

    def is_constant(self, tensor: str) -> bool:
        """Whether a tensor is a constant."""
        return self.tensors[tensor].is_constant

    def producer(self, tensor: str) -> Node | None:
        """The node that computes a tensor, None for the input and constants."""
        return next((node for node in reversed(self.nodes) if node.output == tensor), None)

    def note(self, layer: str, text: str) -> None:
        """Say something about how a layer is deployed."""
        self.notes[layer] = text

    def once(self, name: str, make: Callable[[str], str], key: object = None) -> str:
        """The tensor that ``make(name)`` adds; the same one whenever it is asked for under that name and key."""
        if (name, key) not in self._once:
            self._once[name, key] = make(name)
        return self._once[name, key]

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
        return self.once(f"{tensor}/sign", lambda name: self.node(LceQuantize(), (tensor,), name, dtype=DType.BITS))

    def reshape(self, tensor: str, shape: tuple[int, ...]) -> str:
        """The tensor under another shape; the same one for all layers that read it so."""
        if self.shape(tensor) == shape:
            return tensor
        return self.once(
            f"{tensor}/reshape", lambda name: self.node(Reshape(shape), (tensor,), name, shape=shape), shape
        )

    def transpose(self, tensor: str, order: tuple[int, ...]) -> str:
        """The dimensions in another order; a reshape where no element moves."""
        shape = self.shape(tensor)
        moving = [i for i in order if shape[i] > 1]
        if moving == sorted(moving):
            return self.reshape(tensor, tuple(shape[i] for i in order))
        return self.once(
            f"{tensor}/transposed",
            lambda name: self.node(Transpose(), (tensor, self.indices(f"{name}/order", order)), name),
            order,
        )

    def indices(self, name: str, values: Sequence[int] | Array) -> str:
        """Add an int32 constant."""
        return self.constant(name, np.array(values, np.int32), DType.INT32)

    def image(self, value: Value) -> str:
        """The tensor [1, H, W, C] of a value that the source sees as [N, C, H, W]."""
        return value.tensor if value.layout is Layout.IMAGE else self.transpose(value.tensor, (0, 2, 3, 1))

    def plain(self, value: Value) -> str:
        """The tensor with the source's dimensions in their order."""
        shape = self.shape(value.tensor)
        if value.layout is Layout.PLAIN or len(shape) != 4:
            return value.tensor
        if value.layout is Layout.IMAGE:
            return self.transpose(value.tensor, (0, 3, 1, 2))
        in_order = shape[3] == 1 or shape[1] * shape[2] == 1
        ordered = value.tensor if in_order else self.transpose(value.tensor, (0, 3, 1, 2))
        return self.reshape(ordered, (1, prod(shape)))

    def graph(self, output: str, metadata: ModelMetadata | None) -> Graph:
        """The finished graph; tensors that nothing reads are left out."""
        used = {self.input, output}
        for node in self.nodes:
            used.update(name for name in (*node.inputs, *node.outputs) if name is not None)
        tensors = {name: tensor for name, tensor in self.tensors.items() if name in used}
        return Graph(tensors, tuple(self.nodes), (self.input,), (output,), metadata)
