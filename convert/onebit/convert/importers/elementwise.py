"""Arithmetic, activations and batch norm."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from torch import nn

from onebit.convert.builder import GraphBuilder, Layout, Value
from onebit.convert.importers.base import Layer, imports, to_numpy
from onebit.convert.operations import Elementwise, Expand
from onebit.core.graph import Array
from onebit.core.ops import (
    Activation,
    Add,
    HardSwish,
    LeakyRelu,
    Logistic,
    Maximum,
    Minimum,
    Mul,
    Op,
    Prelu,
    Relu,
    Relu6,
    ReluN1To1,
    Softmax,
    Sub,
    Tanh,
)
from onebit.core.ops.operands import repeats

#: slopes from here on keep the sign of every float32 value that is not next to 0
LEAST_SLOPE = 2.0**-20

ARITHMETIC: dict[str, type[Op]] = {"add": Add, "sub": Sub, "mul": Mul, "maximum": Maximum, "minimum": Minimum}
SYMMETRIC = ("add", "mul", "maximum", "minimum")


def hwc_order(values: Array, shape: tuple[int, ...]) -> Array:
    """Values [O, features] for a map [1, H, W, C]: from torch's feature order C, H, W to [O, H, W, C]."""
    if len(shape) == 2:
        return values[:, None, None, :]
    _, height, width, channels = shape
    return values.reshape(-1, channels, height, width).transpose(0, 2, 3, 1)


# ---------------------------------------------------------------------------------------------------------- arithmetic


@imports(Elementwise)
def import_elementwise(build: GraphBuilder, layer: Layer, *inputs: Value) -> Value:
    """ADD, SUB, MUL, MAXIMUM, MINIMUM; a constant operand is stored once per channel where it can be."""
    rank = len(layer.out_shape)
    if any(len(shape) != rank for shape in layer.in_shapes):
        raise layer.unsupported(
            f"operands of shapes {[list(s) for s in layer.in_shapes]}", fix="give both the same number of dimensions"
        )
    constants = [layer.module.first, layer.module.second]
    layout = _common_layout(build, inputs, rank, [c for c in constants if c is not None])
    computed = iter(inputs)
    operands = tuple(
        _tensor_in(build, next(computed), layout) if constant is None else _constant_in(build, layer, constant, layout)
        for constant in constants
    )
    if layer.module.name in SYMMETRIC and build.is_constant(operands[0]):
        operands = operands[::-1]
    a, b = (build.shape(operand) for operand in operands)
    if not (repeats(a, b) or repeats(b, a)):
        raise layer.unsupported(
            f"operands of shapes {[list(s) for s in layer.in_shapes]}, which in [N, H, W, C] do not repeat along the "
            "leading dimensions only",
            fix="use one value per channel (a factor of shape [N, C, 1, 1]) or operands of one shape",
        )
    return Value(build.node(ARITHMETIC[layer.module.name](), operands, layer.name), layout)


def _common_layout(build: GraphBuilder, inputs: tuple[Value, ...], rank: int, constants: list[Any]) -> Layout:
    layouts = {x.layout for x in inputs}
    if rank == 4 and Layout.IMAGE in layouts:
        return Layout.IMAGE
    if layouts == {Layout.FLAT} and len({build.shape(x.tensor) for x in inputs}) == 1:
        return Layout.FLAT if all(c.numel() == 1 for c in constants) else Layout.PLAIN
    return Layout.PLAIN


def _tensor_in(build: GraphBuilder, x: Value, layout: Layout) -> str:
    if layout is Layout.IMAGE:
        return build.image(x)
    return x.tensor if layout is Layout.FLAT else build.plain(x)


def _constant_in(build: GraphBuilder, layer: Layer, constant: Any, layout: Layout) -> str:
    value = to_numpy(constant)
    if value.size == 1:
        return build.constant(f"{layer.name}/constant", value.reshape(1))
    value = value.reshape((1,) * (len(layer.out_shape) - value.ndim) + value.shape)
    if layout is Layout.IMAGE:
        value = value.transpose(0, 2, 3, 1)
    per_channel = value.shape[-1] == value.size
    return build.constant(f"{layer.name}/constant", value.reshape(-1) if per_channel else value)


