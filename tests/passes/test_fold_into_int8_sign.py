"""Arithmetic per channel in front of the sign of an int8 value: one comparison per channel, or nothing.

The nets see every int8 value in every channel, so that comparing both graphs compares the functions.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from onebit.codegen import find_target
from onebit.codegen.passes.fold_into_int8_sign import fold_into_int8_sign
from onebit.codegen.schedule import compile_graph
from onebit.core import DType, Graph, Quantization, Rounding, evaluate
from onebit.core.bits import unpack
from onebit.core.graph import Array
from onebit.core.ops import Abs, Add, Dequantize, Maximum, Mul, Op, Prelu, Quantize, Relu, Sub
from support.nets import Net
from support.passes import names, run_pass

I8, F32 = DType.INT8, DType.FLOAT32
FOLDED = ["Int8Sign"]
CHANNELS = 35
TERMS = np.linspace(-128, 127, CHANNELS).round()


def quant(scale: float, zero_point: int) -> Quantization:
    return Quantization.per_tensor(scale, zero_point)


def every_value(shape: tuple[int, ...]) -> Array:
    """All int8 values, one per sample, in every element [256, ...]."""
    values = np.arange(-128, 128, dtype=np.int8).reshape(256, *(1,) * (len(shape) - 1))
    return np.broadcast_to(values, (256, *shape[1:]))


def stream(shape: tuple[int, ...] = (1, 3, 3, CHANNELS)) -> Net:
    return Net(shape, I8, quant(0.05, 3))


def step(net: Net, op: Op, operand: Any, *, zero_point: int = 5) -> Net:
    name = net.constant(f"operand_{len(net.nodes)}", operand, I8, quant=quant(0.04, -7))
    return net.node(op, name, dtype=I8, quant=quant(0.06, zero_point))


def folded(graph: Graph, expected: list[str] = FOLDED) -> Graph:
    result = run_pass(fold_into_int8_sign, graph, every_value(graph.input.shape))
    assert names(result.graph) == expected
    return result.graph


@pytest.mark.parametrize("rounding", list(Rounding), ids=lambda r: r.value)
@pytest.mark.parametrize("zero_point", [-128, 5, 127])
@pytest.mark.parametrize("op", [Sub(), Add(), Mul(), Maximum()], ids=lambda op: op.name)
def test_an_operand_per_channel(op: Op, zero_point: int, rounding: Rounding) -> None:
    if isinstance(op, Maximum):
        net = stream()
        net.node(op, net.constant("floor", TERMS, I8, quant=quant(0.05, 3)), dtype=I8, quant=quant(0.05, 3))
    else:
        net = step(stream(), op, TERMS, zero_point=zero_point)
    graph = folded(replace(net.quantize().graph(), rounding=rounding))
    inverted = unpack(graph.tensors[graph.nodes[0].inputs[2] or ""].constant(), CHANNELS)
    # factors below their zero point turn the order round
    turned = isinstance(op, Mul) and zero_point != -128
    assert (inverted.any(), inverted.all()) == (turned, False)


def test_the_threshold_is_the_least_value_that_is_not_negative() -> None:
    """(x - 3) / 20 - (t + 7) / 25 in steps of 0.06, at equal scales by hand."""
    net = Net((1, 1, 1, 4), I8, quant(0.5, 3))
    terms = net.constant("terms", [-9, -1, 0, 100], I8, quant=quant(0.5, -1))
    graph = folded(net.node(Sub(), terms, dtype=I8, quant=quant(0.5, 0)).quantize().graph())
    # x - 3 < t + 1, saturation changes no sign
    np.testing.assert_array_equal(graph.tensors[graph.nodes[0].inputs[1] or ""].constant(), [-5, 3, 4, 104])


def test_one_number_for_all_channels_and_a_longer_chain() -> None:
    net = step(step(stream(), Sub(), [20]), Prelu(), TERMS.reshape(1, 1, -1) * 0 + 9)
    folded(step(net, Mul(), TERMS).quantize().graph())


def test_float_in_between() -> None:
    """DEQUANTIZE and QUANTIZE at a size that is no multiple of their blocks would round the rest differently."""
    net = stream((1, 4, 4, 4)).node(Dequantize(), dtype=F32).mul([0.3, -0.2, 0.1, -1]).add([0.1, 0.2, 0.3, 0.4])
    folded(net.quantize().graph())


def test_values_that_others_read_stay() -> None:
    """The stream has two readers; what lies between it and the sign has one, or is kept."""
    net = step(stream(), Add(), TERMS)
    start = net.now.name
    difference = step(net, Sub(), TERMS)
    graph = difference.quantize().dequantize(I8, quant(0.06, 5)).node(Add(), start, dtype=I8, quant=quant(0.1, 0))
    folded(graph.graph(), ["ADD", "Int8Sign", "LceDequantize", "ADD"])

    net = step(stream(), Sub(), TERMS)
    start = net.now.name
    net.quantize().dequantize(I8, quant(0.06, 5)).node(Add(), start, dtype=I8, quant=quant(0.1, 0))
    kept = net.graph()
    assert fold_into_int8_sign(kept) is kept


def test_refused() -> None:
    position = step(stream(), Sub(), np.arange(9 * CHANNELS).reshape(1, 3, 3, CHANNELS) % 256 - 128)
    twice = stream()
    twice.node(Add(), twice.now.name, dtype=I8, quant=quant(0.1, 0))
    cases = {
        "one operand per element": position,
        "two computed operands": twice,
        "a sign that rises and falls": step(stream().node(Abs(), dtype=I8, quant=quant(0.05, 3)), Sub(), TERMS),
        "float": Net((1, 3, 3, 4)).add([1, 2, 3, 4]),
        "nothing in front of the sign": stream(),
    }
    for name, net in cases.items():
        graph = net.quantize().graph()
        assert fold_into_int8_sign(graph) is graph, name


def test_pixels_that_round_differently_are_refused_where_the_sign_depends_on_it() -> None:
    """Halves go up in whole blocks of 16 and away from zero in the rest: -0.5 is a sign of its own there."""
    for pixels, expected in ((4, FOLDED), (3, ["QUANTIZE", "LceQuantize"])):
        net = Net((1, pixels, 1, 8), I8, quant(0.25, 0)).node(Quantize(), dtype=I8, quant=quant(1.0, 0)).quantize()
        graph = net.graph()
        x = every_value(graph.input.shape)
        result = run_pass(fold_into_int8_sign, graph, x).graph
        assert names(result) == expected
        negative = unpack(evaluate(graph, x)[graph.outputs[0]], 8)
        assert (negative[126] == negative[126, 0, 0, 0]).all() == (expected == FOLDED)


def test_the_pipeline_leaves_one_step() -> None:
    net = step(step(stream(), Sub(), TERMS).node(Relu(), dtype=I8, quant=quant(0.06, 5)), Mul(), TERMS)
    program = compile_graph(net.quantize().graph(), find_target("cortex-m4"))
    assert [step.kernel.function for step in program.steps] == ["ob_sign_i8"]
    assert set(program.eliminated.values()) == {"fold_into_int8_sign"}
