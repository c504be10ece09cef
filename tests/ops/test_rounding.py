"""--rounding: the table of docs/rounding.md, row by row, and that nothing differs which it does not name."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from onebit.core import DType, Quantization, Rounding, evaluate, fixed_functions
from onebit.core.graph import Graph
from onebit.core.ops import Abs, LeakyRelu, Logistic, Mean, Padding, Prelu, ReduceMax, Relu, Softmax, Tanh
from support.elementwise_nets import NETS, RAMP, Case, binary, unary
from support.lce import LceSession, assert_agrees
from support.movement_nets import NETS as MOVEMENTS
from support.nets import Net
from support.tflm import TflmSession

I8, F32 = DType.INT8, DType.FLOAT32
LSB = (1 / 256, -128)
Differs = Callable[[], Case]


def _table(op: object, source: tuple[float, int], result: tuple[float, int]) -> Case:
    """A function of one int8 value on all of them."""
    return unary(op, (1, 256), source, result), RAMP.reshape(1, 256)  # type: ignore[arg-type]


def _net(build: Callable[[Net], Net], shape: tuple[int, ...] = (1, 5, 6, 16)) -> Case:
    net = build(Net(shape, I8, Quantization.per_tensor(0.02, -3)))
    return net.graph(), net.samples(20)


def _softmax() -> Case:
    x = np.stack([np.full(256, 127), np.arange(-128, 128)], axis=1).astype(np.int8)
    return unary(Softmax(), (1, 2), (0.03671761229634285, 0), LSB), x


def _reduce_max() -> Case:
    net = Net((1, 2, 2, 3)).reduce(ReduceMax(), (1, 2))
    return net.graph(), np.full((1, 2, 2, 3), -np.inf, np.float32)


def _padded() -> Case:
    net = MOVEMENTS["PADV2"]["negative zero"](F32)
    return net.graph(), net.samples(1)


def _denormals() -> Case:
    net = Net((1, 4)).quantize()
    return net.graph(), np.array([[-1e-40, 1e-40, -0.0, -1e-37]], np.float32)


#: operator and input dtype, as the table has them, to a net on which the roundings differ
DIFFERENCES: dict[tuple[str, str], Differs] = {
    ("ADD", "int8"): lambda: NETS["ADD"]["usual"],
    ("CONV_2D", "int8"): lambda: _net(lambda net: net.conv(16)),
    ("DEPTHWISE_CONV_2D", "int8"): lambda: _net(lambda net: net.depthwise()),
    ("FULLY_CONNECTED", "int8"): lambda: _net(lambda net: net.dense(200), (1, 60)),
    ("MEAN", "int8"): lambda: _net(lambda net: net.reduce(Mean(True), (1, 2))),
    ("RELU", "int8"): lambda: _table(Relu(), (0.23025, 3), (0.307, -4)),
    ("RELU6", "int8"): lambda: NETS["RELU6"]["usual"],
    ("ABS", "int8"): lambda: _table(Abs(), (1.5475, 3), (0.619, -4)),
    ("LEAKY_RELU", "int8"): lambda: _table(LeakyRelu(-0.5), (0.05, 3), (0.05, 3)),
    ("LEAKY_RELU", "float32"): lambda: NETS["LEAKY_RELU"]["float, -0.5"],
    ("PRELU", "int8"): lambda: (
        binary(Prelu(), (1, 256), np.full(256, 64), ((0.23775, 3), (1 / 64, 0), (0.317, -4))), RAMP.reshape(1, 256)
    ),
    ("LOGISTIC", "int8"): lambda: _table(Logistic(), (0.024135377258062363, 6), LSB),
    ("TANH", "int8"): lambda: _table(Tanh(), (0.06260772794485092, -73), (1 / 128, 0)),
    ("SOFTMAX", "int8"): _softmax,
    ("QUANTIZE", "float32"): lambda: NETS["QUANTIZE"]["float, 0.1, 33"],
    ("QUANTIZE", "int8"): lambda: NETS["QUANTIZE"]["halves after a shift"],
    ("DEQUANTIZE", "int8"): lambda: NETS["DEQUANTIZE"]["(0.1, 3), 33"],
    ("MAXIMUM", "float32"): lambda: NETS["MAXIMUM"]["zeros, one value first"],
    ("MINIMUM", "float32"): lambda: NETS["MINIMUM"]["zeros, one value first"],
    ("REDUCE_MAX", "float32"): _reduce_max,
    ("PADV2", "float32"): _padded,
    ("LceQuantize", "float32"): _denormals,
}  # fmt: skip


def same(graph: Graph, x: np.ndarray) -> bool:
    """Whether both roundings give the same bits."""
    with np.errstate(all="ignore"):
        a, b = (evaluate(replace(graph, rounding=rounding), x)[graph.outputs[0]] for rounding in Rounding)
    return a.tobytes() == b.tobytes()


@pytest.mark.parametrize("row", DIFFERENCES, ids=", ".join)
def test_the_two_differ_and_each_is_its_interpreters(row: tuple[str, str], lce: LceSession, tflm: TflmSession) -> None:
    graph, x = DIFFERENCES[row]()
    assert (graph.nodes[-1].op.name, graph.input.dtype.value) == row
    assert not same(graph, x)
    with np.errstate(all="ignore"):
        assert_agrees(graph, x, lce)
        assert_agrees(graph, x, tflm)


def test_the_documentation_has_these_rows(repository: Path) -> None:
    text = (repository / "docs" / "rounding.md").read_text("utf-8")
    assert re.findall(r"^\| (\w+) \| (int8|float32) \|", text, re.MULTILINE) == list(DIFFERENCES)


#: RELU_N1_TO_1, which TFLM lacks, follows RELU
SAME = [
    (op, case)
    for op, cases in NETS.items()
    for case, (graph, _) in cases.items()
    if (op, graph.input.dtype.value) not in DIFFERENCES and op != "RELU_N1_TO_1" and "both computed" not in case
]


def test_nothing_else_differs() -> None:
    assert {"MUL", "SUB", "HARD_SWISH", "GREATER"} <= {op for op, _ in SAME}
    different = [(op, case) for op, case in SAME if not same(*NETS[op][case])]
    assert different == []


@pytest.mark.parametrize("dtype", [F32, I8])
def test_pools_and_data_movement_are_the_same(dtype: DType) -> None:
    quant = Quantization.per_tensor(0.02, -3) if dtype is I8 else None
    pools = [Net((1, 7, 8, 5), dtype, quant).average((3, 2), padding=Padding.SAME).pool(2)]
    moves = [make(dtype) for op, cases in MOVEMENTS.items() if op != "PADV2" for make in cases.values()]
    for net in (*pools, *moves):
        graph = net.graph()
        if not any(getattr(node.op, "ellipsis_mask", 0) for node in graph.nodes):
            assert same(graph, net.samples(3))


# ------------------------------------------------------------------------------------------------------ fixed point


@pytest.mark.parametrize("name", ["exp_negative", "logistic", "tanh"])
def test_fixed_functions_are_near_the_real_ones(name: str) -> None:
    """Within 2**-22 of the function in double, on all of their range."""
    bits = 5 if name == "exp_negative" else 4
    x = np.linspace(-(2**31), 0 if name == "exp_negative" else 2**31 - 1, 50_001).astype(np.int64)
    real = x * 2.0 ** (bits - 31)
    exact = {"exp_negative": np.exp, "logistic": lambda v: 1 / (1 + np.exp(-v)), "tanh": np.tanh}[name](real)
    got = getattr(fixed_functions, name)(x, bits)
    assert got.min() >= -(2**31)
    assert got.max() < 2**31
    assert np.abs(got / 2.0**31 - exact).max() < 2.0**-22


@pytest.mark.slow
@pytest.mark.parametrize("op", [Logistic(), Tanh()], ids=lambda op: op.name)
def test_random_scales(op: Logistic | Tanh, rng: np.random.Generator, tflm: TflmSession) -> None:
    result = LSB if isinstance(op, Logistic) else (1 / 128, 0)
    for scale, zero_point in zip(np.exp(rng.uniform(-9, 1, 300)), rng.integers(-128, 128, 300), strict=True):
        assert_agrees(*_table(op, (float(scale), int(zero_point)), result), tflm)


@pytest.mark.slow
def test_softmax_on_random_rows(rng: np.random.Generator, tflm: TflmSession) -> None:
    for scale in np.exp(rng.uniform(-7, 1, 200)):
        rows, n = 32, int(rng.choice([1, 2, 3, 10, 100, 400]))
        graph = unary(Softmax(float(rng.choice([0.5, 1, 2]))), (1, rows, n), (float(scale), 0), LSB)
        assert_agrees(graph, rng.integers(-128, 128, (1, rows, n)).astype(np.int8), tflm)


def test_ratios_at_ties(rng: np.random.Generator, tflm: TflmSession, lce: LceSession) -> None:
    """Scales whose quotient is a simple fraction in float32, but not in double."""
    for _ in range(25):
        wide = np.float32(rng.uniform(0.01, 1))
        narrow = float(wide * np.float32(rng.choice([0.5, 0.75, 1.25, 1.5, 2.5])))
        for op in (Relu(), Abs(), LeakyRelu(-0.5), LeakyRelu(0.25)):
            for session in (tflm, lce):
                assert_agrees(*_table(op, (narrow, 3), (float(wide), -4)), session)
        alpha = np.full(256, int(rng.integers(-128, 128)))
        graph = binary(Prelu(), (1, 256), alpha, ((narrow, 3), (1 / 64, 0), (float(wide), -4)))
        assert_agrees(graph, RAMP.reshape(1, 256), tflm)
