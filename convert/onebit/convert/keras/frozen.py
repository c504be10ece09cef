"""A model as one TensorFlow graph of operations: variables are constants, functions are inlined, the batch is 1."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from onebit.core.graph import Array

#: operations that hand on their input
TRANSPARENT = ("Identity", "IdentityN", "StopGradient", "Snapshot")


@dataclass(frozen=True)
class Frozen:
    """`graph_def` with the names of the nodes that are its input and output; both carry one float32 tensor."""

    graph_def: Any
    input: str
    output: str


def freeze(function: Callable[[Any], Any], input_shape: tuple[int, ...]) -> Frozen:
    """The graph of `function` for one float32 tensor of `input_shape` [1, ...]."""
    spec = tf.TensorSpec(input_shape, tf.float32, name="input")
    concrete = tf.function(function, autograph=False).get_concrete_function(spec)
    frozen = convert_variables_to_constants_v2(concrete, lower_control_flow=False, aggressive_inlining=True)
    (given,), (result,) = frozen.inputs, frozen.outputs
    return Frozen(frozen.graph.as_graph_def(), given.op.name, result.op.name)


class Runner:
    """Runs a frozen graph, one sample at a time; values of its tensors may be imposed."""

    def __init__(self, frozen: Frozen) -> None:
        self._frozen = frozen
        self.graph = tf.Graph()
        with self.graph.as_default():
            tf.import_graph_def(frozen.graph_def, name="")
        self._session = tf.compat.v1.Session(graph=self.graph)

    def shape(self, name: str) -> tuple[int | None, ...] | None:
        """The static shape of a node's first output, None where its rank is unknown."""
        shape = self.graph.get_tensor_by_name(f"{name}:0").shape
        return None if shape.rank is None else tuple(shape.as_list())

    def size(self, name: str) -> int | None:
        """The number of elements of a node's first output, None where it is unknown."""
        shape = self.shape(name)
        return None if shape is None or None in shape else math.prod(int(d or 0) for d in shape)

    def zeros(self) -> Array:
        """An input."""
        return np.zeros([int(d or 1) for d in self.shape(self._frozen.input) or ()], np.float32)

    def values(self, names: Sequence[str], x: Array, imposed: Mapping[str, Array] | None = None) -> Any:
        """The first outputs of the nodes `names` for the input `x`."""
        feed = {f"{name}:0": value for name, value in {self._frozen.input: x, **(imposed or {})}.items()}
        return self._session.run([f"{name}:0" for name in names], feed)


class Nodes:
    """Looking around in a graph definition: nodes by name, inputs by position, without control inputs."""

    def __init__(self, frozen: Frozen) -> None:
        self.by_name = {node.name: node for node in frozen.graph_def.node}
        self._input = frozen.input
        self._dynamic: dict[str, bool] = {}

    def inputs(self, node: Any) -> list[str]:
        """The names of the nodes whose values `node` reads."""
        return [_source(text) for text in node.input if not text.startswith("^")]

    def origin(self, name: str) -> str:
        """The node that computes the value of `name`: what stands before identities."""
        node = self.by_name[name]
        while node.op in TRANSPARENT:
            node = self.by_name[self.inputs(node)[0]]
        return str(node.name)

    def operand(self, node: Any, index: int) -> Any:
        """The node that computes input `index` of `node`."""
        return self.by_name[self.origin(self.inputs(node)[index])]

    def is_dynamic(self, name: str) -> bool:
        """Whether the value depends on the model's input."""
        pending = [name]
        while pending:
            at = pending[-1]
            if at in self._dynamic:
                pending.pop()
                continue
            inputs = self.inputs(self.by_name[at])
            unknown = [i for i in inputs if i not in self._dynamic]
            if unknown and at != self._input:
                pending.extend(unknown)
                continue
            self._dynamic[at] = at == self._input or any(self._dynamic[i] for i in inputs)
            pending.pop()
        return self._dynamic[name]

    def dynamic(self) -> Iterator[Any]:
        """The nodes whose value depends on the model's input, as in the file."""
        return (node for node in list(self.by_name.values()) if self.is_dynamic(node.name))


def _source(text: str) -> str:
    return text.partition(":")[0]


def renamed(frozen: Frozen) -> tuple[Frozen, dict[str, str]]:
    """The same graph with short names, and short name -> name.

    LCE's converter cuts the names of its tensors, which are lists of node names, at 50 characters. The short names end
    in a letter, so that digits that it appends to tell equal names apart are no part of them.
    """
    short = {node.name: f"n{i}e" for i, node in enumerate(frozen.graph_def.node)}
    copy = tf.compat.v1.GraphDef()
    copy.CopyFrom(frozen.graph_def)
    for node in copy.node:
        node.name = short[node.name]
        texts = [_renamed_input(text, short) for text in node.input]
        del node.input[:]
        node.input.extend(texts)
        if "_class" in node.attr:  # colocation with nodes by their old names
            del node.attr["_class"]
    return Frozen(copy, short[frozen.input], short[frozen.output]), {new: old for old, new in short.items()}


def _renamed_input(text: str, short: Mapping[str, str]) -> str:
    control = "^" if text.startswith("^") else ""
    name, colon, index = text[len(control) :].partition(":")
    return f"{control}{short[name]}{colon}{index}"


def constant(nodes: Nodes, runner: Runner, name: str) -> Array | None:
    """The value of a node that does not depend on the input, else None."""
    if nodes.is_dynamic(name):
        return None
    # inlined functions leave control dependencies of constants on the input: it must have some value
    return np.asarray(runner.values([name], runner.zeros())[0])
