"""Batch norm, pool and sign behind a binary convolution become thresholds: proven, or refused.

Most nets here have a 1x1 convolution over an image that holds every pattern of 12 signs, so that comparing the values
of both graphs compares the functions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from onebit.core import DType, Graph, Node, Quantization, Tensor, evaluate
from onebit.core.bits import unpack
from onebit.core.graph import Array
from onebit.core.ops import Abs, Activation, Add, LceBconv2d, LceQuantize, Mul, Padding, PoolWindow, Reshape
from onebit.core.passes import fold_sign
from onebit.core.passes.enumeration import Chain, Refusal, accumulator_values
from onebit.core.passes.fold_sign import fold_sign_into_bconv
from onebit.core.passes.sign_table import SignTable, refusals, solve_signs, solve_thresholds
from support.nets import Net
from support.passes import all_signs, chain_of, names, run_pass

K = 12
X = all_signs(K)
VALID, SAME = Padding.VALID, Padding.SAME
FOLDED = ["LceQuantize", "LceBconv2d"]


def point(outs: int = 16, seed: int = 0, **options: object) -> Net:
    """Signs of the image of all patterns, and a 1x1 convolution on them."""
    net = Net(X.shape, seed=seed).quantize()
    return net.bconv(outs, (1, 1), padding=VALID, **options)  # type: ignore[arg-type]


def fold(net: Net, x: Array = X) -> Graph:
    """The folded graph; that nothing changed its value is checked."""
    return run_pass(fold_sign_into_bconv, net.graph(), x).graph


def thresholds(graph: Graph) -> Array:
    """The thresholds of the graph's convolution to bits."""
    (node,) = [n for n in graph.nodes if isinstance(n.op, LceBconv2d)]
    assert node.inputs[2:4] == (None, None)
    return graph.tensors[node.inputs[4] or ""].constant()


def is_negative(graph: Graph, x: Array = X) -> Array:
    """The signs of the output, bool ``[..., O]``."""
    words = evaluate(graph, x)[graph.outputs[0]]
    return unpack(words, graph.output.shape[-1])


# ---------------------------------------------------------------------------------------------------------- structure


def test_a_convolution_and_its_sign_become_one_operator() -> None:
    graph = point().quantize().graph()
    result = run_pass(fold_sign_into_bconv, graph, X)
    assert names(result.graph) == FOLDED
    assert dict(result.eliminated) == {"lcebconv2d_1": "fold_sign_into_bconv"}
    node = result.graph.nodes[1]
    assert result.graph.output.dtype is DType.BITS
    assert thresholds(result.graph).dtype == np.int32
    assert thresholds(result.graph).shape == (16,)
    # nothing of the float stage is left behind
    assert {t.name for t in result.graph.tensors.values() if t.is_constant} == {node.inputs[1], node.inputs[4]}


def test_a_batch_norm_disappears_with_it() -> None:
    rng = np.random.default_rng(1)
    net = point().mul(rng.normal(size=16)).add(rng.normal(size=16)).quantize()
    graph = net.graph()
    result = run_pass(fold_sign_into_bconv, graph, X)
    assert names(result.graph) == FOLDED
    assert set(result.eliminated) == {"lcebconv2d_1", "mul_2", "add_3"}


def test_a_pool_in_the_chain_becomes_a_pool_of_bits() -> None:
    rng = np.random.default_rng(2)
    net = point(seed=2).pool().mul(rng.uniform(0.1, 2, 16)).add(rng.normal(size=16)).quantize()
    graph = net.graph()
    result = run_pass(fold_sign_into_bconv, graph, X)
    assert names(result.graph) == ["LceQuantize", "LceBconv2d", "LceBMaxPool2d"]
    assert set(result.eliminated) == {"lcebconv2d_1", "max_pool_2d_2", "mul_3", "add_4"}
    before = result.graph.nodes[1].output
    assert before == f"{graph.outputs[0]}/before_pool"
    assert result.graph.tensors[before].shape == (1, 64, 64, 16)


def test_every_chain_of_a_graph_is_folded() -> None:
    net = Net((1, 8, 8, 40)).quantize().bconv(33).mul(np.linspace(-1, 1, 33)).quantize().bconv(31, stride=(2, 2))
    net.pool().quantize().bconv(7)
    graph = fold(net, net.samples(8))
    assert names(graph) == ["LceQuantize", "LceBconv2d", "LceBconv2d", "LceBMaxPool2d", "LceBconv2d"]
    assert refusals(graph) == []


