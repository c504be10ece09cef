"""Means of whole maps before quantization: equal in float, finer in int8."""

from __future__ import annotations

import numpy as np
import pytest

from onebit.convert.int8 import FakeQuantized, calibrate, compare_int8, quantize_int8
from onebit.convert.int8.means import accurate_means
from onebit.convert.samples import file_input
from onebit.core import Graph, evaluate, write_model
from onebit.core.graph import Array
from onebit.core.ops import Activation, Mean
from onebit.simulate.oracle import LceOracle
from support.nets import Net


def error_of_int8(graph: Graph, x: Array) -> float:
    """Root mean square error of the last but one tensor, relative to its spread; verified with the interpreter."""
    made = quantize_int8(graph, calibrate(graph, x))
    stored = file_input(x, made.graph.input, None)
    fake = FakeQuantized(graph, made.graph, made.offsets)
    compare_int8(fake, write_model(made.graph), stored, LceOracle())
    name = graph.nodes[-2].output
    got = fake.real(name, evaluate(made.graph, stored, [name])[name])
    wanted = evaluate(graph, x, [name])[name]
    return float(np.sqrt(np.square(got - wanted).mean()) / wanted.std())


@pytest.mark.parametrize(("kind", "at_most"), [("pool", 0.6), ("mean", 0.97)])
def test_the_same_values_in_float_and_less_noise_in_int8(kind: str, at_most: float) -> None:
    net = Net((1, 12, 12, 3), seed=2).conv(16)
    net = net.average((12, 12), (12, 12)) if kind == "pool" else net.reduce(Mean(keep_dims=True))
    graph, x = net.reshape(1, 16).dense(5).graph(), net.samples(64)
    better = accurate_means(graph, calibrate(graph, x))
    assert [n.op.name for n in better.nodes] == ["CONV_2D", "MEAN", "RESHAPE", "FULLY_CONNECTED"]
    np.testing.assert_array_equal(evaluate(better, x)[graph.output.name], evaluate(graph, x)[graph.output.name])
    assert error_of_int8(better, x) < at_most * error_of_int8(graph, x)


def test_pools_of_parts_and_with_activation_stay() -> None:
    net = Net((1, 8, 8, 3)).conv(4).average((4, 4), (4, 4)).average((2, 2), (2, 2), activation=Activation.RELU)
    graph, x = net.graph(), net.samples(8)
    assert accurate_means(graph, calibrate(graph, x)) is graph
