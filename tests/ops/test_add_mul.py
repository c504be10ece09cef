"""ADD and MUL in float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onebit.core import DType, spec
from onebit.core.errors import SpecError
from onebit.core.ops import Activation, Add, Mul
from support.lce import Agrees
from support.nets import Net

SHAPE = (1, 3, 4, 5)
OPS = [Add, Mul]


def net_of(op: type[Add | Mul], other: Any, activation: Activation = Activation.NONE) -> Net:
    net = Net(SHAPE)
    return net.mul(other, activation) if op is Mul else net.add(other, activation)


OTHERS = {
    "one value per channel": np.linspace(-2, 2, 5),
    "one value per channel, 4-D": np.linspace(-2, 2, 5).reshape(1, 1, 1, 5),
    "one value": np.array([-1.7]),
    "one value, no dimension": np.array(0.3),
    "one value, 4-D": np.full((1, 1, 1, 1), 2.5),
    "full shape": np.linspace(-3, 3, 60).reshape(SHAPE),
}


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("case", OTHERS)
def test_broadcasting(case: str, op: type[Add | Mul], agrees: Agrees) -> None:
    net = net_of(op, OTHERS[case])
    agrees(net.graph(), net.samples(3))


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("activation", list(Activation), ids=lambda a: a.name)
def test_fused_activations(activation: Activation, op: type[Add | Mul], agrees: Agrees) -> None:
    net = net_of(op, np.linspace(-2, 2, 5), activation)
    agrees(net.graph(), (net.samples(3) * 6).astype(np.float32))


@pytest.mark.parametrize("activation", list(Activation), ids=lambda a: a.name)
def test_signed_zeros_and_bounds_under_an_activation(activation: Activation, agrees: Agrees) -> None:
    x = np.array([0.0, -0.0, 1.0, -1.0, 6.0, np.nextafter(np.float32(6), np.float32(7)), -1e-30, np.nan], np.float32)
    net = Net((1, 8)).mul(np.ones(8), activation)
    agrees(net.graph(), x.reshape(1, 8))


@pytest.mark.parametrize("op", OPS)
def test_two_activations(op: type[Add | Mul], agrees: Agrees) -> None:
    net = Net(SHAPE).node(op(), "input", dtype=DType.FLOAT32)
    agrees(net.graph(), net.samples(3))
    net = Net(SHAPE).mul(np.linspace(-1, 1, 5))
    net.node(op(), "input", dtype=DType.FLOAT32)
    agrees(net.graph(), net.samples(3))


@pytest.mark.parametrize("other", [(4, 1), (3, 1, 1), (3, 4, 1), (1, 3, 4, 1), (5, 1), (1, 1, 1, 1, 1)], ids=str)
def test_broadcasting_over_other_axes_is_refused(other: tuple[int, ...]) -> None:
    # a square map makes the count of values fit the channels although the axis is another one
    net = Net((1, 5, 5, 5)) if 5 in other or len(other) == 5 else Net(SHAPE)
    graph = net.mul(np.ones(other)).graph()
    with pytest.raises(SpecError, match="leading axes"):
        spec.verify(graph, "test")
