"""Batch norm folds into the linear operator in front of it, rounded once."""

from __future__ import annotations

import numpy as np
import pytest

from onebit.core import DType, Graph, evaluate
from onebit.core.ops import Activation, Conv2d, LceBconv2d, Mul
from onebit.core.passes import run_passes
from onebit.core.passes.fold_batch_norm import fold_batch_norm
from support.nets import Net

G = np.array([0.5, -1.25, 3.0, 0.0, -0.1], np.float32)
C = np.array([0.1, 0.0, -2.0, 1.0, 0.3], np.float32)


def names(graph: Graph) -> list[str]:
    return [node.op.name for node in graph.nodes]


def linear_net(kind: str) -> Net:
    net = Net((1, 5, 6, 4), seed=3)
    return net.conv(5) if kind == "conv" else net.dense(5)


@pytest.mark.parametrize("kind", ["conv", "dense"])
@pytest.mark.parametrize("activation", list(Activation))
def test_into_a_real_valued_operator(kind: str, activation: Activation) -> None:
    net = linear_net(kind).mul(G).add(C, activation)
    graph, x = net.graph(), net.samples(4)
    done = run_passes(graph, [fold_batch_norm])
    assert names(done.graph) == ["CONV_2D" if kind == "conv" else "FULLY_CONNECTED"]
    assert done.graph.nodes[0].op.activation is activation  # type: ignore[attr-defined]
    assert set(done.eliminated.values()) == {"fold_batch_norm"}
    name = graph.output.name
    wanted, got = evaluate(graph, x)[name], evaluate(done.graph, x)[name]
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5)


def test_the_constants_are_computed_in_double_and_rounded_once() -> None:
    net = linear_net("conv").mul(G).add(C).mul(G).add(C)
    graph = net.graph()
    _, filters, bias = graph.nodes[0].inputs
    rewritten = fold_batch_norm(graph)
    new = [rewritten.tensors[name or ""].constant() for name in rewritten.nodes[0].inputs[1:]]
    g, c = G.astype(np.float64), C.astype(np.float64)
    weights = graph.tensors[filters or ""].constant().astype(np.float64)
    shift = graph.tensors[bias or ""].constant().astype(np.float64)
    np.testing.assert_array_equal(new[0], (weights * (g * g)[:, None, None, None]).astype(np.float32))
    np.testing.assert_array_equal(new[1], (shift * (g * g) + (c * g + c)).astype(np.float32))


@pytest.mark.parametrize("activation", list(Activation))
def test_into_a_binary_convolution_behind_its_activation(activation: Activation) -> None:
    """The activation acts on the integer before multiplier and bias, so that batch norm folds whatever it is."""
    net = Net((1, 5, 6, 40), seed=1).quantize().bconv(5, activation=activation).mul(G).add(C)
    graph, x = net.graph(), net.samples(4)
    rewritten = run_passes(graph, [fold_batch_norm]).graph
    assert names(rewritten) == ["LceQuantize", "LceBconv2d"]
    op = rewritten.nodes[1].op
    assert isinstance(op, LceBconv2d)
    assert op.activation is activation
    name = graph.output.name
    np.testing.assert_allclose(evaluate(rewritten, x)[name], evaluate(graph, x)[name], rtol=0, atol=1e-4)


def test_into_an_operator_without_bias() -> None:
    net = Net((1, 5, 6, 4))
    filters = net.constant("filter", np.ones((5, 3, 3, 4)), DType.FLOAT32)
    net.node(Conv2d(), filters, dtype=DType.FLOAT32).mul(G).add(C)
    graph, x = net.graph(), net.samples(2)
    rewritten = run_passes(graph, [fold_batch_norm]).graph
    assert names(rewritten) == ["CONV_2D"]
    name = graph.output.name
    np.testing.assert_allclose(evaluate(rewritten, x)[name], evaluate(graph, x)[name], rtol=0, atol=1e-4)


def test_one_factor_for_all_channels_folds_too() -> None:
    assert names(fold_batch_norm(linear_net("conv").mul([2.0]).graph())) == ["CONV_2D"]


REFUSED = {
    "an activation of the convolution comes before it": Net((1, 5, 6, 4)).conv(5, activation=Activation.RELU).mul(G),
    "a pool is between them": Net((1, 5, 6, 4)).conv(5).pool().mul(G),
    "its activation comes behind a binary convolution's bias": (
        Net((1, 5, 6, 4)).quantize().bconv(5).mul(G, Activation.RELU)
    ),
    "its factors differ per pixel": Net((1, 5, 6, 4)).conv(5).mul(np.ones((1, 5, 6, 5))),
}


@pytest.mark.parametrize("why", list(REFUSED))
def test_what_is_left_alone(why: str) -> None:
    graph = REFUSED[why].graph()
    assert fold_batch_norm(graph) is graph


def test_another_reader_of_the_convolution_leaves_it_alone() -> None:
    graph = linear_net("conv").mul(G).graph()
    graph = Graph(graph.tensors, graph.nodes, graph.inputs, (graph.nodes[0].output, *graph.outputs))
    assert isinstance(graph.nodes[1].op, Mul)
    assert fold_batch_norm(graph) is graph


def test_an_activation_ends_the_chain() -> None:
    """``relu(x*g) + c`` folds only the factor."""
    net = linear_net("conv").mul(G, Activation.RELU).add(C)
    graph, x = net.graph(), net.samples(2)
    rewritten = run_passes(graph, [fold_batch_norm]).graph
    assert names(rewritten) == ["CONV_2D", "ADD"]
    name = graph.output.name
    np.testing.assert_allclose(evaluate(rewritten, x)[name], evaluate(graph, x)[name], rtol=0, atol=1e-5)
