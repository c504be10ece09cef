"""Channels brought to one magnitude, signs taken where int8 can tell them: no float value and no sign changes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from onebit.convert.int8 import quantize
from onebit.convert.int8.equalize import LARGEST_EXPONENT, QUANTILE, equalize
from onebit.convert.int8.quantizer import threshold_chains
from onebit.convert.int8.readable_signs import readable_signs
from onebit.core import DType, Graph, evaluate
from onebit.core.graph import Array
from onebit.core.ops import (
    Activation,
    Add,
    Concatenation,
    HardSwish,
    LceQuantize,
    LeakyRelu,
    Logistic,
    Maximum,
    Mean,
    Mul,
    Padding,
    Prelu,
    Relu6,
    Sub,
)
from onebit.simulate.oracle import LceOracle
from support.nets import Net

F32 = DType.FLOAT32
SPREAD = np.exp2(np.linspace(-7, 2, 8)).astype(np.float32)
"""Channels of very different magnitudes, as training with signs leaves them."""


def stem(seed: int = 3) -> Net:
    return Net((1, 8, 8, 3), seed=seed).conv(8).mul(SPREAD)


def prelu(net: Net, slopes: object) -> Net:
    return net.node(Prelu(), net.constant(f"slopes_{len(net.nodes)}", slopes, F32), dtype=F32)


def residual_stream() -> Net:
    """Two units, then a shrinking one whose shortcut doubles the channels, then the classifier."""
    net = prelu(stem(), np.linspace(0.01, 0.3, 8))
    for _ in range(2):
        shortcut = net.now.name
        net.quantize().bconv(8).mul(SPREAD).node(Add(), shortcut, dtype=F32)
        prelu(net, np.full(8, 0.2))
    stream = net.now
    net.average()
    net.node(Concatenation(-1), net.now.name, dtype=F32).mul(np.tile(SPREAD[::-1], 2))
    shortcut = net.now.name
    net.now = stream
    net.quantize().bconv(16, stride=(2, 2)).node(Add(), shortcut, dtype=F32)
    return net.reduce(Mean()).dense(5)


def layers() -> Net:
    """What else passes a factor on, and the layers that take one in."""
    net = stem().depthwise(2).node(LeakyRelu(0.1), dtype=F32).pool().add(np.linspace(-1, 1, 16))
    net.conv(8).mul(SPREAD, Activation.RELU)
    return net.reshape(1, 128).dense(8).mul(SPREAD).dense(4)


def bounded(make: Callable[[Net], Net]) -> Callable[[], Net]:
    """An operator that passes no factor on, between layers that could take one."""
    return lambda: make(stem()).conv(8).reshape(1, 512).dense(4)


def gate(net: Net) -> Net:
    stream = net.now
    net.reduce(Mean(keep_dims=True)).conv(8, (1, 1)).node(Logistic(), dtype=F32)
    weights, net.now = net.now.name, stream
    return net.node(Mul(), weights, dtype=F32)


NETS: dict[str, Callable[[], Net]] = {
    "residual_stream": residual_stream,
    "layers": layers,
    "relu6": bounded(lambda net: net.node(Relu6(), dtype=F32)),
    "fused relu6": bounded(lambda net: net.mul(SPREAD, Activation.RELU6)),
    "hard swish": bounded(lambda net: net.node(HardSwish(), dtype=F32)),
    "gate": bounded(gate),
    "product": bounded(lambda net: net.node(Mul(), net.now.name, dtype=F32)),
    "mean of channels": bounded(lambda net: net.reduce(Mean(keep_dims=True), (3,))),
    "maximum of a constant": bounded(lambda net: net.node(Maximum(), net.constant("least", SPREAD, F32), dtype=F32)),
    "subtracted from a constant": bounded(lambda net: net.node(Sub(), net.constant("c", SPREAD, F32), dtype=F32)),
    "scalar term": bounded(lambda net: net.add(0.3)),
    "signs as numbers": lambda: stem().quantize().dequantize().conv(8).reshape(1, 512).dense(4),
    "straight to the output": stem,
}


def factors(graph: Graph, x: Array) -> dict[str, Array]:
    """Of every float tensor, per channel, from the values; each the same power of two for all of a channel."""
    names = [t.name for t in graph.activations()]
    scaled = equalize(graph, x)
    old, new = evaluate(graph, x, names), evaluate(scaled, x, names)
    found = {}
    for name in names:
        if graph.tensors[name].dtype is not F32:
            np.testing.assert_array_equal(new[name], old[name])
            continue
        a, b = (v.reshape(-1, v.shape[-1]) for v in (old[name], new[name]))
        factor = np.array([(b[a[:, c] != 0, c] / a[a[:, c] != 0, c]).max(initial=1.0) for c in range(a.shape[1])])
        np.testing.assert_array_equal(b, a * factor.astype(np.float32))
        assert (np.exp2(np.round(np.log2(factor))) == factor).all()
        found[name] = factor
    np.testing.assert_array_equal(new[graph.output.name], old[graph.output.name])
    return found


@pytest.mark.parametrize("name", NETS)
def test_every_value_is_the_old_one_times_a_power_of_two(name: str) -> None:
    net = NETS[name]()
    found = factors(net.graph(), net.samples(8))
    assert (found[net.now.name] == 1).all()
    if name == "straight to the output":
        assert all((factor == 1).all() for tensor, factor in found.items() if tensor.startswith("mul"))


def test_channels_of_a_stream_become_alike() -> None:
    net = residual_stream()
    graph, x = net.graph(), net.samples(32)
    found = factors(graph, x)
    assert found["mul_1"].max() >= 2**7
    scaled = equalize(graph, x)
    stream = ["prelu_2", "add_6", "prelu_7", "add_11", "prelu_12"]
    assert {graph.tensors[name].name for name in stream} == set(stream)
    values = evaluate(scaled, x, stream)
    reach = {name: np.quantile(np.abs(v).reshape(-1, 8), QUANTILE, axis=0) for name, v in values.items()}
    largest = np.max(list(reach.values()), axis=0)
    # by a factor of two, but for what the branches into the stream reach
    assert largest.max() / largest.min() < 2.5
    for name in stream[1:]:
        np.testing.assert_array_equal(found[name], found[stream[0]])


def test_a_dead_channel_and_an_almost_dead_one_stay_finite() -> None:
    scale = np.array([1, 0, 1e-30, 1, 1, 1, 1, 1], np.float32)
    net = Net((1, 6, 6, 3)).conv(8).mul(scale).quantize().bconv(4, (6, 6), padding=Padding.VALID).dense(3)
    found = factors(net.graph(), net.samples(8))["mul_1"]
    assert found[1] == 1
    assert found[2] <= 2**LARGEST_EXPONENT


def test_signs_of_small_channels_survive_int8() -> None:
    """Without equalization one scale for all would lose the signs of channels of less than a step."""
    net = stem()
    shortcut = net.now.name
    net.quantize().bconv(8).mul(SPREAD).node(Add(), shortcut, dtype=F32).quantize().bconv(8)
    made = quantize(net.reduce(Mean()).dense(5).graph(), net.samples(64), net.samples(64), LceOracle())
    flips = [layer.flips for layer in made.report.layers if layer.flips is not None]
    assert len(flips) == 2
    assert max(flips) < 0.03


# ------------------------------------------------------------------------------------------------------ readable signs


def signed_prelu(slopes: object, *, reads_value: bool = True) -> Net:
    net = prelu(Net((1, 6, 6, 3), seed=4).conv(8), slopes)
    value = net.now.name
    net.quantize().bconv(8)
    return net.node(Add(), value, dtype=F32) if reads_value else net


@pytest.mark.parametrize("reads_value", [True, False])
@pytest.mark.parametrize(
    ("slopes", "added"), [(np.full(8, 0.001), 0), ([0.2, -0.3, 0.0, 1, 2, -0.0, 1e-9, 3], 1), (np.zeros(8), 1)]
)
def test_signs_behind_a_prelu_read_what_keeps_them(slopes: object, added: int, *, reads_value: bool) -> None:
    net = signed_prelu(slopes, reads_value=reads_value)
    graph, x = net.graph(), net.samples(16)
    better = readable_signs(graph, threshold_chains(graph))
    for name in ("lcequantize_2", graph.output.name):
        np.testing.assert_array_equal(evaluate(better, x, [name])[name], evaluate(graph, x, [name])[name])
    kinds = [type(node.op) for node in better.nodes]
    assert kinds.count(Prelu) == reads_value + added
    (sign,) = (node for node in better.nodes if isinstance(node.op, LceQuantize))
    if not added:
        assert sign.inputs == ("conv_2d_0",)
    if reads_value:  # so that it may overwrite what the sign has read
        assert better.nodes.index(sign) < better.nodes.index(better.producer("prelu_1"))  # type: ignore[arg-type]


def test_signs_behind_a_leaky_relu_and_signs_that_become_thresholds() -> None:
    net = Net((1, 6, 6, 3), seed=4).conv(8).node(LeakyRelu(0.01), dtype=F32).quantize().bconv(8)
    graph = readable_signs(net.graph(), set())
    assert [type(node.op).__name__ for node in graph.nodes] == ["Conv2d", "LceQuantize", "LceBconv2d"]
    net = prelu(Net((1, 6, 6, 3), seed=4).conv(8).quantize().bconv(32), np.full(32, 0.1)).quantize().bconv(8)
    graph = net.graph()
    assert readable_signs(graph, threshold_chains(graph)) is graph


def test_a_sign_behind_a_small_slope_survives_int8() -> None:
    net = signed_prelu(np.full(8, 0.004)).reduce(Mean()).dense(5)
    made = quantize(net.graph(), net.samples(64), net.samples(64), LceOracle())
    (flips,) = (layer.flips for layer in made.report.layers if layer.flips is not None)
    assert flips < 0.02
