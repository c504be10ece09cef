"""A random legal graph, grown one operator at a time; every choice is a hypothesis draw, so that failures shrink.

Whether a step is legal is not decided here: `Growth.add` asks the operator's own constraints and shape rule and takes
back what they refuse.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, TypeVar

import numpy as np
from hypothesis import strategies as st

from onebit.core import DType, Graph, Node, Quantization, Tensor
from onebit.core.bits import pack
from onebit.core.graph import Array
from onebit.core.ops import Activation, Op, Padding, View

F32, I8, I32, BITS, BOOL = DType.FLOAT32, DType.INT8, DType.INT32, DType.BITS, DType.BOOL

#: elements of one tensor and multiplications of one operator: a graph is to take milliseconds, under sanitizers too
MAX_ELEMENTS = 6000
MAX_MACS = 300_000
#: around the word of 32 packed channels, and around the blocks of 4, 8 and 16 of other kernels
CHANNELS = (1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 24, 31, 32, 33, 48, 63, 64, 65, 96)
ZERO_POINTS = (0, -128, 127, -3, 5, -64, 77)
SCALES = (0.05, 0.5, 1 / 128, 0.0173, 0.25, 0.1, 1.0, 0.0039)

Draw = Callable[[st.SearchStrategy[Any]], Any]
T = TypeVar("T")


class Growth:
    """The graph so far. `values` are the activations that a next operator may read, oldest first."""

    def __init__(self, draw: Draw) -> None:
        self._draw = draw
        self.rng = np.random.default_rng(self.number(0, 10_000))
        self.tensors: dict[str, Tensor] = {}
        self.nodes: list[Node] = []
        self.values: list[str] = []

    # ------------------------------------------------------------------------------------------------------- choices

    def pick(self, options: Sequence[T]) -> T:
        """One of `options`; failures shrink to the first."""
        return options[self.number(0, len(options) - 1)]

    def number(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`; failures shrink to `low`."""
        return int(self._draw(st.integers(0, high - low))) + low

    def chance(self, percent: int) -> bool:
        """True in about `percent` of 100 cases; failures shrink to False."""
        return self.number(0, 99) >= 100 - percent

    def channels(self, most: int = CHANNELS[-1]) -> int:
        """A channel count near the borders of words and blocks."""
        return self.pick([c for c in CHANNELS if c <= most])

    def activation(self) -> Activation:
        """A fused activation, often none."""
        return self.pick((Activation.NONE, Activation.NONE, *Activation))

    def padding(self) -> Padding:
        """SAME or VALID."""
        return self.pick((Padding.VALID, Padding.SAME))

    def pair(self, *options: int) -> tuple[int, int]:
        """Two of `options`, mostly the same twice, as strides and dilations are."""
        first = self.pick(options)
        return (first, self.pick(options)) if self.chance(30) else (first, first)

    def quant(self) -> Quantization:
        """Any per-tensor quantization of an activation."""
        return Quantization.per_tensor(self.pick(SCALES), self.pick(ZERO_POINTS))

    def quant_for(self, dtype: DType, reach: float) -> Quantization | None:
        """A quantization for int8 values of about -reach to reach (None for other dtypes), sometimes far from it."""
        if dtype is not I8:
            return None
        factor = self.pick((1.0, 1.0, 1.0, 0.2, 3.0, 0.01))
        return Quantization.per_tensor(max(reach, 1e-6) * factor / 127, self.pick(ZERO_POINTS))

    # ---------------------------------------------------------------------------------------------------- ingredients

    def tensor(self, name: str) -> Tensor:
        return self.tensors[name]

    def start(self, shape: Sequence[int], dtype: DType, quant: Quantization | None) -> None:
        """The model's input."""
        self.tensors["input"] = Tensor("input", tuple(shape), dtype, quant)
        self.values.append("input")

    def constant(self, role: str, data: Any, dtype: DType, quant: Quantization | None = None) -> str:
        """A constant; bits are given as bool (True = -1) with logical shape. `Growth.add` drops it if unused."""
        data = np.asarray(data)
        stored: Array = pack(data) if dtype is BITS else data.astype(dtype.numpy)
        name = f"{role}_{len(self.tensors)}"
        self.tensors[name] = Tensor(name, data.shape, dtype, quant, stored)
        return name

    def numbers(self, shape: Sequence[int], dtype: DType) -> Array:
        """Random values: int8 over all the range, float32 normal, seldom special ones."""
        if dtype is I8:
            return np.asarray(self.rng.integers(-128, 128, tuple(shape)), np.int8)
        values = self.rng.normal(0, 1, tuple(shape)).astype(np.float32)
        special = np.array([0.0, -0.0, 1.0, -1.0, 0.5, 6.0, -1.5], np.float32)
        chosen = self.rng.random(values.shape) < 0.1
        return np.where(chosen, special[self.rng.integers(0, len(special), values.shape)], values)

    def operand(self, shape: Sequence[int], dtype: DType, quant: Quantization | None = None) -> str:
        """A constant of random values."""
        return self.constant("operand", self.numbers(shape, dtype), dtype, quant if dtype is I8 else None)

    def others(self, accepts: Callable[[Tensor], bool]) -> list[str]:
        """Activations that a further operand may be."""
        return [name for name in self.values if accepts(self.tensors[name])]

    # ---------------------------------------------------------------------------------------------------------- steps

    def add(
        self,
        op: Op,
        *inputs: str | None,
        dtype: DType,
        quant: Quantization | None = None,
        shape: Sequence[int] | None = None,
    ) -> bool:
        """Append an operator if its constraints hold and the result is small; else drop it and its constants."""
        name = f"v{len(self.nodes)}"
        node = Node(op, inputs, (name,))
        sources = tuple(None if n is None else self.tensors[n] for n in inputs)
        output = Tensor(name, tuple(shape or (1,)), dtype, quant)
        legal = self._holds(op, View(node, sources, (output,)))
        if legal:
            inferred, inferred_dtype = op.infer(View(node, sources, (output,)))
            output = Tensor(name, inferred, inferred_dtype, quant if inferred_dtype is I8 else None)
            view = View(node, sources, (output,))
            small = 1 <= prod(inferred) <= MAX_ELEMENTS and len(inferred) <= 5 and sum(op.macs(view)) <= MAX_MACS
            legal = small and inferred[:1] == (1,) and self._holds(op, view)
        if legal:
            self.tensors[name] = output
            self.nodes.append(node)
            self.values.append(name)
        used = {n for each in self.nodes for n in each.inputs}
        self.tensors = {n: t for n, t in self.tensors.items() if n in used or t.data is None}
        return legal

    @staticmethod
    def _holds(op: Op, view: View) -> bool:
        least, most = op.arity
        return least <= len(view.inputs) <= most and all(rule(op, view) for rule in op.constraints())

    def graph(self) -> Graph:
        """The graph; its output is the last operator's."""
        return Graph(self.tensors, tuple(self.nodes), ("input",), (self.nodes[-1].output,))
