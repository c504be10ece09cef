"""MEAN: int8 identical; float32 within 1e-5 of the range, and identical unless the last axis is reduced."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from onebit.core import DType, Quantization, evaluate, spec, write_model
from onebit.core.errors import SpecError
from onebit.core.graph import Array
from onebit.core.ops import Mean, View
from onebit.simulate import simulate
from support.lce import Agrees, LceSession
from support.nets import Net
from support.window_nets import reductions

SPATIAL = [(1, 2), (2, 1)]
AXES = [*SPATIAL, (-3, -2), (1, -2), (1, 1, 2), (1,), (2,), (3,), (-1,), (2, 3), (1, 2, 3)]
IDENTICAL = Quantization.per_tensor(0.05, -7)


def int8_mean(
    shape: Sequence[int], x: Quantization, y: Quantization, axes: Sequence[int] = (1, 2), *, keep_dims: bool = False
) -> Net:
    return Net(shape, DType.INT8, x).reduce(Mean(keep_dims), axes, y)


def pixels_with_sums(sums: Array, height: int, width: int) -> Array:
    """int8 ``[1, height, width, len(sums)]`` whose channels have these sums."""
    count = height * width
    base, rest = np.divmod(sums, count)
    x = base + (np.arange(count)[:, None] < rest)
    return x.reshape(1, height, width, -1).astype(np.int8)


@pytest.mark.parametrize("keep_dims", [False, True])
@pytest.mark.parametrize("axes", AXES, ids=str)
@pytest.mark.parametrize("channels", [1, 5, 15, 16, 17, 40])
def test_int8_axes_and_channel_counts(channels: int, axes: tuple[int, ...], keep_dims: bool, agrees: Agrees) -> None:
    rng = np.random.default_rng(channels)
    for zero_points in ((-128, 127), (127, -128), (-5, 3), (0, 0)):
        x, y = (Quantization.per_tensor(rng.uniform(0.01, 0.2), z) for z in zero_points)
        net = int8_mean((1, 7, 6, channels), x, y, axes, keep_dims=keep_dims)
        agrees(net.graph(), net.samples(6))


@pytest.mark.parametrize("keep_dims", [False, True])
def test_int8_same_quantization(keep_dims: bool, agrees: Agrees) -> None:
    for shape in ((1, 2, 2, 21), (1, 7, 7, 21), (1, 1, 1, 21), (1, 25, 5, 64)):
        net = int8_mean(shape, IDENTICAL, IDENTICAL, keep_dims=keep_dims)
        agrees(net.graph(), net.samples(20))


@pytest.mark.parametrize("keep_dims", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 3), (7, 7), (8, 8), (5, 25)], ids=str)
def test_int8_every_sum(size: tuple[int, int], keep_dims: bool, agrees: Agrees) -> None:
    """Every sum there is; twice the channels of each, so that some lie in a group of 16 and some behind it."""
    count = size[0] * size[1]
    sums = np.arange(-128 * count, 127 * count + 1)
    rng = np.random.default_rng(count)
    for ratio in (1.0, 0.5, 0.25, 3.0, *rng.uniform(0.1, 2.0, 4)):
        x = Quantization.per_tensor(0.03, int(rng.integers(-128, 128)))
        y = Quantization.per_tensor(0.03 / ratio, int(rng.integers(-128, 128)))
        for some in (sums, sums[:13], sums[-13:]):
            graph = int8_mean((1, *size, len(some)), x, y, keep_dims=keep_dims).graph()
            agrees(graph, pixels_with_sums(some, *size))


@pytest.mark.parametrize("keep_dims", [False, True])
@pytest.mark.parametrize("ratio", [1e-9, 1e-6, 1e-3, 30.0, 1e3, 1e5, 1e6])
def test_int8_scales_far_apart(ratio: float, keep_dims: bool, agrees: Agrees) -> None:
    for zero_point in (-128, 0, 127):
        x, y = Quantization.per_tensor(0.01, zero_point), Quantization.per_tensor(0.01 / ratio, 5)
        net = int8_mean((1, 4, 3, 19), x, y, keep_dims=keep_dims)
        agrees(net.graph(), net.samples(4))


@pytest.mark.parametrize("keep_dims", [False, True])
def test_an_int8_sum_that_could_leave_32_bits_is_refused(keep_dims: bool) -> None:
    for zero_point in (-128, 0, 127):
        x, y = Quantization.per_tensor(1.0, zero_point), Quantization.per_tensor(1e-8, 5)
        with pytest.raises(SpecError, match="32 bits"):
            spec.verify(int8_mean((1, 4, 3, 19), x, y, keep_dims=keep_dims).graph(), "test")


@pytest.mark.parametrize("keep_dims", [False, True])
@pytest.mark.parametrize("scales", [(1e38, 1e-38), (3e38, 3e38), (3e38, 1e30), (1e-45, 3e38), (1e-45, 1e-45)], ids=str)
def test_absurd_int8_scales_are_refused_or_computed(scales: tuple[float, float], keep_dims: bool) -> None:
    for zero_point in (-128, 0, 127):
        x, y = (Quantization.per_tensor(scale, zero_point) for scale in scales)
        net = int8_mean((1, 4, 3, 19), x, y, keep_dims=keep_dims)
        try:
            spec.verify(net.graph(), "test")
        except SpecError:
            continue
        assert evaluate(net.graph(), net.samples(2))[net.now.name].dtype == np.int8


def test_the_constant_of_the_zero_points_is_rounded_in_float32(agrees: Agrees) -> None:
    """Ratios that bring zero point * input scale / output scale next to a half: its last bit decides."""
    rng = np.random.default_rng(2)
    for _ in range(60):
        zero_point, scale = int(rng.integers(1, 128)), np.float32(rng.uniform(0.01, 0.2))
        y_scale = np.float32(zero_point * float(scale) / (rng.integers(0, 40) + 0.5))
        for _ in range(int(rng.integers(0, 3))):
            y_scale = np.nextafter(y_scale, np.float32(rng.choice([0, 9])))
        x, y = (Quantization.per_tensor(s, z) for s, z in ((scale, zero_point), (y_scale, 3)))
        graph = int8_mean((1, 2, 2, 64), x, y, keep_dims=True).graph()
        agrees(graph, pixels_with_sums(np.arange(-512, 508, 16), 2, 2))


def test_both_kernels_of_litert_are_needed() -> None:
    """On the same values they differ, and the way the axes are written chooses."""
    x, y = Quantization.per_tensor(0.05, -77), Quantization.per_tensor(0.031, 9)
    samples = np.random.default_rng(0).integers(-128, 128, (200, 7, 6, 21)).astype(np.int8)

    def outputs(axes: Sequence[int], keep_dims: bool) -> Array:
        net = int8_mean((1, 7, 6, 21), x, y, axes, keep_dims=keep_dims)
        return evaluate(net.graph(), samples)[net.now.name].reshape(200, 21)

    general = outputs((1, 2), False)
    assert (outputs((-3, -2), True) == general).all()
    assert (outputs((2, 1), True) == outputs((1, 2), True)).all()
    difference = outputs((1, 2), True).astype(int) - general
    assert 0 < np.abs(difference).max() <= 1


@pytest.mark.parametrize("keep_dims", [False, True])
@pytest.mark.parametrize("axes", AXES, ids=str)
def test_float(axes: tuple[int, ...], keep_dims: bool, agrees: Agrees, lce: LceSession) -> None:
    for shape in ((1, 7, 6, 3), (1, 5, 5, 33), (1, 40, 30, 4)):
        net = Net(shape).reduce(Mean(keep_dims), axes)
        graph, x = net.graph(), net.samples(3)
        agrees(graph, x)
        if 3 not in graph.nodes[0].op.axes(View.of(graph, graph.nodes[0])):  # type: ignore[attr-defined]
            np.testing.assert_array_equal(evaluate(graph, x)[net.now.name], lce.run(graph, x)[net.now.name])


def test_other_ranks(agrees: Agrees) -> None:
    for shape, axes in (((1, 12), (1,)), ((1, 5, 6), (1,)), ((1, 5, 6), (2,)), ((1, 2, 3, 4, 5), (2, 3))):
        for keep_dims in (False, True):
            for quant in (None, IDENTICAL):
                net = Net(shape, DType.INT8 if quant else DType.FLOAT32, quant).reduce(Mean(keep_dims), axes)
                agrees(net.graph(), net.samples(4))


@pytest.mark.parametrize(
    ("dtype", "target"), [(DType.FLOAT32, "host"), (DType.INT8, "host"), (DType.INT8, "cortex-m4")]
)
def test_the_c_code_computes_what_the_interpreter_computes(dtype: DType, target: str, lce: LceSession) -> None:
    """MEAN and REDUCE_MAX."""
    assert lce
    result = simulate(write_model(reductions(dtype).graph()), "random:20", target=target, layers=True)
    assert result.ok, result.first_mismatch
    assert result.outputs_equal == result.outputs_compared > 0
