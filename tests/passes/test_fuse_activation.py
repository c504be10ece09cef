"""Activations of the ReLU family go into the operator in front of them."""

from __future__ import annotations

import numpy as np
import pytest

from onebit.core import DType, Graph, Quantization
from onebit.core.ops import Activation, Add, Op, Relu, Relu6, ReluN1To1, Sub
from onebit.core.passes.fuse_activation import fuse_activation
from support.nets import Net
from support.passes import names, run_pass

CLAMPS: dict[Activation, Op] = {
    Activation.RELU: Relu(), Activation.RELU_N1_TO_1: ReluN1To1(), Activation.RELU6: Relu6()
}  # fmt: skip


def nets() -> dict[str, Net]:
    """A net that ends in every operator that takes an activation."""
    difference = Net((1, 4, 4, 5))
    constant = difference.constant("c", np.full(5, 0.25), DType.FLOAT32)
    plain = {"multiplier": np.ones(5), "bias": np.zeros(5)}
    return {
        "CONV_2D": Net((1, 4, 4, 5)).conv(3),
        "DEPTHWISE_CONV_2D": Net((1, 4, 4, 5)).depthwise(),
        "FULLY_CONNECTED": Net((1, 5)).dense(3),
        "MAX_POOL_2D": Net((1, 4, 4, 5)).pool(),
        "AVERAGE_POOL_2D": Net((1, 4, 4, 5)).average(),
        "MUL": Net((1, 4, 4, 5)).mul(np.full(5, -1.5)),
        "ADD": Net((1, 4, 4, 5)).add(np.full(5, 0.5)),
        "SUB": difference.node(Sub(), constant, dtype=DType.FLOAT32),
        "LceBconv2d": Net((1, 4, 4, 5)).quantize().bconv(5, **plain),
    }


@pytest.mark.parametrize("activation", list(CLAMPS))
@pytest.mark.parametrize("name", list(nets()))
def test_it_goes_into_what_is_in_front(name: str, activation: Activation) -> None:
    net = nets()[name].node(CLAMPS[activation], dtype=DType.FLOAT32)
    done = run_pass(fuse_activation, net.graph(), net.samples(5))
    assert names(done.graph)[-1] == name
    assert done.graph.nodes[-1].op.activation is activation  # type: ignore[attr-defined]


def unchanged(graph: Graph) -> bool:
    return fuse_activation(graph) is graph


def test_a_binary_convolution_with_multipliers_keeps_its_integer() -> None:
    """Its own activation would act before them."""
    assert unchanged(Net((1, 4, 4, 5)).quantize().bconv(5).node(Relu(), dtype=DType.FLOAT32).graph())


def test_only_one_activation_goes_in() -> None:
    assert unchanged(Net((1, 4, 4, 5)).conv(3, activation=Activation.RELU).node(Relu6(), dtype=DType.FLOAT32).graph())


def test_a_result_with_other_readers_and_an_input_stay() -> None:
    net = Net((1, 4, 4, 5)).conv(5)
    before = net.now.name
    net.node(Relu(), dtype=DType.FLOAT32)
    assert unchanged(net.node(Add(), before, dtype=DType.FLOAT32).graph())
    assert unchanged(Net((1, 4, 4, 5)).node(Relu(), dtype=DType.FLOAT32).graph())


def test_int8_stays() -> None:
    quant = Quantization.per_tensor(0.05, 3)
    net = Net((1, 4, 4, 5), DType.INT8, quant).conv(3, quant=quant)
    assert unchanged(net.node(Relu(), dtype=DType.INT8, quant=quant).graph())
