"""Moves of the operators that move elements, and of those that only change the shape (see `support.fuzz.moves`)."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from onebit.core import Tensor
from onebit.core.ops import (
    Concatenation,
    Op,
    Pack,
    Pad,
    PadV2,
    Reshape,
    ResizeNearestNeighbor,
    Slice,
    Split,
    Squeeze,
    StridedSlice,
    Transpose,
)
from support.fuzz.growth import BITS, F32, I8, I32, Growth
from support.fuzz.moves import move, plain

MOVED = (2, 3, 4, 5)
MOVABLE = (F32, I8, BITS)


def _add(g: Growth, x: Tensor, op: Op, *inputs: Any, shape: Sequence[int] | None = None) -> bool:
    """An operator that keeps dtype and quantization; inputs are names, or index lists that become constants."""
    names = [i if isinstance(i, str) else g.constant("index", i, I32) for i in inputs]
    return g.add(op, x.name, *names, dtype=x.dtype, quant=x.quantization, shape=shape)


@move("TRANSPOSE", dtypes=MOVABLE, ranks=MOVED)
def transpose(g: Growth, x: Tensor, name: str) -> bool:
    kept = [len(x.shape) - 1] if x.dtype is BITS else []
    rest = list(range(1, len(x.shape) - len(kept)))
    order = [0, *(rest.pop(g.number(0, len(rest) - 1)) for _ in range(len(rest))), *kept]
    return _add(g, x, Transpose(), order)


@move("SLICE", dtypes=MOVABLE, ranks=MOVED)
def slice_(g: Growth, x: Tensor, name: str) -> bool:
    begin = [g.number(0, extent - 1) if g.chance(50) else 0 for extent in x.stored_shape]
    size = [-1 if g.chance(50) else g.number(1, e - b) for e, b in zip(x.stored_shape, begin, strict=True)]
    if x.dtype is BITS and x.shape[-1] % 32:
        begin[-1], size[-1] = 0, g.pick((-1, x.stored_shape[-1]))
    return _add(g, x, Slice(), begin, size)


@move("STRIDED_SLICE", dtypes=MOVABLE, ranks=MOVED)
def strided_slice(g: Growth, x: Tensor, name: str) -> bool:
    """Ranges of either direction, masks, sometimes a removed axis, a new one or an ellipsis."""
    begin, end, strides = [0], [1], [1]
    masks = dict.fromkeys(("begin", "end", "ellipsis", "new_axis", "shrink_axis"), 0)
    position, axis = 1, 1
    while axis < len(x.shape):
        kind = g.number(0, 12)
        extent, bit = x.stored_shape[axis], 1 << position
        if kind == 12:
            masks["ellipsis"] |= bit
            begin, end, strides = [*begin, 0], [*end, 0], [*strides, 1]
            break
        if kind == 11:
            masks["new_axis"] |= bit
            begin, end, strides = [*begin, 0], [*end, 1], [*strides, 1]
            position += 1
            continue
        stride = 1 if kind == 10 else g.pick((1, 2, -1, 3, -2))
        first = g.number(-extent, extent - 1)
        limit = extent + 2 if stride > 0 else -extent - 2
        begin, end, strides = [*begin, first], [*end, limit], [*strides, stride]
        if kind == 10:
            masks["shrink_axis"] |= bit
        else:
            masks["begin"] |= bit * (kind % 2)
            masks["end"] |= bit * (kind // 2 % 2)
        position, axis = position + 1, axis + 1
    return _add(g, x, StridedSlice(**{f"{k}_mask": v for k, v in masks.items()}), begin, end, strides)


@move("SPLIT", dtypes=MOVABLE, ranks=MOVED)
def split(g: Growth, x: Tensor, name: str) -> bool:
    """All parts of a split, or some of them."""
    axis = g.number(1, len(x.shape) - 1)
    parts = g.pick([n for n in (1, 2, 3, 4, 5, 8) if x.shape[axis] % n == 0])
    sign = -len(x.shape) if g.chance(30) else 0
    wanted = [i for i in range(parts) if i == 0 or g.chance(80)]
    return all([_add(g, x, Split(axis + sign, parts, i)) for i in wanted])  # noqa: C419 (all of them are added)


@move("PAD", dtypes=MOVABLE, ranks=MOVED)
def pad(g: Growth, x: Tensor, name: str) -> bool:
    widths = _widths(g, x)
    return _add(g, x, Pad(), [*widths[:-1], [0, 0]] if x.dtype is BITS else widths)


@move("PADV2", ranks=MOVED)
def pad_v2(g: Growth, x: Tensor, name: str) -> bool:
    value = g.constant("value", g.numbers(g.pick(((1,), (), (1, 1))), x.dtype), x.dtype, x.quantization)
    return _add(g, x, PadV2(), _widths(g, x), value)


def _widths(g: Growth, x: Tensor) -> list[list[int]]:
    return [[0, 0], *([g.pick((0, 1, 3)), g.pick((0, 1, 2))] for _ in x.shape[1:])]


@move("CONCATENATION", dtypes=MOVABLE, ranks=MOVED)
def concatenation(g: Growth, x: Tensor, name: str) -> bool:
    """Earlier values, sometimes a constant, sometimes the same value twice."""
    axis = g.number(1, len(x.shape) - 1)

    def fits(t: Tensor) -> bool:
        same_rest = (t.shape[:axis], t.shape[axis + 1 :]) == (x.shape[:axis], x.shape[axis + 1 :])
        return len(t.shape) == len(x.shape) and same_rest and t.dtype is x.dtype and t.quant == x.quant

    others = [g.pick(g.others(fits)) for _ in range(g.number(1, 3))]
    if x.dtype is not BITS and g.chance(20):
        shape = (*x.shape[:axis], g.number(1, 4), *x.shape[axis + 1 :])
        others.append(g.constant("joined", g.numbers(shape, x.dtype), x.dtype, x.quantization))
    return _add(g, x, Concatenation(axis - len(x.shape) if g.chance(50) else axis), *others)


@move("PACK", dtypes=MOVABLE, ranks=(1, 2, 3, 4))
def pack(g: Growth, x: Tensor, name: str) -> bool:
    alike = g.others(lambda t: t.shape == x.shape and t.dtype is x.dtype and t.quant == x.quant)
    others = [g.pick(alike) for _ in range(g.number(0, 2))]
    return _add(g, x, Pack(g.pick((-1, *range(1, len(x.shape) + 1))), 1 + len(others)), *others)


@move("RESIZE_NEAREST_NEIGHBOR", ranks=(4,))
def resize(g: Growth, x: Tensor, name: str) -> bool:
    size = [g.number(1, 2 * extent + 1) for extent in x.shape[1:3]]
    return _add(g, x, ResizeNearestNeighbor(g.chance(50), g.chance(50)), size)


@move("RESHAPE", dtypes=MOVABLE)
def reshape(g: Growth, x: Tensor, name: str) -> bool:
    """Rows, or the elements in other axes; the target in the options or as a tensor, sometimes with a -1."""
    bits = x.dtype is BITS
    full = bits and x.shape[-1] % 32 == 0 and g.chance(50)
    shape, rest = [1], prod(x.stored_shape[:-1]) if bits and not full else prod(x.stored_shape)
    for _ in range(g.number(0, 3)):
        shape.append(g.pick([n for n in (1, 2, 3, 4, 5, 8, 16, 32) if rest % n == 0]))
        rest //= shape[-1]
    shape.append(rest)
    kept = bits and not full
    target = [-1 if g.chance(20) else 1, *shape[1:], *([x.stored_shape[-1]] if kept else [])]
    if full:
        shape[-1] *= 32
    shape += [x.shape[-1]] if kept else []
    if g.chance(30):
        return _add(g, x, Reshape(), np.array(target), shape=shape)
    return _add(g, x, Reshape(tuple(target)), shape=shape)


@move("SQUEEZE", dtypes=MOVABLE)
def squeeze(g: Growth, x: Tensor, name: str) -> bool:
    ones = [a for a in range(1, len(x.shape)) if x.shape[a] == 1]
    chosen = [a for a in ones if g.chance(70)] or ones[:1]
    dims = tuple(a - len(x.shape) if g.chance(30) else a for a in chosen)
    return bool(dims) and _add(g, x, Squeeze(dims))


@move("EXPAND_DIMS", dtypes=MOVABLE, ranks=(1, 2, 3, 4))
def expand_dims(g: Growth, x: Tensor, name: str) -> bool:
    axis = g.pick((-1, *range(1, len(x.shape) + 1)))
    return _add(g, x, plain(name), np.array(axis if g.chance(50) else [axis]))
