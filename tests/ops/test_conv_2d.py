"""CONV_2D: float32 within 1e-5 of the range, int8 identical."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from onebit.core import DType, Quantization, evaluate, spec
from onebit.core.errors import SpecError
from onebit.core.ops import Activation, Conv2d, Padding, View
from support.int8 import int8_linear
from support.lce import Agrees
from support.nets import Net

QUANTS = {
    "float": None,
    "int8": Quantization.per_tensor(0.03, -5),
    "zero point -128": Quantization.per_tensor(1 / 255, -128),
    "zero point 127": Quantization.per_tensor(0.03, 127),
}
PER_CHANNEL = np.geomspace(1e-3, 0.1, 6)


def image(kind: str, *shape: int, seed: int = 0) -> Net:
    quant = QUANTS[kind]
    return Net(shape, DType.INT8 if quant else DType.FLOAT32, quant, seed)


def int8_conv(scales: tuple[float, Any, float], op: Conv2d | None = None, **options: Any) -> Net:
    return int8_linear(op or Conv2d(), (1, 4, 5, 5), (6, 3, 3, 5), scales=scales, **options)


@pytest.mark.parametrize("kind", ["float", "int8"])
@pytest.mark.parametrize("padding", list(Padding), ids=str)
@pytest.mark.parametrize("kernel", [(1, 1), (2, 2), (3, 3), (3, 2), (1, 4)], ids=str)
@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (2, 1), (3, 3)], ids=str)
def test_geometry(
    stride: tuple[int, int], kernel: tuple[int, int], padding: Padding, kind: str, agrees: Agrees
) -> None:
    for dilation in ((1, 1), (2, 2), (2, 1)):
        net = image(kind, 1, 7, 8, 3).conv(5, kernel, stride=stride, dilation=dilation, padding=padding)
        agrees(net.graph(), net.samples(2))


@pytest.mark.parametrize("kind", QUANTS)
@pytest.mark.parametrize("activation", list(Activation), ids=lambda a: a.name)
def test_fused_activations(activation: Activation, kind: str, agrees: Agrees) -> None:
    for output in (Quantization.per_tensor(0.02, 4), Quantization.per_tensor(6 / 255, -128)):
        net = image(kind, 1, 5, 6, 3).conv(5, activation=activation, quant=output if QUANTS[kind] else None)
        agrees(net.graph(), net.samples(3))


@pytest.mark.parametrize("kind", QUANTS)
@pytest.mark.parametrize("channels", [1, 31, 32, 33])
def test_channel_counts(channels: int, kind: str, agrees: Agrees) -> None:
    net = image(kind, 1, 4, 4, channels).conv(channels)
    agrees(net.graph(), net.samples(2))


@pytest.mark.parametrize("kind", QUANTS)
def test_a_single_pixel(kind: str, agrees: Agrees) -> None:
    for kernel in ((1, 1), (3, 3)):
        net = image(kind, 1, 1, 1, 9).conv(6, kernel)
        agrees(net.graph(), net.samples(3))


def test_padding_pixels_are_the_zero_point() -> None:
    net = image("zero point 127", 1, 4, 4, 3).conv(5)
    graph = net.graph()
    x = np.full((1, 4, 4, 3), 127, np.int8)  # real 0 everywhere: border and middle see the same
    y = evaluate(graph, x)[graph.outputs[0]]
    assert (y == y[0, 0, 0]).all()


@pytest.mark.parametrize("scale", [1e-3, 0.01, 0.1, 1.0, 10.0, 100.0, 1e4, 1e6, 1e9, 1e12])
@pytest.mark.parametrize("weights", [0.01, PER_CHANNEL], ids=["per tensor", "per channel"])
def test_int8_multipliers_from_large_to_vanishing(weights: Any, scale: float, agrees: Agrees) -> None:
    net = int8_conv((0.02, weights, scale))
    agrees(net.graph(), net.samples(4))


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 5, 7])
def test_int8_multipliers_above_one(exponent: int, agrees: Agrees) -> None:
    net = int8_conv((1.0, 0.75, 2.0**-exponent), bias=np.arange(-3, 3))
    graph = net.graph()
    node = graph.nodes[0]
    assert isinstance(node.op, Conv2d)
    assert node.op.requantization(View.of(graph, node)).exponent[0] == exponent
    # inputs next to the zero point: most outputs do not saturate
    agrees(graph, net.rng.integers(-4, -1, (8, 4, 5, 5)).astype(np.int8))
    agrees(graph, net.samples(4))


@pytest.mark.parametrize("shift", range(1, 12))
def test_int8_rounding_ties(shift: int, agrees: Agrees) -> None:
    # a power of two: the shifted-out bits are exactly one half for many accumulators, of both signs
    for seed in range(4):
        net = int8_conv((0.5, 0.5, 0.25 * 2.0**shift), seed=seed, zero_points=(-3, seed - 2))
        agrees(net.graph(), net.samples(6))


@pytest.mark.parametrize("zero_points", [(-128, -128), (-128, 127), (127, -128), (127, 127), (0, 0)], ids=str)
def test_int8_zero_points_at_both_ends(zero_points: tuple[int, int], agrees: Agrees) -> None:
    for activation in Activation:
        net = int8_conv((0.02, PER_CHANNEL, 0.05), Conv2d(activation), zero_points=zero_points)
        agrees(net.graph(), net.samples(3))


def test_int8_weights_of_minus_128(agrees: Agrees) -> None:
    net = int8_conv((0.02, PER_CHANNEL, 0.05), lowest_weight=-128)
    agrees(net.graph(), net.samples(3))


@pytest.mark.parametrize("scale", [1e-3, 6.0, 12.1, 1e6])
@pytest.mark.parametrize("activation", list(Activation), ids=lambda a: a.name)
def test_int8_activation_bounds_of_extreme_scales(activation: Activation, scale: float, agrees: Agrees) -> None:
    for zero_point in (-128, 0, 127):
        net = int8_conv((0.02, 0.1, scale), Conv2d(activation), zero_points=(0, zero_point))
        agrees(net.graph(), net.samples(2))


def test_int8_random_scales(agrees: Agrees) -> None:
    rng = np.random.default_rng(5)
    for seed in range(40):
        scales = (rng.uniform(1e-3, 1), rng.uniform(1e-3, 0.1, 6), rng.uniform(0.1, 30))
        net = int8_conv(scales, seed=seed, zero_points=tuple(rng.integers(-128, 128, 2)))
        agrees(net.graph(), net.samples(3))


@pytest.mark.parametrize("dtype", [DType.FLOAT32, DType.INT8])
def test_an_absent_bias_counts_as_zero(dtype: DType) -> None:
    """The interpreter demands a bias for CONV_2D."""
    if dtype is DType.INT8:
        without, zeros = (int8_conv((0.02, 0.1, 0.5), bias=bias) for bias in (None, np.zeros(6)))
    else:
        zeros = image("float", 1, 4, 5, 5).conv(6)
        zeros.constant("bias_0", np.zeros(6), DType.FLOAT32)
        without = image("float", 1, 4, 5, 5).conv(6)
        without.nodes[0] = replace(without.nodes[0], inputs=without.nodes[0].inputs[:2])
    x = zeros.samples(3)
    for bias in (without, zeros):
        spec.verify(bias.graph(), "test")
    np.testing.assert_array_equal(
        *(evaluate(net.graph(), x)[net.now.name] for net in (without, zeros))
    )  # fmt: skip


BIG = 2**30


@pytest.mark.parametrize("name", ["bias", "shifted bias", "taps"])
def test_an_accumulator_that_could_leave_32_bits_is_refused(name: str) -> None:
    if name == "bias":
        net = int8_conv((1e-3, 1e-3, 1.0), bias=np.array([2**31 - 1, 0, 0, 0, 0, 0]))
    elif name == "shifted bias":
        net = int8_conv((1.0, 1.0, 0.3), bias=np.array([-(2**29), 0, 0, 0, 0, 0]))
    else:
        net = int8_conv((1.0, 1.0, 2.0**-14))
    with pytest.raises(SpecError, match="32 bits"):
        spec.verify(net.graph(), "test")


def test_an_accumulator_that_just_stays_within_32_bits(agrees: Agrees) -> None:
    biases = np.array([BIG, -BIG, 2 * BIG - 2**21, -2 * BIG + 2**21, 1, -1])
    net = int8_conv((1e-3, 1e-3, 1.0), bias=biases)
    agrees(net.graph(), net.samples(3))
    net = int8_conv((1.0, 1.0, 0.3), bias=biases // 4)
    agrees(net.graph(), net.samples(3))
