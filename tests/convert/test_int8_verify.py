"""The check of int8 files can fail: planted faults are found, and named by the operator that differs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from onebit.convert.int8 import Agreement, FakeQuantized, calibrate, compare_int8, quantize_int8
from onebit.core import DType, Graph, Node, read_model, write_model
from onebit.core.errors import VerificationError
from onebit.core.graph import Array
from onebit.core.ops import Activation, Add, LceBconv2d, LceQuantize, Padding
from onebit.core.oracle import NumpyOracle
from support.nets import Net

Edit = Callable[[Graph], Graph]


def residual_net() -> Net:
    """A real-valued layer, two binary ones with a shortcut around each, pooling and a dense layer."""
    net = Net((1, 8, 8, 3), seed=3).conv(8, activation=Activation.RELU)
    for _ in range(2):
        shortcut = net.now.name
        net.quantize().bconv(8).node(Add(), shortcut, dtype=DType.FLOAT32)
    return net.average((4, 4), (4, 4)).reshape(1, 32).dense(5)


class Tampered(NumpyOracle):
    """Computes another int8 file than the one that was written."""

    engine = "tampered"

    def __init__(self, edit: Edit) -> None:
        super().__init__()
        self.edit = edit

    def run(self, model: bytes, x: Array, tensors: Sequence[str]) -> list[Array]:
        return super().run(write_model(self.edit(read_model(model))), x, tensors)


def fake_of(graph: Graph, file: Graph) -> FakeQuantized:
    return FakeQuantized(graph, file, quantize_int8(graph, calibrate(graph, residual_net().samples(100))).offsets)


def agree(edit: Edit) -> Agreement:
    net = residual_net()
    graph, x = net.graph(), net.samples(100)
    file = quantize_int8(graph, calibrate(graph, x)).graph
    quant = file.input.quant
    stored = np.clip(np.rint(x / quant.scale) + quant.zero_point, -128, 127).astype(np.int8)
    return compare_int8(fake_of(graph, file), write_model(file), stored, Tampered(edit))


def constant(graph: Graph, output: str, index: int, change: Callable[[Array], Array]) -> Graph:
    """The graph with constant input `index` of the node that computes `output` changed."""
    node = graph.producer(output)
    assert node is not None
    old = graph.tensors[node.inputs[index] or ""]
    changed = replace(old, data=change(old.constant().copy()))
    return replace(graph, tensors={**graph.tensors, old.name: changed})


def operator(graph: Graph, output: str, change: Callable[[Node], Node]) -> Graph:
    """The graph with the node that computes `output` changed."""
    return replace(graph, nodes=tuple(change(node) if node.output == output else node for node in graph.nodes))


def first(amount: int) -> Callable[[Array], Array]:
    def change(values: Array) -> Array:
        values.reshape(-1)[0] += amount
        return values

    return change


def flip_bit(words: Array) -> Array:
    """One bit of every filter; that of a filter with a small multiplier would change less than one step."""
    words[:, 0, 0, 0] ^= 1
    return words


def one_padded(node: Node) -> Node:
    assert isinstance(node.op, LceBconv2d)
    return replace(node, op=replace(node.op, window=replace(node.op.window, padding=Padding.SAME, pad_value=0)))


def swapped(node: Node) -> Node:
    return replace(node, inputs=(node.inputs[0], "conv_2d_0"))


#: what is wrong, and the operator that must be named
FAULTS: dict[str, tuple[Edit, str]] = {
    "a weight": (lambda g: constant(g, "conv_2d_0", 1, lambda w: -w), "CONV_2D 'conv_2d_0'"),
    "a bias": (lambda g: constant(g, "conv_2d_0", 2, first(9999)), "CONV_2D 'conv_2d_0'"),
    "a bit": (lambda g: constant(g, "lcebconv2d_2", 1, flip_bit), "LceBconv2d 'lcebconv2d_2'"),
    "a padding rule": (lambda g: operator(g, "lcebconv2d_5", one_padded), "LceBconv2d 'lcebconv2d_5'"),
    "the wrong shortcut": (lambda g: operator(g, "add_6", swapped), "ADD 'add_6'"),
    "an activation": (
        lambda g: operator(g, "add_3", lambda n: replace(n, op=Add(Activation.RELU))),
        "ADD 'add_3'",
    ),
}


@pytest.mark.parametrize("fault", list(FAULTS))
def test_a_fault_is_found_and_located(fault: str) -> None:
    edit, where = FAULTS[fault]
    with pytest.raises(VerificationError) as caught:
        agree(edit)
    assert caught.value.where == where
    assert caught.value.exit_code == 1


def test_no_fault_no_error() -> None:
    result = agree(lambda graph: graph)
    assert (result.samples, result.argmax_equal) == (100, 100)
    assert result.max_step_diff <= 1


def test_a_file_that_reads_another_tensor_is_refused() -> None:
    net = residual_net()
    graph, x = net.graph(), net.samples(20)
    file = quantize_int8(graph, calibrate(graph, x)).graph
    wrong = operator(file, "add_6", swapped)
    with pytest.raises(VerificationError, match="reads 'conv_2d_0' in place of 'add_3'"):
        compare_int8(fake_of(graph, wrong), write_model(wrong), np.zeros((2, 8, 8, 3), np.int8), NumpyOracle())


def test_a_sign_is_compared_exactly() -> None:
    """Bits that an operator decides otherwise than its own inputs demand are an error, however few they are."""

    class OneBit(NumpyOracle):
        def run(self, model: bytes, x: Array, tensors: Sequence[str]) -> list[Array]:
            found = super().run(model, x, tensors)
            signs = [isinstance(n.op, LceQuantize) for n in read_model(model).nodes]
            found[signs.index(True)].reshape(-1)[5] ^= 1
            return found

    net = residual_net()
    graph, x = net.graph(), net.samples(20)
    file = quantize_int8(graph, calibrate(graph, x)).graph
    with pytest.raises(VerificationError, match="LceQuantize 'lcequantize_1'"):
        compare_int8(fake_of(graph, file), write_model(file), np.zeros((2, 8, 8, 3), np.int8), OneBit())
