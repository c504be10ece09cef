"""MAX_POOL_2D on float32 and int8."""

from __future__ import annotations

import numpy as np
import pytest

from onebit.core import DType, Quantization, evaluate
from onebit.core.ops import Activation, MaxPool2d, Padding, PoolWindow
from support.lce import Agrees
from support.nets import Net

QUANTS = {
    "float": None,
    "int8": Quantization.per_tensor(0.03, -5),
    "zero point -128": Quantization.per_tensor(1 / 255, -128),
    "zero point 127": Quantization.per_tensor(0.03, 127),
}


def pooled(
    shape: tuple[int, ...],
    window: PoolWindow,
    quant: Quantization | None,
    activation: Activation = Activation.NONE,
) -> Net:
    dtype = DType.INT8 if quant else DType.FLOAT32
    return Net(shape, dtype, quant).node(MaxPool2d(activation=activation, window=window), dtype=dtype, quant=quant)


@pytest.mark.parametrize("kind", ["float", "int8"])
@pytest.mark.parametrize("padding", list(Padding), ids=str)
@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (2, 1), (3, 2)], ids=str)
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 3), (3, 2), (1, 4)], ids=str)
def test_geometry_on_an_odd_map(
    size: tuple[int, int], stride: tuple[int, int], padding: Padding, kind: str, agrees: Agrees
) -> None:
    net = pooled((1, 5, 7, 3), PoolWindow(size, stride, padding), QUANTS[kind])
    agrees(net.graph(), net.samples(2))


@pytest.mark.parametrize("activation", list(Activation), ids=lambda a: a.name)
@pytest.mark.parametrize("kind", QUANTS)
def test_fused_activations(kind: str, activation: Activation, agrees: Agrees) -> None:
    net = pooled((1, 5, 7, 3), PoolWindow((2, 2), (2, 2), Padding.SAME), QUANTS[kind], activation)
    x = net.samples(3)
    agrees(net.graph(), x if kind != "float" else (x * 6).astype(np.float32))


@pytest.mark.parametrize("channels", [1, 31, 32, 33])
def test_channel_counts(channels: int, agrees: Agrees) -> None:
    for quant in QUANTS.values():
        net = pooled((1, 4, 4, channels), PoolWindow((2, 2), (2, 2), Padding.VALID), quant)
        agrees(net.graph(), net.samples(2))


@pytest.mark.parametrize("kind", ["float", "int8"])
def test_pixels_outside_never_win(kind: str) -> None:
    net = pooled((1, 3, 3, 2), PoolWindow((2, 2), (2, 2), Padding.SAME), QUANTS[kind])
    graph = net.graph()
    lowest = np.full((1, 3, 3, 2), -128 if kind == "int8" else np.finfo(np.float32).min, graph.input.dtype.numpy)
    assert (evaluate(graph, lowest)[graph.outputs[0]] == lowest[0, 0, 0, 0]).all()


def test_a_single_pixel(agrees: Agrees) -> None:
    for quant in QUANTS.values():
        net = pooled((1, 1, 1, 5), PoolWindow((3, 3), (2, 2), Padding.SAME), quant)
        agrees(net.graph(), net.samples(2))


def test_of_zeros_of_either_sign_the_first_counts(agrees: Agrees) -> None:
    for padding in Padding:
        net = pooled((1, 5, 5, 19), PoolWindow((3, 2), (2, 2), padding), None)
        agrees(net.graph(), net.rng.choice(np.float32([0.0, -0.0, -1.0]), (20, 5, 5, 19)))