def test_filters_are_negated_only_where_the_scale_is_negative() -> None:
    net = point(multiplier=np.abs(np.random.default_rng(0).normal(size=16)) + 0.1).quantize()
    graph = net.graph()
    assert fold_sign_into_bconv(graph).nodes[1].inputs[1] == graph.nodes[1].inputs[1]
    signs = np.where(np.arange(16) % 3 == 0, -0.5, 0.5)
    net = point(multiplier=signs, bias=np.full(16, 0.25)).quantize()
    graph = net.graph()
    folded = fold(net)
    old, new = (g.tensors[g.nodes[1].inputs[1] or ""].constant() for g in (graph, folded))
    flipped = (unpack(old, K) != unpack(new, K)).reshape(16, -1)
    # dot > 0 is more +1 than -1: LCE's threshold counts differing signs, so that a rising sign needs the old filter
    assert (flipped.all(axis=1) | ~flipped.any(axis=1)).all()
    assert flipped.all(axis=1).tolist() == (signs < 0).tolist()


# ------------------------------------------------------------------------------------------------------- corner cases


def test_a_zero_multiplier_leaves_the_bias_to_decide() -> None:
    bias = np.array([1.0, -1.0, 0.0, -0.0, 1e-30, -1e-30])
    folded = fold(point(6, multiplier=np.zeros(6), bias=bias).quantize())
    negative = is_negative(folded).reshape(-1, 6)
    assert [set(column) for column in negative.T.tolist()] == [{False}, {True}, {False}, {False}, {False}, {True}]


def test_channels_with_one_sign_get_thresholds_that_always_or_never_hold() -> None:
    bias = np.array([100.0, -100.0, 12.0, -12.0, 12.5, -12.5])
    for sign in (1.0, -1.0):
        folded = fold(point(6, multiplier=np.full(6, sign), bias=bias).quantize())
        negative = is_negative(folded).reshape(-1, 6)
        # at a bias of 12 the least sum is exactly 0, which is +1; at -12 the largest is
        assert not negative[:, [0, 2, 4]].any()
        assert negative[:, [1, 5]].all()
        assert negative[:, 3].mean() == 1 - 2.0**-K
        assert set(thresholds(folded)[[0, 4]]) <= {K, -1}
        assert -1 <= thresholds(folded).min() <= thresholds(folded).max() <= K


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_an_exact_zero_is_plus_one(sign: float) -> None:
    """For every dot product there is a channel whose value is 0 just there."""
    dots = np.arange(-K, K + 1, 2)
    net = point(len(dots), multiplier=np.full(len(dots), sign), bias=-sign * dots)
    graph = net.quantize().graph()
    values = evaluate(graph, X, ["lcebconv2d_1"])["lcebconv2d_1"]
    assert all((values[..., i] == 0).any() for i in range(len(dots)))
    folded = fold(net)
    np.testing.assert_array_equal(is_negative(folded), values < 0)


def test_ties_behind_a_batch_norm() -> None:
    dots = np.arange(-K, K + 1, 2).astype(np.float64)
    net = point(13, multiplier=np.full(13, 1.0), bias=np.zeros(13)).mul(np.full(13, -0.5)).add(dots / 2).quantize()
    folded = fold(net)
    value = evaluate(net.graph(), X, ["add_3"])["add_3"]
    assert (value == 0).any(axis=(0, 1, 2)).all()
    np.testing.assert_array_equal(is_negative(folded), value < 0)


@pytest.mark.parametrize("activation", list(Activation), ids=lambda a: a.name)
def test_activations_of_the_convolution(activation: Activation) -> None:
    rng = np.random.default_rng(5)
    net = point(32, activation=activation, multiplier=rng.normal(size=32), bias=rng.normal(0, 4, 32)).quantize()
    folded = fold(net)
    assert names(folded) == FOLDED
    # the thresholds contain it
    assert folded.nodes[1].op.activation is Activation.NONE  # type: ignore[attr-defined]
    assert 0 < is_negative(folded).mean() < 1


@pytest.mark.parametrize("activation", list(Activation), ids=lambda a: a.name)
def test_activations_of_the_batch_norm(activation: Activation) -> None:
    rng = np.random.default_rng(6)
    net = point(32, multiplier=rng.normal(size=32), bias=rng.normal(size=32))
    net.mul(rng.normal(size=32), activation).add(rng.normal(size=32) - 1).quantize()
    folded = fold(net)
    assert names(folded) == FOLDED
    assert 0 < is_negative(folded).mean() < 1


def test_one_factor_and_one_term_for_all_channels() -> None:
    assert names(fold(point().mul([-0.7]).add([0.3]).quantize())) == FOLDED


