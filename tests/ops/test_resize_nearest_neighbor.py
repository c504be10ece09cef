"""RESIZE_NEAREST_NEIGHBOR over pairs of sizes; further nets are in test_movement.py."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from onebit.core import DType
from onebit.core.ops import ResizeNearestNeighbor
from support.lce import Agrees
from support.movement_nets import move
from support.nets import INT8_INPUT, Net


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("align", [False, True])
def test_every_pair_of_sizes(align: bool, half: bool, agrees: Agrees) -> None:
    """Rows and columns of different sizes at once; every pixel of the input has its own value."""
    sizes = (1, 2, 3, 4, 5, 7, 8, 12, 13)
    for inner, outer in product(sizes, repeat=2):
        net = Net((1, inner, 14 - inner, 1), DType.INT8, INT8_INPUT)
        move(net, ResizeNearestNeighbor(align, half), [outer, 15 - outer])
        agrees(net.graph(), np.arange(inner * (14 - inner), dtype=np.int8).reshape(1, inner, 14 - inner, 1))


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("size", [(49, 224), (96, 7), (100, 99), (3, 250)], ids=str)
def test_large_sizes(size: tuple[int, int], align: bool, half: bool, agrees: Agrees) -> None:
    """Where float32 positions round."""
    net = Net((1, size[0], 2, 3))
    move(net, ResizeNearestNeighbor(align, half), [size[1], 2])
    agrees(net.graph(), net.samples(1))
