"""The operators of the IR. Importing this package fills the registry `OPS`."""

from onebit.core.ops.affine import Dequantize, Quantize
from onebit.core.ops.base import OPS, BuiltinOp, CustomOp, Op, View, register
from onebit.core.ops.compare import Greater, GreaterEqual
from onebit.core.ops.elementwise import Add, Maximum, Minimum, Mul, Sub
from onebit.core.ops.joining import Concatenation, Pack, Pad, PadV2
from onebit.core.ops.lce_bconv2d import BinaryWindow, LceBconv2d, OutputTransform
from onebit.core.ops.lce_quantize import LceDequantize, LceQuantize
from onebit.core.ops.linear import Conv2d, DepthwiseConv2d, FullyConnected, Requantization
from onebit.core.ops.movement import Movement, Transpose
from onebit.core.ops.pooling import AveragePool2d, LceBMaxPool2d, MaxPool2d, PoolWindow
from onebit.core.ops.prelu import Prelu
from onebit.core.ops.reduction import Mean, ReduceMax
from onebit.core.ops.resize import ResizeNearestNeighbor
from onebit.core.ops.shape import ExpandDims, Reshape, ReshapeBits, Squeeze
from onebit.core.ops.sigmoid import HardSwish, Logistic, Tanh
from onebit.core.ops.slicing import Slice, Split, StridedSlice
from onebit.core.ops.softmax import Softmax
from onebit.core.ops.unary import Abs, LeakyRelu, Relu, Relu6, ReluN1To1, Round, Sign, Unary
from onebit.core.ops.window import Activation, Axis, Padding

__all__ = [
    "OPS",
    "Abs",
    "Activation",
    "Add",
    "AveragePool2d",
    "Axis",
    "BinaryWindow",
    "BuiltinOp",
    "Concatenation",
    "Conv2d",
    "CustomOp",
    "DepthwiseConv2d",
    "Dequantize",
    "ExpandDims",
    "FullyConnected",
    "Greater",
    "GreaterEqual",
    "HardSwish",
    "LceBMaxPool2d",
    "LceBconv2d",
    "LceDequantize",
    "LceQuantize",
    "LeakyRelu",
    "Logistic",
    "MaxPool2d",
    "Maximum",
    "Mean",
    "Minimum",
    "Movement",
    "Mul",
    "Op",
    "OutputTransform",
    "Pack",
    "Pad",
    "PadV2",
    "Padding",
    "PoolWindow",
    "Prelu",
    "Quantize",
    "ReduceMax",
    "Relu",
    "Relu6",
    "ReluN1To1",
    "Requantization",
    "Reshape",
    "ReshapeBits",
    "ResizeNearestNeighbor",
    "Round",
    "Sign",
    "Slice",
    "Softmax",
    "Split",
    "Squeeze",
    "StridedSlice",
    "Sub",
    "Tanh",
    "Transpose",
    "Unary",
    "View",
    "register",
]
