"""Convolutions and dense layers, real-valued and binary.

Weights go from OIHW to OHWI, and a dense layer behind a flattened map from the order C, H, W of its inputs to H, W, C.
A binary dense layer is a binary convolution whose kernel is as large as the map.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from torch import nn

from onebit.convert.builder import GraphBuilder, Layout, Value
from onebit.convert.importers.base import Layer, imports, pair, to_numpy
from onebit.convert.importers.elementwise import hwc_order
from onebit.convert.importers.movement import add_border, cut
from onebit.convert.importers.pooling import subsample
from onebit.convert.importers.windows import Windows, same_windows, windows
from onebit.core import DType
from onebit.core.bits import WORD_BITS
from onebit.core.errors import BadInputError
from onebit.core.graph import Array
from onebit.core.ops import (
    Add,
    Axis,
    BinaryWindow,
    Concatenation,
    Conv2d,
    DepthwiseConv2d,
    FullyConnected,
    LceBconv2d,
    LceDequantize,
    MaxPool2d,
    Mul,
    Padding,
    Prelu,
    Relu,
    Relu6,
    ReluN1To1,
)

#: how far |w| of a binary layer may be from its channel's scale, relative to it
SCALE_TOLERANCE = 1e-6


# ------------------------------------------------------------------------------------------------------------ geometry


@dataclass(frozen=True)
class Geometry:
    """Kernel, stride, dilation and groups of a convolution, and its windows."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    windows: Windows

    @classmethod
    def of(cls, layer: Layer) -> Geometry:
        """The geometry of a convolution of PyTorch, or of one with ``onebit_kind``."""
        conv = layer.module
        steps = pair(conv.kernel_size), pair(conv.stride), pair(conv.dilation)
        return cls(*steps, conv.groups, _conv_windows(layer, *steps))


def _conv_windows(layer: Layer, kernel: Any, stride: Any, dilation: Any) -> Windows:
    conv = layer.module
    mode = getattr(conv, "pad_mode", None)
    if mode is None:
        if conv.padding_mode != "zeros":
            raise layer.unsupported(f"padding_mode '{conv.padding_mode}'", fix="use padding_mode='zeros'")
        mode = conv.padding if isinstance(conv.padding, str) else "symmetric"
    if mode == "same":
        return same_windows(layer.in_shape[2:], kernel, stride, dilation)
    if mode == "valid":
        return Windows(Padding.VALID)
    return windows(layer.in_shape[2:], layer.out_shape[2:], kernel, stride, dilation, pair(conv.padding))


# ---------------------------------------------------------------------------------------------------------- real-valued


@imports(nn.Conv2d, "same_conv2d")
def import_conv2d(build: GraphBuilder, layer: Layer, x: Value) -> Value:
    """Real-valued convolution: CONV_2D, DEPTHWISE_CONV_2D, or one CONV_2D per group and CONCATENATION."""
    conv = layer.module
    if getattr(conv, "pad_value", 0) != 0:
        raise layer.unsupported("padding of a real-valued convolution with other values than 0", fix="pad with 0")
    weight = to_numpy(conv.weight)
    bias = np.zeros(len(weight), np.float32) if conv.bias is None else to_numpy(conv.bias)
    return Value(_real_conv(build, layer, build.image(x), weight, bias, pad_value=0.0), Layout.IMAGE)


