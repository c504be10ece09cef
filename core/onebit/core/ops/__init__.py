"""The operators of the IR. Importing this package fills the registry `OPS`."""

from onebit.core.ops.base import OPS, BuiltinOp, CustomOp, Op, View, register
from onebit.core.ops.elementwise import Add, Mul
from onebit.core.ops.lce_bconv2d import BinaryWindow, LceBconv2d, OutputTransform
from onebit.core.ops.lce_quantize import LceDequantize, LceQuantize
from onebit.core.ops.linear import Conv2d, FullyConnected, Requantization
from onebit.core.ops.pooling import LceBMaxPool2d, MaxPool2d, PoolWindow
from onebit.core.ops.shape import Reshape
from onebit.core.ops.softmax import Softmax
from onebit.core.ops.window import Activation, Axis, Padding

__all__ = [
    "OPS",
    "Activation",
    "Add",
    "Axis",
    "BinaryWindow",
    "BuiltinOp",
    "Conv2d",
    "CustomOp",
    "FullyConnected",
    "LceBMaxPool2d",
    "LceBconv2d",
    "LceDequantize",
    "LceQuantize",
    "MaxPool2d",
    "Mul",
    "Op",
    "OutputTransform",
    "Padding",
    "PoolWindow",
    "Requantization",
    "Reshape",
    "Softmax",
    "View",
    "register",
]
