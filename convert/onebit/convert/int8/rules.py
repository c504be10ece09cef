"""What each operator asks of an int8 form: how its output is quantized, and how its constants are.

A row per operator of the registry; the quantizer knows no operator by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from onebit.convert.int8.parameters import SIGN_LEVELS, TANH_LEVELS
from onebit.core import Quantization
from onebit.core.ops import (
    Abs,
    Add,
    AveragePool2d,
    Concatenation,
    Conv2d,
    DepthwiseConv2d,
    ExpandDims,
    FullyConnected,
    HardSwish,
    LceBconv2d,
    LceBMaxPool2d,
    LceDequantize,
    LceQuantize,
    LeakyRelu,
    Logistic,
    Maximum,
    MaxPool2d,
    Mean,
    Minimum,
    Mul,
    Op,
    Pack,
    Pad,
    PadV2,
    Prelu,
    ReduceMax,
    Relu,
    Relu6,
    ReluN1To1,
    Reshape,
    ResizeNearestNeighbor,
    Slice,
    Softmax,
    Split,
    Squeeze,
    StridedSlice,
    Sub,
    Tanh,
    Transpose,
)
from onebit.core.ops.softmax import OUTPUT_QUANTIZATION


class Output(Enum):
    """How the quantization of the output follows."""

    #: from its own calibrated range
    OWN = "own range"
    #: one quantization for all inputs with elements and the output
    SHARED = "the input's"
    #: given by the operator
    FIXED = "fixed"
    #: the output is bits or bool
    NONE = "not quantized"


class Constants(Enum):
    """What becomes of the operator's constants."""

    #: they stay: bits, thresholds, indices, and LceBconv2d's float32 multiplier and bias
    KEPT = "kept"
    #: filter and bias: int8 weights with one scale per output channel, int32 bias
    PER_CHANNEL = "per channel"
    #: the same with one scale for the filter
    PER_TENSOR = "per tensor"
    #: float32 constants become int8 values, with a scale of their own (or the shared one)
    VALUES = "values"


@dataclass(frozen=True)
class Rule:
    """One row.

    `monotone`: values beyond the int8 range may saturate without changing the sign of any result. `any_form`: the
    operator reads float32 as well as int8.
    """

    output: Output
    constants: Constants = Constants.KEPT
    fixed: Quantization | None = None
    monotone: bool = True
    any_form: bool = False


_SHARED = Rule(Output.SHARED, Constants.VALUES)
_OWN = Rule(Output.OWN, Constants.VALUES)

RULES: Final[dict[type[Op], Rule]] = {
    Conv2d: Rule(Output.OWN, Constants.PER_CHANNEL),
    DepthwiseConv2d: Rule(Output.OWN, Constants.PER_CHANNEL),
    # LiteRT's converter gives dense layers one scale, and so do microcontroller libraries
    FullyConnected: Rule(Output.OWN, Constants.PER_TENSOR),
    LceBconv2d: Rule(Output.OWN),
    Add: _OWN,
    Sub: _OWN,
    Mul: _OWN,
    Prelu: _OWN,
    LeakyRelu: _OWN,
    HardSwish: _OWN,
    Relu: _OWN,
    Relu6: _OWN,
    ReluN1To1: _OWN,
    Abs: _OWN,
    Mean: _OWN,
    Maximum: _SHARED,
    Minimum: _SHARED,
    MaxPool2d: _SHARED,
    AveragePool2d: Rule(Output.SHARED, monotone=False),
    ReduceMax: _SHARED,
    Reshape: _SHARED,
    Squeeze: _SHARED,
    ExpandDims: _SHARED,
    Transpose: _SHARED,
    Concatenation: _SHARED,
    Pack: _SHARED,
    Pad: _SHARED,
    PadV2: _SHARED,
    Slice: _SHARED,
    StridedSlice: _SHARED,
    Split: _SHARED,
    ResizeNearestNeighbor: _SHARED,
    Softmax: Rule(Output.FIXED, fixed=OUTPUT_QUANTIZATION),
    Logistic: Rule(Output.FIXED, fixed=OUTPUT_QUANTIZATION),
    Tanh: Rule(Output.FIXED, fixed=TANH_LEVELS),
    LceDequantize: Rule(Output.FIXED, fixed=SIGN_LEVELS),
    LceQuantize: Rule(Output.NONE, any_form=True),
    LceBMaxPool2d: Rule(Output.NONE),
}
"""Operators that are not listed stay in float: SIGN and ROUND have no int8 form, and int8 GREATER and GREATER_EQUAL
compare in steps of 1/256, whatever the scales are."""
