"""AVERAGE_POOL_2D on float32 and int8: identical, for LiteRT sums in row-major order."""

from __future__ import annotations

import numpy as np
import pytest

from onebit.core import DType, Quantization, evaluate, write_model
from onebit.core.ops import Activation, AveragePool2d, Padding, PoolWindow
from onebit.simulate import simulate
from support.lce import Agrees, LceSession
from support.nets import Net
from support.window_nets import averages

QUANTS = {
    "float": None,
    "int8": Quantization.per_tensor(0.03, -5),
    "zero point -128": Quantization.per_tensor(1 / 255, -128),
    "zero point 127": Quantization.per_tensor(0.03, 127),
}


def image(kind: str, *shape: int) -> Net:
    quant = QUANTS[kind]
    return Net(shape, DType.INT8 if quant else DType.FLOAT32, quant)


@pytest.mark.parametrize("kind", ["float", "int8"])
@pytest.mark.parametrize("padding", list(Padding), ids=str)
@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (2, 1), (3, 2)], ids=str)
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 3), (3, 2), (1, 4), (5, 7)], ids=str)
def test_geometry_on_an_odd_map(
    size: tuple[int, int], stride: tuple[int, int], padding: Padding, kind: str, agrees: Agrees
) -> None:
    net = image(kind, 1, 5, 7, 3).average(size, stride, padding)
    agrees(net.graph(), net.samples(4))


@pytest.mark.parametrize("activation", list(Activation), ids=lambda a: a.name)
@pytest.mark.parametrize("kind", QUANTS)
def test_fused_activations(kind: str, activation: Activation, agrees: Agrees) -> None:
    net = image(kind, 1, 5, 7, 3).average((2, 2), (2, 2), Padding.SAME, activation)
    x = net.samples(3)
    agrees(net.graph(), x if kind != "float" else (x * 6).astype(np.float32))


@pytest.mark.parametrize("scale", [1e-45, 1e-38, 1e-9, 1e9, 3e38])
def test_activation_bounds_of_absurd_scales(scale: float) -> None:
    for zero_point in (-128, 0, 127):
        net = Net((1, 2, 2, 3), DType.INT8, Quantization.per_tensor(scale, zero_point)).average()
        x = net.samples(4)
        plain = evaluate(net.graph(), x)[net.now.name]
        for activation in Activation:
            low = zero_point if activation in (Activation.RELU, Activation.RELU6) or scale > 1 else -128
            high = zero_point if scale > 1 and activation in (Activation.RELU6, Activation.RELU_N1_TO_1) else 127
            low = -128 if activation is Activation.NONE else low
            clamped = Net((1, 2, 2, 3), DType.INT8, Quantization.per_tensor(scale, zero_point))
            clamped.average(activation=activation)
            got = evaluate(clamped.graph(), x)[clamped.now.name]
            np.testing.assert_array_equal(got, np.clip(plain, low, high))


@pytest.mark.parametrize("channels", [1, 31, 32, 33, 257])
def test_channel_counts(channels: int, agrees: Agrees) -> None:
    for kind in QUANTS:
        net = image(kind, 1, 4, 4, channels).average()
        agrees(net.graph(), net.samples(2))


@pytest.mark.parametrize("size", [(25, 5), (32, 32), (3, 61)], ids=str)
def test_a_window_as_large_as_the_map(size: tuple[int, int], agrees: Agrees) -> None:
    for kind in QUANTS:
        net = image(kind, 1, *size, 5).average(size, size)
        agrees(net.graph(), net.samples(20))


@pytest.mark.parametrize("count", range(1, 17))
def test_int8_sums_of_every_size_round_half_away_from_zero(count: int, agrees: Agrees) -> None:
    """All sums of `count` values next to zero, ties included; the zero point plays no part."""
    totals = np.arange(-3 * count, 3 * count + 1)
    pixels = np.array([[(t + i) // count for i in range(count)] for t in totals], np.int8)
    for quant in list(QUANTS.values())[1:]:
        graph = Net((1, 1, count, 1), DType.INT8, quant).average((1, count), (1, count)).graph()
        x = pixels.reshape(-1, 1, count, 1)
        want = np.sign(totals) * np.floor(np.abs(totals) / count + 0.5)
        np.testing.assert_array_equal(evaluate(graph, x)[graph.outputs[0]].reshape(-1), want)
        agrees(graph, x)


def test_pixels_outside_do_not_count() -> None:
    for kind in QUANTS:
        graph = image(kind, 1, 3, 3, 2).average((2, 2), (2, 2), Padding.SAME).graph()
        x = np.full((1, 3, 3, 2), 7, graph.input.dtype.numpy)
        assert (evaluate(graph, x)[graph.outputs[0]] == 7).all()


def test_counts() -> None:
    op = AveragePool2d(PoolWindow((3, 2), (2, 1), Padding.SAME))
    assert op.counts(Net((1, 4, 3, 1)).now).tolist() == [[6, 6, 3], [4, 4, 2]]
    op = AveragePool2d(PoolWindow((3, 2), (2, 1), Padding.VALID))
    assert op.counts(Net((1, 5, 3, 1)).now).tolist() == [[6, 6], [6, 6]]


@pytest.mark.parametrize(
    ("dtype", "target"), [(DType.FLOAT32, "host"), (DType.INT8, "host"), (DType.INT8, "cortex-m4")]
)
def test_the_c_code_computes_what_the_interpreter_computes(dtype: DType, target: str, lce: LceSession) -> None:
    assert lce
    result = simulate(write_model(averages(dtype).graph()), "random:10", target=target, layers=True)
    assert result.ok, result.first_mismatch
    assert result.outputs_bit_identical == result.outputs_compared > 0
