"""SOFTMAX: float32 within 1e-5, int8 identical."""

from __future__ import annotations

import numpy as np
import pytest

from onebit.core import DType, Quantization, evaluate
from support.lce import Agrees
from support.nets import Net

INT8_SCALES = [1e-3, 0.1, 1.0, 3.0]
BETAS = [1e-3, 0.1, 0.5, 1.0, 2.0, 10.0]
CLASSES = [1, 2, 10, 100, 1000]


def logits(classes: int, scale: float | None = None, zero_point: int = 4) -> Net:
    if scale is None:
        return Net((1, classes))
    return Net((1, classes), DType.INT8, Quantization.per_tensor(scale, zero_point))


@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("beta", BETAS)
def test_float(beta: float, classes: int, agrees: Agrees) -> None:
    net = logits(classes).softmax(beta)
    agrees(net.graph(), (net.samples(10) * 5).astype(np.float32))


@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("beta", BETAS)
def test_int8(beta: float, classes: int, agrees: Agrees) -> None:
    net = logits(classes, 0.05).softmax(beta)
    agrees(net.graph(), net.samples(20))


@pytest.mark.parametrize("zero_point", [-128, 0, 127])
@pytest.mark.parametrize("scale", INT8_SCALES)
def test_int8_scales_and_zero_points(scale: float, zero_point: int, agrees: Agrees) -> None:
    net = logits(10, scale, zero_point).softmax()
    agrees(net.graph(), net.samples(200))


def test_int8_every_distance(agrees: Agrees) -> None:
    for scale in INT8_SCALES:
        net = logits(2, scale).softmax()
        x = np.stack([np.full(256, 127), np.arange(-128, 128)], axis=1).astype(np.int8)
        agrees(net.graph(), x)


@pytest.mark.parametrize("classes", [1, 2, 3, 10, 255, 256, 257, 300])
def test_equal_logits(classes: int, agrees: Agrees) -> None:
    agrees(logits(classes).softmax().graph(), np.full((1, classes), 2.5, np.float32))
    for value in (-128, 0, 127):
        agrees(logits(classes, 0.1).softmax().graph(), np.full((1, classes), value, np.int8))


def test_int8_ends_of_the_output(agrees: Agrees) -> None:
    """A certain class is 127 (probability 1 does not fit), all others -128."""
    net = logits(10, 3.0).softmax()
    x = np.full((1, 10), -128, np.int8)
    x[0, 3] = 127
    agrees(net.graph(), x)
    graph = net.graph()
    y = evaluate(graph, x)[graph.outputs[0]][0]
    assert y[3] == 127
    assert (np.delete(y, 3) == -128).all()


def test_float_far_apart_logits_do_not_overflow(agrees: Agrees) -> None:
    x = np.array([[1e4, -1e4, 0, 1e30, -1e30]], np.float32)
    agrees(logits(5).softmax().graph(), x)


@pytest.mark.parametrize("dtype", [DType.FLOAT32, DType.INT8])
def test_the_last_axis_of_an_image(dtype: DType, agrees: Agrees) -> None:
    net = Net((1, 2, 3, 4), dtype, Quantization.per_tensor(0.05, 0) if dtype is DType.INT8 else None).softmax()
    agrees(net.graph(), net.samples(4))
