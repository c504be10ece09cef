"""int8 ADD and SUB as one fixed-point expression: equal to the operator on every pair of values, or not used.

That the C equals the interpreter is tested with all other operators (`test_elementwise.py`), on all pairs too.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from onebit.codegen import find_target
from onebit.codegen.kernel import select_kernel
from onebit.codegen.kernels.int8_sum import FixedSum, fixed_sum
from onebit.core import Graph, Rounding, evaluate
from onebit.core.graph import Array
from onebit.core.ops import Activation, Add, Sub, View
from support.elementwise_nets import FIRST, PAIRS, SECOND, TWO_OPERANDS, Quant, binary, computed

OPS = [Add(), Sub()]
FIXED, GENERAL = "ob_add_i8_fixed", "ob_add_i8"
#: quantizations whose sums often end in the middle between two values, where LiteRT's roundings decide
TIES = ("usual", "ties of the first product")


def random_quants(count: int) -> list[tuple[Quant, Quant, Quant]]:
    """Scales as calibration finds them, and zero points, the ends included."""
    rng = np.random.default_rng(5)
    found = []
    for i in range(count):
        a, b = np.exp(rng.normal(0, 0.5, 2)) * 0.03
        ends = (-128, 127) if i % 3 == 0 else (-30, 30)
        points = rng.integers(*ends, 3, endpoint=True)
        scales = a, b, np.hypot(a, b) * rng.uniform(0.6, 1.2)
        found.append(tuple((float(np.float32(s)), int(z)) for s, z in zip(scales, points, strict=True)))
    return found  # type: ignore[return-value]


def view_of(graph: Graph) -> View:
    return View.of(graph, graph.nodes[-1])


def kernel_of(graph: Graph) -> str:
    return select_kernel(view_of(graph), find_target("cortex-m4")).function


def all_pairs(op: Add | Sub, quants: tuple[Quant, Quant, Quant], rounding: Rounding) -> Graph:
    return replace(binary(op, PAIRS, SECOND, quants), rounding=rounding)


def in_32_bits(found: FixedSum, a: Array, b: Array) -> Array:
    """What the C computes, in int32; every intermediate value must fit."""
    exact = [a * found.first, b * found.second]
    exact += [exact[0] + exact[1], exact[0] + exact[1] + found.offset]
    assert all((np.abs(step) < 2**31).all() for step in exact)
    return np.clip(exact[-1] >> found.shift, -128, 127)


@pytest.mark.parametrize("rounding", list(Rounding), ids=lambda r: r.value)
@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_it_is_found_for_calibrated_scales_and_equals_the_operator_on_every_pair(
    op: Add | Sub, rounding: Rounding
) -> None:
    named = [quants for name, quants in TWO_OPERANDS.items() if name not in TIES]
    for quants in (*random_quants(25), *named):
        graph = all_pairs(op, quants, rounding)
        found = fixed_sum(view_of(graph))
        assert found is not None, quants
        got = in_32_bits(found, FIRST.astype(np.int64), SECOND.astype(np.int64))
        np.testing.assert_array_equal(got, evaluate(graph, FIRST)[graph.output.name])


@pytest.mark.parametrize("name", TIES)
@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_sums_next_to_ties_keep_the_operators_own_arithmetic(op: Add | Sub, name: str) -> None:
    graph = all_pairs(op, TWO_OPERANDS[name], Rounding.LITERT)
    assert fixed_sum(view_of(graph)) is None
    assert kernel_of(graph) == GENERAL


def test_positions_that_round_differently_refuse_it() -> None:
    """With these scales LiteRT adds two of the pairs in another way behind the last whole block of 16."""
    quants = ((0.0813, 0), (0.0294, 0), (0.1352, 0))
    litert, tflm = (evaluate(all_pairs(Add(), quants, r), FIRST)["y"] for r in Rounding)
    assert (litert != tflm).any()
    for rounding, elements, refused in (
        *((Rounding.LITERT, 32, False), (Rounding.LITERT, 33, True), (Rounding.LITERT, 15, False)),
        *((Rounding.TFLM, 32, False), (Rounding.TFLM, 33, False)),
    ):
        graph = replace(computed(Add(), (1, elements), quants), rounding=rounding)
        assert (fixed_sum(view_of(graph)) is None) == refused


EQUAL = TWO_OPERANDS["equal"]


@pytest.mark.parametrize(
    ("graph", "kernel"),
    [
        pytest.param(computed(Add(), (1, 3, 5, 7), EQUAL), FIXED, id="both computed"),
        pytest.param(binary(Sub(), (1, 3, 5, 7), np.arange(7), EQUAL), FIXED, id="a value per channel"),
        pytest.param(binary(Add(), (1, 3, 5, 7), np.arange(7), EQUAL, swapped=True), FIXED, id="its first operand"),
        pytest.param(binary(Add(), (1, 1), [[5]], EQUAL), FIXED, id="one element"),
        pytest.param(binary(Add(), (1, 3, 5, 7), [5], EQUAL), GENERAL, id="a single value"),
        pytest.param(binary(Add(Activation.RELU), (1, 7), np.arange(7), EQUAL), GENERAL, id="a bound inside int8"),
        pytest.param(
            binary(Add(Activation.RELU), (1, 7), np.arange(7), (*EQUAL[:2], (0.03, -128))), FIXED, id="a ReLU at an end"
        ),
    ],
)
def test_which_kernel_adds(graph: Graph, kernel: str) -> None:
    assert kernel_of(graph) == kernel


def test_a_constant_operand_counts_only_with_its_values() -> None:
    """More bits fit behind the point where the constant is small."""
    small, large = (fixed_sum(view_of(binary(Add(), (1, 4), [0, top, 0, 1], EQUAL))) for top in (2, 127))
    assert small is not None and large is not None
    assert small.shift > large.shift