@imports(Expand)
def import_expand(_build: GraphBuilder, layer: Layer, x: Value) -> Value:
    """Nothing: the arithmetic behind it repeats its operands."""
    if len(layer.in_shape) != len(layer.out_shape) or x.layout is Layout.FLAT:
        raise layer.unsupported("another number of dimensions", fix="use view() in front of it")
    return x


def multiply_constant(build: GraphBuilder, tensor: str, value: float, name: str) -> str:
    """tensor * value."""
    return build.node(Mul(), (tensor, build.constant(f"{name}/constant", np.full(1, value))), name)


# --------------------------------------------------------------------------------------------------------- activations


def activation_of(module: nn.Module) -> Activation | None:
    """The fused activation that computes what the module does, None where there is none."""
    if isinstance(module, nn.Hardtanh):  # includes ReLU6
        limits = (float(module.min_val), float(module.max_val))
        return {(-1.0, 1.0): Activation.RELU_N1_TO_1, (0.0, 6.0): Activation.RELU6}.get(limits)
    return Activation.RELU if isinstance(module, nn.ReLU) else None


CLAMPS: dict[Activation, Op] = {
    Activation.RELU: Relu(),
    Activation.RELU_N1_TO_1: ReluN1To1(),
    Activation.RELU6: Relu6(),
}


@imports(nn.ReLU, nn.ReLU6, nn.Hardtanh)
def import_clamp(build: GraphBuilder, layer: Layer, x: Value) -> Value:
    """RELU, RELU6, RELU_N1_TO_1, which the operator in front of them may take over later.

    In front of binary layers only, one that keeps the sign is left out: sign(hardtanh(x)) == sign(x).
    """
    activation = activation_of(layer.module)
    if activation is None:
        return _limited(build, layer, x)
    if activation is Activation.RELU_N1_TO_1 and layer.only_signed:
        return x
    if layer.only_signed:
        build.note(layer.name, "never negative, so that every sign behind it is +1: remove it, or train without it")
    return Value(build.node(CLAMPS[activation], (x.tensor,), layer.name), x.layout)


def _limited(build: GraphBuilder, layer: Layer, x: Value) -> Value:
    low, high = float(layer.module.min_val), float(layer.module.max_val)
    if low < 0 < high and layer.only_signed:
        return x
    tensor = x.tensor
    for op, limit, name in ((Maximum(), low, f"{layer.name}/low"), (Minimum(), high, layer.name)):
        if math.isfinite(limit):
            tensor = build.node(op, (tensor, build.constant(f"{name}/limit", np.full(1, limit))), name)
    return Value(tensor, x.layout)


@imports(nn.PReLU)
def import_prelu(build: GraphBuilder, layer: Layer, x: Value) -> Value:
    """PRELU; left out in front of binary layers only, if all slopes are positive: it keeps every sign."""
    slope = to_numpy(layer.module.weight).reshape(-1)
    if layer.only_signed and (slope >= LEAST_SLOPE).all():
        return x
    if x.layout is Layout.FLAT or (len(slope) > 1 and len(layer.in_shape) not in (2, 4)):
        x = Value(build.plain(x), Layout.PLAIN)
    elif len(layer.in_shape) == 4:
        x = Value(build.image(x), Layout.IMAGE)
    channels = build.shape(x.tensor)[-1]
    slopes = np.broadcast_to(slope, (channels,)).reshape((1,) * (len(layer.in_shape) - 2) + (channels,))
    alpha = build.constant(f"{layer.name}/slope", slopes)
    return Value(build.node(Prelu(), (x.tensor, alpha), layer.name), x.layout)


@imports(nn.LeakyReLU)
def import_leaky_relu(build: GraphBuilder, layer: Layer, x: Value) -> Value:
    """LEAKY_RELU; left out in front of binary layers only, if it keeps the sign."""
    slope = float(layer.module.negative_slope)
    if layer.only_signed and slope >= LEAST_SLOPE:
        return x
    return Value(build.node(LeakyRelu(float(np.float32(slope))), (x.tensor,), layer.name), x.layout)


