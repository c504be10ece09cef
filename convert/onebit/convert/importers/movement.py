"""Layers and operations that move elements: flattening, reshaping, joining, cutting, padding."""

from __future__ import annotations

import math

import numpy as np
from torch import nn

from onebit.convert.builder import GraphBuilder, Layout, Value
from onebit.convert.importers.base import Layer, imports
from onebit.convert.operations import Concat, Pad, Permute, Reshape, Slice
from onebit.core.ops import Concatenation, PadV2, ResizeNearestNeighbor, StridedSlice
from onebit.core.ops import Pad as PadOp
from onebit.core.ops import Slice as SliceOp

#: where a dimension of [N, C, H, W] is in [1, H, W, C]
IMAGE_AXIS = (0, 3, 1, 2)

Width = tuple[int, int]


def pad(build: GraphBuilder, tensor: str, widths: tuple[Width, ...], value: float, name: str) -> str:
    """`tensor` with a border: (before, after) for every dimension behind the batch, in the tensor's order."""
    amounts = build.indices(f"{name}/widths", np.array([(0, 0), *widths]))
    if value == 0:
        return build.node(PadOp(), (tensor, amounts), name, dtype=build.tensors[tensor].dtype)
    constant = build.constant(f"{name}/value", np.full(1, value))
    return build.node(PadV2(), (tensor, amounts, constant), name)


def add_border(build: GraphBuilder, tensor: str, border: tuple[Width, Width], value: float, name: str) -> str:
    """A map [1, H, W, C] with `border` pixels of `value` around it; the map itself where there are none.

    Around packed bits the border of 0 is one of zero bits, which are +1.
    """
    if not any(map(any, border)):
        return tensor
    return pad(build, tensor, (*border, (0, 0)), value, f"{name}/padded")


def cut(build: GraphBuilder, tensor: str, index: tuple[tuple[int, int, int], ...], name: str) -> str:
    """``tensor[:, index]``: one (start, stop, step) for every dimension behind the batch, in the tensor's order."""
    parts = ((0, 1, 1), *index)
    if all(step == 1 for _, _, step in parts):
        begin = build.indices(f"{name}/begin", [start for start, _, _ in parts])
        size = build.indices(f"{name}/size", [stop - start for start, stop, _ in parts])
        return build.node(SliceOp(), (tensor, begin, size), name)
    ends = [
        build.indices(f"{name}/{role}", [part[i] for part in parts])
        for i, role in enumerate(("begin", "end", "strides"))
    ]
    return build.node(StridedSlice(), (tensor, *ends), name)


@imports(nn.Flatten, nn.Unflatten, Reshape)
def import_reshape(build: GraphBuilder, layer: Layer, x: Value) -> Value:
    """Another shape. Flattening a map moves nothing: the layers behind it reorder their weights instead."""
    if layer.out_shape == layer.in_shape:
        return x
    if x.layout is Layout.IMAGE and len(layer.out_shape) == 2:
        return Value(x.tensor, Layout.FLAT)
    if x.layout is Layout.FLAT and len(layer.out_shape) == 4:
        shape = build.shape(x.tensor)
        if len(shape) == 4 and (1, shape[3], *shape[1:3]) == layer.out_shape:
            return Value(x.tensor, Layout.IMAGE)
    reshaped = build.reshape(build.plain(x), layer.out_shape)
    return as_image(build, Value(reshaped, Layout.PLAIN))


def as_image(build: GraphBuilder, value: Value) -> Value:
    """A value of four dimensions as a map where that moves no element, any other as it is."""
    shape = build.shape(value.tensor)
    if value.layout is Layout.PLAIN and len(shape) == 4 and (shape[1] == 1 or shape[2:] == (1, 1)):
        return Value(build.image(value), Layout.IMAGE)
    return value


@imports(Permute)
def import_permute(build: GraphBuilder, layer: Layer, x: Value) -> Value:
    """The dimensions in another order: nothing for [N, C, H, W] to [N, H, W, C] and back, else TRANSPOSE."""
    order = layer.module.order
    if x.layout is Layout.IMAGE and order == (0, 2, 3, 1):
        return Value(x.tensor, Layout.PLAIN)
    if x.layout is Layout.PLAIN and order == (0, 3, 1, 2):
        return Value(x.tensor, Layout.IMAGE)
    return Value(build.transpose(build.plain(x), order), Layout.PLAIN)


