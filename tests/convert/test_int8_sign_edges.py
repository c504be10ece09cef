"""Tensors that signs and arithmetic read store their values half a step aside, and everybody else makes up for it."""

from __future__ import annotations

import numpy as np
import pytest

from onebit.convert.int8 import FakeQuantized, Int8Model, calibrate, compare_int8, quantize_int8
from onebit.convert.samples import file_input
from onebit.core import DType, Graph, evaluate, write_model
from onebit.core.bits import unpack
from onebit.core.graph import Array
from onebit.core.ops import Activation, Add, Concatenation, Mean, Prelu, Sub
from onebit.core.oracle import Oracle
from onebit.simulate.oracle import LceOracle
from support.nets import Net

F32 = DType.FLOAT32


@pytest.fixture(scope="module")
def lce() -> Oracle:
    return LceOracle()


def residual(op: Add | Sub | None = None) -> Net:
    """Two binary convolutions with a shortcut each; every sum but the last is read by a sign and by a sum."""
    net = Net((1, 8, 8, 3), seed=5).conv(8)
    for _ in range(2):
        shortcut = net.now.name
        net.quantize().bconv(8).node(op or Add(), shortcut, dtype=F32)
    return net


def quantized(net: Net, lce: Oracle, count: int = 64) -> tuple[Graph, Int8Model, Array, Array]:
    """Quantized and compared with the oracle."""
    graph, x = net.graph(), net.samples(count)
    made = quantize_int8(graph, calibrate(graph, x))
    stored = file_input(x, made.graph.input, None)
    result = compare_int8(FakeQuantized(graph, made.graph, made.offsets), write_model(made.graph), stored, lce)
    assert result.argmax_equal == count
    return graph, made, x, stored


def test_a_sign_right_behind_a_rounding_is_exact(lce: Oracle) -> None:
    """The fake-quantized value and its sign agree: no value of [-scale/2, 0) becomes +1."""
    graph, made, x, stored = quantized(residual().conv(4, (1, 1)), lce)
    assert made.offsets["conv_2d_0"] == -made.graph.tensors["conv_2d_0"].quant.scale / 2
    signs = [unpack(v, 8) for v in (_value(graph, x, "lcequantize_1"), _value(made.graph, stored, "lcequantize_1"))]
    real = _value(graph, x, "conv_2d_0")
    scale = made.graph.tensors["conv_2d_0"].quant.scale
    assert ((real < 0) & (real > -scale / 2)).sum() > 30
    # what is left are errors of the int8 input and weights, of either direction
    wrong = signs[0] != signs[1]
    assert np.abs(real[wrong]).max() < scale
    assert wrong.mean() < 0.25 * ((real < 0) & (real > -scale / 2)).mean() + 0.002


def _value(graph: Graph, x: Array, name: str) -> Array:
    return evaluate(graph, x, [name])[name]


def test_sums_convolutions_pools_and_means_make_up_for_it(lce: Oracle) -> None:
    net = residual()
    stream = net.now
    net.average().conv(6, (1, 1))
    shortcut = net.now.name
    net.now = stream
    net.quantize().bconv(6, stride=(2, 2)).node(Add(), shortcut, dtype=F32).reduce(Mean()).dense(5)
    _, made, _, _ = quantized(net, lce)
    halves = {name: -made.graph.tensors[name].quant.scale / 2 for name in ("conv_2d_0", "add_3", "add_6")}
    # the pool shares its input's quantization and offset; the 1x1 convolution behind it absorbs it in its bias
    halves["average_pool_2d_7"] = halves["add_6"]
    # binary convolutions in front of sums supply the difference between two streams
    assert made.offsets == {
        **halves,
        "lcebconv2d_2": pytest.approx(halves["add_3"] - halves["conv_2d_0"]),
        "lcebconv2d_5": pytest.approx(halves["add_6"] - halves["add_3"]),
    }


def test_a_difference(lce: Oracle) -> None:
    _, made, _, _ = quantized(residual(Sub()).conv(4, (1, 1)), lce)
    assert {"conv_2d_0", "sub_3"} <= set(made.offsets)


def test_a_constant_operand(lce: Oracle) -> None:
    net = Net((1, 8, 8, 3), seed=5).conv(8)
    first = net.now.name
    net.quantize().bconv(8).node(Add(), first, dtype=F32).add(np.linspace(-1, 1, 8))
    shortcut = net.now.name
    net.quantize().bconv(8).node(Add(), shortcut, dtype=F32)
    _, made, _, _ = quantized(net, lce)
    assert {"conv_2d_0", "add_4"} <= set(made.offsets)


def test_a_dense_block(lce: Oracle) -> None:
    net = Net((1, 6, 6, 3), seed=5).conv(8)
    first = net.now.name
    net.quantize().bconv(8).node(Concatenation(-1), first, dtype=F32)
    second = net.now.name
    net.quantize().bconv(8).node(Concatenation(-1), second, dtype=F32).conv(4, (1, 1))
    _, made, _, _ = quantized(net, lce)
    assert {made.offsets[name] for name in ("concatenation_3", "lcebconv2d_2", "conv_2d_0")} == {
        -made.graph.tensors["concatenation_3"].quant.scale / 2
    }


NO_OFFSET = {
    "an activation makes the value": lambda: Net((1, 6, 6, 3)).conv(8, activation=Activation.RELU),
    "an activation reads it": lambda: Net((1, 6, 6, 3)).conv(8),
    "a padded convolution reads it": lambda: Net((1, 6, 6, 3)).conv(8),
}


@pytest.mark.parametrize("case", list(NO_OFFSET))
def test_what_cannot_make_up_for_it_leaves_the_tensor_alone(case: str, lce: Oracle) -> None:
    net = NO_OFFSET[case]()
    stem = net.now.name
    net.quantize().bconv(8)
    net.node(Add(), stem, dtype=F32)
    if "padded" in case:
        net.now = net.tensors[stem]
        net.conv(8)
    elif "reads" in case:
        net.now = net.tensors[stem]
        net.node(Prelu(), net.constant("alpha", np.full(8, 0.25), F32), dtype=F32)
    _, made, _, _ = quantized(net, lce)
    assert stem not in made.offsets


def test_a_learned_threshold_behind_a_stream_is_exact_on_its_grid(lce: Oracle) -> None:
    """RSign: sign(x + b) decides for every int8 value of x as real arithmetic does, though b has steps of x."""
    net = residual()
    stream = net.now.name
    b = np.linspace(-0.7, 0.9, 8)
    net.add(b).quantize().bconv(8).node(Add(), stream, dtype=F32)
    graph, made, _, stored = quantized(net, lce)
    added = next(n.output for n in made.graph.nodes if n.op.name == "ADD" and n.inputs[0] == stream)
    sign = made.graph.consumers(added)[0].output
    fake = FakeQuantized(graph, made.graph, made.offsets)
    values = evaluate(made.graph, stored, [stream, sign])
    wanted = fake.real(stream, values[stream]) + b.astype(np.float32) < 0
    np.testing.assert_array_equal(unpack(values[sign], 8), wanted)
