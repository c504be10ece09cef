"""Graphs that break just one constraint of an element by element operator."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from onebit.core import DType, Graph, Quantization
from onebit.core.ops import (
    Abs,
    Add,
    Dequantize,
    Greater,
    GreaterEqual,
    HardSwish,
    LeakyRelu,
    Logistic,
    Maximum,
    Minimum,
    Mul,
    Op,
    Prelu,
    Quantize,
    Relu,
    Relu6,
    ReluN1To1,
    Round,
    Sign,
    Sub,
    Tanh,
)
from onebit.core.ops.elementwise import Arithmetic, Extremum
from onebit.core.ops.operands import Binary
from support.edits import with_node, with_op, with_tensor
from support.elementwise_nets import binary, unary

Faults = dict[str, list[Graph]]
SHAPE = (1, 2, 2, 3)
SMALL = ((0.05, 3),) * 3
TWO_SCALES = Quantization((0.1, 0.2), (0, 0), 0)


def with_quant(graph: Graph, name: str, scale: float, zero_point: int = 0) -> Graph:
    """The graph with another quantization of one tensor."""
    return with_tensor(graph, name, quantization=Quantization.per_tensor(scale, zero_point))


def binary_faults(op: Binary) -> Faults:
    real, small = binary(op, SHAPE, np.ones(3, np.float32)), binary(op, SHAPE, [1, 2, 3], SMALL)
    five = binary(op, (1, 1, *SHAPE), np.ones(SHAPE[1:], np.float32))
    other = real.tensors["other"]
    both = replace(real, tensors={**real.tensors, "left": replace(other, name="left", data=other.constant())})
    faults = {
        "same_dtype": [
            with_tensor(real, "other", dtype=DType.INT32, data=np.ones(3, np.int32)),
            with_tensor(with_tensor(real, "other", dtype=DType.INT32, data=np.ones(3, np.int32)), "input",
                        dtype=DType.INT32),
            with_tensor(small, "input", dtype=DType.FLOAT32, quantization=None),
        ],
        "broadcasting": [
            *(with_tensor(real, "other", shape=s, data=np.ones(s, np.float32)) for s in ((2,), (3, 1), (2, 1, 3))),
            five,
        ],
        "computed": [
            with_node(both, 0, inputs=("left", "other")),
            with_tensor(small, "other", quantization=TWO_SCALES),
        ],
    }  # fmt: skip
    if isinstance(op, Arithmetic):
        faults["result_fits"] = [with_quant(small, "y", 1e-6)]
        faults["result_fits"].append(with_quant(small, "input", 1e6))
    elif isinstance(op, Extremum):
        faults["same_quantization"] = [with_quant(small, name, 0.05, 4) for name in ("input", "other", "y")]
    else:
        faults["scales_below_one"] = [with_quant(small, name, 1.0) for name in ("input", "other")]
    return faults


def unary_faults(op: Op) -> Faults:
    real = unary(op, SHAPE, None, None)
    out = (1 / 256, -128) if isinstance(op, Logistic) else (0.05, 3)
    small = unary(op, SHAPE, (0.05, 3), out)
    integers = with_tensor(with_tensor(real, "input", dtype=DType.INT32), "y", dtype=DType.INT32)
    faults = {"same_dtype": [integers, with_tensor(small, "input", dtype=DType.FLOAT32)]}
    if isinstance(op, (Sign, Round)):
        faults["float_only"] = [small]
    elif isinstance(op, Logistic):
        faults["output_quantization"] = [with_quant(small, "y", 1 / 256), with_quant(small, "y", 1 / 255, -128)]
    elif isinstance(op, HardSwish):
        faults["scale_ratio"] = [with_quant(small, "y", 1e-4), with_quant(small, "y", 40.0),
                                 with_quant(with_quant(small, "y", 500.0), "input", 400.0)]  # fmt: skip
    elif not isinstance(op, Tanh):
        faults["scale_ratio"] = [with_quant(small, "y", 1e-8)]
    if isinstance(op, LeakyRelu):
        faults["scale_ratio"].append(with_op(small, 0, alpha=1e7))
        faults["finite_alpha"] = [with_op(real, 0, alpha=float("nan")), with_op(real, 0, alpha=float("inf"))]
    return faults


def prelu_faults() -> Faults:
    real, small = binary(Prelu(), SHAPE, np.ones(3, np.float32)), binary(Prelu(), SHAPE, [1, 2, 3], SMALL)
    return {
        "same_dtype": [
            with_tensor(small, "input", dtype=DType.FLOAT32),
            with_tensor(real, "y", dtype=DType.INT8, quantization=Quantization.per_tensor(0.1, 0)),
        ],
        "alpha": [
            with_tensor(real, "other", shape=(3, 1), data=np.ones((3, 1), np.float32)),
            with_node(real, 0, inputs=("input", "input")),
            with_tensor(small, "other", quantization=TWO_SCALES),
            binary(Prelu(), (1, *SHAPE), np.ones(3, np.float32)),
        ],
        "scale_ratio": [with_quant(small, "y", 1e-6), with_quant(small, "other", 1e5)],
    }


def quantize_faults() -> Faults:
    graph, small = unary(Quantize(), SHAPE, None, (0.1, 0)), unary(Quantize(), SHAPE, (0.1, 0), (0.2, 0))
    return {
        "dtypes": [
            with_tensor(graph, "input", dtype=DType.INT32),
            with_tensor(graph, "y", dtype=DType.FLOAT32, quantization=None),
        ],
        "scale_ratio": [with_quant(small, "y", 1e-8)],
    }


def dequantize_faults() -> Faults:
    graph = unary(Dequantize(), SHAPE, (0.1, 0), None)
    return {
        "dtypes": [
            with_tensor(graph, "input", dtype=DType.FLOAT32, quantization=None),
            with_tensor(graph, "y", dtype=DType.INT8, quantization=Quantization.per_tensor(0.1, 0)),
        ]
    }


ELEMENTWISE_FAULTS: dict[str, Faults] = {
    **{op.name: binary_faults(op) for op in (Add(), Sub(), Mul(), Maximum(), Minimum(), Greater(), GreaterEqual())},
    **{op.name: unary_faults(op) for op in (Relu(), Relu6(), ReluN1To1(), LeakyRelu(0.5), Abs())},
    **{op.name: unary_faults(op) for op in (Logistic(), Tanh(), HardSwish(), Sign(), Round())},
    "PRELU": prelu_faults(),
    "QUANTIZE": quantize_faults(),
    "DEQUANTIZE": dequantize_faults(),
}
