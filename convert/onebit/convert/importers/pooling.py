"""Pools over windows and over whole maps."""

from __future__ import annotations

from typing import Any

from torch import nn

from onebit.convert.builder import GraphBuilder, Layout, Value
from onebit.convert.importers.base import Layer, imports, pair
from onebit.convert.importers.elementwise import multiply_constant
from onebit.convert.importers.movement import add_border
from onebit.convert.importers.windows import Windows, reach, windows
from onebit.convert.operations import OverMap
from onebit.core.ops import AveragePool2d, MaxPool2d, Mean, Padding, PoolWindow, ReduceMax
from onebit.core.ops.window import LARGEST


def _windows(layer: Layer, size: tuple[int, int], stride: tuple[int, int], padding: Any) -> Windows:
    return windows(layer.in_shape[2:], layer.out_shape[2:], size, stride, (1, 1), pair(padding))


def subsample(build: GraphBuilder, tensor: str, stride: tuple[int, int], name: str) -> str:
    """Every stride-th pixel of a map, from the first on: a max pool over single pixels."""
    return build.node(MaxPool2d(PoolWindow((1, 1), stride, Padding.VALID)), (tensor,), name)


@imports(nn.MaxPool2d)
def import_max_pool(build: GraphBuilder, layer: Layer, x: Value) -> Value:
    """MAX_POOL_2D.

    PyTorch's padding is minus infinity. Where it is not SAME padding, the pool runs at stride 1, where it is, and its
    result is subsampled: exact, without values that no quantization could hold.
    """
    pool = layer.module
    if pair(pool.dilation) != (1, 1) or pool.return_indices:
        raise layer.unsupported("dilation and return_indices of a max pool", fix="leave them at their defaults")
    tensor, size, stride = build.image(x), pair(pool.kernel_size), pair(pool.stride)
    found = _windows(layer, size, stride, pool.padding)
    if not found.has_border:
        return Value(
            build.node(MaxPool2d(PoolWindow(size, stride, found.padding)), (tensor,), layer.name), Layout.IMAGE
        )
    dense = windows(layer.in_shape[2:], layer.in_shape[2:], size, (1, 1), (1, 1), pair(pool.padding))
    if dense.padding is Padding.SAME:
        every = build.node(MaxPool2d(PoolWindow(size, (1, 1), Padding.SAME)), (tensor,), f"{layer.name}/dense")
        return Value(subsample(build, every, stride, layer.name), Layout.IMAGE)
    padded = add_border(build, tensor, found.border, -LARGEST, layer.name)
    return Value(build.node(MaxPool2d(PoolWindow(size, stride, Padding.VALID)), (padded,), layer.name), Layout.IMAGE)


@imports(nn.AvgPool2d)
def import_avg_pool(build: GraphBuilder, layer: Layer, x: Value) -> Value:
    """AVERAGE_POOL_2D; zeros that count (count_include_pad) are added in front of it."""
    pool = layer.module
    tensor, size, stride = build.image(x), pair(pool.kernel_size), pair(pool.stride)
    padding = Padding.VALID
    if pool.count_include_pad and any(pair(pool.padding)):
        border = reach(layer.in_shape[2:], layer.out_shape[2:], size, stride, (1, 1), pair(pool.padding))
        if any(after > allowed for (_, after), allowed in zip(border, pair(pool.padding), strict=True)):
            raise layer.unsupported("ceil_mode with padding that counts", fix="use ceil_mode=False")
        tensor = add_border(build, tensor, border, 0.0, layer.name)
    else:
        found = _windows(layer, size, stride, pool.padding)
        padding = found.padding
        if found.has_border:
            raise layer.unsupported(
                f"a mean of what lies inside the map, with padding {pool.padding} and stride {stride} on "
                f"{list(layer.in_shape[2:])}",
                fix="use padding=0, or padding that is TensorFlow's SAME",
            )
    divisor = pool.divisor_override
    name = layer.name if divisor is None else f"{layer.name}/mean"
    mean = build.node(AveragePool2d(PoolWindow(size, stride, padding)), (tensor,), name)
    if divisor is not None:
        mean = multiply_constant(build, mean, size[0] * size[1] / divisor, layer.name)
    return Value(mean, Layout.IMAGE)


def _over_map(build: GraphBuilder, layer: Layer, x: Value, name: str, *, keepdim: bool) -> Value:
    axes = build.indices(f"{layer.name}/axes", [1, 2])
    op = (Mean if name == "mean" else ReduceMax)(keep_dims=keepdim)
    result = build.node(op, (build.image(x), axes), layer.name)
    return Value(result, Layout.IMAGE if keepdim else Layout.PLAIN)


@imports(OverMap)
def import_over_map(build: GraphBuilder, layer: Layer, x: Value) -> Value:
    """MEAN or REDUCE_MAX over height and width."""
    return _over_map(build, layer, x, layer.module.name, keepdim=layer.module.keepdim)


@imports(nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
def import_adaptive_pool(build: GraphBuilder, layer: Layer, x: Value) -> Value:
    """MEAN or REDUCE_MAX for one result; a pool where the output divides the map; refused elsewhere."""
    mean = isinstance(layer.module, nn.AdaptiveAvgPool2d)
    if layer.out_shape[2:] == (1, 1):
        return _over_map(build, layer, x, "mean" if mean else "max", keepdim=True)
    (rows, more_rows), (cols, more_cols) = (
        divmod(s, o) for s, o in zip(layer.in_shape[2:], layer.out_shape[2:], strict=True)
    )
    if more_rows or more_cols:
        raise layer.unsupported(
            f"windows of different sizes, {list(layer.in_shape[2:])} to {list(layer.out_shape[2:])}",
            fix="use an output size that divides the map",
        )
    window = PoolWindow((rows, cols), (rows, cols), Padding.VALID)
    op = AveragePool2d(window) if mean else MaxPool2d(window)
    return Value(build.node(op, (build.image(x),), layer.name), Layout.IMAGE)
