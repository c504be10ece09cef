"""Operator x dtype x attribute: every value of every attribute, the others at their defaults, runs in the interpreter.

The table names what must work; a new operator, or a new attribute of one, is missing here until it is added.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import pytest

from onebit.core import DType, Quantization
from onebit.core.errors import SpecError
from onebit.core.ops import (
    OPS,
    Activation,
    AveragePool2d,
    BinaryWindow,
    Concatenation,
    DepthwiseConv2d,
    LceBconv2d,
    LceBMaxPool2d,
    LceDequantize,
    LeakyRelu,
    MaxPool2d,
    Op,
    Pack,
    Padding,
    PoolWindow,
    Prelu,
    Reshape,
    Split,
    Squeeze,
    StridedSlice,
)
from onebit.core.ops.compare import Comparison
from onebit.core.ops.elementwise import Extremum
from onebit.core.ops.linear import _Linear
from onebit.core.ops.operands import Binary
from onebit.core.ops.reduction import _Reduction
from onebit.core.rounding import Rounding
from support.lce import Agrees
from support.nets import Net

F32, I8, BITS, BOOL = DType.FLOAT32, DType.INT8, DType.BITS, DType.BOOL
REAL = (F32, I8)
QUANT = Quantization.per_tensor(0.05, -3)
WINDOW = PoolWindow((2, 3), (2, 1), Padding.VALID)

ACTIVATIONS = list(Activation)
STEPS = [(1, 1), (2, 2), (2, 1), (1, 3)]
POOL: dict[str, list[Any]] = {
    "window.size": [(1, 1), (2, 2), (3, 1)], "window.stride": STEPS, "window.padding": list(Padding),
}  # fmt: skip
CONV: dict[str, list[Any]] = {
    "activation": ACTIVATIONS, "stride": STEPS, "dilation": [(1, 1), (2, 2), (1, 2)], "padding": list(Padding),
}  # fmt: skip
MASKS: dict[str, list[Any]] = {name: [0, 2, 4] for name in ("begin_mask", "end_mask", "shrink_axis_mask")}

#: operator -> (dtypes of the input, attribute -> values); attributes with one value have no other legal one
TABLE: dict[str, tuple[tuple[DType, ...], dict[str, list[Any]]]] = {
    **{name: (REAL, {}) for name in (
        "MAXIMUM", "MINIMUM", "PAD", "PADV2", "SLICE", "EXPAND_DIMS", "TRANSPOSE", "RELU", "RELU6", "RELU_N1_TO_1",
        "PRELU", "HARD_SWISH", "LOGISTIC", "TANH", "ABS", "GREATER", "GREATER_EQUAL", "QUANTIZE")},
    **{name: (REAL, {"activation": ACTIVATIONS}) for name in ("ADD", "SUB", "MUL", "FULLY_CONNECTED")},
    **{name: (REAL, {**POOL, "activation": ACTIVATIONS}) for name in ("MAX_POOL_2D", "AVERAGE_POOL_2D")},
    **{name: (REAL, {"keep_dims": [False, True]}) for name in ("MEAN", "REDUCE_MAX")},
    "CONV_2D": (REAL, CONV),
    "DEPTHWISE_CONV_2D": (REAL, {**CONV, "depth_multiplier": [1, 2, 3]}),
    "CONCATENATION": (REAL, {"axis": [1, 2, 3, -1, -2], "activation": [Activation.NONE]}),
    "PACK": (REAL, {"axis": [1, 4, -1, -2], "count": [1, 2, 3]}),
    "SPLIT": (REAL, {"axis": [1, 3, -1], "num": [1, 2, 6], "index": [0, 1]}),
    "STRIDED_SLICE": (REAL, {**MASKS, "ellipsis_mask": [0, 2], "new_axis_mask": [0, 2], "offset": [False]}),
    "RESHAPE": (REAL, {"new_shape": [(1, 252), (1, 6, 42), (1, -1, 6), ()]}),
    "SQUEEZE": (REAL, {"dims": [(1,), (3, 1), (-1,)]}),
    "LEAKY_RELU": (REAL, {"alpha": [0.0, 0.25, -0.5, 2.0]}),
    "SOFTMAX": (REAL, {"beta": [1.0, 0.1, 2.5]}),
    "RESIZE_NEAREST_NEIGHBOR": (REAL, {"align_corners": [False, True], "half_pixel_centers": [False, True]}),
    "SIGN": ((F32,), {}),
    "ROUND": ((F32,), {}),
    "DEQUANTIZE": ((I8,), {}),
    "LceQuantize": ((F32, I8, BOOL), {}),
    "LceDequantize": ((BITS,), {}),
    "LceBMaxPool2d": ((BITS,), POOL),
    "LceBconv2d": ((BITS,), {
        "window.channels_in": [6, 31, 32, 33, 96], "window.stride": STEPS, "window.dilation": [(1, 1), (2, 2), (1, 2)],
        "window.padding": list(Padding), "window.pad_value": [0, 1], "activation": ACTIVATIONS}),
}  # fmt: skip

DEFAULTS: dict[str, Op] = {
    "MAX_POOL_2D": MaxPool2d(WINDOW), "AVERAGE_POOL_2D": AveragePool2d(WINDOW), "LceBMaxPool2d": LceBMaxPool2d(WINDOW),
    "LceBconv2d": LceBconv2d(BinaryWindow(6, padding=Padding.SAME, pad_value=1)), "PACK": Pack(1, 2),
    "SPLIT": Split(3, 2), "CONCATENATION": Concatenation(3), "RESHAPE": Reshape((1, 252)), "SQUEEZE": Squeeze((1,)),
    "LEAKY_RELU": LeakyRelu(0.3),
}  # fmt: skip


def default(name: str) -> Op:
    return DEFAULTS[name] if name in DEFAULTS else OPS[name]()


def leaves(op: Any, prefix: str = "") -> set[str]:
    """The attributes of an operator, those of nested dataclasses by dotted names."""
    found = set()
    for field in fields(op):
        value = getattr(op, field.name)
        found |= leaves(value, f"{field.name}.") if is_dataclass(value) else {prefix + field.name}
    return found


def with_attribute(op: Op, attribute: str, value: Any) -> Op:
    head, _, rest = attribute.partition(".")
    return replace(op, **{head: replace(getattr(op, head), **{rest: value}) if rest else value})  # type: ignore[arg-type]


def start(name: str, op: Op, dtype: DType) -> Net:
    shape = (1, 6, 7, 6) if name != "SQUEEZE" else (1, 1, 6, 1)
    if isinstance(op, LceBconv2d):
        shape = (1, 6, 7, op.window.channels_in)
    net = Net(shape, dtype if dtype is I8 else F32, QUANT if dtype is I8 else None)
    if dtype is BITS:
        net.quantize()
    if dtype is BOOL:
        net.node(OPS["GREATER"](), net.constant("zero", [0.0], F32), dtype=BOOL)
    return net


def nets(name: str, op: Op, dtype: DType) -> Iterator[Net]:
    """The operator behind an input of `dtype`: one net, or one for every output dtype."""
    net, i8 = start(name, op, dtype), dtype is I8
    keep = {"dtype": net.now.dtype, "quant": net.now.quantization}

    def index(*values: Any) -> list[str]:
        return [net.constant(f"index_{i}", v, DType.INT32) for i, v in enumerate(values)]

    def operand(shape: tuple[int, ...] = (6,)) -> str:
        data = net.rng.integers(-128, 128, shape) if i8 else net.rng.normal(size=shape)
        return net.constant("operand", data, dtype, quant=QUANT if i8 else None)

    if isinstance(op, LceBconv2d):
        w = op.window
        for to in (F32, I8) if w.zero_padded else (F32, I8, BITS):
            net = start(name, op, dtype)
            padding = {"padding": w.padding, "pad_value": w.pad_value}
            yield net.bconv(5, (2, 3), to=to, stride=w.stride, dilation=w.dilation, activation=op.activation, **padding)
    elif isinstance(op, LceDequantize):
        for to in (F32, I8, BOOL):
            yield start(name, op, dtype).node(op, dtype=to, quant=QUANT if to is I8 else None)
    elif isinstance(op, _Linear):
        shape = (5, 2, 3, 6)
        if isinstance(op, DepthwiseConv2d):
            shape = (1, 2, 3, 6 * op.depth_multiplier)
        yield net._linear(
            op, shape if name != "FULLY_CONNECTED" else (5, 252), None, per_channel=name != "FULLY_CONNECTED"
        )
    elif isinstance(op, Comparison):
        yield net.node(op, operand(), dtype=BOOL)
    elif isinstance(op, (Binary, Prelu)):
        wide = Quantization.per_tensor(0.1, 5) if i8 and not isinstance(op, Extremum) else keep["quant"]
        yield net.node(op, operand(), dtype=dtype, quant=wide)
    elif isinstance(op, _Reduction):
        yield net.reduce(op)
    elif isinstance(op, (Concatenation, Pack)):
        count = op.count - 1 if isinstance(op, Pack) else 1
        yield net.node(op, *["input"] * count, **keep)
    elif isinstance(op, Reshape):
        given = [] if op.new_shape else index([1, 6, 42])
        shape = tuple(np.empty((1, 6, 7, 6)).reshape(op.new_shape or (1, 6, 42)).shape)
        yield net.node(op, *given, shape=shape, **keep)
    elif isinstance(op, StridedSlice):
        yield net.node(op, *index([0, 1, 2], [1, 4, 6], [1, 1, 1]), **keep)
    else:
        indices = {
            "PAD": [[[0, 0], [1, 0], [0, 2], [1, 1]]], "PADV2": [[[0, 0], [1, 0], [0, 2], [1, 1]]],
            "SLICE": [[0, 1, 2, 0], [1, 2, -1, 3]], "EXPAND_DIMS": [2], "TRANSPOSE": [[0, 3, 1, 2]],
            "RESIZE_NEAREST_NEIGHBOR": [[9, 4]],
        }.get(name, [])  # fmt: skip
        names = [*index(*indices), *([operand((1,))] if name == "PADV2" else [])]
        fixed = Quantization.per_tensor(1 / 256, -128) if name in ("LOGISTIC", "SOFTMAX") and i8 else keep["quant"]
        to = {"QUANTIZE": I8, "DEQUANTIZE": F32, "LceQuantize": BITS}.get(name, net.now.dtype)
        quant = Quantization.per_tensor(0.07, 4) if name == "QUANTIZE" else fixed
        yield net.node(op, *names, dtype=to, quant=quant if to is I8 else None)


CASES = [
    pytest.param(name, dtype, op, id=f"{name} {dtype.value} {label}")
    for name, (dtypes, attributes) in TABLE.items()
    for dtype in dtypes
    for label, op in [
        ("defaults", default(name)),
        *((f"{a}={v}", with_attribute(default(name), a, v)) for a, values in attributes.items() for v in values),
    ]
]


@pytest.mark.parametrize(("name", "dtype", "op"), CASES)
def test_it_runs_and_agrees(name: str, dtype: DType, op: Op, agrees: Agrees, rounding: Rounding) -> None:
    # TensorFlow Lite Micro ignores the mask: refused
    refused = rounding is Rounding.TFLM and getattr(op, "ellipsis_mask", 0)
    for net in nets(name, op, dtype):
        assert net.nodes[-1].op.name == name
        with pytest.raises(SpecError, match="no ellipsis") if refused else nullcontext():
            agrees(net.graph(), net.samples(2))


def test_the_table_has_every_operator_and_attribute() -> None:
    assert set(TABLE) == {name for name, op in OPS.items() if not op.internal}
    for name, (_, attributes) in TABLE.items():
        assert set(attributes) == leaves(default(name)), name
