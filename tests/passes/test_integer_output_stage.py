"""int8 outputs of binary convolutions: a fixed-point multiplier, a small table, or straight segments; never float."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from onebit.codegen.ops import BinaryConvScale, BinaryConvTable
from onebit.codegen.passes.integer_output_stage import (
    MAX_BYTES_PER_CHANNEL,
    SMALL_TABLE_BYTES,
    integer_output_stage,
    solve_scale,
)
from onebit.codegen.passes.segments import solve_segments
from onebit.core import DType, Graph, Quantization, Tensor, evaluate
from onebit.core.graph import Array
from onebit.core.ops import Activation, LeakyRelu, MaxPool2d, OutputTransform, Padding, Quantize, Tanh, View
from onebit.core.passes import run_passes
from onebit.core.passes.elementwise_before_reshape import elementwise_before_reshape
from support.chains import prelu, random_step
from support.net_table import bent_stage
from support.nets import Net
from support.passes import all_signs, names, run_pass

INT32 = np.iinfo(np.int32)


def stage(
    taps: int, multiplier: Array, bias: Array, scale: float, zero_point: int, activation: Activation = Activation.NONE
) -> OutputTransform:
    """The float output stage as LCE folds it."""
    quant = Quantization.per_tensor(scale, zero_point)
    return OutputTransform.fold(
        multiplier.astype(np.float32), bias.astype(np.float32), taps, activation, DType.INT8, quant
    )


def wanted_by(transform: OutputTransform, x: Array) -> Array:
    outs = len(transform.multiplier)
    return transform(np.broadcast_to(x[:, None], (len(x), outs)))


def computed_by_c(x: Array, shift: int, multiplier: Array, offset: Array) -> Array:
    """``clamp((x * multiplier + offset) >> shift)`` in 32 bits, as the kernel computes it; overflow would wrap."""
    product = x.astype(np.int32)[:, None] * multiplier.astype(np.int32)
    exact = x.astype(object)[:, None] * multiplier.astype(object)
    total = product + offset.astype(np.int32)
    assert (product == exact).all() and (total == exact + offset.astype(object)).all(), "int32 overflow"
    return np.clip(total >> shift, -128, 127)


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("taps", [1, 2, 9, 72, 288])
def test_every_accumulator_of_many_channels(taps: int, step: int, rng: np.random.Generator) -> None:
    """Scales from those that give one value to those that saturate at once."""
    x = np.arange(0, 2 * taps + 1, step)
    solved = 0
    for exponent in range(-6, 5):
        for zero_point in (-128, -3, 0, 127):
            multiplier = rng.normal(0, 1, 24) * 10.0**exponent / taps**0.5
            transform = stage(taps, multiplier, rng.normal(0, 10.0**exponent, 24), 0.02, zero_point)
            wanted = wanted_by(transform, x)
            found = solve_scale(x, wanted, transform.multiplier)
            if found is None:
                continue
            shift, m, o = found
            assert m.dtype == o.dtype == np.int32 and 1 <= shift <= 24
            np.testing.assert_array_equal(computed_by_c(x, *found), wanted)
            solved += 1
    assert solved >= 36


@pytest.mark.parametrize("scale", [1e-7, 1e-3, 1.0, 1e3, 1e7])
def test_extreme_output_scales(scale: float, rng: np.random.Generator) -> None:
    x = np.arange(0, 145, 2)
    transform = stage(72, rng.normal(size=32), rng.normal(size=32), scale, 5)
    wanted = wanted_by(transform, x)
    found = solve_scale(x, wanted, transform.multiplier)
    if found is None:
        assert scale < 1e-2  # products that leave 32 bits
    else:
        np.testing.assert_array_equal(computed_by_c(x, *found), wanted)


def test_channels_that_are_constant() -> None:
    """No scale, and biases beyond both ends: the saturated values bind the offset on one side only."""
    x = np.arange(0, 19, 2)
    bias = np.array([0.0, 0.7, -0.7, 1e4, -1e4, 1e7, -1e7])
    transform = stage(9, np.zeros(7), bias, 0.02, 3)
    wanted = wanted_by(transform, x)
    found = solve_scale(x, wanted, transform.multiplier)
    assert found is not None
    np.testing.assert_array_equal(computed_by_c(x, *found), wanted)
    assert wanted[0].tolist() == [3, 38, -32, 127, -128, 127, -128]


def test_ties_round_away_from_zero_on_both_sides() -> None:
    """-0.5 becomes -1 and 0.5 becomes 1, where a floor gives one of them: a slope a bit steeper gives both."""
    x = np.arange(0, 41, 2)
    multiplier = np.array([0.25, -0.25, 0.5, -0.5])
    transform = stage(20, multiplier, np.zeros(4), 1.0, 0)
    wanted = wanted_by(transform, x)
    assert wanted[9:12, 0].tolist() == [1, 0, -1]
    found = solve_scale(x, wanted, transform.multiplier)
    assert found is not None
    np.testing.assert_array_equal(computed_by_c(x, *found), wanted)


def test_neighbours_of_the_nearest_multiplier_solve_large_layers(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """64 channels of 3x3x64: a quarter of such layers has a channel that the nearest multiplier cannot serve."""
    x = np.arange(0, 2 * 576 + 1, 2)
    stages = [stage(576, rng.normal(0, 1 / 24, 64), rng.normal(0, 0.5, 64), 3 / 127, -3) for _ in range(20)]
    tables = [(wanted_by(s, x), s.multiplier) for s in stages]
    found = [solve_scale(x, wanted, slope) for wanted, slope in tables]
    for (wanted, _), solution in zip(tables, found, strict=True):
        if solution is not None:
            np.testing.assert_array_equal(computed_by_c(x, *solution), wanted)
    monkeypatch.setitem(solve_scale.__globals__, "_NEIGHBOURS", (0,))
    nearest = [solve_scale(x, wanted, slope) for wanted, slope in tables]
    assert found.count(None) <= 2 < nearest.count(None)


def test_a_function_that_no_line_equals_is_refused() -> None:
    x = np.arange(0, 19, 2)
    wanted = np.clip(np.arange(10) * 3, 0, 12)[:, None].astype(np.int8)
    assert solve_scale(x, wanted, np.array([1.5])) is None


def test_products_beyond_32_bits_are_refused() -> None:
    x = np.arange(0, 19, 2)
    assert solve_scale(x, np.full((10, 1), 127, np.int8), np.array([2.0**28])) is None
    huge = solve_scale(x, np.where(x[:, None] > 9, 127, -128).astype(np.int8), np.array([2.0**20]))
    assert huge is None or np.abs(huge[1].astype(np.int64) * 18 + huge[2]).max() <= INT32.max


# ------------------------------------------------------------------------------------------------------------ the pass


K = 12
X = all_signs(K)


def point(**options: object) -> Net:
    """Every pattern of 12 signs through a 1x1 convolution with int8 output."""
    net = Net(X.shape).quantize()
    return net.bconv(16, (1, 1), padding=Padding.VALID, to=DType.INT8, **options)  # type: ignore[arg-type]


def stage_of(net: Net, x: Array) -> Graph:
    """The rewritten graph; its output keeps name and value, so that nothing counts as eliminated."""
    result = run_pass(integer_output_stage, net.graph(), x)
    assert dict(result.eliminated) == {}
    return result.graph


@pytest.mark.parametrize("zero_point", [-128, -3, 127])
@pytest.mark.parametrize("scale", [1e-2, 0.3, 100.0])
def test_a_multiplier_replaces_the_float_stage(scale: float, zero_point: int) -> None:
    quant = Quantization.per_tensor(scale, zero_point)
    graph = stage_of(point(quant=quant), X)
    assert names(graph) == ["LceQuantize", "BinaryConvScale"]
    op = graph.nodes[1].op
    assert isinstance(op, BinaryConvScale)
    multiplier, offset = (graph.tensors[name or ""] for name in graph.nodes[1].inputs[2:])
    assert multiplier.dtype is offset.dtype is DType.INT32
    assert multiplier.shape == offset.shape == (16,)
    assert graph.output.quantization == quant


def test_a_bend_in_the_range_takes_a_table() -> None:
    for net in (point(activation=Activation.RELU), point(activation=Activation.RELU6)):
        graph = stage_of(net, X)
        assert names(graph) == ["LceQuantize", "BinaryConvTable"]
        table = graph.tensors[graph.nodes[1].inputs[2] or ""]
        assert table.dtype is DType.INT8 and table.shape == (16, K + 1)


@pytest.mark.parametrize(("channels", "columns", "index_shift"), [(8, 73, 1), (10, 91, 1), (9, 163, 0)])
def test_tables_of_zero_padded_convolutions(channels: int, columns: int, index_shift: int) -> None:
    net = bent_stage(channels, 6, pad_value=0)
    graph = stage_of(net, net.samples(16))
    op = graph.nodes[1].op
    assert isinstance(op, BinaryConvTable)
    view = View.of(graph, graph.nodes[1])
    assert view.input(2).shape == (6, columns)
    assert op.index_shift(view) == index_shift


@pytest.mark.parametrize("pad_value", [0, 1])
@pytest.mark.parametrize("channels", [32, 33, 64])
def test_a_table_that_would_be_too_large_becomes_segments(channels: int, pad_value: int) -> None:
    per_channel = 18 * channels + 1 if channels % 2 and not pad_value else 9 * channels + 1
    fits, too_large = SMALL_TABLE_BYTES // per_channel, SMALL_TABLE_BYTES // per_channel + 1
    net = bent_stage(channels, fits, pad_value=pad_value)
    assert not fits or names(stage_of(net, net.samples(4)))[-1] == "BinaryConvTable"
    net = bent_stage(channels, too_large, pad_value=pad_value)
    graph = stage_of(net, net.samples(4))
    assert names(graph)[-1] == "BinaryConvSegments"
    first, segments = (graph.tensors[name or ""] for name in graph.nodes[1].inputs[2:])
    assert first.shape == (too_large,) and segments.shape[1] == 3
    # a ReLU in front of the scale: a flat part, a line, and saturation
    assert segments.shape[0] <= 3 * too_large


@pytest.mark.parametrize("taps", [1152, 2304, 4608])
def test_large_layers_have_no_float_stage(taps: int, rng: np.random.Generator) -> None:
    channels = taps // 9
    net = Net((1, 2, 3, channels), seed=2).quantize().bconv(24, to=DType.INT8)
    graph = stage_of(net, net.samples(4))
    assert names(graph) == ["LceQuantize", "BinaryConvSegments"]
    assert sum(graph.tensors[name or ""].nbytes for name in graph.nodes[1].inputs[2:]) <= 48 * 24


# ------------------------------------------------------------------------------------------------------------- segments


def computed_by_segments(x: Array, q: Array, real: Array) -> Array:
    """The function of the segments as the kernel computes it: scanned from the first, in unsigned 32 bits."""
    found = solve_segments(x, q, real)
    assert found[-1].end == INT32.max and all(a.end < b.end for a, b in pairwise(found))
    y = []
    for value in x.tolist():
        segment = next(s for s in found if value < s.end)
        assert INT32.min <= segment.multiplier <= INT32.max and INT32.min <= segment.offset <= INT32.max
        y.append(((value * (segment.multiplier % 2**32) + segment.offset % 2**32) % 2**32 >> 24) - 128)
    return np.array(y)


@pytest.mark.parametrize("seed", range(20))
def test_segments_equal_any_function(seed: int) -> None:
    """Noise, single steps, constants, extreme values: without a line they become a segment per run."""
    rng = np.random.default_rng(seed)
    x = np.arange(0, 2 * 60 + 1, 1 + seed % 2)
    shapes = [
        rng.integers(-128, 128, len(x)), np.where(x > rng.integers(120), 127, -128), np.full(len(x), seed - 10),
        np.clip(x * rng.normal() * 4, -128, 127), np.abs(x - 60) - 5, np.clip((x - 60) ** 2 // 30 - 100, -128, 127),
    ]  # fmt: skip
    for q in (np.asarray(shape).astype(np.int8) for shape in shapes):
        np.testing.assert_array_equal(computed_by_segments(x, q, q.astype(np.float64)), q)
        np.testing.assert_array_equal(computed_by_segments(x, q, np.full(len(x), np.nan)), q)


@pytest.mark.parametrize("taps", [72, 1152, 4608, 20000])
def test_few_segments_for_a_line_and_for_one_bend(taps: int, rng: np.random.Generator) -> None:
    x = np.arange(0, 2 * taps + 1, 2)
    for activation, most in ((Activation.NONE, 3.5), (Activation.RELU, 3.5)):
        transform = stage(taps, rng.normal(0, taps**-0.5, 20), rng.normal(size=20), 3 / 127, -3, activation)
        wanted, real = wanted_by(transform, x), transform.real(np.broadcast_to(x[:, None], (len(x), 20)))
        total = 0
        for o in range(20):
            total += len(solve_segments(x, wanted[:, o], real[:, o].astype(np.float64)))
            if taps <= 4608:
                np.testing.assert_array_equal(computed_by_segments(x, wanted[:, o], real[:, o]), wanted[:, o])
        assert total <= most * 20


# --------------------------------------------------------------------------------------------------------------- chains


def quantized(net: Net, scale: float = 0.05, zero_point: int = -3) -> Net:
    return net.node(Quantize(), dtype=DType.INT8, quant=Quantization.per_tensor(scale, zero_point))


def float_point(outs: int = 16, seed: int = 0) -> Net:
    return Net(X.shape, seed=seed).quantize().bconv(outs, (1, 1), padding=Padding.VALID)


INTEGER = {"LceQuantize", "BinaryConvScale", "BinaryConvTable", "BinaryConvSegments", "MAX_POOL_2D", "RESHAPE"}


def chain_stage(net: Net, x: Array = X) -> Graph:
    return run_pass(integer_output_stage, net.graph(), x).graph


def test_float_arithmetic_and_quantize_become_integers() -> None:
    net = quantized(float_point().mul(np.linspace(-1, 1, 16)).add(np.linspace(-1, 1, 16)))
    graph = chain_stage(net)
    assert names(graph) == ["LceQuantize", "BinaryConvScale"]
    assert graph.output.quantization == Quantization.per_tensor(0.05, -3)


def test_slopes_become_two_lines() -> None:
    net = Net((1, 4, 5, 64)).quantize().bconv(20)
    net = quantized(prelu(net, np.linspace(-0.5, 0.5, 20)), 0.02)
    graph = chain_stage(net, net.samples(8))
    assert names(graph) == ["LceQuantize", "BinaryConvSegments"]
    segments = graph.tensors[graph.nodes[1].inputs[3] or ""]
    assert segments.shape[0] <= 5 * 20


def test_int8_operators_join_the_stage() -> None:
    quant = Quantization.per_tensor(0.05, -3)
    net = point(quant=quant).node(LeakyRelu(-0.3), dtype=DType.INT8, quant=quant)
    assert names(chain_stage(net)) == ["LceQuantize", "BinaryConvTable"]


def test_an_operator_that_would_need_a_large_table_stays_behind_the_stage() -> None:
    """An int8 TANH is one table of 256 bytes for all channels; as segments it would take more per channel."""
    net = Net((1, 4, 5, 64)).quantize().bconv(40, to=DType.INT8, quant=Quantization.per_tensor(0.05, -3))
    net.node(Tanh(), dtype=DType.INT8, quant=Quantization.per_tensor(1 / 128, 0))
    graph = chain_stage(net, net.samples(8))
    assert names(graph) == ["LceQuantize", "BinaryConvScale", "TANH"]
    # behind a float output there is no other int8 tensor, and a float stage would need float at run time
    net = quantized(Net((1, 4, 5, 64)).quantize().bconv(40).node(Tanh(), dtype=DType.FLOAT32), 1 / 128, 0)
    graph = chain_stage(net, net.samples(8))
    assert set(names(graph)) <= INTEGER
    assert sum(graph.tensors[n or ""].nbytes for n in graph.nodes[1].inputs[2:]) > MAX_BYTES_PER_CHANNEL * 40


@pytest.mark.parametrize("order", ["pool first", "pool last", "two pools"])
def test_pools_move_behind_the_stage(order: str) -> None:
    net = float_point()
    if order != "pool last":
        net.pool(2, Padding.SAME, Activation.RELU6)
    net.mul(np.linspace(0.1, 1, 16)).add(np.linspace(-1, 1, 16))
    if order != "pool first":
        net.pool()
    graph = chain_stage(quantized(net))
    assert set(names(graph)) <= INTEGER and names(graph).count("MAX_POOL_2D") == (2 if order == "two pools" else 1)


def test_a_falling_scale_behind_a_pool_is_left_alone() -> None:
    graph = quantized(float_point().pool().mul(np.linspace(-1, 1, 16))).graph()
    assert integer_output_stage(graph) is graph


def test_dense_layers_behind_a_reshape() -> None:
    net = Net((1, 4, 4, 32)).quantize().bconv(32).mul(np.linspace(-1, 1, 32)).reshape(1, 512)
    graph = quantized(net).graph()
    result = run_passes(graph, [elementwise_before_reshape, integer_output_stage]).graph
    assert names(result) == ["LceQuantize", "BinaryConvScale", "RESHAPE"]
    x, name = net.samples(8), graph.outputs[0]
    np.testing.assert_array_equal(evaluate(result, x)[name], evaluate(graph, x)[name])


def test_the_last_elements_of_a_vector_round_in_their_own_way() -> None:
    """10 values: QUANTIZE rounds 8 ties to even, 2 away from zero; each channel has its own rule."""
    net = Net((1, 1, 1, 12)).quantize()
    net.bconv(10, (1, 1), padding=Padding.VALID, multiplier=np.full(10, 1.0), bias=np.full(10, 1.0))
    net = quantized(net, 2.0, 0)
    x = all_signs(12).reshape(-1, 1, 1, 12)
    graph = run_pass(integer_output_stage, net.graph(), x).graph
    assert set(names(graph)) <= INTEGER
    q = evaluate(graph, x)[graph.outputs[0]].reshape(-1, 10)
    assert (q[:, 0] != q[:, 9]).any() or not (q % 2).any()


@pytest.mark.parametrize("seed", range(60))
def test_random_chains(seed: int) -> None:
    rng = np.random.default_rng(seed)
    net = float_point(int(rng.choice([3, 16, 33])), seed)
    for _ in range(rng.integers(4)):
        random_step(net, rng)
    quantized(net, 10.0 ** rng.uniform(-3, 1), int(rng.integers(-128, 128)))
    if rng.random() < 0.5:
        quant = Quantization.per_tensor(net.now.quant.scale * rng.uniform(0.5, 2), int(rng.integers(-128, 128)))
        net.node(LeakyRelu(rng.normal()), dtype=DType.INT8, quant=quant)
    graph = chain_stage(net)
    pools = any(isinstance(node.op, MaxPool2d) for node in net.graph().nodes)
    assert pools or set(names(graph)) <= INTEGER


def test_what_is_not_int8_is_left_alone() -> None:
    for to in (DType.FLOAT32, DType.BITS):
        graph = Net((1, 4, 4, 8)).quantize().bconv(4, to=to).graph()
        assert integer_output_stage(graph) is graph


@pytest.mark.parametrize("padding", ["one", "zero", "valid"])
def test_windows_strides_and_groups(padding: str) -> None:
    rule = Padding.VALID if padding == "valid" else Padding.SAME
    for groups, channels in ((1, 33), (2, 64)):
        net = Net((1, 7, 8, channels)).quantize()
        net.bconv(10, groups=groups, to=DType.INT8, padding=rule, pad_value=int(padding == "one"), stride=(2, 1))
        graph = stage_of(net, net.samples(16))
        assert names(graph) == ["LceQuantize", "BinaryConvScale"]


def test_two_layers_are_both_rewritten_and_readers_keep_their_input() -> None:
    net = Net((1, 6, 6, 32)).quantize().bconv(16, to=DType.INT8).pool().conv(8).quantize().bconv(8, to=DType.INT8)
    graph = net.graph()
    rewritten = stage_of(net, net.samples(16))
    assert names(rewritten)[1] == "BinaryConvScale" and names(rewritten)[-1] == "BinaryConvScale"
    assert [node.output for node in rewritten.nodes] == [node.output for node in graph.nodes]


@pytest.mark.parametrize("role", ["multiplier", "offset", "table"])
def test_a_new_tensor_takes_no_name_that_is_in_use(role: str) -> None:
    """A constant of a later layer may have the name."""
    activation = Activation.RELU if role == "table" else Activation.NONE
    net = point(activation=activation).conv(4, (1, 1))
    graph = net.graph()
    taken = f"{graph.nodes[1].output}/{role}"
    bias = graph.nodes[2].inputs[2]
    tensors = {taken if name == bias else name: tensor for name, tensor in graph.tensors.items()}
    tensors[taken] = replace(tensors[taken], name=taken)
    conv = replace(graph.nodes[2], inputs=(*graph.nodes[2].inputs[:2], taken))
    changed = replace(graph, tensors=tensors, nodes=(*graph.nodes[:2], conv))
    result = run_pass(integer_output_stage, changed, X)
    assert isinstance(result.graph.tensors[f"{taken}_1"], Tensor)
