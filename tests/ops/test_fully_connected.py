"""FULLY_CONNECTED: float32 within 1e-5 of the range, int8 identical."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onebit.core import DType, Quantization, spec
from onebit.core.errors import SpecError
from onebit.core.ops import Activation, FullyConnected
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


def vector(kind: str, *shape: int, seed: int = 0) -> Net:
    quant = QUANTS[kind]
    return Net(shape, DType.INT8 if quant else DType.FLOAT32, quant, seed)


def int8_dense(scales: tuple[float, Any, float], op: FullyConnected | None = None, **options: Any) -> Net:
    return int8_linear(op or FullyConnected(), (1, 33), (6, 33), scales=scales, **options)


@pytest.mark.parametrize("kind", QUANTS)
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (1, 10), (31, 3), (32, 10), (33, 7), (300, 1)])
def test_sizes(inputs: int, outputs: int, kind: str, agrees: Agrees) -> None:
    net = vector(kind, 1, inputs).dense(outputs)
    agrees(net.graph(), net.samples(4))


@pytest.mark.parametrize("kind", QUANTS)
def test_an_image_is_flattened(kind: str, agrees: Agrees) -> None:
    for shape in ((1, 2, 3, 4), (1, 1, 1, 5), (1, 6, 4)):
        net = vector(kind, *shape).dense(10)
        agrees(net.graph(), net.samples(3))


@pytest.mark.parametrize("kind", QUANTS)
@pytest.mark.parametrize("activation", list(Activation), ids=lambda a: a.name)
def test_fused_activations(activation: Activation, kind: str, agrees: Agrees) -> None:
    for output in (Quantization.per_tensor(0.02, 4), Quantization.per_tensor(6 / 255, -128)):
        net = vector(kind, 1, 37).dense(10, activation, output if QUANTS[kind] else None)
        agrees(net.graph(), net.samples(5))


@pytest.mark.parametrize("kind", ["float", "int8"])
def test_without_bias(kind: str, agrees: Agrees) -> None:
    if kind == "int8":
        net = int8_dense((0.02, 0.01, 0.05), bias=None)
    else:
        net = vector("float", 1, 33)
        weights = net.constant("filter", net.rng.normal(0, 1, (6, 33)), DType.FLOAT32)
        net.node(FullyConnected(), weights, dtype=DType.FLOAT32)
    agrees(net.graph(), net.samples(5))
    # absent, but listed
    node = net.nodes[0]
    net.nodes[0] = type(node)(node.op, (*node.inputs, None), node.outputs)
    agrees(net.graph(), net.samples(5))


@pytest.mark.parametrize("scale", [1e-3, 0.01, 0.1, 1.0, 10.0, 100.0, 1e4, 1e6, 1e9, 1e12])
@pytest.mark.parametrize("weights", [0.01, PER_CHANNEL], ids=["per tensor", "per channel"])
def test_int8_multipliers_from_large_to_vanishing(weights: Any, scale: float, agrees: Agrees) -> None:
    net = int8_dense((0.02, weights, scale))
    agrees(net.graph(), net.samples(10))


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 5, 7])
def test_int8_multipliers_above_one(exponent: int, agrees: Agrees) -> None:
    net = int8_dense((1.0, 0.75, 2.0**-exponent), bias=np.arange(-3, 3))
    agrees(net.graph(), net.rng.integers(-4, -1, (30, 33)).astype(np.int8))
    agrees(net.graph(), net.samples(10))


@pytest.mark.parametrize("shift", range(1, 12))
def test_int8_rounding_ties(shift: int, agrees: Agrees) -> None:
    for seed in range(4):
        net = int8_dense((0.5, 0.5, 0.25 * 2.0**shift), seed=seed, zero_points=(-3, seed - 2))
        agrees(net.graph(), net.samples(50))


def test_int8_one_scale_per_tensor_is_multiplied_in_float32(agrees: Agrees) -> None:
    """A product that differs between float32 and double moves outputs by one: random scales find such cases."""
    rng = np.random.default_rng(5)
    for seed in range(60):
        scales = (rng.uniform(1e-3, 1), rng.uniform(1e-3, 0.1), rng.uniform(0.1, 30))
        net = int8_dense(scales, seed=seed, zero_points=tuple(rng.integers(-128, 128, 2)))
        agrees(net.graph(), net.samples(20))


@pytest.mark.parametrize("zero_points", [(-128, -128), (-128, 127), (127, -128), (127, 127), (0, 0)], ids=str)
def test_int8_zero_points_at_both_ends(zero_points: tuple[int, int], agrees: Agrees) -> None:
    for activation in Activation:
        net = int8_dense((0.02, PER_CHANNEL, 0.05), FullyConnected(activation), zero_points=zero_points)
        agrees(net.graph(), net.samples(5))


def test_int8_weights_of_minus_128(agrees: Agrees) -> None:
    net = int8_dense((0.02, 0.02, 0.05), lowest_weight=-128)
    agrees(net.graph(), net.samples(5))


def test_an_accumulator_that_could_leave_32_bits_is_refused() -> None:
    net = int8_dense((1e-3, 1e-3, 1.0), bias=np.array([2**31 - 1, 0, 0, 0, 0, 0]))
    with pytest.raises(SpecError, match="32 bits"):
        spec.verify(net.graph(), "test")
