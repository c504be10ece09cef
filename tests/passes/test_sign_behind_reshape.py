"""Packed bits under another shape, in the form for files: the sign behind the reshape."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from onebit.core import DType, Graph, Node, Tensor, read_model, spec, write_model
from onebit.core.ops import LceDequantize, LceQuantize, Reshape, ReshapeBits
from onebit.core.passes.sign_behind_reshape import sign_behind_reshape
from support.passes import names, run_pass


def chain(*shapes: tuple[int, ...]) -> Graph:
    """Floats through reshapes to all `shapes` but the last, signs, packed bits under the last, +1/-1."""
    tensors, nodes = {"x": Tensor("x", shapes[0], DType.FLOAT32)}, []
    at = "x"
    for i, shape in enumerate(shapes[1:-1]):
        tensors[f"flat_{i}"] = Tensor(f"flat_{i}", shape, DType.FLOAT32)
        nodes.append(Node(Reshape(shape), (at,), (f"flat_{i}",)))
        at = f"flat_{i}"
    for name, dtype in (("signs", DType.BITS), ("map", DType.BITS), ("y", DType.FLOAT32)):
        tensors[name] = Tensor(name, shapes[-2 if name == "signs" else -1], dtype)
    nodes += [
        Node(LceQuantize(), (at,), ("signs",)),
        Node(ReshapeBits(), ("signs",), ("map",)),
        Node(LceDequantize(), ("map",), ("y",)),
    ]
    graph = Graph(tensors, tuple(nodes), ("x",), ("y",))
    spec.verify(graph, "test")
    return graph


def images(graph: Graph) -> np.ndarray:  # type: ignore[type-arg]
    return np.random.default_rng(2).normal(0, 1, (4, *graph.input.shape[1:])).astype(np.float32)


@pytest.mark.parametrize(
    ("shapes", "operators"),
    [
        (((1, 2, 2, 32), (1, 128), (1, 2, 2, 32)), ["LceQuantize", "LceDequantize"]),
        (((1, 2, 2, 32), (1, 128), (1, 1, 1, 128)), ["RESHAPE", "RESHAPE", "LceQuantize", "LceDequantize"]),
        (((1, 2, 2, 32), (1, 1, 4, 32), (1, 128), (1, 2, 2, 32)), ["LceQuantize", "LceDequantize"]),
        (((1, 70), (1, 1, 1, 70)), ["RESHAPE", "LceQuantize", "LceDequantize"]),
    ],
)
def test_the_signs_are_the_same_and_a_file_holds_them(
    shapes: tuple[tuple[int, ...], ...], operators: list[str]
) -> None:
    graph = chain(*shapes)
    result = run_pass(sign_behind_reshape, graph, images(graph)).graph
    assert names(result) == operators
    assert names(read_model(write_model(result))) == names(result)


def test_signs_that_are_read_elsewhere_stay() -> None:
    graph = chain((1, 70), (1, 1, 1, 70))
    both = replace(graph, outputs=("signs", "y"))
    result = sign_behind_reshape(both)
    assert names(result) == ["LceQuantize", "RESHAPE", "LceQuantize", "LceDequantize"]
