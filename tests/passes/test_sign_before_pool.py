"""The sign moves in front of a max pool, exactly."""

from __future__ import annotations

import numpy as np
import pytest

from onebit.core import DType, Graph, Node, Quantization, Tensor, evaluate
from onebit.core.ops import Activation, LceQuantize, Padding
from onebit.core.passes import run_passes
from onebit.core.passes.sign_before_pool import sign_before_pool
from support.nets import Net

ZERO_POINTS = [-128, -3, 0, 127]


def names(graph: Graph) -> list[str]:
    return [node.op.name for node in graph.nodes]


@pytest.mark.parametrize("padding", list(Padding))
@pytest.mark.parametrize("zero_point", [None, *ZERO_POINTS])
def test_the_signs_are_the_same(padding: Padding, zero_point: int | None) -> None:
    quant = None if zero_point is None else Quantization.per_tensor(0.1, zero_point)
    dtype = DType.FLOAT32 if quant is None else DType.INT8
    net = Net((1, 5, 7, 33), dtype, quant).pool(2, padding).quantize()
    graph = net.graph()
    x = net.samples(8)
    x[0] = 0 if zero_point is None else zero_point
    done = run_passes(graph, [sign_before_pool])
    assert names(done.graph) == ["LceQuantize", "LceBMaxPool2d"]
    assert done.graph.outputs == graph.outputs
    assert dict(done.eliminated) == {"max_pool_2d_0": "sign_before_pool"}
    name = graph.output.name
    np.testing.assert_array_equal(evaluate(done.graph, x)[name], evaluate(graph, x)[name])


def test_two_pools_in_a_row_both_move() -> None:
    net = Net((1, 8, 8, 3)).pool().pool().quantize()
    rewritten = sign_before_pool(net.graph())
    assert names(rewritten) == ["LceQuantize", "LceBMaxPool2d", "LceBMaxPool2d"]
    x, name = net.samples(4), rewritten.output.name
    np.testing.assert_array_equal(evaluate(rewritten, x)[name], evaluate(net.graph(), x)[name])


def test_a_new_tensor_takes_no_name_that_is_in_use() -> None:
    net = Net((1, 4, 4, 3)).pool()
    graph = net.graph()
    taken = Tensor("input/sign", (1, 2, 2, 3), DType.BITS)
    node = Node(LceQuantize(), (graph.output.name,), (taken.name,))
    graph = Graph({**graph.tensors, taken.name: taken}, (*graph.nodes, node), graph.inputs, (taken.name,))
    rewritten = run_passes(graph, [sign_before_pool]).graph
    assert rewritten.nodes[0].output == "input/sign_1"
    assert rewritten.output.name == "input/sign"


def test_an_activation_keeps_the_pool_in_place() -> None:
    graph = Net((1, 4, 4, 3)).pool(activation=Activation.RELU).quantize().graph()
    assert sign_before_pool(graph) is graph


def test_another_reader_keeps_the_pool_in_place() -> None:
    net = Net((1, 4, 4, 3)).pool()
    pooled = net.now.name
    graph = net.quantize().graph()
    graph = Graph(graph.tensors, graph.nodes, graph.inputs, (*graph.outputs, pooled))
    assert sign_before_pool(graph) is graph
