"""RESHAPE, with the shape in the options or as a second input."""

from __future__ import annotations

import numpy as np
import pytest

from onebit.core import DType, Quantization, evaluate
from onebit.core.ops import Reshape
from support.lce import Agrees
from support.nets import Net

QUANT = Quantization.per_tensor(0.02, 7)


def image(dtype: DType) -> Net:
    return Net((1, 2, 3, 4), dtype, QUANT if dtype is DType.INT8 else None)


@pytest.mark.parametrize("dtype", [DType.FLOAT32, DType.INT8])
@pytest.mark.parametrize("shape", [(1, 24), (1, 4, 6), (1, 1, 1, 24), (1, 3, 2, 2, 2)], ids=str)
def test_shape_in_the_options(shape: tuple[int, ...], dtype: DType, agrees: Agrees) -> None:
    net = image(dtype).reshape(*shape)
    agrees(net.graph(), net.samples(3))


@pytest.mark.parametrize("dtype", [DType.FLOAT32, DType.INT8])
@pytest.mark.parametrize("options", [(), (1, 24)], ids=["no options", "also in the options"])
def test_shape_as_second_input(options: tuple[int, ...], dtype: DType, agrees: Agrees) -> None:
    net = image(dtype)
    net.constant("shape", np.array([1, 24]), DType.INT32)
    net.node(Reshape(options), "shape", dtype=dtype, quant=net.now.quantization, shape=(1, 24))
    agrees(net.graph(), net.samples(3))


def test_the_batch_is_kept() -> None:
    net = image(DType.FLOAT32).reshape(1, 24)
    graph, x = net.graph(), net.samples(5)
    np.testing.assert_array_equal(evaluate(graph, x)[graph.outputs[0]], x.reshape(5, 24))
