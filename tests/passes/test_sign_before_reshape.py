"""The sign moves in front of a reshape that leaves the packed words alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from onebit.core import DType, Quantization
from onebit.core.ops import ReshapeBits
from onebit.core.passes.sign_before_reshape import sign_before_reshape
from support.nets import INT8_INPUT, Net
from support.passes import names, run_pass

SAME_WORDS = [((1, 4, 4, 5), (1, 2, 8, 5)), ((1, 4, 4, 32), (1, 512)), ((1, 96), (1, 3, 32))]
OTHER_WORDS = [((1, 4, 4, 5), (1, 80)), ((1, 2, 32), (1, 4, 16)), ((1, 4, 4, 48), (1, 768)), ((1, 80), (1, 4, 4, 5))]


@pytest.mark.parametrize("quant", [None, INT8_INPUT, Quantization.per_tensor(0.1, 127)], ids=str)
@pytest.mark.parametrize(("before", "after"), SAME_WORDS, ids=str)
def test_the_words_are_the_same(before: tuple[int, ...], after: tuple[int, ...], quant: Quantization | None) -> None:
    net = Net(before, DType.FLOAT32 if quant is None else DType.INT8, quant).reshape(*after).quantize()
    result = run_pass(sign_before_reshape, net.graph(), net.samples(8))
    assert names(result.graph) == ["LceQuantize", "ReshapeBits"]
    assert dict(result.eliminated) == {"reshape_0": "sign_before_reshape"}


def test_several_reshapes() -> None:
    net = Net((1, 4, 4, 32)).reshape(1, 512).reshape(1, 2, 256).quantize()
    result = run_pass(sign_before_reshape, net.graph(), net.samples(4))
    assert names(result.graph) == ["LceQuantize", "ReshapeBits", "ReshapeBits"]


@pytest.mark.parametrize(("before", "after"), OTHER_WORDS, ids=str)
def test_a_reshape_that_moves_bits_stays_in_front(before: tuple[int, ...], after: tuple[int, ...]) -> None:
    graph = Net(before).reshape(*after).quantize().graph()
    assert sign_before_reshape(graph) is graph


def test_another_reader_keeps_the_reshape() -> None:
    graph = Net((1, 4, 4, 32)).reshape(1, 512).quantize().graph()
    shown = replace(graph, outputs=(*graph.outputs, "reshape_0"))
    assert sign_before_reshape(shown) is shown


def test_a_binary_convolution_in_front_gives_bits() -> None:
    """The next layer sees the same words under another shape, which costs nothing."""
    from onebit.codegen import find_target
    from onebit.codegen.schedule import compile_graph

    net = Net((1, 4, 4, 32)).quantize().bconv(64).reshape(1, 1, 1, 1024).quantize().bconv(7, (1, 1))
    program = compile_graph(net.graph(), find_target("host"))
    assert [step.node.op.name for step in program.steps] == ["LceQuantize", "LceBconv2d", "LceBconv2d"]
    assert any(isinstance(node.op, ReshapeBits) for node in program.graph.nodes)
