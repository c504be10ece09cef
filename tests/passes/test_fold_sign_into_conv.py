"""An int8 CONV_2D that only feeds a sign: one integer threshold per channel.

The proof here is by full enumeration: 1x1 filters on one and two channels, over an image that holds every pair of int8
values, against the LCE interpreter itself.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onebit.codegen.ops import ConvSign
from onebit.codegen.passes.fold_sign_into_conv import accumulator_range, fold_sign_into_conv, solve_conv_thresholds
from onebit.core import DType, Graph, Node, Quantization, Tensor, evaluate
from onebit.core.bits import unpack
from onebit.core.graph import Array
from onebit.core.ops import Activation, Conv2d, LceQuantize, Padding, View
from onebit.simulate.oracle import _interpreter_library
from support.int8 import int8_linear
from support.lce import LceSession
from support.nets import INT8_INPUT, Net
from support.passes import names, run_pass

FOLDED = ["ConvSign"]
ZERO_POINTS = [-128, -127, -1, 0, 5, 127]
VALUES = np.arange(-128, 128, dtype=np.int8)
#: every pair of int8 values, as the pixels of one sample [1, 256, 256, 2]
PAIRS = np.stack(np.meshgrid(VALUES, VALUES, indexing="ij"), axis=-1)[np.newaxis]


@pytest.fixture(scope="module")
def lce(tmp_path_factory: pytest.TempPathFactory) -> Generator[LceSession, None, None]:
    if _interpreter_library() is None:
        pytest.skip("package: the Python module larq_compute_engine is not installed")
    with LceSession(tmp_path_factory.mktemp("lce") / "stderr.txt") as session:
        yield session


def pairs_net(
    *, scales: tuple[float, Any, float], zero_points: tuple[int, int], activation: Activation = Activation.NONE,
    bias: Any = "random", outs: int = 16, seed: int = 0,
) -> Net:  # fmt: skip
    op = Conv2d(activation, padding=Padding.VALID)
    shape = (outs, 1, 1, 2)
    net = int8_linear(op, PAIRS.shape, shape, scales=scales, zero_points=zero_points, bias=bias, seed=seed)
    return net.quantize()


def folded_signs(net: Net, x: Array) -> Array:
    result = run_pass(fold_sign_into_conv, net.graph(), x)
    assert names(result.graph) == FOLDED
    assert dict(result.eliminated) == {"conv_2d_0": "fold_sign_into_conv"}
    words = evaluate(result.graph, x)[result.graph.outputs[0]]
    return unpack(words, result.graph.output.shape[-1])


@pytest.mark.parametrize("activation", list(Activation), ids=lambda a: a.name)
@pytest.mark.parametrize("output_zero", ZERO_POINTS)
def test_every_input_against_the_interpreter(output_zero: int, activation: Activation, lce: LceSession) -> None:
    for input_zero in (-128, 3, 127):
        net = pairs_net(scales=(0.02, 0.01, 0.05), zero_points=(input_zero, output_zero), activation=activation)
        graph = net.graph()
        truth = lce.run(graph, PAIRS)
        signs = folded_signs(net, PAIRS)
        np.testing.assert_array_equal(signs, unpack(truth[graph.outputs[0]], 16))
        np.testing.assert_array_equal(signs, truth["conv_2d_0"] < output_zero)
        # ReLU's lower end is the zero point, and nothing is below -128
        constant = output_zero == -128 or activation in (Activation.RELU, Activation.RELU6)
        assert signs.any() != constant


@pytest.mark.parametrize("output_scale", [1e-4, 0.01, 0.3, 7.0, 1e4])
def test_scales_from_left_shifts_to_nothing(output_scale: float, lce: LceSession) -> None:
    """The output scale decides the shift: to the left with saturation, or so far to the right that all is 0."""
    per_channel = np.geomspace(1e-4, 1e-1, 16)
    net = pairs_net(scales=(0.02, per_channel, output_scale), zero_points=(3, -5), bias=None)
    net.tensors["filter"].constant()[:] = np.random.default_rng(0).integers(-127, 128, (16, 1, 1, 2))
    graph = net.graph()
    truth = lce.run(with_zero_bias(graph), PAIRS)
    np.testing.assert_array_equal(folded_signs(net, PAIRS), unpack(truth[graph.outputs[0]], 16))


def with_zero_bias(graph: Graph) -> Graph:
    """The interpreter demands a bias."""
    outs = graph.tensors["filter"].shape[0]
    bias = Tensor("zeros", (outs,), DType.INT32, None, np.zeros(outs, np.int32))
    conv = replace(graph.nodes[0], inputs=(*graph.nodes[0].inputs[:2], "zeros"))
    return replace(graph, tensors={**graph.tensors, "zeros": bias}, nodes=(conv, *graph.nodes[1:]))


def test_ties_of_the_requantization(lce: LceSession) -> None:
    """A real multiplier of 1/2 and 1/4: every second or fourth accumulator lies between two outputs."""
    for shift, zero_point in ((1, 0), (2, -1), (2, 1), (3, 0)):
        net = pairs_net(scales=(1.0, 1.0, 2.0**shift), zero_points=(0, zero_point), bias=np.arange(-8, 8))
        weights = net.tensors["filter"].constant()
        weights[:] = np.where(np.arange(16)[:, None, None, None] % 2, 1, -1)
        graph = net.graph()
        truth = lce.run(graph, PAIRS)
        np.testing.assert_array_equal(folded_signs(net, PAIRS), unpack(truth[graph.outputs[0]], 16))


def test_thresholds_are_least_accumulators_that_are_not_negative() -> None:
    """Each threshold against a search through all accumulators that the channel can reach."""
    net = pairs_net(scales=(0.02, 0.01, 0.05), zero_points=(3, -5))
    view = View.of(net.graph(), net.nodes[0])
    solved = solve_conv_thresholds(view)
    assert solved is not None and solved.dtype == np.int32
    low, high = accumulator_range(view)
    stage = view.node.op.requantization(view)  # type: ignore[attr-defined]
    bias = view.input(2).constant().astype(np.int64)
    for o in range(16):
        accumulators = np.arange(low[o], high[o] + 1)
        acc = np.zeros((len(accumulators), 16), np.int64)
        acc[:, o] = accumulators + bias[o]
        negative = stage(acc)[:, o] < -5
        assert (np.diff(negative.astype(int)) <= 0).all()
        np.testing.assert_array_equal(negative, accumulators < solved[o])


def test_channels_without_a_negative_value_and_without_another() -> None:
    """A bias beyond the reach of the weights, and weights of zero."""
    bias = np.array([10**6, -(10**6), 0, 1, -1, 0])
    net = pairs_net(scales=(0.02, 0.01, 0.01), zero_points=(0, 0), bias=bias, outs=6)
    net.tensors["filter"].constant()[2:5] = 0
    signs = folded_signs(net, PAIRS).reshape(-1, 6)
    assert [set(column) for column in signs[:, :4].T.tolist()] == [{False}, {True}, {False}, {False}]


@pytest.mark.parametrize("padding", list(Padding), ids=lambda p: p.name)
@pytest.mark.parametrize("input_zero", [-128, 0, 127])
def test_windows_whose_pixels_outside_count_as_the_zero_point(padding: Padding, input_zero: int) -> None:
    net = Net((1, 7, 8, 3), DType.INT8, Quantization.per_tensor(1 / 255, input_zero))
    net.conv(33, (3, 2), padding=padding, stride=(2, 1), dilation=(1, 2)).quantize()
    x = net.samples(32)
    x[0], x[1] = -128, 127
    signs = folded_signs(net, x)
    assert 0 < signs.mean() < 1


def test_the_operator_keeps_the_geometry_and_drops_the_bias() -> None:
    net = Net((1, 7, 8, 3), DType.INT8, INT8_INPUT).conv(5, stride=(2, 1), activation=Activation.RELU6).quantize()
    graph = net.graph()
    node = fold_sign_into_conv(graph).nodes[0]
    assert isinstance(node.op, ConvSign)
    assert node.op.conv == graph.nodes[0].op
    assert node.inputs[:2] == graph.nodes[0].inputs[:2]
    assert len(node.inputs) == 3
    assert node.outputs == graph.outputs


# ------------------------------------------------------------------------------------------------------------ refusals


def refuse(graph: Graph) -> None:
    assert fold_sign_into_conv(graph) is graph


def test_a_real_valued_convolution_is_left_alone() -> None:
    refuse(Net((1, 5, 5, 3)).conv(4).quantize().graph())


def test_an_operator_between_them_leaves_it_alone() -> None:
    refuse(Net((1, 6, 6, 3), DType.INT8, INT8_INPUT).conv(4).pool().quantize().graph())


def test_another_reader_leaves_it_alone() -> None:
    graph = Net((1, 6, 6, 3), DType.INT8, INT8_INPUT).conv(4).quantize().graph()
    refuse(replace(graph, outputs=(*graph.outputs, graph.nodes[0].output)))
    extra = Tensor("extra", (1, 6, 6, 4), DType.BITS)
    node = Node(LceQuantize(), (graph.nodes[0].output,), ("extra",))
    refuse(replace(graph, tensors={**graph.tensors, "extra": extra}, nodes=(*graph.nodes, node)))


def test_a_dense_layer_is_left_alone() -> None:
    net = Net((1, 2, 2, 3), DType.INT8, INT8_INPUT).dense(8).reshape(1, 2, 2, 2).quantize()
    refuse(net.graph())


def test_accumulators_that_a_left_shift_takes_out_of_32_bits_are_refused() -> None:
    """There the requantization would wrap around, and the sign could fall again."""
    net = pairs_net(scales=(1.0, 1.0, 1e-7), zero_points=(0, 0), bias=None)
    view = View.of(net.graph(), net.nodes[0])
    assert solve_conv_thresholds(view) is None
    refuse(net.graph())


def test_a_new_tensor_takes_no_name_that_is_in_use(tmp_path: Path) -> None:
    net = Net((1, 5, 5, 3), DType.INT8, INT8_INPUT).conv(4).quantize().bconv(4, to=DType.BITS)
    graph = net.graph()
    taken = f"{graph.nodes[1].output}/threshold"
    tensors = {taken if k == "threshold_2" else k: t for k, t in graph.tensors.items()}
    tensors[taken] = replace(tensors[taken], name=taken)
    last = replace(graph.nodes[2], inputs=(*graph.nodes[2].inputs[:4], taken))
    changed = replace(graph, tensors=tensors, nodes=(*graph.nodes[:2], last))
    result = run_pass(fold_sign_into_conv, changed, net.samples(8))
    assert result.graph.nodes[0].inputs[2] == f"{taken}_1"
