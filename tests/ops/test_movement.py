"""Operators that only move elements, and those that rename axes, over one table of nets."""

from __future__ import annotations

import numpy as np
import pytest

from onebit.core import DType, Quantization, Rounding, evaluate, spec
from onebit.core.errors import SpecError
from onebit.core.ops import Concatenation, PadV2, Squeeze
from support.lce import Agrees, LceRefusedError, LceSession
from support.movement_nets import NETS, Make, cases, move, start, value
from support.nets import Net


@pytest.mark.parametrize(("make", "dtype"), cases(*NETS))
def test_against_the_interpreter(make: Make, dtype: DType, agrees: Agrees, rounding: Rounding) -> None:
    net = make(dtype)
    graph = net.graph()
    if rounding is Rounding.TFLM and any(getattr(node.op, "ellipsis_mask", 0) for node in graph.nodes):
        with pytest.raises(SpecError, match="no ellipsis"):
            agrees(graph, net.samples(3))
    else:
        agrees(graph, net.samples(3))


@pytest.mark.parametrize(("make", "dtype"), cases(*NETS))
def test_samples_are_independent(make: Make, dtype: DType) -> None:
    """N samples at once are N times one sample: no index reaches into the batch."""
    net = make(dtype)
    graph, x = net.graph(), net.samples(3)
    together = evaluate(graph, x)[graph.outputs[0]]
    for i in range(3):
        np.testing.assert_array_equal(evaluate(graph, x[i : i + 1])[graph.outputs[0]], together[i : i + 1])


def test_int8_of_another_quantization_is_refused_as_the_interpreter_does(lce: LceSession) -> None:
    """LiteRT rescales uint8 in CONCATENATION, but not int8."""
    net = start(DType.INT8)
    other = net.constant("other", np.ones((1, 4, 5, 2)), DType.INT8, quant=Quantization.per_tensor(0.03, 7))
    graph = move(net, Concatenation(3), other).graph()
    with pytest.raises(SpecError, match="one quantization for all"):
        spec.verify(graph, "test")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spec, "verify", lambda *_: None)
        with pytest.raises(LceRefusedError, match="scale"):
            lce.run(graph, net.samples(1))


def test_values_are_moved_as_bits(agrees: Agrees) -> None:
    """NaN, infinities and negative zeros of the input arrive unchanged."""
    net = start(DType.FLOAT32, (1, 5))
    graph = move(net, PadV2(), [[0, 0], [1, 1]], value(net, [-0.0])).graph()
    agrees(graph, np.array([[np.nan, -np.inf, -0.0, 0.0, 1e-45]], np.float32))


def test_an_empty_squeeze_drops_all_axes_of_one() -> None:
    """Then the batch is gone, too."""
    graph = move(Net((1, 1, 3, 7)), Squeeze()).graph()
    assert graph.output.shape == (3, 7)
    with pytest.raises(SpecError, match="the batch dimension must be 1"):
        spec.verify(graph, "test")
