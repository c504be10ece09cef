"""A batch norm changes places with the max pool in front of it, where no factor is negative."""

from __future__ import annotations

import numpy as np
import pytest

from onebit.core import DType
from onebit.core.ops import Activation, Add, MaxPool2d, Padding, PoolWindow
from onebit.core.passes.norm_before_pool import norm_before_pool
from support.nets import Net
from support.passes import names, run_pass

RISING = np.array([0.5, 0.0, 3.0, 1e-30, 0.1], np.float32)
MIXED = np.array([0.5, -1.25, 3.0, 0.0, -0.1], np.float32)
SHIFT = np.array([0.1, 0.0, -2.0, 1.0, 0.3], np.float32)


@pytest.mark.parametrize("padding", list(Padding))
def test_both_operators_move_and_no_value_changes(padding: Padding) -> None:
    net = Net((1, 5, 7, 5)).pool(2, padding).mul(RISING).add(SHIFT)
    done = run_pass(norm_before_pool, net.graph(), net.samples(6))
    assert names(done.graph) == ["MUL", "ADD", "MAX_POOL_2D"]


def test_an_activation_moves_too() -> None:
    net = Net((1, 4, 4, 5)).pool().mul(RISING).add(SHIFT, Activation.RELU6)
    assert names(run_pass(norm_before_pool, net.graph(), net.samples(6)).graph) == ["MUL", "ADD", "MAX_POOL_2D"]


def test_a_negative_factor_stays_behind() -> None:
    graph = Net((1, 4, 4, 5)).pool().mul(MIXED).add(SHIFT).graph()
    assert norm_before_pool(graph) is graph


def test_a_pool_over_single_pixels_lets_everything_pass() -> None:
    net = Net((1, 5, 6, 5))
    window = PoolWindow((1, 1), (2, 2), Padding.VALID)
    net = net.node(MaxPool2d(window), dtype=net.now.dtype).mul(MIXED).add(SHIFT)
    assert names(run_pass(norm_before_pool, net.graph(), net.samples(6)).graph) == ["MUL", "ADD", "MAX_POOL_2D"]


def test_a_pool_with_an_activation_or_another_reader_stays() -> None:
    clamped = Net((1, 4, 4, 5)).pool(activation=Activation.RELU).mul(RISING).graph()
    assert norm_before_pool(clamped) is clamped
    net = Net((1, 4, 4, 5)).pool()
    pooled = net.now.name
    twice = net.mul(RISING).node(Add(), pooled, dtype=DType.FLOAT32).graph()
    assert norm_before_pool(twice) is twice


def test_factors_per_pixel_stay() -> None:
    graph = Net((1, 4, 4, 5)).pool().mul(np.ones((1, 2, 2, 5), np.float32)).graph()
    assert norm_before_pool(graph) is graph
