"""The graph IR: frozen, typed, at the level of a TFLite flatbuffer with LCE operators.

Activations are NHWC with batch 1. A tensor of dtype ``BITS`` has its *logical* shape here (``[1, H, W, C]``); its
stored form, and its value during evaluation, is int32 words ``[1, H, W, ceil(C/32)]`` as `onebit.core.bits` describes.
Tensors are keyed by their unique name. The invariant that the pass pipeline relies on: *a tensor that keeps its name
keeps its value*; a pass that changes a value must drop the name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from math import prod
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from onebit.core.bits import words_for
from onebit.core.metadata import ModelMetadata
from onebit.core.rounding import Rounding

if TYPE_CHECKING:
    from onebit.core.ops.base import Op

Array = NDArray[Any]


class DType(Enum):
    """Element types of the IR; the value is the NumPy dtype of the stored form."""

    FLOAT32 = "float32"
    INT8 = "int8"
    INT32 = "int32"
    BITS = "bits"
    BOOL = "bool"

    @property
    def numpy(self) -> np.dtype[Any]:
        """NumPy dtype of the stored elements (int32 words for ``BITS``)."""
        return np.dtype(np.int32) if self is DType.BITS else np.dtype(self.value)


@dataclass(frozen=True)
class Quantization:
    """Affine quantization: real = scale * (q - zero_point), per tensor or along `axis`. Scales are float32 values."""

    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int = 0

    @property
    def scale(self) -> float:
        """The scale of a per-tensor quantization."""
        return self.scales[0]

    @property
    def zero_point(self) -> int:
        """The zero point of a per-tensor quantization."""
        return self.zero_points[0]

    @classmethod
    def per_tensor(cls, scale: float, zero_point: int) -> Quantization:
        """One float32 scale and one zero point for the whole tensor."""
        return cls((float(np.float32(scale)),), (int(zero_point),))


@dataclass(frozen=True, eq=False)
class Tensor:
    """A named value: an activation (`data` is None) or a constant (`data` in stored form)."""

    name: str
    shape: tuple[int, ...]
    dtype: DType
    quantization: Quantization | None = None
    data: Array | None = None

    @property
    def is_constant(self) -> bool:
        """Whether the value is known before run time."""
        return self.data is not None

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Shape of the stored form: the last axis counts words for ``BITS``."""
        if self.dtype is DType.BITS:
            return (*self.shape[:-1], words_for(self.shape[-1]))
        return self.shape

    @property
    def elements(self) -> int:
        """Number of logical elements."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the stored form."""
        return prod(self.stored_shape) * self.dtype.numpy.itemsize

    @property
    def quant(self) -> Quantization:
        """The quantization; a float or bit tensor counts as scale 1, zero point 0."""
        return self.quantization or Quantization((1.0,), (0,))

    def constant(self) -> Array:
        """The data of a constant tensor."""
        assert self.data is not None, f"{self.name} is not constant"
        return self.data

    def describe(self) -> str:
        """Name, dtype and shape for messages, as ``'x' int8 [1, 28, 28, 1]``."""
        return f"'{self.name}' {self.dtype.value} {list(self.shape)}"


@dataclass(frozen=True)
class Node:
    """One operator with the names of its tensors; an absent optional input is None."""

    op: Op
    inputs: tuple[str | None, ...]
    outputs: tuple[str, ...]

    @property
    def output(self) -> str:
        """The name of the only output."""
        return self.outputs[0]

    def describe(self) -> str:
        """Operator and output name for messages, as ``LceBconv2d 'conv1'``."""
        return f"{self.op.name} '{self.output}'"


@dataclass(frozen=True)
class Graph:
    """Nodes in execution order over named tensors; the built-in ones compute with the arithmetic of `rounding`."""

    tensors: Mapping[str, Tensor]
    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    metadata: ModelMetadata | None = None
    rounding: Rounding = Rounding.LITERT
    _producers: Mapping[str, Node] = field(init=False, repr=False, compare=False)
    _consumers: Mapping[str, tuple[Node, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tensors", MappingProxyType(dict(self.tensors)))
        consumers: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                if name is not None:
                    consumers.setdefault(name, []).append(node)
        object.__setattr__(self, "_producers", {name: node for node in self.nodes for name in node.outputs})
        object.__setattr__(self, "_consumers", {name: tuple(nodes) for name, nodes in consumers.items()})

    def producer(self, name: str | None) -> Node | None:
        """The node that computes the tensor, None for inputs and constants."""
        return self._producers.get(name) if name is not None else None

    def consumers(self, name: str) -> tuple[Node, ...]:
        """The nodes that read the tensor, in execution order."""
        return self._consumers.get(name, ())

    def sole_consumer(self, name: str) -> Node | None:
        """The only reader of a tensor that is not a model output, else None."""
        readers = self.consumers(name)
        return readers[0] if len(readers) == 1 and name not in self.outputs else None

    def tensor(self, name: str | None) -> Tensor | None:
        """The tensor of that name; None stays None (an absent optional input)."""
        return None if name is None else self.tensors[name]

    def activations(self) -> Iterator[Tensor]:
        """The outputs of all nodes, in execution order."""
        for node in self.nodes:
            for name in node.outputs:
                yield self.tensors[name]

    @property
    def input(self) -> Tensor:
        """The only input tensor."""
        return self.tensors[self.inputs[0]]

    @property
    def output(self) -> Tensor:
        """The only output tensor."""
        return self.tensors[self.outputs[0]]

    def rewrite(self, remove: Iterable[Node], insert: Iterable[Node], tensors: Iterable[Tensor] = ()) -> Graph:
        """A graph in which the nodes `insert` stand where the last of `remove` stood.

        `tensors` are added (or replace those of the same name); tensors that nothing mentions any more are dropped.
        """
        gone = list(remove)
        last = max(i for i, node in enumerate(self.nodes) if any(node is g for g in gone))
        nodes: list[Node] = []
        for i, node in enumerate(self.nodes):
            if i == last:
                nodes.extend(insert)
            elif not any(node is g for g in gone):
                nodes.append(node)
        merged = {**self.tensors, **{t.name: t for t in tensors}}
        used = {*self.inputs, *self.outputs}
        for node in nodes:
            used.update(name for name in (*node.inputs, *node.outputs) if name is not None)
        return replace(self, nodes=tuple(nodes), tensors={k: v for k, v in merged.items() if k in used})
