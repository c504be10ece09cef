"""The graph IR: what hangs together, and rewriting."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from onebit.core import DType, Graph, Node, Quantization, Tensor
from onebit.core.ops import Add, LceQuantize, Mul
from support.nets import Net


@pytest.fixture
def graph() -> Graph:
    """input -> MUL mul_0 -> ADD add_1 (mul_0 + mul_0) -> LceQuantize lcequantize_2."""
    net = Net((1, 4)).mul(np.arange(4))
    return net.node(Add(), net.now.name, dtype=DType.FLOAT32).quantize().graph()


def test_producers_and_consumers(graph: Graph) -> None:
    mul, add, quantize = graph.nodes
    assert graph.producer("mul_0") is mul
    assert graph.producer("input") is None
    assert graph.producer("factor_0") is None
    assert graph.producer(None) is None
    assert graph.consumers("mul_0") == (add,)  # once, although it reads it twice
    assert graph.consumers("add_1") == (quantize,)
    assert graph.consumers(graph.outputs[0]) == ()
    assert graph.consumers("nothing") == ()


def test_the_sole_consumer_excludes_model_outputs(graph: Graph) -> None:
    assert graph.sole_consumer("add_1") is graph.nodes[2]
    assert graph.sole_consumer(graph.outputs[0]) is None
    both = Graph(graph.tensors, graph.nodes, graph.inputs, (*graph.outputs, "add_1"))
    assert both.sole_consumer("add_1") is None


def test_inputs_outputs_and_activations(graph: Graph) -> None:
    assert graph.input.name == "input"
    assert graph.output.name == "lcequantize_2"
    assert [t.name for t in graph.activations()] == ["mul_0", "add_1", "lcequantize_2"]
    assert graph.tensor(None) is None
    assert graph.tensor("input") is graph.input


def test_a_graph_does_not_change(graph: Graph) -> None:
    with pytest.raises(TypeError):
        graph.tensors["x"] = graph.input  # type: ignore[index]
    with pytest.raises(FrozenInstanceError):
        graph.inputs = ()  # type: ignore[misc]
    mine = dict(graph.tensors)
    other = Graph(mine, graph.nodes, graph.inputs, graph.outputs)
    mine.clear()
    assert other.tensors == graph.tensors


def test_rewrite_puts_new_nodes_where_the_last_old_one_stood(graph: Graph) -> None:
    mul, add, quantize = graph.nodes
    fused = Node(Mul(), ("input", "six"), ("add_1",))
    six = Tensor("six", (4,), DType.FLOAT32, None, np.full(4, 6, np.float32))
    rewritten = graph.rewrite([mul, add], [fused], [six])
    assert rewritten.nodes == (fused, quantize)
    # what nothing mentions any more is gone
    assert set(rewritten.tensors) == {"input", "six", "add_1", "lcequantize_2"}
    assert graph.nodes == (mul, add, quantize)


def test_rewrite_matches_nodes_by_identity() -> None:
    net = Net((1, 4)).quantize()
    twin = Node(LceQuantize(), ("input",), net.nodes[0].outputs)
    graph = net.graph()
    assert twin == graph.nodes[0]
    with pytest.raises(ValueError, match="empty"):
        graph.rewrite([twin], [])


def test_tensors_know_their_stored_form() -> None:
    bits = Tensor("b", (1, 2, 3, 33), DType.BITS)
    assert (bits.stored_shape, bits.elements, bits.nbytes) == ((1, 2, 3, 2), 198, 48)
    small = Tensor("s", (1, 2, 3, 33), DType.INT8)
    assert (small.stored_shape, small.elements, small.nbytes) == ((1, 2, 3, 33), 198, 198)
    assert Tensor("f", (1, 5), DType.FLOAT32).nbytes == 20
    assert bits.describe() == "'b' bits [1, 2, 3, 33]"
    assert bits.quant == Quantization((1.0,), (0,))
    assert not bits.is_constant


def test_a_scale_is_a_float32() -> None:
    quant = Quantization.per_tensor(0.1, 3)
    assert quant.scale == float(np.float32(0.1))
    assert quant.zero_point == 3
