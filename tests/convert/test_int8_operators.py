"""The int8 form of every operator in the LCE interpreter, against float arithmetic rounded at every tensor."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from onebit.convert.int8 import FakeQuantized, Int8Model, calibrate, compare_int8, quantize_int8
from onebit.convert.int8.report import measure_losses
from onebit.convert.int8.rules import RULES, Constants, Output
from onebit.convert.samples import file_input
from onebit.core import DType, Graph, write_model
from onebit.core.graph import Array
from onebit.core.ops import (
    OPS,
    Abs,
    Activation,
    Add,
    AveragePool2d,
    Concatenation,
    ExpandDims,
    Greater,
    HardSwish,
    LeakyRelu,
    Logistic,
    Maximum,
    Mean,
    Minimum,
    Mul,
    Op,
    Pack,
    Pad,
    Padding,
    PadV2,
    Prelu,
    ReduceMax,
    Relu,
    Relu6,
    ReluN1To1,
    ResizeNearestNeighbor,
    Round,
    Sign,
    Slice,
    Split,
    Squeeze,
    StridedSlice,
    Sub,
    Tanh,
    Transpose,
)
from onebit.core.oracle import Oracle
from onebit.simulate.oracle import LceOracle
from support.nets import Net

F32 = DType.FLOAT32


@pytest.fixture(scope="module")
def lce() -> Oracle:
    return LceOracle()


def stem() -> Net:
    return Net((1, 6, 6, 3), seed=7).conv(8)


def unary(op: Op) -> Callable[[], Net]:
    return lambda: stem().node(op, dtype=F32).conv(4)


def with_constant(op: Op, data: Array) -> Callable[[], Net]:
    def make() -> Net:
        net = stem()
        return net.node(op, net.constant("c", data, F32), dtype=F32).conv(4)

    return make


def with_other(op: Op) -> Callable[[], Net]:
    """An operator on the stem's output and on a convolution of it with another range."""

    def make() -> Net:
        net = stem()
        first = net.now.name
        return net.conv(8).mul([3.0]).node(op, first, dtype=F32).conv(4)

    return make


def packed() -> Net:
    net = stem()
    first = net.now.name
    return net.conv(8).node(Pack(1, 2), first, dtype=F32)


def with_indices(op: Op, *indices: list[object]) -> Callable[[], Net]:
    def make() -> Net:
        net = stem()
        names = [net.constant(f"index_{i}", np.array(v), DType.INT32) for i, v in enumerate(indices)]
        return net.node(op, *names, dtype=F32)

    return make


def padded_with_value() -> Net:
    net = stem()
    paddings = net.constant("paddings", np.array([[0, 0], [1, 2], [0, 1], [0, 0]]), DType.INT32)
    return net.node(PadV2(), paddings, net.constant("value", [-4.5], F32), dtype=F32).conv(4)


def scalar(op: Op, value: int) -> Callable[[], Net]:
    def make() -> Net:
        net = stem()
        return net.node(op, net.constant("axis", np.array(value), DType.INT32), dtype=F32)

    return make


PER_CHANNEL = np.linspace(-1.5, 2.0, 8)
NETS: dict[str, Callable[[], Net]] = {
    "CONV_2D": lambda: stem().conv(5, stride=(2, 2), activation=Activation.RELU6),
    "DEPTHWISE_CONV_2D": lambda: stem().depthwise(2, activation=Activation.RELU).depthwise(),
    "FULLY_CONNECTED": lambda: stem().reshape(1, 288).dense(9, Activation.RELU).dense(4),
    "ADD": with_other(Add(Activation.RELU)),
    "ADD constant": with_constant(Add(), PER_CHANNEL),
    "SUB": with_other(Sub()),
    "MUL": with_other(Mul()),
    "MUL constant": with_constant(Mul(), PER_CHANNEL),
    "MAXIMUM": with_other(Maximum()),
    "MINIMUM constant": with_constant(Minimum(), PER_CHANNEL),
    "PRELU": with_constant(Prelu(), PER_CHANNEL / 4),
    "LEAKY_RELU": unary(LeakyRelu(0.1)),
    "HARD_SWISH": unary(HardSwish()),
    "RELU": unary(Relu()),
    "RELU6": unary(Relu6()),
    "RELU_N1_TO_1": unary(ReluN1To1()),
    "ABS": unary(Abs()),
    "LOGISTIC": unary(Logistic()),
    "TANH": unary(Tanh()),
    "SOFTMAX": lambda: stem().reshape(1, 288).dense(7).softmax(),
    "MAX_POOL_2D": lambda: stem().pool(2, activation=Activation.RELU),
    "AVERAGE_POOL_2D": lambda: stem().average((3, 2), (1, 2), Padding.SAME),
    "MEAN": lambda: stem().reduce(Mean(keep_dims=True)),
    "REDUCE_MAX": lambda: stem().reduce(ReduceMax()),
    "CONCATENATION": with_other(Concatenation(-1)),
    "PACK": packed,
    "PAD": with_indices(Pad(), [[0, 0], [1, 0], [2, 1], [0, 0]]),
    "PADV2": padded_with_value,
    "TRANSPOSE": with_indices(Transpose(), [0, 3, 1, 2]),
    "SLICE": with_indices(Slice(), [0, 1, 2, 3], [1, 4, -1, 2]),
    "STRIDED_SLICE": with_indices(StridedSlice(), [0, 0, 1, 0], [1, 6, 6, 8], [1, 2, 1, 3]),
    "SPLIT": lambda: stem().node(Split(3, 2, 1), dtype=F32).conv(3),
    "RESIZE_NEAREST_NEIGHBOR": with_indices(ResizeNearestNeighbor(), [9, 4]),
    "EXPAND_DIMS": scalar(ExpandDims(), 1),
    "SQUEEZE": lambda: stem().reduce(Mean(keep_dims=True)).node(Squeeze((1, 2)), dtype=F32).dense(3),
    "RESHAPE": lambda: stem().reshape(1, 12, 24),
    "LceBconv2d": lambda: stem().quantize().bconv(9).conv(4),
    "LceDequantize": lambda: stem().quantize().dequantize().conv(4),
    "LceBMaxPool2d": lambda: stem().quantize().bpool().bconv(6),
    "LceQuantize": lambda: stem().quantize().bconv(9).quantize().bconv(4),
}


