"""LceQuantize: where the sign flips, and how channels are packed."""

from __future__ import annotations

import numpy as np
import pytest

from onebit.core import DType, Quantization, evaluate
from onebit.core.bits import unpack
from onebit.core.graph import Array
from support.lce import Agrees
from support.nets import Net

TINY = np.finfo(np.float32).tiny  # the smallest normal number
DENORMAL = np.float32(1e-40)
#: value -> is it -1?
SIGNS = {
    "zero": (0.0, False),
    "negative zero": (-0.0, False),
    "NaN": (np.nan, False),
    "negative NaN": (-np.nan, False),
    "infinity": (np.inf, False),
    "negative infinity": (-np.inf, True),
    "one": (1.0, False),
    "minus one": (-1.0, True),
    "smallest normal": (TINY, False),
    "largest negative normal": (-TINY, True),
    "denormal": (DENORMAL, False),
    # TFLite flushes denormals to zero while it runs
    "negative denormal": (-DENORMAL, False),
    "last negative denormal": (np.nextafter(-TINY, np.float32(0)), False),
}


def bits_of(net: Net, x: Array) -> Array:
    graph = net.graph()
    return unpack(evaluate(graph, x)[graph.outputs[0]], graph.output.shape[-1])


@pytest.mark.parametrize("name", SIGNS)
def test_the_sign_of_a_float(name: str, agrees: Agrees) -> None:
    value, negative = SIGNS[name]
    x = np.full((1, 1, 1, 3), value, np.float32)
    net = Net((1, 1, 1, 3)).quantize()
    agrees(net.graph(), x)
    assert bits_of(net, x).all() == bits_of(net, x).any() == negative


@pytest.mark.parametrize("zero_point", [-128, -127, -1, 0, 1, 126, 127])
def test_all_int8_values_against_the_zero_point(zero_point: int, agrees: Agrees) -> None:
    x = np.arange(-128, 128).astype(np.int8).reshape(1, 2, 4, 32)
    net = Net((1, 2, 4, 32), DType.INT8, Quantization.per_tensor(0.1, zero_point)).quantize()
    agrees(net.graph(), x)
    np.testing.assert_array_equal(bits_of(net, x).reshape(-1), np.arange(-128, 128) < zero_point)


@pytest.mark.parametrize("dtype", [DType.FLOAT32, DType.INT8])
@pytest.mark.parametrize("channels", [1, 31, 32, 33, 64, 65])
def test_channel_counts_around_the_word(channels: int, dtype: DType, agrees: Agrees) -> None:
    quant = Quantization.per_tensor(0.05, 3) if dtype is DType.INT8 else None
    net = Net((1, 3, 5, channels), dtype, quant).quantize()
    x = net.samples(2)
    agrees(net.graph(), x)
    np.testing.assert_array_equal(bits_of(net, x), x < (3 if dtype is DType.INT8 else 0))


@pytest.mark.parametrize("shape", [(1, 7), (1, 2, 3), (1, 1, 1, 1), (1, 2, 2, 2, 5)])
def test_any_rank(shape: tuple[int, ...], agrees: Agrees) -> None:
    net = Net(shape).quantize()
    agrees(net.graph(), net.samples(2))


@pytest.mark.parametrize("channels", [1, 31, 32, 33])
def test_bool_is_negated(channels: int, agrees: Agrees) -> None:
    graph = Net((1, 3, 5, channels), DType.BOOL).quantize().graph()
    x = np.random.default_rng(0).integers(0, 2, (2, 3, 5, channels)).astype(np.bool_)
    agrees(graph, x)
    np.testing.assert_array_equal(unpack(evaluate(graph, x)[graph.outputs[0]], channels), ~x)
