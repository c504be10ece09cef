"""Figures about binary weights, against counts made by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from onebit.train.layers import QuantConv2d, QuantLinear
from onebit.train.methods import get_method
from onebit.train.statistics import FlipCounter
from support.method_runs import Run


def net() -> nn.Sequential:
    module = nn.Sequential(QuantConv2d(1, 2, (1, 2)), nn.Flatten(), QuantLinear(2, 2))
    with torch.no_grad():
        module[0].weight.copy_(torch.tensor([0.5, -0.5, 0.25, 1.0]).view(2, 1, 1, 2))
        module[2].weight.copy_(torch.tensor([[1.0, 0.0], [-0.0, -1.0]]))
    return module


def set_convolution(module: nn.Sequential, *values: float) -> None:
    with torch.no_grad():
        module[0].weight.copy_(torch.tensor(values).view(2, 1, 1, 2))


def test_flips_are_counted_at_every_step_and_weights_that_flipped_once() -> None:
    module = net()
    counter = FlipCounter(module, clamp=1.0)
    set_convolution(module, -0.5, -0.5, 0.25, 1.0)
    counter.observe()
    set_convolution(module, 0.5, -0.5, 0.25, -1.0)
    counter.observe()
    convolution, dense = counter.close_epoch()
    assert (convolution.layer, convolution.weights, dense.layer) == ("0", 4, "2")
    assert convolution.flips == 3 / 4
    assert convolution.never_flipped == 2 / 4
    assert (dense.flips, dense.never_flipped) == (0.0, 1.0)
    second = counter.close_epoch()[0]
    assert (second.flips, second.never_flipped) == (0.0, 2 / 4)


def test_clamped_share_and_entropy() -> None:
    convolution, dense = FlipCounter(net(), clamp=1.0).close_epoch()
    assert convolution.clamped == 1 / 4
    assert dense.clamped == 2 / 4
    # Signs of the convolution: (+ -), 1 bit, and (+ +), 0 bits. Zero, of either sign, counts as +1.
    assert convolution.entropy == pytest.approx(0.5)
    assert dense.entropy == pytest.approx(0.5)


def test_no_clamp_clamps_nothing() -> None:
    assert all(row.clamped == 0.0 for row in FlipCounter(net(), clamp=None).close_epoch())


def test_the_lower_of_clamp_and_limit_counts() -> None:
    module = net()
    for clamp, limit, convolution, dense in (
        (1.0, 0.5, 3 / 4, 2 / 4),
        (None, 0.25, 1.0, 2 / 4),
        (0.5, 2.0, 3 / 4, 2 / 4),
    ):
        counter = FlipCounter(module, clamp, [lambda _layer, limit=limit: limit, lambda _layer: None])
        assert [row.clamped for row in counter.close_epoch()] == [convolution, dense]


@pytest.mark.parametrize("reading", ["quantile", "reach", "fixed"])
def test_a_constraint_reports_the_limit_that_it_clamped_at(reading: str) -> None:
    run = Run([get_method(f"weight_constraint:reading={reading},tau_end=0.85,steps=1,sigmas=0.1")])
    counter = FlipCounter(run.net, None, [method.limit_of for method in run.attached])
    assert all(row.clamped == 0.0 for row in counter.close_epoch())
    run.steps(0, 3, of=3)
    for row in counter.close_epoch():
        weight = counter.layers[row.layer].weight.detach().abs()
        assert row.clamped == float((weight == weight.max()).double().mean())
        assert row.clamped > 0.1


def test_filters_that_never_learn_are_left_out() -> None:
    run = Run([get_method("adabin")])
    assert [row.layer for row in FlipCounter(run.net, None).close_epoch()] == ["2.main", "5.main", "8.main"]


def test_a_resumed_counter_goes_on_where_the_first_stopped() -> None:
    module = net()
    counter = FlipCounter(module, clamp=1.0)
    set_convolution(module, -0.5, -0.5, 0.25, 1.0)
    counter.observe()
    resumed = FlipCounter(net(), clamp=1.0)
    resumed.layers = counter.layers
    resumed.resume(counter.state())
    set_convolution(module, -0.5, 0.5, 0.25, 1.0)
    resumed.observe()
    assert resumed.close_epoch()[0].never_flipped == 2 / 4


def test_a_weight_transform_counts_as_it_is_deployed() -> None:
    module = net()
    module[0].weight_transform = torch.neg
    counter = FlipCounter(module, clamp=1.0)
    module[0].weight_transform = None
    counter.observe()
    assert counter.close_epoch()[0].flips == 1.0
