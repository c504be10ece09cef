"""REDUCE_MAX on float32 and int8; its C is tested in test_mean.py."""

from __future__ import annotations

import numpy as np
import pytest

from onebit.core import DType, Quantization
from onebit.core.ops import ReduceMax
from support.lce import Agrees
from support.nets import Net

QUANTS = [None, *(Quantization.per_tensor(0.03, zero_point) for zero_point in (-128, -5, 127))]
AXES = [(1, 2), (2, 1), (-3, -2), (1, 1, 2), (1,), (2,), (3,), (-1,), (2, 3), (1, 2, 3)]


def image(quant: Quantization | None, *shape: int) -> Net:
    return Net(shape, DType.INT8 if quant else DType.FLOAT32, quant)


@pytest.mark.parametrize("keep_dims", [False, True])
@pytest.mark.parametrize("axes", AXES, ids=str)
def test_axes(axes: tuple[int, ...], keep_dims: bool, agrees: Agrees) -> None:
    for quant in QUANTS:
        for shape in ((1, 5, 7, 3), (1, 4, 4, 33), (1, 1, 1, 2)):
            net = image(quant, *shape).reduce(ReduceMax(keep_dims), axes)
            agrees(net.graph(), net.samples(3))


def test_other_ranks(agrees: Agrees) -> None:
    for shape, axes in (((1, 12), (1,)), ((1, 5, 6), (1,)), ((1, 5, 6), (2,)), ((1, 2, 3, 4, 5), (2, 3))):
        for quant in QUANTS:
            net = image(quant, *shape).reduce(ReduceMax(), axes)
            agrees(net.graph(), net.samples(3))


def test_values_at_the_ends(agrees: Agrees) -> None:
    graph = image(QUANTS[2], 1, 2, 2, 3).reduce(ReduceMax()).graph()
    agrees(graph, np.array([-128, 127, 0], np.int8).repeat(12).reshape(3, 2, 2, 3))
    graph = image(None, 1, 2, 2, 3).reduce(ReduceMax()).graph()
    extremes = np.array([-np.inf, np.inf, np.finfo(np.float32).min], np.float32)
    agrees(graph, extremes.repeat(12).reshape(3, 2, 2, 3))


def test_of_zeros_of_either_sign_the_last_counts(agrees: Agrees) -> None:
    for axes in ((1,), (2,), (3,), (1, 2)):
        net = image(None, 1, 3, 5, 19).reduce(ReduceMax(), axes)
        agrees(net.graph(), net.rng.choice(np.float32([0.0, -0.0, -1.0]), (20, 3, 5, 19)))
