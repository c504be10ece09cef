"""DEPTHWISE_CONV_2D: float32 within 1e-5 of the range, int8 identical."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from onebit.core import DType, Quantization, evaluate, read_model, spec, write_model
from onebit.core.errors import SpecError
from onebit.core.ops import Activation, DepthwiseConv2d, Padding, View
from onebit.simulate import simulate
from support.files import Record, edited, operator
from support.int8 import int8_linear
from support.lce import Agrees, LceSession
from support.nets import Net
from support.window_nets import depthwise

QUANTS = {
    "float": None,
    "int8": Quantization.per_tensor(0.03, -5),
    "zero point -128": Quantization.per_tensor(1 / 255, -128),
    "zero point 127": Quantization.per_tensor(0.03, 127),
}
#: eleven channels: eight that LiteRT takes at a time, and a rest
CHANNELS = 11
PER_CHANNEL = np.geomspace(1e-3, 0.1, CHANNELS)


def image(kind: str, *shape: int, seed: int = 0) -> Net:
    quant = QUANTS[kind]
    return Net(shape, DType.INT8 if quant else DType.FLOAT32, quant, seed)


def int8_depthwise(scales: tuple[float, Any, float], activation: Activation = Activation.NONE, **options: Any) -> Net:
    op = DepthwiseConv2d(activation)
    return int8_linear(op, (1, 4, 5, CHANNELS), (1, 3, 3, CHANNELS), scales=scales, **options)


def int8_biases(scale: float, biases: Any) -> Net:
    """One pixel: for an input of zeros the biases are the accumulators, and 0.25 / `scale` is the multiplier."""
    shape = (1, 1, 1, len(biases))
    return int8_linear(DepthwiseConv2d(), shape, shape, scales=(0.5, 0.5, scale), zero_points=(0, 0), bias=biases)


@pytest.mark.parametrize("kind", ["float", "int8"])
@pytest.mark.parametrize("padding", list(Padding), ids=str)
@pytest.mark.parametrize("kernel", [(1, 1), (2, 2), (3, 3), (3, 2), (1, 4)], ids=str)
@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (2, 1), (3, 3)], ids=str)
def test_geometry(
    stride: tuple[int, int], kernel: tuple[int, int], padding: Padding, kind: str, agrees: Agrees
) -> None:
    for dilation in ((1, 1), (2, 2), (2, 1)):
        net = image(kind, 1, 7, 8, 9).depthwise(1, kernel, stride=stride, dilation=dilation, padding=padding)
        agrees(net.graph(), net.samples(2))


@pytest.mark.parametrize("kind", ["float", "int8"])
@pytest.mark.parametrize("multiplier", [1, 2, 3, 8])
@pytest.mark.parametrize("channels", [1, 3, 4, 7, 8, 9, 16, 17, 33])
def test_channel_counts_and_depth_multipliers(channels: int, multiplier: int, kind: str, agrees: Agrees) -> None:
    net = image(kind, 1, 5, 6, channels).depthwise(multiplier)
    agrees(net.graph(), net.samples(8))


@pytest.mark.parametrize("kind", QUANTS)
@pytest.mark.parametrize("activation", list(Activation), ids=lambda a: a.name)
def test_fused_activations(activation: Activation, kind: str, agrees: Agrees) -> None:
    for output in (Quantization.per_tensor(0.02, 4), Quantization.per_tensor(6 / 255, -128)):
        quant = output if QUANTS[kind] else None
        net = image(kind, 1, 5, 6, CHANNELS).depthwise(activation=activation, quant=quant)
        agrees(net.graph(), net.samples(3))


@pytest.mark.parametrize("kind", QUANTS)
def test_a_single_pixel(kind: str, agrees: Agrees) -> None:
    for kernel in ((1, 1), (3, 3)):
        net = image(kind, 1, 1, 1, 9).depthwise(2, kernel)
        agrees(net.graph(), net.samples(3))


def test_a_window_that_misses_the_image_gives_the_bias(agrees: Agrees) -> None:
    """One pixel between two taps: every tap lies outside."""
    for kind in QUANTS:
        net = image(kind, 1, 1, 1, 9).depthwise(1, (2, 2), dilation=(3, 3))
        graph = net.graph()
        assert all(axis.before == 1 for axis in graph.nodes[0].op.axes(graph.input, graph.tensors["filter_0"]))  # type: ignore[attr-defined]
        agrees(graph, net.samples(2))


def test_padding_pixels_are_the_zero_point() -> None:
    net = image("zero point 127", 1, 4, 4, 3).depthwise()
    graph = net.graph()
    x = np.full((1, 4, 4, 3), 127, np.int8)  # real 0 everywhere: border and middle see the same
    y = evaluate(graph, x)[graph.outputs[0]]
    assert (y == y[0, 0, 0]).all()


@pytest.mark.parametrize("scale", [1e-3, 0.01, 0.1, 1.0, 10.0, 100.0, 1e4, 1e6, 1e9, 1e12])
@pytest.mark.parametrize("weights", [0.01, PER_CHANNEL], ids=["per tensor", "per channel"])
def test_int8_multipliers_from_large_to_vanishing(weights: Any, scale: float, agrees: Agrees) -> None:
    net = int8_depthwise((0.02, weights, scale))
    agrees(net.graph(), net.samples(4))


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 5, 7])
def test_int8_multipliers_above_one(exponent: int, agrees: Agrees) -> None:
    net = int8_depthwise((1.0, 0.75, 2.0**-exponent), bias=np.arange(CHANNELS) - 5)
    graph = net.graph()
    node = graph.nodes[0]
    assert isinstance(node.op, DepthwiseConv2d)
    assert node.op.requantization(View.of(graph, node)).exponent[0] == exponent
    # inputs next to the zero point: most outputs do not saturate
    agrees(graph, net.rng.integers(-4, -1, (8, 4, 5, CHANNELS)).astype(np.int8))
    agrees(graph, net.samples(4))


@pytest.mark.parametrize("shift", range(1, 12))
def test_int8_rounding_ties(shift: int, agrees: Agrees) -> None:
    """A power of two: the bits that fall away are exactly one half for many accumulators, of both signs."""
    for seed in range(4):
        net = int8_depthwise((0.5, 0.5, 0.25 * 2.0**shift), seed=seed, zero_points=(-3, seed - 2))
        agrees(net.graph(), net.samples(6))


@pytest.mark.parametrize("shift", [2, 4, 9])
def test_eight_channels_at_a_time_round_half_up_and_the_rest_half_away(shift: int, agrees: Agrees) -> None:
    halves = np.array([-5, -3, -1, 1, 3, 5, -5, -3, -5, -3, -1]) << (shift - 1)
    net = int8_biases(0.25 * 2.0**shift, halves)
    x = np.zeros((1, 1, 1, len(halves)), np.int8)
    assert evaluate(net.graph(), x)[net.now.name].reshape(-1).tolist() == [-2, -1, 0, 1, 2, 3, -2, -1, -3, -2, -1]
    agrees(net.graph(), x)


def test_int8_accumulators_of_every_size(rng: np.random.Generator, agrees: Agrees) -> None:
    for bits in range(1, 31):
        net = int8_biases(rng.uniform(0.5, 1) * 2.0 ** (bits - 8), rng.integers(-(2**bits), 2**bits, 1003))
        agrees(net.graph(), np.zeros((1, 1, 1, 1003), np.int8))


@pytest.mark.parametrize("zero_points", [(-128, -128), (-128, 127), (127, -128), (127, 127), (0, 0)], ids=str)
def test_int8_zero_points_at_both_ends(zero_points: tuple[int, int], agrees: Agrees) -> None:
    for activation in Activation:
        net = int8_depthwise((0.02, PER_CHANNEL, 0.05), activation, zero_points=zero_points)
        agrees(net.graph(), net.samples(3))


def test_int8_weights_of_minus_128(agrees: Agrees) -> None:
    net = int8_depthwise((0.02, PER_CHANNEL, 0.05), lowest_weight=-128)
    agrees(net.graph(), net.samples(3))


def test_int8_random_scales(agrees: Agrees) -> None:
    rng = np.random.default_rng(5)
    for seed in range(40):
        scales = (rng.uniform(1e-3, 1), rng.uniform(1e-3, 0.1, CHANNELS), rng.uniform(0.1, 10))
        net = int8_depthwise(scales, seed=seed, zero_points=tuple(rng.integers(-128, 128, 2)))
        agrees(net.graph(), net.samples(3))


def test_the_depth_multiplier_of_the_file_is_ignored(lce: LceSession) -> None:
    """The shapes say it; files disagree with themselves, and LiteRT does not look."""
    net = image("int8", 1, 4, 4, 3).depthwise(2)
    x, content = net.samples(2), write_model(net.graph())
    want = lce.run_model(content, x)[0]
    for value in (0, 1, 5):

        def change(record: Record, stated: int = value) -> None:
            operator(record, net.now.name)["builtin_options"]["depth_multiplier"] = stated

        model = edited(content, change)
        np.testing.assert_array_equal(lce.run_model(model, x)[0], want)
        np.testing.assert_array_equal(evaluate(read_model(model), x)[net.now.name], want)


@pytest.mark.parametrize("dtype", [DType.FLOAT32, DType.INT8])
def test_an_absent_bias_counts_as_zero(dtype: DType) -> None:
    """Generated C included."""
    if dtype is DType.INT8:
        without, zeros = (int8_depthwise((0.02, 0.1, 0.5), bias=bias) for bias in (None, np.zeros(CHANNELS)))
    else:
        zeros = image("float", 1, 4, 5, CHANNELS).depthwise()
        zeros.constant("bias_0", np.zeros(CHANNELS), DType.FLOAT32)
        without = image("float", 1, 4, 5, CHANNELS).depthwise()
        without.nodes[0] = replace(without.nodes[0], inputs=without.nodes[0].inputs[:2])
        del without.tensors["bias_0"]
    x = zeros.samples(3)
    np.testing.assert_array_equal(*(evaluate(net.graph(), x)[net.now.name] for net in (without, zeros)))
    assert simulate(write_model(without.graph()), "random:2", reference="numpy").ok


def test_an_accumulator_that_could_leave_32_bits_is_refused() -> None:
    biases = np.zeros(CHANNELS)
    biases[-1] = 2**31 - 1
    with pytest.raises(SpecError, match="32 bits"):
        spec.verify(int8_depthwise((1e-3, 1e-3, 1.0), bias=biases).graph(), "test")


def test_an_accumulator_that_just_stays_within_32_bits(agrees: Agrees) -> None:
    biases = np.array([2**30, -(2**30), 2**31 - 2**21, -(2**31) + 2**21, 1, -1, 7, 8, 2**30 + 5, -(2**31) + 2**21, -9])
    net = int8_depthwise((1e-3, 1e-3, 1.0), bias=biases)
    agrees(net.graph(), net.samples(3))


# ------------------------------------------------------------------------------------------------------------- the C


@pytest.mark.parametrize("dtype", [DType.FLOAT32, DType.INT8], ids=lambda d: d.value)
def test_the_c_code_computes_what_the_interpreter_computes(dtype: DType, lce: LceSession) -> None:
    assert lce
    result = simulate(write_model(depthwise(dtype).graph()), "random:20", layers=True)
    assert result.engine == "larq-compute-engine"
    assert result.ok, result.first_mismatch
    assert result.outputs_equal == result.outputs_compared > 0


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m0plus"])
def test_an_emulated_core_computes_the_same(target: str) -> None:
    result = simulate(write_model(depthwise(DType.INT8).graph()), "random:2", target=target, layers=True)
    assert result.ok, result.first_mismatch
