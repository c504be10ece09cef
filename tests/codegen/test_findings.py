"""Every thing that costs is found, with its cost and what to change, and nothing is found where nothing costs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from onebit.codegen import find_target
from onebit.codegen.findings import Finding, find_costs
from onebit.codegen.inspection import inspect_graph
from onebit.codegen.schedule import compile_graph
from onebit.core import DType, Graph, read_model
from onebit.core.ops import Activation, Add, Padding, Round, Sub
from onebit.core.pretrained import pretrained_path
from support.nets import INT8_INPUT, Net

F32 = DType.FLOAT32
TARGET = find_target("cortex-m4")


def findings(graph: Graph) -> list[Finding]:
    return find_costs(compile_graph(graph, TARGET))


def of_kind(graph: Graph, kind: str) -> Finding:
    (found,) = [finding for finding in findings(graph) if finding.kind == kind]
    return found


def int8_stem(activation: Activation = Activation.NONE) -> Net:
    return Net((1, 8, 8, 3), DType.INT8, INT8_INPUT).conv(32, activation=activation)


def residual() -> Graph:
    net = int8_stem()
    shortcut = net.now.name
    net.quantize().bconv(32, to=DType.INT8)
    return net.node(Add(), shortcut, dtype=DType.INT8, quant=net.now.quantization).graph()


def test_bits_all_the_way_cost_nothing() -> None:
    net = int8_stem().quantize().bconv(32, to=DType.BITS).bpool().bconv(10, (4, 4), to=DType.INT8)
    assert findings(net.reshape(1, 160).graph()) == []
    assert findings(read_model(pretrained_path("digits"))) == []


def test_a_sign_of_a_shortcut() -> None:
    found = of_kind(residual(), "surviving_sign")
    assert (found.op, found.index, found.ram_bytes) == ("LceQuantize", 1, 8 * 8 * 32)
    assert "sign of CONV_2D, in int8 because ADD reads it too" in found.what
    assert found.instructions > 8 * 8 * 32
    assert "shortcut" in found.fix


def test_a_sign_with_thresholds_per_channel_of_a_shortcut() -> None:
    """The difference is part of the sign; what counts is the value that it reads."""
    net = int8_stem()
    shortcut, quant = net.now.name, net.now.quantization
    thresholds = net.constant("thresholds", np.arange(32), DType.INT8, quant=quant)
    net.node(Sub(), thresholds, dtype=DType.INT8, quant=quant).quantize().bconv(32, to=DType.INT8)
    found = of_kind(net.node(Add(), shortcut, dtype=DType.INT8, quant=quant).graph(), "surviving_sign")
    assert (found.op, found.index, found.ram_bytes) == ("LceQuantize", 2, 8 * 8 * 32)
    assert "sign of CONV_2D, in int8 because ADD reads it too" in found.what


def test_a_sign_of_the_input_and_of_a_mean() -> None:
    assert "model's input" in of_kind(Net((1, 4, 4, 32)).quantize().bconv(4).graph(), "surviving_sign").what
    net = int8_stem().average().reshape(1, 1, 1, 512).quantize().bconv(4, (1, 1))
    assert "takes the sign of AVERAGE_POOL_2D, in int8" in of_kind(net.graph(), "surviving_sign").what


def test_a_float_dense_layer_names_its_three_sizes() -> None:
    found = of_kind(Net((1, 4, 4, 3)).reshape(1, 48).dense(16).graph(), "float_dense")
    assert "3,072 bytes of weights, 768 in int8, 96 in bits" in found.what
    assert found.flash_bytes == 3072 + 16 * 4
    assert "--int8" in found.fix


def test_a_float_convolution() -> None:
    found = of_kind(Net((1, 4, 4, 3)).conv(8).graph(), "float_conv")
    assert "864 bytes of weights, 216 in int8" in found.what
    assert found.instructions > 4 * 4 * 8 * 27


@pytest.mark.parametrize("to", [DType.INT8, F32])
def test_zero_padding_costs_what_one_padding_does_not(to: DType) -> None:
    def net(pad_value: int) -> Graph:
        return int8_stem().quantize().bconv(8, padding=Padding.SAME, pad_value=pad_value, to=to).graph()

    found = of_kind(net(0), "zero_padding")
    assert found.instructions >= 0
    assert "pad with ones" in found.fix
    assert not [f for f in findings(net(1)) if f.kind == "zero_padding"]


def relu_conv() -> Graph:
    return int8_stem(Activation.RELU).quantize().bconv(8, to=DType.INT8).graph()


def relu_batch_norm() -> Graph:
    net = Net((1, 8, 8, 32)).quantize().bconv(32).mul(np.ones(32)).add(np.zeros(32), Activation.RELU)
    return net.quantize().bconv(8).graph()


def dead_thresholds() -> Graph:
    net = int8_stem().quantize().bconv(32, to=DType.BITS, threshold=np.full(32, 2**31 - 1))
    return net.bconv(8, to=DType.INT8).graph()


@pytest.mark.parametrize("make", [relu_conv, relu_batch_norm, dead_thresholds])
def test_a_sign_that_is_always_the_same(make: Callable[[], Graph]) -> None:
    found = of_kind(make(), "dead_sign")
    assert "for every input" in found.what
    assert found.fix.startswith("remove the ReLU between batch norm and the next binary layer")


def test_channels_that_are_always_the_same() -> None:
    threshold = np.where(np.arange(32) < 8, -(2**31), 144)
    net = int8_stem().quantize().bconv(32, to=DType.BITS, threshold=threshold).bconv(8, to=DType.INT8)
    assert "8 of 32 channels give the same bit" in of_kind(net.graph(), "dead_channels").what


def test_a_relu_inside_a_binary_convolution_kills_nothing() -> None:
    net = int8_stem().quantize().bconv(32, activation=Activation.RELU, bias=np.full(32, -3.0), multiplier=np.ones(32))
    assert not [f for f in findings(net.quantize().bconv(8).graph()) if f.kind == "dead_sign"]


def test_weights_of_few_levels() -> None:
    net = Net((1, 8, 8, 16)).conv(8)
    ternary = net.rng.integers(-1, 2, (8, 3, 3, 8)).astype(np.float32)
    from onebit.core.ops import Conv2d

    net.node(Conv2d(), net.constant("ternary", ternary, F32), dtype=F32)
    found = of_kind(net.graph(), "multi_bit")
    assert "weights of 3 levels per channel are stored as float32: 2,304 bytes" in found.what
    assert "binary quantizer" in found.fix


def test_activations_of_few_levels() -> None:
    net = Net((1, 4, 4, 8)).conv(8).mul([3.0]).node(Round(), dtype=F32).conv(4)
    assert "rounds activations" in of_kind(net.graph(), "multi_bit").what


def test_signs_that_become_numbers() -> None:
    net = int8_stem().quantize().bconv(8, to=DType.BITS).dequantize().reshape(1, 512).dense(4)
    found = of_kind(net.graph(), "unpacked_signs")
    assert found.ram_bytes == 512 * 4
    assert "become float32 for RESHAPE" in found.what


def test_inspection_has_a_row_for_every_operator_with_its_cost() -> None:
    result = inspect_graph(residual(), TARGET)
    assert [(row.tensor, row.form) for row in result.ops] == [
        ("conv_2d_0", "int8"), ("lcequantize_1", "bits"), ("lcebconv2d_2", "int8"), ("add_3", "int8"),
    ]  # fmt: skip
    assert all(row.instructions > 0 for row in result.ops)
    assert sum(row.weight_bytes for row in result.ops) == result.weight_bytes
    assert result.as_dict()["findings"][0]["kind"] == "surviving_sign"
    binary, other = 8 * 8 * 32 * 9 * 32, 8 * 8 * 32 * 27
    assert (result.binary_macs, result.other_macs) == (binary, other)
