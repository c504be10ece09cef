"""A shift beside a residual sum goes into the bias of the convolution that is one of its terms."""

from __future__ import annotations

import numpy as np
import pytest

from onebit.core import DType, Graph, evaluate
from onebit.core.graph import Array
from onebit.core.ops import Activation, Add, Prelu
from onebit.core.passes import run_passes
from onebit.core.passes.fold_shift import fold_shift
from support.nets import Net
from support.passes import names

SHIFT = np.array([0.1, 0.0, -2.0, 1.0, 0.3], np.float32)


def start(kind: str = "CONV_2D") -> Net:
    """A convolution of the input [1, 4, 6, 5] with 5 channels."""
    net = Net((1, 4, 6, 5))
    if kind == "LceBconv2d":
        return net.quantize().bconv(5, activation=Activation.RELU)
    return net.conv(5) if kind == "CONV_2D" else net.depthwise()


def total(net: Net, other: str, activation: Activation = Activation.NONE) -> Net:
    return net.node(Add(activation), other, dtype=DType.FLOAT32)


def folded(graph: Graph, x: Array) -> list[str]:
    done = run_passes(graph, [fold_shift])
    name = graph.output.name
    np.testing.assert_allclose(evaluate(done.graph, x)[name], evaluate(graph, x)[name], rtol=0, atol=1e-5)
    return names(done.graph)


@pytest.mark.parametrize("kind", ["CONV_2D", "DEPTHWISE_CONV_2D", "LceBconv2d"])
@pytest.mark.parametrize("activation", list(Activation))
def test_behind_the_sum(kind: str, activation: Activation) -> None:
    net = total(start(kind), "input").add(SHIFT, activation)
    found = folded(net.graph(), net.samples(4))
    assert found == [*(["LceQuantize"] if kind == "LceBconv2d" else []), kind, "ADD"]


@pytest.mark.parametrize("activation", list(Activation))
def test_on_the_shortcut(activation: Activation) -> None:
    net = start()
    branch = net.now.name
    net.now = net.tensors["input"]
    net = total(net.mul(SHIFT).add(SHIFT), branch, activation)
    assert folded(net.graph(), net.samples(4)) == ["MUL", "CONV_2D", "ADD"]


def test_both_at_once() -> None:
    net = start()
    branch = net.now.name
    net.now = net.tensors["input"]
    net = total(net.add(SHIFT), branch).add(2 * SHIFT)
    assert folded(net.graph(), net.samples(4)) == ["CONV_2D", "ADD"]


def unchanged(net: Net) -> bool:
    graph = net.graph()
    return fold_shift(graph) is graph


def test_a_sum_or_a_convolution_that_others_read_stays() -> None:
    net = total(start(), "input")
    alone = net.now.name
    net = net.add(SHIFT)
    slope = net.constant("slope", np.full((1, 1, 5), 0.5), DType.FLOAT32)
    assert unchanged(total(net.node(Prelu(), slope, dtype=DType.FLOAT32), alone))
    net = start()
    branch = net.now.name
    assert unchanged(total(total(net, "input").add(SHIFT), branch))


def test_activations_in_between_stay() -> None:
    assert unchanged(total(start(), "input", Activation.RELU).add(SHIFT))
    assert unchanged(total(Net((1, 4, 6, 5)).conv(5, activation=Activation.RELU), "input").add(SHIFT))


def test_shifts_without_a_sum_or_per_pixel_stay() -> None:
    assert unchanged(start().add(SHIFT))
    assert unchanged(total(start(), "input").add(np.ones((1, 4, 6, 5), np.float32)))


def test_a_sum_of_other_terms_stays() -> None:
    net = Net((1, 4, 6, 5)).mul(SHIFT)
    assert unchanged(total(net, "input").add(SHIFT))
