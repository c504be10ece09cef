"""QUANTIZE and activations behind a reshape join the binary convolution in front of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from onebit.core import DType, Graph, Quantization
from onebit.core.ops import Dequantize, HardSwish, Quantize
from onebit.core.passes.elementwise_before_reshape import elementwise_before_reshape
from support.nets import Net
from support.passes import names, run_pass

QUANT = Quantization.per_tensor(0.05, 3)


def flat(net: Net) -> Net:
    return net.reshape(1, net.now.elements)


@pytest.mark.parametrize("channels", [3, 8])
def test_operators_by_element_move(channels: int) -> None:
    """27 elements: QUANTIZE rounds the last three in another way, wherever the reshape is."""
    net = flat(Net((1, 3, 3, 16)).quantize().bconv(channels).add([0.1])).node(HardSwish(), dtype=DType.FLOAT32)
    net.node(Quantize(), dtype=DType.INT8, quant=QUANT).node(Dequantize(), dtype=DType.FLOAT32)
    result = run_pass(elementwise_before_reshape, net.graph(), net.samples(16))
    moved = ["HARD_SWISH", "QUANTIZE", "DEQUANTIZE", "RESHAPE"]
    assert names(result.graph) == ["LceQuantize", "LceBconv2d", "ADD", *moved]
    assert result.graph.outputs == net.graph().outputs


def _no_convolution() -> Graph:
    return flat(Net((1, 3, 3, 8))).node(Quantize(), dtype=DType.INT8, quant=QUANT).graph()


def _constant_per_channel() -> Graph:
    return flat(Net((1, 3, 3, 8)).quantize().bconv(4)).mul([2.0]).graph()


def _another_reader() -> Graph:
    graph = flat(Net((1, 3, 3, 8)).quantize().bconv(4)).node(Quantize(), dtype=DType.INT8, quant=QUANT).graph()
    return replace(graph, outputs=(*graph.outputs, "reshape_2"))


def _channels_are_kept() -> Graph:
    """The reshape is part of the chain as it is."""
    net = Net((1, 3, 3, 8)).quantize().bconv(4).reshape(1, 9, 4)
    return net.node(Quantize(), dtype=DType.INT8, quant=QUANT).graph()


@pytest.mark.parametrize("graph", [_no_convolution(), _constant_per_channel(), _another_reader(), _channels_are_kept()])
def test_what_is_left_alone(graph: Graph) -> None:
    assert elementwise_before_reshape(graph) is graph