@imports(nn.Sigmoid, nn.Tanh, nn.Hardswish)
def import_smooth(build: GraphBuilder, layer: Layer, x: Value) -> Value:
    """LOGISTIC, TANH, HARD_SWISH."""
    if isinstance(layer.module, nn.Tanh) and layer.only_signed:
        return x
    op: Op = {nn.Sigmoid: Logistic(), nn.Tanh: Tanh(), nn.Hardswish: HardSwish()}[type(layer.module)]
    return Value(build.node(op, (x.tensor,), layer.name), x.layout)


@imports(nn.SiLU)
def import_silu(build: GraphBuilder, layer: Layer, x: Value) -> Value:
    """x * sigmoid(x): LOGISTIC and MUL."""
    gate = build.node(Logistic(), (x.tensor,), f"{layer.name}/gate")
    return Value(build.node(Mul(), (x.tensor, gate), layer.name), x.layout)


@imports(nn.Hardsigmoid)
def import_hardsigmoid(build: GraphBuilder, layer: Layer, x: Value) -> Value:
    """relu6(x + 3) / 6: ADD with its activation, and MUL."""
    shifted = build.node(
        Add(Activation.RELU6),
        (x.tensor, build.constant(f"{layer.name}/three", np.full(1, 3.0))),
        f"{layer.name}/shifted",
    )
    return Value(multiply_constant(build, shifted, 1 / 6, layer.name), x.layout)


@imports(nn.Softmax)
def import_softmax(build: GraphBuilder, layer: Layer, x: Value) -> Value:
    """Softmax over the classes, or over the channels of a map."""
    rank = len(layer.in_shape)
    dim = layer.module.dim
    if dim is None or dim % rank != 1 or rank not in (2, 4):
        raise layer.unsupported(f"softmax over axis {dim}", fix="use dim=1 on [N, classes]")
    layout = Layout.IMAGE if rank == 4 else Layout.PLAIN
    tensor = build.image(x) if rank == 4 else build.plain(x)
    return Value(build.node(Softmax(), (tensor,), layer.name), layout)


@imports(nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout)
def import_nothing(_build: GraphBuilder, _layer: Layer, x: Value) -> Value:
    """What does nothing in eval mode."""
    return x


# ---------------------------------------------------------------------------------------------------------- batch norm


def batch_norm_constants(module: Any) -> tuple[Array, Array]:
    """(g, c) of ``y = x*g + c``: g = gamma / sqrt(var + eps), c = beta - mean*g, in float64."""
    mean, var = (to_numpy(v).astype(np.float64) for v in (module.running_mean, module.running_var))
    gamma = np.ones_like(mean) if module.weight is None else to_numpy(module.weight).astype(np.float64)
    beta = np.zeros_like(mean) if module.bias is None else to_numpy(module.bias).astype(np.float64)
    g = gamma / np.sqrt(var + module.eps)
    return g, beta - mean * g


@imports(nn.BatchNorm1d, nn.BatchNorm2d)
def import_batch_norm(build: GraphBuilder, layer: Layer, x: Value) -> Value:
    """Batch norm with its running statistics: MUL (unless all factors are 1) and ADD (unless all terms are 0)."""
    if layer.module.running_mean is None:
        raise layer.unsupported("batch norm without running statistics", fix="use track_running_stats=True")
    if len(layer.in_shape) == 4:
        x = Value(build.image(x), Layout.IMAGE)
    shape = build.shape(x.tensor)
    constants = [value.astype(np.float32) for value in batch_norm_constants(layer.module)]
    if x.layout is Layout.FLAT and len(shape) == 4 and shape[1] * shape[2] > 1:
        constants = [hwc_order(value[None, :], shape) for value in constants]
    steps = [
        (op, value, name)
        for op, value, idle, name in zip((Mul(), Add()), constants, (1, 0), ("scale", "shift"), strict=True)
        if (value != idle).any()
    ]
    tensor = x.tensor
    for op, value, name in steps:
        output = layer.name if value is steps[-1][1] else f"{layer.name}/scaled"
        tensor = build.node(op, (tensor, build.constant(f"{layer.name}/{name}", value)), output)
    return Value(tensor, x.layout)
