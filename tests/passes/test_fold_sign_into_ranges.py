"""Signs that are no single threshold become ranges of the accumulator or tables of bits: proven, or left in float.

The 1x1 convolutions here see every pattern of 12 signs, so that comparing both graphs compares the functions.
"""

from __future__ import annotations

import numpy as np
import pytest

from onebit.codegen.ops import BinaryConvBitTable
from onebit.codegen.passes.fold_sign_into_ranges import fold_sign_into_ranges, solve_ranges
from onebit.codegen.passes.fold_sign_into_zero_padded_bconv import fold_sign_into_zero_padded_bconv
from onebit.core import DType, Graph, Quantization, evaluate
from onebit.core.graph import Array
from onebit.core.ops import HardSwish, Padding, View
from onebit.core.passes import run_passes
from onebit.core.passes.fold_sign import fold_sign_into_bconv
from onebit.core.passes.sign_table import SignTable
from support.chains import random_step, ranges, several_ranges, subtracted_from, unary
from support.nets import Net
from support.passes import all_signs, names, run_pass

K = 12
X = all_signs(K)
VALID = Padding.VALID


def point(outs: int = 16, seed: int = 0, **options: object) -> Net:
    return Net(X.shape, seed=seed).quantize().bconv(outs, (1, 1), padding=VALID, **options)  # type: ignore[arg-type]


def wide(outs: int = 16, channels: int = 64) -> Net:
    """576 signs a window: tables cost more than ranges."""
    return Net((1, 5, 6, channels), seed=1).quantize().bconv(outs)


def fold(net: Net, x: Array = X) -> Graph:
    return run_pass(fold_sign_into_ranges, net.graph(), x).graph


def test_negative_slopes_become_ranges() -> None:
    net = ranges(wide())
    graph = run_pass(fold_sign_into_ranges, net.graph(), net.samples(8)).graph
    assert names(graph) == ["LceQuantize", "BinaryConvRange"]
    view = View.of(graph, graph.nodes[1])
    assert [view.input(i).dtype for i in (2, 3, 4)] == [DType.INT32, DType.INT32, DType.BITS]
    assert [view.input(i).shape for i in (2, 3, 4)] == [(16,)] * 3
    assert view.input(4).constant().any()


def test_few_accumulators_take_a_table_of_bits() -> None:
    """13 accumulators in one word per channel, against two thresholds."""
    graph = fold(ranges(point()))
    assert names(graph) == ["LceQuantize", "BinaryConvBitTable"]
    op = graph.nodes[1].op
    assert isinstance(op, BinaryConvBitTable)
    assert graph.tensors[graph.nodes[1].inputs[2] or ""].shape == (16, K + 1)


def test_ranges_of_every_pattern_of_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(fold_sign_into_ranges.__globals__, "words_for", lambda _: 1000)
    assert names(fold(ranges(point()))) == ["LceQuantize", "BinaryConvRange"]


@pytest.mark.parametrize("channels", [2, 3])
def test_zero_padding_and_odd_accumulators(channels: int) -> None:
    shape = (1, 2, 2, channels)
    patterns = all_signs(4 * channels).reshape(-1, *shape[1:])
    for outs in (5, 33):
        net = ranges(Net(shape).quantize().bconv(outs, pad_value=0))
        graph = fold(net, patterns)
        assert names(graph) == ["LceQuantize", "BinaryConvBitTable"]
        op = graph.nodes[1].op
        assert isinstance(op, BinaryConvBitTable)
        assert op.index_shift(View.of(graph, graph.nodes[1])) == 1 - channels % 2
    net = ranges(Net((1, 4, 5, 64 + channels)).quantize().bconv(33, pad_value=0))
    assert names(fold(net, net.samples(8)))[-1] == "BinaryConvRange"


def test_several_ranges_take_a_table() -> None:
    """||x| - 1| - 0.5 changes its sign four times."""
    net = wide()
    graph = fold(several_ranges(net), net.samples(8))
    assert names(graph) == ["LceQuantize", "BinaryConvBitTable"]


