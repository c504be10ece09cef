"""Signs behind zero-padded binary convolutions: thresholds on doubled popcounts, odd channel counts included.

The maps are so small that the samples hold every pattern of signs of the whole input.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from onebit.codegen.ops import BinaryConvSign
from onebit.codegen.passes.fold_sign_into_zero_padded_bconv import fold_sign_into_zero_padded_bconv
from onebit.core import DType, Graph, Quantization, evaluate
from onebit.core.bits import unpack
from onebit.core.graph import Array
from onebit.core.ops import Activation, LceBconv2d, View
from onebit.core.passes import run_passes
from onebit.core.passes.fold_sign import fold_sign_into_bconv
from support.nets import Net
from support.passes import names, run_pass

#: maps [1, H, W, C] with at most 12 signs
MAPS = [(1, 3, 3, 1), (1, 2, 2, 2), (1, 2, 2, 3), (1, 1, 2, 5), (1, 1, 3, 4)]
FOLDED = ["LceQuantize", "BinaryConvSign"]


def every_input(shape: tuple[int, ...]) -> Array:
    """All patterns of signs of one map, as samples."""
    patterns = np.array(list(product((1.0, -1.0), repeat=int(np.prod(shape)))), np.float32)
    return patterns.reshape(-1, *shape[1:])


def net_of(shape: tuple[int, ...], outs: int = 24, seed: int = 0, **options: object) -> Net:
    return Net(shape, seed=seed).quantize().bconv(outs, pad_value=0, **options)  # type: ignore[arg-type]


def fold(net: Net, x: Array) -> Graph:
    return run_pass(fold_sign_into_zero_padded_bconv, net.graph(), x).graph


@pytest.mark.parametrize("shape", MAPS, ids=str)
def test_every_input_gives_the_same_signs(shape: tuple[int, ...]) -> None:
    """Scales of both signs and zero, biases that make the value 0 somewhere."""
    rng = np.random.default_rng(3)
    m = np.concatenate([np.ones(8), -np.ones(8), [0.0], rng.normal(size=7)])
    b = np.concatenate([np.arange(-4, 4), np.arange(-4, 4), [-0.0], rng.normal(size=7)])
    net = net_of(shape, multiplier=m, bias=b).quantize()
    x = every_input(shape)
    graph = fold(net, x)
    assert names(graph) == FOLDED
    value = evaluate(net.graph(), x, ["lcebconv2d_1"])["lcebconv2d_1"]
    assert (value == 0).any() and (value < 0).any()
    words = evaluate(graph, x)[graph.outputs[0]]
    np.testing.assert_array_equal(unpack(words, 24), value < 0)


@pytest.mark.parametrize("shape", MAPS, ids=str)
def test_padding_gives_odd_accumulators_only_with_odd_channel_counts(shape: tuple[int, ...]) -> None:
    graph = fold(net_of(shape).quantize(), every_input(shape))
    view = View.of(graph, graph.nodes[1])
    op = graph.nodes[1].op
    assert isinstance(op, BinaryConvSign)
    words = evaluate(graph, every_input(shape), ["lcequantize_0"])["lcequantize_0"]
    x = op.window.accumulate(view.input(0), view.input(1), words, view.input(1).constant())
    assert (x % 2).any() == bool(shape[3] % 2)
    assert x.min() >= 0 and x.max() <= 2 * op.window.taps(view.input(1))
    assert view.input(2).dtype is DType.INT32 and view.input(2).shape == (24,)


@pytest.mark.parametrize("shape", MAPS, ids=str)
def test_batch_norm_and_activations(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(4)
    for activation in Activation:
        net = net_of(shape, activation=activation).mul(rng.normal(size=24)).add(rng.normal(size=24), activation)
        net.add([-0.5]).quantize()
        result = run_pass(fold_sign_into_zero_padded_bconv, net.graph(), every_input(shape))
        assert names(result.graph) == FOLDED
        assert set(result.eliminated) == {"lcebconv2d_1", "mul_2", "add_3", "add_4"}


@pytest.mark.parametrize("shape", [(1, 3, 3, 1), (1, 2, 2, 3)], ids=str)
def test_a_pool_between_them(shape: tuple[int, ...]) -> None:
    net = net_of(shape).pool().mul(np.linspace(0.1, 1, 24)).add(np.linspace(-1, 1, 24)).quantize()
    assert names(fold(net, every_input(shape))) == ["LceQuantize", "BinaryConvSign", "LceBMaxPool2d"]


def test_a_negative_scale_behind_the_pool_takes_minima() -> None:
    shape = (1, 2, 2, 3)
    net = net_of(shape).pool().mul(np.linspace(-1, 1, 24)).add(np.linspace(1, 2, 24)).quantize()
    assert names(fold(net, every_input(shape))) == ["LceQuantize", "BinaryConvSign", "BinaryPool"]


@pytest.mark.parametrize("zero_point", [-128, -3, 127])
@pytest.mark.parametrize("channels", [2, 3])
def test_int8_outputs(channels: int, zero_point: int) -> None:
    quant = Quantization.per_tensor(0.05, zero_point)
    net = net_of((1, 2, 2, channels), to=DType.INT8, quant=quant).quantize()
    assert names(fold(net, every_input((1, 2, 2, channels)))) == FOLDED


@pytest.mark.parametrize("channels", [31, 32, 33, 64])
def test_channel_counts_around_the_word(channels: int) -> None:
    rng = np.random.default_rng(channels)
    net = net_of((1, 5, 6, channels), 33, stride=(2, 1), dilation=(1, 2))
    net.mul(rng.normal(size=33)).add(rng.normal(size=33)).quantize()
    assert names(fold(net, net.samples(16))) == FOLDED


def test_groups() -> None:
    net = net_of((1, 4, 4, 64), 32, groups=2).mul(np.linspace(-1, 1, 32)).quantize()
    assert names(fold(net, net.samples(16))) == FOLDED


def test_the_pass_before_it_leaves_zero_padding_to_this_one() -> None:
    net = Net((1, 6, 6, 34)).quantize().bconv(33, pad_value=0).mul(np.linspace(-1, 1, 33)).quantize()
    net.bconv(31).mul(np.linspace(-1, 1, 31)).quantize().bconv(5, pad_value=0)
    result = run_passes(net.graph(), [fold_sign_into_bconv, fold_sign_into_zero_padded_bconv])
    assert names(result.graph) == ["LceQuantize", "BinaryConvSign", "LceBconv2d", "LceBconv2d"]
    assert result.graph.nodes[2].op.window.pad_value == 1  # type: ignore[attr-defined]
    assert result.eliminated["mul_2"] == "fold_sign_into_zero_padded_bconv"
    assert result.eliminated["mul_5"] == "fold_sign_into_bconv"


def test_a_real_valued_output_is_left_alone() -> None:
    graph = net_of((1, 4, 4, 5)).graph()
    assert fold_sign_into_zero_padded_bconv(graph) is graph
    assert isinstance(graph.nodes[1].op, LceBconv2d)