def test_denormal_values_count_as_zero_as_they_do_for_the_sign_itself() -> None:
    folded = fold(point(3, multiplier=np.zeros(3), bias=np.array([-1e-40, 1e-40, -1.2e-38])).quantize())
    assert is_negative(folded).reshape(-1, 3)[0].tolist() == [False, False, True]


def test_rounding_of_large_scales_decides_as_float32_does() -> None:
    """Scale and bias so far apart that float32 loses the small one: the thresholds are those of the rounded values."""
    multiplier = np.array([1e-8, 3e-8, 1e8, -1e8, 1.0, -1.0, 1e30, 1e-30])
    bias = np.array([1.0, -1.0, 1.0, -1.0, 1e-8, -1e-8, 1.0, 1e-31])
    assert names(fold(point(8, multiplier=multiplier, bias=bias).quantize())) == FOLDED


@pytest.mark.parametrize("seed", range(4))
def test_windows_with_padding_stride_dilation_and_groups(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for padding in (VALID, SAME):
        net = Net((1, 7, 8, 64), seed=seed).quantize()
        net.bconv(40, groups=2, padding=padding, stride=(2, 1), dilation=(1, 2))
        net.mul(rng.normal(size=40)).add(rng.normal(size=40)).quantize()
        assert names(fold(net, net.samples(16))) == FOLDED


@pytest.mark.parametrize("zero_point", [-128, -3, 0, 127])
@pytest.mark.parametrize("pool", [False, True])
def test_int8_outputs_compare_with_the_zero_point(zero_point: int, pool: bool) -> None:
    net = point(32, to=DType.INT8, quant=Quantization.per_tensor(0.05, zero_point))
    if pool:
        net.pool(2, SAME, Activation.RELU if zero_point == 0 else Activation.NONE)
    folded = fold(net.quantize())
    assert names(folded) == FOLDED + ["LceBMaxPool2d"] * pool
    # no int8 value is below -128
    assert is_negative(folded).any() == (zero_point != -128 and not (pool and zero_point == 0))


def test_int8_saturation_and_a_scale_that_gives_one_value() -> None:
    for scale in (1e-4, 1e3):
        net = point(32, to=DType.INT8, quant=Quantization.per_tensor(scale, 5)).quantize()
        assert names(fold(net)) == FOLDED


def test_a_pool_directly_behind_the_convolution_allows_any_sign_of_its_scale() -> None:
    """The pool takes the largest of what enters it; only what follows the pool must not turn its order around."""
    multiplier = np.where(np.arange(16) % 2, 1.0, -1.0)
    folded = fold(point(multiplier=multiplier, bias=np.linspace(-6, 6, 16)).pool().quantize())
    assert names(folded)[-2:] == ["LceBconv2d", "LceBMaxPool2d"]


def test_a_fused_activation_of_the_pool() -> None:
    for activation in Activation:
        net = point().add(np.linspace(-3, 3, 16)).pool(activation=activation).add(np.linspace(1, -1, 16)).quantize()
        assert names(fold(net))[-1] == "LceBMaxPool2d"


@pytest.mark.parametrize("padding", [VALID, SAME])
def test_overlapping_windows_of_the_pool(padding: Padding) -> None:
    from onebit.core.ops import MaxPool2d

    net = Net((1, 9, 10, 20)).quantize().bconv(12, to=DType.FLOAT32)
    net.node(MaxPool2d(PoolWindow((3, 2), (2, 1), padding)), dtype=DType.FLOAT32)
    net.mul(np.linspace(0.1, 2, 12)).add(np.linspace(-1, 1, 12)).quantize()
    assert names(fold(net, net.samples(16)))[-1] == "LceBMaxPool2d"


# ------------------------------------------------------------------------------------------------------------ refusals


def refuse(graph: Graph) -> None:
    assert fold_sign_into_bconv(graph) is graph


def test_a_negative_scale_behind_a_pool_has_no_form_in_lce() -> None:
    """Its sign is the smallest of a window, see test_fold_sign_into_ranges.py."""
    factor = np.ones(16)
    factor[5] = -0.5
    graph = point().pool().mul(factor).add(np.zeros(16)).quantize().graph()
    refuse(graph)
    assert refusals(graph) == []
    table = solve_signs(graph, chain_of(graph))
    assert isinstance(table, SignTable)
    assert [np.flatnonzero(falling).tolist() for falling in table.falling] == [[5]]


def test_a_sign_that_is_no_step_of_the_pooled_value_is_refused_and_named() -> None:
    """|max - 1| - 2: the sign rises and falls with what the pool gives."""
    graph = point().pool().add(np.full(16, -1.0)).node(Abs(), dtype=DType.FLOAT32).add([-2.0]).quantize().graph()
    refuse(graph)
    ((chain, refusal),) = refusals(graph)
    assert chain.output == graph.outputs[0]
    assert refusal.reason == "channel 1: its sign is not a single step of the value that is pooled"


def test_numbers_that_are_none_are_not_pooled() -> None:
    factor = np.full(16, 3e38)
    net = point(multiplier=np.full(16, 3e38), bias=np.full(16, 3e38)).mul(factor).pool().mul(np.ones(16)).quantize()
    ((_, refusal),) = refusals(net.graph())
    assert refusal.reason == "a value that is pooled is not a number"


def test_a_zero_scale_behind_a_pool_is_no_reason() -> None:
    factor = np.ones(16)
    factor[5] = 0.0
    assert names(fold(point().pool().mul(factor).add(np.full(16, -1.0)).quantize()))[-1] == "LceBMaxPool2d"


def test_a_negative_scale_behind_a_pool_is_no_reason_where_the_sign_never_changes() -> None:
    factor, term = np.ones(16), np.zeros(16)
    factor[5], term[5] = -0.5, 100.0
    assert names(fold(point().pool().mul(factor).add(term).quantize()))[-1] == "LceBMaxPool2d"


def test_a_sign_that_is_no_single_step_has_no_form_in_lce() -> None:
    graph = point().node(Abs(), dtype=DType.FLOAT32).add([-2.0]).quantize().graph()
    refuse(graph)
    table = solve_signs(graph, chain_of(graph))
    assert isinstance(table, SignTable)
    assert solve_thresholds(table) is None


def test_every_chain_is_solved_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused or not: what is rewritten before or behind a chain changes nothing for it."""
    solved: list[str] = []

    def counting(graph: Graph, chain: Chain) -> SignTable | Refusal:
        solved.append(chain.output)
        return solve_signs(graph, chain)

    monkeypatch.setattr(fold_sign, "solve_signs", counting)
    net = Net((1, 6, 6, 8)).quantize()
    for _ in range(4):
        net.bconv(8).quantize().bconv(8).node(Abs(), dtype=DType.FLOAT32).add([-2.0]).quantize()
    fold_sign_into_bconv(net.graph())
    assert len(solved) == len(set(solved)) == 8


@pytest.mark.parametrize("zero", [0.0, 1.0])
def test_scales_that_overflow(zero: float) -> None:
    """A MUL saturates at the largest float32, so that a 0 behind it gives 0; the convolution gives infinities, NaN."""
    factor = np.full(16, 3e38)
    for first in (1.0, 1e38, 3e38):
        net = point(multiplier=np.full(16, first), bias=np.zeros(16)).mul(factor).mul(factor).mul(np.full(16, zero))
        assert names(fold(net.add(np.full(16, -1.0)).quantize())) == FOLDED


def with_reader(graph: Graph, name: str) -> Graph:
    """The graph with a second reader of a tensor."""
    extra = Tensor("extra", graph.tensors[name].shape, DType.BITS)
    node = Node(LceQuantize(), (name,), ("extra",))
    return replace(graph, tensors={**graph.tensors, "extra": extra}, nodes=(*graph.nodes, node))


@pytest.mark.parametrize("name", ["lcebconv2d_1", "mul_2", "add_3"])
def test_a_value_with_another_reader_is_kept(name: str) -> None:
    refuse(with_reader(point().mul(np.ones(16)).add(np.ones(16)).quantize().graph(), name))


@pytest.mark.parametrize("name", ["lcebconv2d_1", "mul_2", "add_3"])
def test_a_value_that_is_an_output_is_kept(name: str) -> None:
    graph = point().mul(np.ones(16)).add(np.ones(16)).quantize().graph()
    refuse(replace(graph, outputs=(*graph.outputs, name)))


def _per_pixel() -> Graph:
    return point().add(np.ones((*X.shape[:3], 16))).quantize().graph()


def _reshape() -> Graph:
    net = point()
    return net.node(Reshape((1, 16, 256, 16)), dtype=DType.FLOAT32, shape=(1, 16, 256, 16)).quantize().graph()


def _reshape_between_pools() -> Graph:
    return point().pool().reshape(1, 16, 64, 16).pool().mul([0.5]).quantize().graph()


def _one_channel_repeated() -> Graph:
    """One channel that becomes four by repetition."""
    net = Net((1, 1, 1, K)).quantize().bconv(1, (1, 1), padding=VALID)
    return net.add(np.ones((1, 1, 1, 4))).quantize().graph()


def _computed_operand() -> Graph:
    net = point()
    conv = net.now.name
    net.now = net.tensors["lcequantize_0"]
    net.dequantize().conv(16, (1, 1))
    return net.node(Add(), conv, dtype=DType.FLOAT32).quantize().graph()


def _other_operator() -> Graph:
    return point().conv(4, (1, 1)).quantize().graph()


def _zero_padded() -> Graph:
    return Net((1, 5, 5, 8)).quantize().bconv(4, pad_value=0).quantize().graph()


def _squared() -> Graph:
    """x * x reads the convolution in both operands."""
    net = point()
    return net.node(Mul(), net.now.name, dtype=DType.FLOAT32).quantize().graph()


def _first_is_no_convolution() -> Graph:
    return Net((1, 5, 5, 8)).mul(np.ones(8)).quantize().graph()


@pytest.mark.parametrize(
    "make",
    [
        _per_pixel, _one_channel_repeated, _reshape, _reshape_between_pools, _computed_operand, _other_operator,
        _zero_padded, _squared, _first_is_no_convolution,
    ],
    ids=lambda make: make.__name__.strip("_"),
)  # fmt: skip
def test_what_is_no_chain_is_left_alone(make: Callable[[], Graph]) -> None:
    refuse(make())


# --------------------------------------------------------------------------------------------------------- enumeration


def test_the_accumulators_are_even_unless_zero_padding_meets_an_odd_channel_count() -> None:
    from onebit.core.ops import View

    for channels, pad_value, step in ((4, 1, 2), (4, 0, 2), (5, 1, 2), (5, 0, 1)):
        graph = Net((1, 4, 4, channels)).quantize().bconv(2, pad_value=pad_value).quantize().graph()
        x = accumulator_values(View.of(graph, graph.nodes[1]))
        np.testing.assert_array_equal(x, np.arange(0, 2 * 9 * channels + 1, step))


@pytest.mark.parametrize("seed", range(3))
def test_thresholds_against_plain_loops(seed: int) -> None:
    """The value of every channel at every accumulator, by float32 arithmetic written out here."""
    rng = np.random.default_rng(seed)
    f = np.float32
    m, b, g, c = (rng.normal(size=16).astype(f) for _ in range(4))
    graph = point(multiplier=m, bias=b).mul(g).add(c).quantize().graph()
    table = solve_signs(graph, chain_of(graph))
    assert isinstance(table, SignTable)
    solved = solve_thresholds(table)
    assert solved is not None
    for o in range(16):
        for p in range(K + 1):
            # LCE: f32(2p) * f32(-m) + f32(b + K * m), two roundings
            folded = f(np.float64(b[o]) + K * np.float64(m[o]))
            y = f(f(f(f(f(2 * p) * f(-m[o])) + folded) * g[o]) + c[o])
            x = 2 * (K - p) if solved.flip[o] else 2 * p
            assert (x > solved.doubled[o]) == (y < 0), (o, p)


# --------------------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize("suffix", ["threshold", "filter", "before_pool"])
def test_new_tensors_take_no_name_that_is_in_use(suffix: str) -> None:
    """The model may have a tensor of that name: here the thresholds of a later convolution, or its output."""
    net = point(multiplier=np.full(16, -1.0)).pool().add(np.zeros(16)).quantize()
    taken = f"{net.now.name}/{suffix}"
    net.bconv(16, (1, 1), to=DType.BITS, padding=VALID)
    graph = net.graph()
    old = {"threshold": "threshold_5", "filter": "filter_5", "before_pool": graph.outputs[0]}[suffix]

    def renamed(names_: tuple[str | None, ...]) -> tuple[str | None, ...]:
        return tuple(taken if name == old else name for name in names_)

    tensors = {taken if k == old else k: replace(t, name=taken) if k == old else t for k, t in graph.tensors.items()}
    nodes = [Node(n.op, renamed(n.inputs), tuple(o or "" for o in renamed(n.outputs))) for n in graph.nodes]
    outputs = tuple(o or "" for o in renamed(graph.outputs))
    result = run_pass(fold_sign_into_bconv, Graph(tensors, tuple(nodes), graph.inputs, outputs), X)
    assert f"{taken}_1" in result.graph.tensors
    np.testing.assert_array_equal(evaluate(result.graph, X)[outputs[0]], evaluate(graph, X)[graph.outputs[0]])