@imports(Concat)
def import_concat(build: GraphBuilder, layer: Layer, *inputs: Value) -> Value:
    """CONCATENATION."""
    dim = layer.module.dim
    if len(layer.out_shape) == 4 and any(x.layout is Layout.IMAGE for x in inputs):
        tensors = tuple(build.image(x) for x in inputs)
        return Value(build.node(Concatenation(IMAGE_AXIS[dim]), tensors, layer.name), Layout.IMAGE)
    tensors = tuple(build.plain(x) for x in inputs)
    return Value(build.node(Concatenation(dim), tensors, layer.name), Layout.PLAIN)


@imports(Slice)
def import_slice(build: GraphBuilder, layer: Layer, x: Value) -> Value:
    """SLICE, or STRIDED_SLICE where there are steps."""
    index = layer.module.index
    if all(part == (0, size, 1) for part, size in zip(index, layer.in_shape[1:], strict=True)):
        return x
    if x.layout is Layout.IMAGE:
        return Value(cut(build, x.tensor, (index[1], index[2], index[0]), layer.name), Layout.IMAGE)
    return Value(cut(build, build.plain(x), index, layer.name), Layout.PLAIN)


@imports(Pad)
def import_pad(build: GraphBuilder, layer: Layer, x: Value) -> Value:
    """PAD with zeros, PADV2 with another value."""
    return _padded(build, layer, x, layer.module.widths, layer.module.value)


@imports(nn.ZeroPad2d, nn.ConstantPad2d)
def import_pad_layer(build: GraphBuilder, layer: Layer, x: Value) -> Value:
    """PAD with zeros, PADV2 with another value."""
    left, right, top, bottom = layer.module.padding
    if min(layer.module.padding) < 0:
        raise layer.unsupported(f"padding {layer.module.padding}", fix="use widths from 0")
    widths = ((0, 0), (top, bottom), (left, right))[4 - len(layer.in_shape) :]
    return _padded(build, layer, x, widths, float(layer.module.value))


def _padded(build: GraphBuilder, layer: Layer, x: Value, widths: tuple[Width, ...], value: float) -> Value:
    if not any(map(any, widths)):
        return x
    if not math.isfinite(value):
        raise layer.unsupported(f"padding with {value}", fix="use the padding of the max pool behind it")
    if x.layout is Layout.IMAGE:
        return Value(pad(build, x.tensor, (widths[1], widths[2], widths[0]), value, layer.name), Layout.IMAGE)
    return Value(pad(build, build.plain(x), widths, value, layer.name), Layout.PLAIN)


@imports(nn.Upsample, nn.UpsamplingNearest2d)
def import_upsample(build: GraphBuilder, layer: Layer, x: Value) -> Value:
    """RESIZE_NEAREST_NEIGHBOR by whole factors."""
    size, out = layer.in_shape[2:], layer.out_shape[2:]
    if layer.module.mode != "nearest" or len(size) != 2 or any(o % s for s, o in zip(size, out, strict=True)):
        raise layer.unsupported(
            f"mode '{layer.module.mode}' from {list(size)} to {list(out)}", fix="use mode='nearest' and whole factors"
        )
    extent = build.indices(f"{layer.name}/size", out)
    return Value(build.node(ResizeNearestNeighbor(), (build.image(x), extent), layer.name), Layout.IMAGE)


@imports(nn.ChannelShuffle)
def import_channel_shuffle(build: GraphBuilder, layer: Layer, x: Value) -> Value:
    """The channels of all groups in turn: RESHAPE, TRANSPOSE, RESHAPE."""
    tensor = build.image(x)
    _, height, width, channels = build.shape(tensor)
    groups = layer.module.groups
    grouped = build.reshape(tensor, (1, height, width, groups, channels // groups))
    turned = build.transpose(grouped, (0, 1, 2, 4, 3))
    return Value(build.reshape(turned, (1, height, width, channels)), Layout.IMAGE)
