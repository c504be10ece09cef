"""Dense layers of +c and -c on signs become binary convolutions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onebit.codegen import find_target
from onebit.codegen.inspection import inspect_graph
from onebit.codegen.schedule import compile_graph
from onebit.core import DType, Graph, evaluate
from onebit.core.graph import Array
from onebit.core.ops import Activation, FullyConnected, LceBconv2d, View
from onebit.core.passes import run_passes
from onebit.core.passes.binary_dense import binary_dense
from support.chains import binary_dense_layer
from support.nets import Net
from support.passes import all_signs, names, run_pass

POWERS = 2.0 ** np.arange(-4, 3)
RECOVERED = ["LceQuantize", "LceBconv2d", "MUL", "ADD", "RESHAPE"]


def signs(*shape: int) -> Net:
    return Net(shape).quantize().dequantize()


def recovered(net: Net, x: Array) -> Graph:
    """The rewritten graph; identical, because every scale is a power of two."""
    return run_pass(binary_dense, net.graph(), x).graph


@pytest.mark.parametrize("activation", list(Activation))
def test_powers_of_two_give_identical_values(activation: Activation) -> None:
    net = binary_dense_layer(signs(1, 12), POWERS, activation=activation)
    x = all_signs(12).reshape(-1, 12)
    graph = recovered(net, x)
    # the signs [1, 12] are read under another shape
    assert names(graph) == ["LceQuantize", "ReshapeBits", *RECOVERED[1:]]
    assert graph.nodes[-2].op.activation is activation  # type: ignore[attr-defined]
    sums = evaluate(graph, x, [graph.nodes[2].output])[graph.nodes[2].output]
    assert sums.min() >= -12 and sums.max() <= 12 and not (sums % 2).any()


@pytest.mark.parametrize("shape", [(1, 2, 3, 32), (1, 3, 2, 64), (1, 1, 1, 40), (1, 2, 2, 20)], ids=str)
def test_the_kernel_covers_a_map_behind_a_reshape(shape: tuple[int, ...]) -> None:
    """Signs in front of the reshape, or behind it, as the LCE converter leaves them."""
    elements = int(np.prod(shape))
    behind = Net(shape).reshape(1, elements).quantize().dequantize()
    nets = [Net(shape).quantize().dequantize().reshape(1, elements), Net(shape).quantize().dequantize(), behind]
    for net in nets if shape[3] % 32 == 0 else nets[:2]:
        graph = recovered(binary_dense_layer(net, POWERS), net.samples(16))
        assert (
            names(graph)
            == (["RESHAPE", "LceQuantize", "ReshapeBits"] if net is behind else RECOVERED[:1]) + RECOVERED[1:]
        )
        (node,) = [node for node in graph.nodes if isinstance(node.op, LceBconv2d)]
        view = View.of(graph, node)
        assert view.input(0).shape == shape
        assert view.input(1).shape == (len(POWERS), *shape[1:])
        assert view.output.shape == (1, 1, 1, len(POWERS))


@pytest.mark.parametrize("channels", [5, 40])
def test_channels_that_do_not_fill_their_words(channels: int) -> None:
    """Flat signs are read as they are, unless a binary convolution can give bits instead."""
    elements = 16 * channels
    net = binary_dense_layer(Net((1, 4, 4, channels)).reshape(1, elements).quantize().dequantize(), POWERS)
    graph = recovered(net, net.samples(16))
    assert names(graph) == ["RESHAPE", "LceQuantize", "ReshapeBits", *RECOVERED[1:]]
    assert graph.tensors[graph.nodes[3].inputs[1] or ""].shape == (len(POWERS), 1, 1, elements)
    behind = Net((1, 4, 4, 32)).quantize().bconv(channels).reshape(1, elements).quantize().dequantize()
    program = compile_graph(binary_dense_layer(behind, POWERS).graph(), find_target("cortex-m4"))
    first = program.steps[1].output.tensor
    # 5 channels would fill 5 of 32 bits of every word
    assert first.dtype is (DType.BITS if channels == 40 else DType.FLOAT32)


def test_operators_that_would_change_nothing_are_left_out() -> None:
    ones, halves = np.ones(4), np.full(4, 0.5)
    cases: list[tuple[dict[str, Any], list[str]]] = [
        ({"scale": ones, "bias": None}, ["RESHAPE"]),
        ({"scale": ones, "bias": np.zeros(4)}, ["RESHAPE"]),
        ({"scale": ones}, ["ADD", "RESHAPE"]),
        ({"scale": halves, "bias": None}, ["MUL", "RESHAPE"]),
        ({"scale": ones, "bias": None, "activation": Activation.RELU6}, ["MUL", "RESHAPE"]),
    ]
    for options, wanted in cases:
        net = binary_dense_layer(Net((1, 2, 2, 32)).quantize().dequantize(), **options)
        graph = recovered(net, net.samples(16))
        assert names(graph)[2:] == wanted
        if "MUL" in wanted:
            # one factor for all channels is stored once
            assert graph.tensors[graph.nodes[2].inputs[1] or ""].shape == (1,)


@pytest.mark.parametrize("inputs", [64, 1000, 16384])
def test_other_scales_differ_by_roundings_of_the_result_only(inputs: int) -> None:
    """Against exact rational arithmetic: half a unit in the last place for the product, and for the sum with the bias.

    A float sum of the products, in any order, is at least as far away.
    """
    rng = np.random.default_rng(inputs)
    scale = rng.uniform(1e-3, 3, 10).astype(np.float32)
    net = binary_dense_layer(signs(1, inputs), scale)
    graph, x = net.graph(), net.samples(20)
    rewritten = run_passes(graph, [binary_dense]).graph
    name = graph.outputs[0]
    got = evaluate(rewritten, x)[name].astype(np.float64)
    filters, bias = (graph.tensors[n or ""].constant() for n in graph.nodes[-1].inputs[1:])
    dots = np.where(x < 0, -1.0, 1.0) @ np.sign(filters).T.astype(np.float64)
    product = dots * scale.astype(np.float64)
    exact = product + bias
    allowed = 0.5 * np.spacing(np.abs(product).astype(np.float32)) + 0.5 * np.spacing(np.abs(got).astype(np.float32))
    assert (np.abs(got - exact) <= allowed).all()


def test_dense_behind_dense_stays_packed() -> None:
    net = Net((1, 4, 4, 32)).quantize().bconv(64).reshape(1, 1024).quantize().dequantize()
    binary_dense_layer(net, np.full(33, 0.5)).mul(np.linspace(-1, 1, 33)).quantize().dequantize()
    graph = binary_dense_layer(net, POWERS).graph()
    program = compile_graph(graph, find_target("cortex-m4"))
    assert [step.node.op.name for step in program.steps] == [
        "LceQuantize", "LceBconv2d", "onebit.BinaryConvSign", "LceBconv2d", "MUL", "ADD",
    ]  # fmt: skip
    assert isinstance(program.steps[3].node.op, LceBconv2d)
    assert {program.eliminated[n] for n in ("fully_connected_5", "mul_6")} == {"fold_sign_into_ranges"}


@pytest.mark.parametrize(("inputs", "most"), [(1024, 1536), (16384, 21000)])
def test_the_weights_take_a_bit_each(inputs: int, most: int) -> None:
    """In float32 they took 40 KB and 655 KB."""
    graph = binary_dense_layer(signs(1, inputs), np.linspace(0.1, 1, 10)).graph()
    assert compile_graph(graph, find_target("cortex-m4")).weight_bytes <= most


def test_what_is_left_alone() -> None:
    real = signs(1, 64).dense(4)
    three_values = binary_dense_layer(signs(1, 64), np.ones(4))
    weights = three_values.tensors[three_values.nodes[-1].inputs[1] or ""].constant()
    weights[1, 3] = 0.0
    near = binary_dense_layer(signs(1, 64), np.ones(4))
    weights = near.tensors[near.nodes[-1].inputs[1] or ""].constant()
    weights[1, 3] *= np.float32(1 + 2**-23)
    no_signs = binary_dense_layer(Net((1, 64)), np.ones(4))
    for net in (real, three_values, near, no_signs):
        graph = net.graph()
        assert binary_dense(graph) is graph
        assert isinstance(graph.nodes[-1].op, FullyConnected)


def test_signs_with_another_reader_are_kept() -> None:
    net = Net((1, 2, 2, 32)).quantize().dequantize()
    shown = net.now.name
    graph = binary_dense_layer(net, POWERS).graph()
    graph = Graph(graph.tensors, graph.nodes, graph.inputs, (*graph.outputs, shown))
    result = run_pass(binary_dense, graph, net.samples(8))
    assert names(result.graph) == ["LceQuantize", "LceDequantize", "LceBconv2d", "MUL", "ADD", "RESHAPE"]
    assert result.graph.tensors[shown].dtype is DType.FLOAT32


def test_inspect_counts_its_products_as_binary() -> None:
    graph = binary_dense_layer(signs(1, 64), np.ones(10)).graph()
    inspection = inspect_graph(graph, find_target("cortex-m4"))
    row = inspection.ops[-1]
    assert row.op == "FULLY_CONNECTED" and row.binary and row.macs == 640
    assert row.why == "weights of +c and -c on signs: a binary convolution, its sum scaled once"
    assert (inspection.binary_macs, inspection.other_macs) == (640, 0)