def quantized(graph: Graph, x: Array) -> tuple[Int8Model, Array]:
    made = quantize_int8(graph, calibrate(graph, x))
    return made, file_input(x, made.graph.input, None)


@pytest.mark.parametrize("name", list(NETS))
def test_int8_is_within_one_step_of_float_arithmetic(name: str, lce: Oracle) -> None:
    net = NETS[name]()
    if len(net.now.shape) != 2:
        net.reshape(1, net.now.elements).dense(5)
    graph, x = net.graph(), net.samples(48)
    made, stored = quantized(graph, x)
    fake, model = FakeQuantized(graph, made.graph, made.offsets), write_model(made.graph)
    result = compare_int8(fake, model, stored, lce)
    assert (result.samples, result.argmax_equal) == (48, 48)
    assert made.kept_float == ()
    assert made.graph.output.dtype is DType.INT8
    # 8 bits of a range that the data fills; a scale of the wrong size gives far less
    for loss in measure_losses(fake, x, result.values):
        assert loss.own_db is None or loss.own_db > 28, loss
        assert loss.flips is None or loss.flips < 0.03, loss


def test_every_operator_has_a_row_or_stays_in_float() -> None:
    float_only = {"SIGN", "ROUND", "GREATER", "GREATER_EQUAL", "QUANTIZE", "DEQUANTIZE"}
    of_files = {name for name, op in OPS.items() if not op.internal}
    assert {op.name for op in RULES} == of_files - float_only
    assert {name.split()[0] for name in NETS} == {op.name for op in RULES}


def test_rows_with_shared_quantization_are_those_whose_constraints_demand_it() -> None:
    """What the registry's operators refuse when scales differ, the table shares; nothing else."""
    shared = {op.name for op, rule in RULES.items() if rule.output is Output.SHARED}
    demands = (
        "same scale and zero point",
        "one quantization for all",
        "and its quantization",
        "dtype and quantization",
    )
    said = {
        op.name for op in RULES if any(words in (rule.__doc__ or "") for rule in op.constraints() for words in demands)
    }
    assert shared == said
    assert {op.name for op, rule in RULES.items() if rule.constants is Constants.PER_CHANNEL} == {
        "CONV_2D",
        "DEPTHWISE_CONV_2D",
    }


@pytest.mark.parametrize("op", [Round(), Sign()], ids=["ROUND", "SIGN"])
def test_an_operator_without_int8_form_is_exact_between_conversions(op: Op, lce: Oracle) -> None:
    net = unary(op)()
    graph, x = net.graph(), net.samples(48)
    made, stored = quantized(graph, x)
    assert [kept.node.op.name for kept in made.kept_float] == [op.name]
    compare_int8(FakeQuantized(graph, made.graph, made.offsets), write_model(made.graph), stored, lce)


def test_a_comparison_stays_in_float(lce: Oracle) -> None:
    net = stem()
    net.node(Greater(), net.constant("c", PER_CHANNEL, F32), dtype=DType.BOOL).quantize().bconv(4)
    graph, x = net.graph(), net.samples(48)
    made, stored = quantized(graph, x)
    assert [n.op.name for n in made.graph.nodes] == ["CONV_2D", "DEQUANTIZE", "GREATER", "LceQuantize", "LceBconv2d"]
    compare_int8(FakeQuantized(graph, made.graph, made.offsets), write_model(made.graph), stored, lce)


def test_an_operator_whose_scales_int8_cannot_take_stays_in_float(lce: Oracle) -> None:
    """A slope so large that the fixed-point product would leave 32 bits."""
    net = unary(LeakyRelu(-3e7))()
    graph, x = net.graph(), net.samples(48)
    made, stored = quantized(graph, np.abs(x))
    reasons = [kept.reason for kept in made.kept_float]
    assert all("is below 2**22 output scales" in reason for reason in reasons)
    compare_int8(FakeQuantized(graph, made.graph, made.offsets), write_model(made.graph), stored, lce)


def test_average_pool_is_a_whole_map_in_a_row() -> None:
    assert RULES[AveragePool2d].monotone is False
