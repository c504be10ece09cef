"""int8 outputs of binary convolutions: a fixed-point multiplier, a table, or float, whichever is proven first."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from onebit.codegen.ops import BinaryConvScale, BinaryConvTable
from onebit.codegen.passes.integer_output_stage import MAX_TABLE_BYTES, integer_output_stage, solve_scale
from onebit.core import DType, Graph, Quantization, Tensor
from onebit.core.graph import Array
from onebit.core.ops import Activation, LceBconv2d, OutputTransform, Padding
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


@pytest.mark.parametrize(("channels", "columns", "index_shift"), [(32, 289, 1), (34, 307, 1), (33, 595, 0)])
def test_tables_of_zero_padded_convolutions(channels: int, columns: int, index_shift: int) -> None:
    from onebit.core.ops import View

    net = bent_stage(channels, 13, pad_value=0)
    graph = stage_of(net, net.samples(16))
    op = graph.nodes[1].op
    assert isinstance(op, BinaryConvTable)
    view = View.of(graph, graph.nodes[1])
    assert view.input(2).shape == (13, columns)
    assert op.index_shift(view) == index_shift


def test_a_table_that_would_be_too_large_leaves_the_float_stage() -> None:
    per_channel = 9 * 64 + 1
    fits, too_large = MAX_TABLE_BYTES // per_channel, MAX_TABLE_BYTES // per_channel + 1
    net = bent_stage(64, fits)
    assert names(stage_of(net, net.samples(4)))[-1] == "BinaryConvTable"
    graph = bent_stage(64, too_large).graph()
    assert integer_output_stage(graph) is graph
    assert isinstance(graph.nodes[1].op, LceBconv2d)


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