def test_a_table_that_would_be_too_large_leaves_the_chain_in_float(monkeypatch: pytest.MonkeyPatch) -> None:
    net = wide()
    graph = several_ranges(net).graph()
    nbytes = 4 * 16 * (577 // 32 + 1)
    monkeypatch.setitem(fold_sign_into_ranges.__globals__, "MAX_TABLE_BYTES", nbytes - 1)
    assert fold_sign_into_ranges(graph) is graph
    monkeypatch.setitem(fold_sign_into_ranges.__globals__, "MAX_TABLE_BYTES", nbytes)
    assert fold_sign_into_ranges(graph) is not graph


@pytest.mark.parametrize("order", ["pool first", "pool last", "two pools"])
def test_a_falling_sign_behind_a_pool_takes_minima(order: str) -> None:
    factor = np.where(np.arange(16) % 3, 0.5, -0.5)
    net = point()
    if order != "pool last":
        net.pool().mul(factor)
    net.add(np.linspace(-1, 1, 16))
    if order != "pool first":
        net.pool(2, Padding.SAME)
        subtracted_from(net, np.linspace(-2, 2, 16))
    graph = fold(net.quantize())
    assert names(graph)[1:] == ["BinaryConvSign"] + ["BinaryPool"] * (2 if order == "two pools" else 1)


def test_overlapping_pools_with_padding() -> None:
    net = Net((1, 7, 9, 40)).quantize().bconv(33).pool(3, Padding.SAME).mul(np.linspace(-1, 1, 33)).quantize()
    assert names(fold(net, net.samples(16)))[-1] == "BinaryPool"


def test_a_bump_in_front_of_a_pool() -> None:
    """A hard swish dips below zero; the pool takes the largest value, so that the sign rises with it."""
    net = unary(wide().mul([3.0]), HardSwish()).add([0.2]).pool().add([-0.1]).quantize()
    graph = fold(net, net.samples(8))
    assert names(graph) == ["LceQuantize", "BinaryConvRange", "LceBMaxPool2d"]


def test_single_steps_are_left_to_the_passes_before_it() -> None:
    net = ranges(
        Net((1, 6, 6, 33)).quantize().bconv(33).mul([2.0]).quantize().bconv(33, pad_value=0).quantize().bconv(40)
    )
    passes = [fold_sign_into_bconv, fold_sign_into_zero_padded_bconv, fold_sign_into_ranges]
    result = run_passes(net.graph(), passes)
    assert names(result.graph) == ["LceQuantize", "LceBconv2d", "BinaryConvSign", "BinaryConvRange"]
    assert set(result.eliminated.values()) == {step.__name__ for step in passes}


def test_int8_between_the_convolution_and_the_sign() -> None:
    """QUANTIZE and int8 activations are part of the function like any other operator."""
    from onebit.core.ops import Dequantize, LeakyRelu, Quantize

    quant = Quantization.per_tensor(0.1, 5)
    net = point().mul([0.7]).node(Quantize(), dtype=DType.INT8, quant=quant)
    net.node(LeakyRelu(-0.5), dtype=DType.INT8, quant=quant).node(Dequantize(), dtype=DType.FLOAT32).add([-0.4])
    assert names(fold(net.quantize())) == ["LceQuantize", "BinaryConvBitTable"]


def test_the_last_elements_of_a_map_may_round_differently() -> None:
    """9 pixels of 3 channels: QUANTIZE takes 24 elements in blocks, ties to even, and 3 one by one, ties away."""
    from onebit.core.ops import Quantize
    from onebit.core.passes.sign_table import refusals

    ties = Quantization.per_tensor(2.0, 0)
    for factor, bias, agrees in ((1.0, 0.0, True), (1.0, -1.0, False)):
        net = Net((1, 3, 3, 12)).quantize()
        net.bconv(3, (1, 1), padding=VALID, multiplier=np.full(3, factor), bias=np.full(3, bias))
        graph = net.node(Quantize(), dtype=DType.INT8, quant=ties).quantize().graph()
        if agrees:
            assert refusals(graph) == []
        else:
            ((_, refusal),) = refusals(graph)
            assert refusal.reason == "QUANTIZE rounds some of the last pixels differently from the others"
            assert fold_sign_into_bconv(graph) is graph


@pytest.mark.parametrize("columns", [1, 2, 3, 7])
def test_ranges_against_every_function_of_a_few_accumulators(columns: int) -> None:
    """All 2**n signs over n + 1 accumulators, one per channel."""
    x = np.arange(0, 2 * columns + 1, 2)
    functions = (np.arange(2 ** (columns + 1))[None, :] >> np.arange(columns + 1)[:, None]) & 1 == 1
    changes = (functions[1:] != functions[:-1]).sum(axis=0)
    few = functions[:, changes <= 2]
    found = solve_ranges(SignTable(x, few, ()))
    assert found is not None
    inside = (x[:, None] > found.below) & (x[:, None] < found.end)
    np.testing.assert_array_equal(inside != found.outside, few)
    for column in functions[:, changes > 2].T:
        assert solve_ranges(SignTable(x, column[:, None], ())) is None


@pytest.mark.parametrize("seed", range(80))
def test_random_chains(seed: int) -> None:
    rng = np.random.default_rng(seed)
    net = point(int(rng.choice([3, 16, 33])), seed, multiplier=None)
    for _ in range(rng.integers(1, 6)):
        random_step(net, rng)
    graph = net.quantize().graph()
    passes = [fold_sign_into_bconv, fold_sign_into_ranges]
    result = run_passes(graph, passes).graph
    kept = [t.name for t in result.activations() if t.name in graph.tensors]
    before, after = evaluate(graph, X, kept), evaluate(result, X, kept)
    for name in kept:
        np.testing.assert_array_equal(after[name], before[name], err_msg=name)


def test_the_random_chains_reach_every_form() -> None:
    kinds: set[str] = set()
    for seed in range(80):
        rng = np.random.default_rng(seed)
        net = point(int(rng.choice([3, 16, 33])), seed)
        for _ in range(rng.integers(1, 6)):
            random_step(net, rng)
        kinds |= set(names(run_passes(net.quantize().graph(), [fold_sign_into_bconv, fold_sign_into_ranges]).graph))
    # nothing is left in float
    forms = {"LceBconv2d", "BinaryConvSign", "BinaryConvBitTable", "BinaryPool", "LceBMaxPool2d"}
    assert kinds == {"LceQuantize"} | forms
