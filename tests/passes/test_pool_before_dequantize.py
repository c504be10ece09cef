"""Max pools of +1/-1 move in front of the LceDequantize."""

from __future__ import annotations

from dataclasses import replace

import pytest

from onebit.core import DType, Quantization
from onebit.core.ops import Activation, Padding
from onebit.core.passes.pool_before_dequantize import pool_before_dequantize
from support.nets import Net
from support.passes import names, run_pass


@pytest.mark.parametrize("padding", list(Padding))
@pytest.mark.parametrize("quant", [None, (0.03, 5), (1e-3, -128), (1e-3, 127)], ids=str)
def test_the_values_are_the_same(padding: Padding, quant: tuple[float, int] | None) -> None:
    """Also where both levels saturate to one value."""
    net = Net((1, 5, 7, 33)).quantize()
    if quant is None:
        net.dequantize()
    else:
        net.dequantize(DType.INT8, Quantization.per_tensor(*quant))
    net.pool(2, padding).pool(2)
    result = run_pass(pool_before_dequantize, net.graph(), net.samples(8))
    assert names(result.graph) == ["LceQuantize", "LceBMaxPool2d", "LceBMaxPool2d", "LceDequantize"]
    assert set(result.eliminated) == {"lcedequantize_1", "max_pool_2d_2"}


def test_an_activation_or_another_reader_keeps_the_pool_in_place() -> None:
    graph = Net((1, 4, 4, 3)).quantize().dequantize().pool(activation=Activation.RELU).graph()
    assert pool_before_dequantize(graph) is graph
    graph = Net((1, 4, 4, 3)).quantize().dequantize().pool().graph()
    shown = replace(graph, outputs=(*graph.outputs, "lcedequantize_1"))
    assert pool_before_dequantize(shown) is shown
