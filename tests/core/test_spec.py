"""Every rule of the spec is broken by a graph that breaks just it, and named in the error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from onebit.core import DType, Graph, Quantization, Tensor, spec
from onebit.core.errors import SpecError
from onebit.core.ops import LceQuantize
from support.edits import with_extra, with_node, with_op, with_tensor, without_input
from support.files import attribute_net, float_net, int8_net
from support.nets import Net

QUANT = Quantization.per_tensor(0.1, 0)


def small() -> Graph:
    """input -> MUL mul_0 -> LceQuantize lcequantize_1."""
    return Net((1, 4)).mul(np.arange(4)).quantize().graph()


def small_int8() -> Graph:
    return Net((1, 4), DType.INT8, QUANT).reshape(1, 2, 2).graph()


def bits() -> Graph:
    return Net((1, 4, 4, 33)).quantize().bconv(5).graph()


def set_pad_bit(graph: Graph) -> Graph:
    words = graph.tensors["filter_1"].constant().copy()
    words[0, 0, 0, 1] |= 2
    return with_tensor(graph, "filter_1", data=words)


def with_scales(*scales: float) -> Graph:
    return with_tensor(small_int8(), "reshape_0", quantization=Quantization(scales, (0,) * len(scales)))


def with_zero_point(zero_point: int) -> Graph:
    return with_tensor(small_int8(), "reshape_0", quantization=Quantization((0.1,), (zero_point,)))


#: what is wrong -> (rule, graph, place, complaint)
CASES: dict[str, tuple[Callable[[Graph], object], Callable[[], Graph], str, str]] = {
    "unknown node input": (
        spec.tensors_exist, lambda: with_node(small(), 1, inputs=("nothing",)), "nothing", "does not exist",
    ),
    "unknown node output": (
        spec.tensors_exist, lambda: with_node(small(), 1, outputs=("nothing",)), "nothing", "does not exist",
    ),
    "unknown graph input": (spec.tensors_exist, lambda: replace(small(), inputs=("nothing",)), "nothing", "not exist"),
    "unknown graph output": (spec.tensors_exist, lambda: replace(small(), outputs=("nothing",)), "nothing", "exist"),
    "no nodes": (spec.has_inputs_and_outputs, lambda: replace(small(), nodes=()), "graph", "no operators"),
    "no inputs": (spec.has_inputs_and_outputs, lambda: replace(small(), inputs=()), "graph", "no inputs"),
    "no outputs": (spec.has_inputs_and_outputs, lambda: replace(small(), outputs=()), "graph", "no outputs"),
    "two inputs": (
        spec.has_inputs_and_outputs,
        lambda: replace(with_extra(small(), Tensor("more", (1, 4), DType.FLOAT32)), inputs=("input", "more")),
        "graph", "2 inputs, supported is 1",
    ),
    "constant input": (
        spec.has_inputs_and_outputs, lambda: with_tensor(small(), "input", data=np.zeros((1, 4), np.float32)), "input",
        "constant data",
    ),
    "read before computed": (
        spec.computed_once_before_use, lambda: replace(small(), nodes=small().nodes[::-1]),
        "LceQuantize 'lcequantize_1'", "reads 'mul_0', which is not computed before",
    ),
    "reads itself": (
        spec.computed_once_before_use, lambda: with_node(small(), 1, inputs=("lcequantize_1",)),
        "LceQuantize 'lcequantize_1'", "which is not computed before",
    ),
    "computed twice": (
        spec.computed_once_before_use, lambda: replace(small(), nodes=(*small().nodes, small().nodes[1])),
        "LceQuantize 'lcequantize_1'", "computes 'lcequantize_1', which already has a value",
    ),
    "an input is computed": (
        spec.computed_once_before_use, lambda: with_node(small(), 1, outputs=("input",)), "LceQuantize 'input'",
        "already has a value",
    ),
    "a constant is computed": (
        spec.computed_once_before_use, lambda: with_node(small(), 1, outputs=("factor_0",)), "LceQuantize 'factor_0'",
        "already has a value",
    ),
    "an output is never computed": (
        spec.computed_once_before_use, lambda: replace(small(), nodes=small().nodes[:1]), "lcequantize_1",
        "never computed",
    ),
    "an output is a constant": (
        spec.computed_once_before_use, lambda: replace(small(), outputs=("factor_0",)), "factor_0", "never computed",
    ),
    "an output is an input": (
        spec.computed_once_before_use, lambda: replace(small(), outputs=("input",)), "input", "never computed",
    ),
    "data of another shape": (
        spec.constants_match, lambda: with_tensor(small(), "factor_0", data=np.ones(3, np.float32)),
        "'factor_0' float32 [4]", "its data is float32 [3]",
    ),
    "data of another dtype": (
        spec.constants_match, lambda: with_tensor(small(), "factor_0", data=np.ones(4, np.int32)),
        "'factor_0' float32 [4]", "its data is int32 [4]",
    ),
    "bits stored unpacked": (
        spec.constants_match, lambda: with_tensor(bits(), "filter_1", data=np.zeros((5, 3, 3, 33), np.int32)),
        "'filter_1' bits [5, 3, 3, 33]", "its data is int32 [5, 3, 3, 33]",
    ),
    "NaN weights": (
        spec.constants_match, lambda: with_tensor(small(), "factor_0", data=np.array([1, np.nan, 1, 1], np.float32)),
        "'factor_0'", "NaN or infinite",
    ),
    "infinite weights": (
        spec.constants_match, lambda: with_tensor(small(), "factor_0", data=np.array([1, -np.inf, 1, 1], np.float32)),
        "'factor_0'", "NaN or infinite",
    ),
    "pad bits": (
        spec.constants_match, lambda: set_pad_bit(bits()), "'filter_1'",
        "bits beyond the last of its 33 channels are set",
    ),
    "no quantization": (
        spec.quantized, lambda: with_tensor(small_int8(), "reshape_0", quantization=None), "'reshape_0'",
        "no quantization",
    ),
    "zero scale": (spec.quantized, lambda: with_scales(0.0), "'reshape_0'", "finite and positive"),
    "negative scale": (spec.quantized, lambda: with_scales(-0.1), "'reshape_0'", "finite and positive"),
    "NaN scale": (spec.quantized, lambda: with_scales(float("nan")), "'reshape_0'", "finite and positive"),
    "infinite scale": (spec.quantized, lambda: with_scales(float("inf")), "'reshape_0'", "finite and positive"),
    "zero point above": (spec.quantized, lambda: with_zero_point(128), "'reshape_0'", "-128..127"),
    "zero point below": (spec.quantized, lambda: with_zero_point(-129), "'reshape_0'", "-128..127"),
    "two scales": (spec.quantized, lambda: with_scales(0.1, 0.1), "'reshape_0'", "one scale"),
    "batch of the input": (
        spec.batch_is_one, lambda: with_tensor(small(), "input", shape=(2, 4)), "'input' float32 [2, 4]", "batch",
    ),
    "batch of an activation": (
        spec.batch_is_one, lambda: with_tensor(small(), "mul_0", shape=(3, 4)), "'mul_0' float32 [3, 4]", "batch",
    ),
    "no dimensions": (spec.batch_is_one, lambda: with_tensor(small(), "input", shape=()), "'input' float32", "batch"),
    "too many node inputs": (
        spec.operators_hold, lambda: with_node(small(), 1, inputs=("mul_0", "mul_0")), "LceQuantize 'lcequantize_1'",
        "allowed are 1 to 1",
    ),
    "too few node inputs": (
        spec.operators_hold, lambda: with_node(small(), 0, inputs=("input",)), "MUL 'mul_0'", "allowed are 2 to 2",
    ),
    "no node inputs": (
        spec.operators_hold, lambda: with_node(small(), 1, inputs=()), "LceQuantize 'lcequantize_1'",
        "allowed are 1 to 1",
    ),
    "absent first input": (
        spec.operators_hold, lambda: with_node(small(), 1, inputs=(None,)), "LceQuantize 'lcequantize_1'",
        "has inputs [None]",
    ),
    "absent second input": (
        spec.operators_hold, lambda: without_input(small(), 0, 1), "MUL 'mul_0'", "has inputs ['input', None]",
    ),
    "a constraint": (
        spec.operators_hold, lambda: with_tensor(small(), "factor_0", shape=(2,), data=np.ones(2, np.float32)),
        "MUL 'mul_0'", "must hold: ",
    ),
    "declared shape": (
        spec.operators_hold, lambda: with_tensor(small(), "lcequantize_1", shape=(1, 5)), "LceQuantize 'lcequantize_1'",
        "declares 'lcequantize_1' bits [1, 5], computed is bits [1, 4]",
    ),
    "declared dtype": (
        spec.operators_hold, lambda: with_tensor(small(), "lcequantize_1", dtype=DType.INT32),
        "LceQuantize 'lcequantize_1'", "declares 'lcequantize_1' int32 [1, 4], computed is bits [1, 4]",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_broken_rule_is_named(name: str) -> None:
    rule, make, place, complaint = CASES[name]
    graph = make()
    with pytest.raises(SpecError) as caught:
        spec.verify(graph, "stage")
    error = caught.value
    assert error.exit_code == 2
    assert error.where.startswith(f"stage: {place}")
    assert complaint in error.message
    assert error.fix == f"(rule: {rule.__name__})"  # type: ignore[attr-defined]


def test_every_rule_has_a_case() -> None:
    assert {rule for rule, *_ in CASES.values()} == set(spec.RULES)


def test_valid_graphs_pass() -> None:
    for graph in (small(), small_int8(), bits(), int8_net(), float_net(), attribute_net()):
        spec.verify(graph, "stage")


def test_unused_constants_are_checked_too() -> None:
    extra = Tensor("unused", (2,), DType.FLOAT32, None, np.array([1, np.nan], np.float32))
    with pytest.raises(SpecError, match="unused"):
        spec.verify(with_extra(small(), extra), "stage")


def test_several_outputs_are_legal_in_the_graph() -> None:
    graph = small()
    spec.verify(replace(graph, outputs=("mul_0", "lcequantize_1")), "stage")


def test_attributes_are_compared_by_value() -> None:
    graph = float_net()
    assert with_op(graph, 0, stride=(1, 1)).nodes == graph.nodes
    assert with_op(graph, 0, stride=(2, 1)).nodes != graph.nodes
    assert LceQuantize() == LceQuantize()
