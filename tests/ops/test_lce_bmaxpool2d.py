"""LceBMaxPool2d: maximum of signs, the window clipped to the image."""

from __future__ import annotations

import numpy as np
import pytest

from onebit.core import DType, evaluate
from onebit.core.bits import unpack
from onebit.core.ops import LceBMaxPool2d, Padding, PoolWindow
from support.lce import Agrees
from support.nets import Net


def pooled(
    shape: tuple[int, ...], size: tuple[int, int], stride: tuple[int, int], padding: Padding, seed: int = 0
) -> Net:
    return Net(shape, seed=seed).quantize().node(LceBMaxPool2d(PoolWindow(size, stride, padding)), dtype=DType.BITS)


@pytest.mark.parametrize("padding", list(Padding), ids=str)
@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (2, 1), (3, 2)], ids=str)
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 3), (3, 2), (1, 4)], ids=str)
def test_geometry_on_an_odd_map(
    size: tuple[int, int], stride: tuple[int, int], padding: Padding, agrees: Agrees
) -> None:
    net = pooled((1, 5, 7, 33), size, stride, padding)
    agrees(net.graph(), net.samples(2))


@pytest.mark.parametrize("channels", [1, 31, 32, 33, 64, 65])
def test_channel_counts_around_the_word(channels: int, agrees: Agrees) -> None:
    net = pooled((1, 4, 6, channels), (2, 2), (2, 2), Padding.VALID)
    agrees(net.graph(), net.samples(2))


def test_a_single_pixel(agrees: Agrees) -> None:
    for padding in Padding:
        net = pooled((1, 1, 1, 40), (1, 1), (1, 1), padding)
        agrees(net.graph(), net.samples(2))
    net = pooled((1, 1, 1, 40), (3, 3), (2, 2), Padding.SAME)
    agrees(net.graph(), net.samples(2))


def test_the_pad_bits_of_the_last_word_stay_zero() -> None:
    graph = pooled((1, 5, 5, 33), (3, 3), (2, 2), Padding.SAME).graph()
    words = evaluate(graph, -np.ones((1, 5, 5, 33), np.float32))[graph.outputs[0]]
    assert unpack(words, 64).sum() == 33 * 9


def test_it_is_the_sign_of_the_maximum() -> None:
    net = pooled((1, 6, 6, 34), (2, 2), (2, 2), Padding.VALID)
    x = net.samples(3)
    highest = x.reshape(3, 3, 2, 3, 2, 34).max(axis=(2, 4))
    graph = net.graph()
    np.testing.assert_array_equal(unpack(evaluate(graph, x)[graph.outputs[0]], 34), highest < 0)
