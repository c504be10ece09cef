"""Evaluation of whole graphs."""

from __future__ import annotations

import numpy as np
import pytest

from onebit.core import DType, evaluate
from onebit.core.evaluate import CHUNK
from support.files import attribute_net, float_net, int8_net
from support.nets import Net

GRAPHS = {"int8": int8_net, "float": float_net, "attributes": attribute_net}


def samples(name: str, count: int) -> np.ndarray:
    graph = GRAPHS[name]()
    rng = np.random.default_rng(1)
    if graph.input.dtype is DType.INT8:
        return rng.integers(-128, 128, (count, *graph.input.shape[1:])).astype(np.int8)
    return rng.normal(0, 1, (count, *graph.input.shape[1:])).astype(np.float32)


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("count", [1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 1])
def test_many_samples_are_single_samples(name: str, count: int) -> None:
    graph, x = GRAPHS[name](), samples(name, count)
    names = [t.name for t in graph.activations()]
    together = evaluate(graph, x, names)
    for i in {0, count // 2, count - 1}:
        for tensor, value in evaluate(graph, x[i : i + 1], names).items():
            if graph.tensors[tensor].dtype is DType.FLOAT32:
                np.testing.assert_allclose(together[tensor][i], value[0], rtol=1e-6, atol=1e-6, err_msg=tensor)
            else:
                np.testing.assert_array_equal(together[tensor][i], value[0], err_msg=tensor)


@pytest.mark.parametrize("name", GRAPHS)
def test_values_have_the_declared_form(name: str) -> None:
    graph = GRAPHS[name]()
    values = evaluate(graph, samples(name, 3), [t.name for t in graph.activations()])
    for tensor in graph.activations():
        assert values[tensor.name].shape == (3, *tensor.stored_shape[1:]), tensor.name
        assert values[tensor.name].dtype == tensor.dtype.numpy, tensor.name


def test_the_outputs_come_by_default() -> None:
    graph = int8_net()
    assert list(evaluate(graph, samples("int8", 1))) == list(graph.outputs)


@pytest.mark.parametrize("x", [np.zeros((1, 5), np.float32), np.zeros((1, 4), np.float64), np.zeros(4, np.float32)])
def test_an_input_of_another_form_is_refused(x: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"the input must be 'input' float32 \[1, 4\]"):
        evaluate(Net((1, 4)).quantize().graph(), x)


def test_the_input_is_not_changed() -> None:
    for name, make in GRAPHS.items():
        x = samples(name, 2)
        before = x.copy()
        evaluate(make(), x)
        np.testing.assert_array_equal(x, before)
