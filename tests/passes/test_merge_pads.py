"""Borders around each other become one border, exactly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from onebit.core import DType, Graph, Node, Tensor, spec
from onebit.core.ops import Pad, PadV2
from onebit.core.passes.merge_pads import merge_pads
from support.passes import names, run_pass


def padded(*amounts: tuple[tuple[int, int], tuple[int, int]], values: tuple[float | None, ...] = (None, None)) -> Graph:
    """A map [1, 3, 4, 2] with a border per entry of `amounts`: of zeros, or of a value where `values` has one."""
    tensors = {"x": Tensor("x", (1, 3, 4, 2), DType.FLOAT32)}
    nodes: list[Node] = []
    at, (height, width) = "x", (3, 4)
    for i, (amount, value) in enumerate(zip(amounts, values, strict=True)):
        paddings = np.array([[0, 0], *amount, [0, 0]], np.int32)
        height, width = height + sum(amount[0]), width + sum(amount[1])
        constants = [Tensor(f"paddings_{i}", (4, 2), DType.INT32, data=paddings)]
        if value is not None:
            constants.append(Tensor(f"value_{i}", (), DType.FLOAT32, data=np.array(value, np.float32)))
        out = Tensor(f"pad_{i}", (1, height, width, 2), DType.FLOAT32)
        nodes.append(Node(Pad() if value is None else PadV2(), (at, *(c.name for c in constants)), (out.name,)))
        tensors |= {t.name: t for t in (*constants, out)}
        at = out.name
    graph = Graph(tensors, tuple(nodes), ("x",), (at,))
    spec.verify(graph, "test")
    return graph


IMAGES = np.random.default_rng(1).normal(0, 1, (3, 3, 4, 2)).astype(np.float32)


def test_two_borders_of_zeros_are_one() -> None:
    graph = padded(((0, 1), (2, 0)), ((1, 0), (1, 3)))
    result = run_pass(merge_pads, graph, IMAGES)
    assert names(result.graph) == ["PAD"]
    (amounts,) = [t.constant() for t in result.graph.tensors.values() if t.is_constant]
    assert amounts.tolist() == [[0, 0], [1, 1], [3, 3], [0, 0]]


def test_three_borders_are_one() -> None:
    result = run_pass(merge_pads, padded(*3 * [((1, 0), (0, 1))], values=(None,) * 3), IMAGES)
    assert names(result.graph) == ["PAD"]


@pytest.mark.parametrize(("values", "left"), [((1.0, 1.0), 1), ((1.0, -1.0), 2), ((0.0, None), 2)])
def test_borders_of_one_value_only(values: tuple[float | None, ...], left: int) -> None:
    result = run_pass(merge_pads, padded(((1, 1), (1, 1)), ((1, 0), (1, 0)), values=values), IMAGES)
    assert len(result.graph.nodes) == left


def test_a_border_that_is_read_elsewhere_stays() -> None:
    graph = padded(((0, 1), (2, 0)), ((1, 0), (1, 3)))
    both = replace(graph, outputs=("pad_0", "pad_1"))
    assert merge_pads(both) is both