def _real_conv(build: GraphBuilder, layer: Layer, x: str, weight: Array, bias: Array, *, pad_value: float) -> str:
    """`weight` is OIHW; pixels outside the map are `pad_value`."""
    geometry = Geometry.of(layer)
    found = geometry.windows
    if pad_value != 0 and found.padding is Padding.SAME:
        found = _explicit(build.shape(x), geometry)
    x = add_border(build, x, found.border, pad_value, layer.name)
    steps: dict[str, Any] = {"stride": geometry.stride, "dilation": geometry.dilation, "padding": found.padding}
    groups, channels = geometry.groups, build.shape(x)[3]

    def constants(w: Array, b: Array) -> tuple[str, str]:
        return build.constant(f"{layer.name}/weight", w), build.constant(f"{layer.name}/bias", b)

    if groups == 1:
        return build.node(Conv2d(**steps), (x, *constants(weight.transpose(0, 2, 3, 1), bias)), layer.name)
    if groups == channels:
        depthwise = DepthwiseConv2d(**steps, depth_multiplier=len(weight) // channels)
        return build.node(depthwise, (x, *constants(weight.transpose(1, 2, 3, 0), bias)), layer.name)
    parts = []
    whole = [(0, size, 1) for size in build.shape(x)[1:3]]
    for i, (w, b) in enumerate(zip(np.split(weight, groups), np.split(bias, groups), strict=True)):
        first = i * (channels // groups)
        part = cut(build, x, (*whole, (first, first + channels // groups, 1)), f"{layer.name}/group{i}")
        inputs = (part, *constants(w.transpose(0, 2, 3, 1), b))
        parts.append(build.node(Conv2d(**steps), inputs, f"{layer.name}/part{i}"))
    return build.node(Concatenation(3), tuple(parts), layer.name)


def _explicit(shape: tuple[int, ...], geometry: Geometry) -> Windows:
    """SAME padding of a map [1, H, W, C] as a border of pixels."""
    steps = zip(shape[1:3], geometry.kernel, geometry.stride, geometry.dilation, strict=True)
    axes = [Axis(*axis, Padding.SAME) for axis in steps]
    rows, cols = ((axis.before, axis.total_padding - axis.before) for axis in axes)
    return Windows(Padding.VALID, (rows, cols))


@imports(nn.Linear)
def import_linear(build: GraphBuilder, layer: Layer, x: Value) -> Value:
    """Real-valued dense layer: RESHAPE where it reads a map, and FULLY_CONNECTED."""
    _refuse_unflattened(layer)
    weight = to_numpy(layer.module.weight)
    ordered = weight if x.layout is Layout.PLAIN else hwc_order(weight, build.shape(x.tensor)).reshape(weight.shape)
    bias = np.zeros(len(weight), np.float32) if layer.module.bias is None else to_numpy(layer.module.bias)
    inputs = (
        build.reshape(x.tensor, (1, weight.shape[1])),
        build.constant(f"{layer.name}/weight", ordered),
        build.constant(f"{layer.name}/bias", bias),
    )
    return Value(build.node(FullyConnected(), inputs, layer.name), Layout.PLAIN)


def _refuse_unflattened(layer: Layer) -> None:
    if len(layer.in_shape) != 2:
        raise layer.unsupported(f"an input of shape {list(layer.in_shape)}", fix="put nn.Flatten in front of it")


# --------------------------------------------------------------------------------------------------------------- binary


def binary_weight(layer: Layer) -> tuple[Array, Array]:
    """Signs (bool, True is -1) in torch's order, and the scale per output channel, of a layer said to be binary."""
    module = layer.module
    _refuse_quantizer(layer, "input_quantizer", ("sign",))
    _refuse_quantizer(layer, "kernel_quantizer", ("sign", "scaled_sign"))
    weight = to_numpy(module.quantized_weight()).astype(np.float64)
    size = np.abs(weight.reshape(len(weight), -1))
    scale = size[:, 0]
    off = np.abs(size - scale[:, None]).max(axis=1) > SCALE_TOLERANCE * scale
    if (scale == 0).any() or off.any():
        channel = int(np.argmax((scale == 0) | off))
        raise BadInputError(
            f"output channel {channel} has weights other than +-{scale[channel]:g}",
            where=f"{type(module).__name__} '{layer.name}'",
            fix="quantized_weight() must give one magnitude (not 0) per output channel",
        )
    return weight < 0, scale


def _refuse_quantizer(layer: Layer, role: str, deployable: tuple[str, ...]) -> None:
    """UnsupportedError for a quantizer that LCE has no bits for; kernels that name none are judged by their weights."""
    quantizer = getattr(layer.module, role, None)
    deployed = getattr(quantizer, "deploys_as", None)
    if deployed in deployable or (deployed is None and role == "kernel_quantizer"):
        return
    name = getattr(quantizer, "spec", None)
    raise layer.unsupported(
        f"its {role.replace('_', ' ')}{f' {name}' if name else ''} deploys as {deployed!r}, which LCE has no bits for",
        fix=f"train it with {getattr(quantizer, 'alternative', '') or 'one that deploys as sign, as ste_sign'}",
    )


def _binary_conv(
    build: GraphBuilder, layer: Layer, signs: str, negative: Array, scale: Array, name: str, **window: Any
) -> str:
    """LceBconv2d with float output; `negative` is OHWI."""
    bias = getattr(layer.module, "bias", None)
    shift = np.zeros(len(scale), np.float32) if bias is None else to_numpy(bias)
    inputs = (
        signs,
        build.constant(f"{layer.name}/filter", negative, DType.BITS),
        build.constant(f"{layer.name}/multiplier", scale.astype(np.float32)),
        build.constant(f"{layer.name}/bias", shift),
        None,
    )
    op = LceBconv2d(BinaryWindow(build.shape(signs)[3], **window))
    return build.node(op, inputs, name)


@imports("quant_conv2d")
def import_quant_conv2d(build: GraphBuilder, layer: Layer, x: Value) -> Value:
    """Binary convolution: LceQuantize (shared with other readers of the same tensor) and LceBconv2d.

    Padding that is not SAME: +1 pixels are a border of zero bits in front of it. Zeros have no bit; there the
    convolution runs at stride 1, where PyTorch's padding is SAME, and its result is subsampled.
    """
    conv = layer.module
    geometry = Geometry.of(layer)
    negative, scale = binary_weight(layer)
    signs = signed_input(build, conv, x).tensor
    per_group = conv.in_channels // conv.groups
    if conv.groups > 1 and per_group % WORD_BITS:
        return _grouped_signs(build, layer, signs, negative, scale)
    filters = negative.transpose(0, 2, 3, 1)
    steps = {"stride": geometry.stride, "dilation": geometry.dilation}
    found = geometry.windows
    if found.has_border and conv.pad_value == 0:
        return _zero_padded(build, layer, signs, filters, scale, geometry)
    signs = add_border(build, signs, found.border, 0.0, layer.name)
    pad_value = int(conv.pad_value) if found.padding is Padding.SAME else 0
    window = {**steps, "padding": found.padding, "pad_value": pad_value}
    return Value(_binary_conv(build, layer, signs, filters, scale, layer.name, **window), Layout.IMAGE)


def _zero_padded(
    build: GraphBuilder, layer: Layer, signs: str, filters: Array, scale: Array, geometry: Geometry
) -> Value:
    size = layer.in_shape[2:]
    padding = pair(layer.module.padding)
    dense = windows(size, size, geometry.kernel, (1, 1), geometry.dilation, padding)
    if dense.padding is not Padding.SAME:
        raise layer.unsupported(
            f"padding {padding} with zeros, which have no bit", fix="use pad_value=1, or padding='same'"
        )
    build.note(layer.name, "zero padding at this stride: computed at every pixel, then subsampled; use pad_value=1")
    window = {"dilation": geometry.dilation, "padding": Padding.SAME, "pad_value": 0}
    every = _binary_conv(build, layer, signs, filters, scale, f"{layer.name}/dense", **window)
    return Value(subsample(build, every, geometry.stride, layer.name), Layout.IMAGE)


def _grouped_signs(build: GraphBuilder, layer: Layer, signs: str, negative: Array, scale: Array) -> Value:
    """Groups of a part of a word, depthwise above all: a real-valued convolution of +1 and -1."""
    build.note(
        layer.name,
        "groups of fewer than 32 channels have no binary form in LCE: computed as a real-valued convolution of +-1",
    )
    values = build.once(f"{signs}/values", lambda name: build.node(LceDequantize(), (signs,), name))
    weight = np.where(negative, -1.0, 1.0) * scale[:, None, None, None]
    bias = np.zeros(len(scale), np.float32)
    result = _real_conv(build, layer, values, weight, bias, pad_value=float(layer.module.pad_value))
    return Value(result, Layout.IMAGE)


@imports("quant_linear")
def import_quant_linear(build: GraphBuilder, layer: Layer, x: Value) -> Value:
    """Binary dense layer: LceBconv2d, VALID, with a kernel as large as the map; the result is [1, 1, 1, O]."""
    _refuse_unflattened(layer)
    negative, scale = binary_weight(layer)
    signs = signed_input(build, layer.module, x)
    filters = negative if x.layout is Layout.PLAIN else hwc_order(negative, build.shape(x.tensor))
    shaped = filters.reshape(len(filters), *build.shape(signs.tensor)[1:])
    return Value(_binary_conv(build, layer, signs.tensor, shaped, scale, layer.name), Layout.FLAT)


def signed_input(build: GraphBuilder, module: Any, x: Value) -> Value:
    """The packed signs that a binary layer reads of `x`, the same ones for all layers that read it so.

    Of a map whose last word per pixel is not full, a dense layer would hold weights for the rest of it; the map is
    flattened before its signs are packed, unless they may come packed from a binary convolution.
    """
    if module.onebit_kind == "quant_conv2d":
        return Value(build.sign(build.image(x)), Layout.IMAGE)
    shape = build.shape(x.tensor)
    if len(shape) == 4:
        single = shape[1] * shape[2] == 1
        if single or shape[3] % WORD_BITS == 0 or _comes_in_bits(build, x.tensor):
            return Value(build.sign(x.tensor), x.layout)
        flat = build.reshape(x.tensor, (1, 1, 1, prod(shape)))
        return Value(build.sign(flat), x.layout, shape)
    return Value(build.sign(build.reshape(x.tensor, (1, 1, 1, prod(shape)))), Layout.FLAT)


def _comes_in_bits(build: GraphBuilder, tensor: str) -> bool:
    """Whether only operators that thresholds may replace lie between a binary convolution and `tensor`."""
    node = build.producer(tensor)
    while node is not None and isinstance(node.op, Mul | Add | MaxPool2d | Prelu | Relu | Relu6 | ReluN1To1):
        node = build.producer(node.inputs[0] or "")
    return node is not None and isinstance(node.op, LceBconv2d)
