"""Nets of operators that move elements. One table drives the oracle tests, the C kernels and the emulated core."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from onebit.core import DType, Quantization
from onebit.core.ops import (
    Concatenation,
    ExpandDims,
    Op,
    Pack,
    Pad,
    Padding,
    PadV2,
    ResizeNearestNeighbor,
    Slice,
    Split,
    Squeeze,
    StridedSlice,
    Transpose,
)
from support.nets import Net

F32, I8 = DType.FLOAT32, DType.INT8
QUANT = Quantization.per_tensor(0.02, 7)
SHAPES = {rank: (1, 4, 5, 6, 3)[:rank] for rank in (2, 3, 4, 5)}

Make = Callable[[DType], Net]


def start(dtype: DType, shape: Sequence[int] = SHAPES[4], zero_point: int = 7) -> Net:
    return Net(shape, dtype, Quantization.per_tensor(0.02, zero_point) if dtype is I8 else None)


def move(net: Net, op: Op, *inputs: Any, shape: Any = None) -> Net:
    """Append a movement; inputs are names of tensors, or int32 constants."""
    names = [
        x if isinstance(x, str) else net.constant(f"index_{len(net.nodes)}_{i}", x, DType.INT32)
        for i, x in enumerate(inputs)
    ]
    return net.node(op, *names, dtype=net.now.dtype, quant=net.now.quantization, shape=shape)


def value(net: Net, data: Any) -> str:
    """A constant of the current tensor's dtype and quantization."""
    return net.constant(f"value_{len(net.nodes)}", data, net.now.dtype, quant=net.now.quantization)


def back_to(net: Net, name: str) -> Net:
    """The next operator reads this tensor."""
    net.now = net.tensors[name]
    return net


def _transpose(rank: int, *order: int) -> Make:
    return lambda d: move(start(d, SHAPES[rank]), Transpose(), [0, *order])


def _slice(rank: int, begin: Sequence[int], size: Sequence[int]) -> Make:
    return lambda d: move(start(d, SHAPES[rank]), Slice(), begin, size)


def _strided(begin: Sequence[int], end: Sequence[int], strides: Sequence[int], **masks: int) -> Make:
    return lambda d: move(start(d), StridedSlice(**masks), begin, end, strides)  # type: ignore[arg-type]


def _pad(rank: int, *widths: Sequence[int], zero_point: int = 7) -> Make:
    return lambda d: move(start(d, SHAPES[rank], zero_point), Pad(), [[0, 0], *widths])


def _pad_bits(channels: int, *widths: Sequence[int]) -> Make:
    """Packed signs, read by a VALID convolution behind the border."""

    def make(d: DType) -> Net:
        net = start(d, (1, 4, 5, channels)).quantize()
        return move(net, Pad(), [[0, 0], *widths, [0, 0]]).bconv(33, stride=(2, 2), padding=Padding.VALID)

    return make


def _concatenate_bits(axis: int, *channels: int) -> Make:
    """Packed signs from convolutions with these channels, joined as int32 words."""

    def make(d: DType) -> Net:
        net = start(d, (1, 4, 5, 40)).quantize()
        signs, parts = net.now.name, []
        for outs in channels:
            parts.append(back_to(net, signs).bconv(outs, to=DType.BITS).now.name)
        return move(back_to(net, parts[0]), Concatenation(axis), *parts[1:]).dequantize()

    return make


def _padv2(real: float, stored: int, shape: Sequence[int]) -> Make:
    def make(d: DType) -> Net:
        net = start(d)
        fill = value(net, np.full(shape, stored if d is I8 else real))
        return move(net, PadV2(), [[0, 0], [1, 0], [2, 3], [0, 1]], fill)

    return make


def _concatenation(rank: int, axis: int, count: int = 2) -> Make:
    """The input, a shorter piece of it, and so on."""

    def make(d: DType) -> Net:
        net = start(d, SHAPES[rank])
        begin, size = [0] * rank, [-1] * rank
        begin[axis] = 1
        pieces = []
        for _ in range(count - 1):
            pieces.append(move(net, Slice(), begin, size).now.name)
        return move(back_to(net, "input"), Concatenation(axis), *pieces)

    return make


def _concatenated_constant(axis: int) -> Make:
    """A constant in the middle, and an activation twice; along the rows each is one whole run."""

    def make(d: DType) -> Net:
        net = start(d)
        shape = [2 if a == axis else size for a, size in enumerate(SHAPES[4])]
        constant = value(net, net.rng.integers(-100, 100, shape))
        return move(net, Concatenation(axis), constant, "input")

    return make


def _pack(rank: int, axis: int, count: int = 2) -> Make:
    def make(d: DType) -> Net:
        net = start(d, SHAPES[rank])
        reverse = [-1 if a == rank - 1 else 1 for a in range(rank)]
        mask = (1 << rank) - 1
        flipped = move(net, StridedSlice(mask, mask), [0] * rank, [0] * rank, reverse).now.name
        return move(back_to(net, "input"), Pack(axis, count), *[flipped] * (count - 1))

    return make


def _split(axis: int, num: int, *, used: Sequence[int] | None = None, shape: Sequence[int] = (1, 4, 4, 6)) -> Make:
    """The parts, in reverse, concatenated along another axis; `used` names those that are read."""

    def make(d: DType) -> Net:
        net = start(d, shape)
        parts = []
        for i in range(num) if used is None else used:
            parts.append(move(back_to(net, "input"), Split(axis, num, i)).now.name)
        first, *rest = reversed(parts)
        return move(back_to(net, first), Concatenation(1), *rest)

    return make


def _resize(size: Sequence[int], *, align: bool = False, half: bool = False) -> Make:
    return lambda d: move(start(d), ResizeNearestNeighbor(align, half), size)


def _squeeze(*dims: int) -> Make:
    return lambda d: move(start(d, (1, 3, 1, 5, 1)), Squeeze(dims))


def _expand_dims(axis: Any) -> Make:
    return lambda d: move(start(d, (1, 3, 5)), ExpandDims(), axis)


def squeezed_in_the_middle(d: DType) -> Net:
    """Aliases between steps that compute, and a branch that reads the value before."""
    net = move(start(d), Slice(), [0, 1, 0, 0], [1, 1, 5, 6])
    move(move(net, Squeeze((1,))), ExpandDims(), 1)
    return move(net, Concatenation(1), "slice_0")


NETS: dict[str, dict[str, Make]] = {
    "TRANSPOSE": {
        "nhwc to nchw": _transpose(4, 3, 1, 2),
        "nchw to nhwc": _transpose(4, 2, 3, 1),
        "reversed": _transpose(5, 4, 3, 2, 1),
        "matrix": _transpose(3, 2, 1),
        "identity": _transpose(4, 1, 2, 3),
        "inner axes kept": _transpose(5, 2, 1, 3, 4),
    },
    "SLICE": {
        "all": _slice(4, [0] * 4, [-1] * 4),
        "rows": _slice(4, [0, 1, 0, 0], [1, 2, -1, -1]),
        "channels": _slice(4, [0, 0, 0, 2], [1, 4, 5, 3]),
        "box": _slice(5, [0, 1, 2, 3, 1], [-1, 2, 3, 2, -1]),
        "one element": _slice(2, [0, 3], [1, 1]),
    },
    "STRIDED_SLICE": {
        "every second pixel": _strided([0, 0, 0, 0], [1, 4, 5, 6], [1, 2, 2, 1]),
        "every third channel": _strided([0, 0, 0, 1], [1, 4, 5, 6], [1, 1, 1, 3]),
        "backwards": _strided([0, -1, -1, -1], [0, -9, -9, -9], [1, -1, -1, -2], end_mask=1),
        "begin and end masked": _strided([9, 9, 9], [0, 0, 0], [1, 2, -1], begin_mask=7, end_mask=7),
        "limits beyond the axis": _strided([0, -100, -100], [1, 100, 100], [1, 1, 2]),
        "row removed": _strided([0, 2], [1, 0], [1, 1], shrink_axis_mask=2),
        "last channel removed": _strided([0, 0, 0, -1], [1, 4, 5, 0], [1, 1, 1, 1], shrink_axis_mask=8),
        "ellipsis": _strided([0, 2], [0, 4], [1, 1], ellipsis_mask=1),
        "ellipsis in the middle": _strided([0, 0, 1], [1, 0, 6], [1, 1, 2], ellipsis_mask=2),
        "new axis": _strided([0, 0, 1], [1, 0, 3], [1, 1, 1], new_axis_mask=2),
    },
    "SPLIT": {
        "rows": _split(1, 2),
        "columns": _split(2, 4),
        "channels": _split(3, 3),
        "from the back": _split(-1, 2),
        "one part": _split(2, 1),
        "one part unread": _split(3, 3, used=(0, 2)),
        "one part read": _split(-2, 2, used=(1,)),
        "a part read twice": _split(3, 3, used=(1, 1, 0)),
    },
    "PAD": {
        "image": _pad(4, [1, 2], [3, 0], [0, 0]),
        "channels": _pad(4, [0, 0], [0, 0], [2, 1]),
        "everything": _pad(5, [1, 2], [3, 0], [0, 1], [1, 1]),
        "vector": _pad(2, [3, 4]),
        "nothing": _pad(4, [0, 0], [0, 0], [0, 0]),
        "lowest zero point": _pad(4, [1, 1], [1, 1], [0, 0], zero_point=-128),
        "highest zero point": _pad(4, [1, 1], [1, 1], [0, 0], zero_point=127),
        "packed signs": _pad_bits(32, [1, 0], [1, 0]),
        "packed signs, 31 channels": _pad_bits(31, [1, 1], [0, 2]),
        "packed signs, 65 channels": _pad_bits(65, [0, 3], [2, 1]),
    },
    "PADV2": {
        "low": _padv2(-1.5, -128, (1,)),
        "high": _padv2(3.25, 127, ()),
        "negative zero": _padv2(-0.0, 0, (1, 1)),
    },
    "CONCATENATION": {
        "channels": _concatenation(4, 3, 3),
        "columns": _concatenation(4, 2),
        "rows from the back": _concatenation(4, -3),
        "vectors": _concatenation(2, 1, 4),
        "five dimensions": _concatenation(5, -2),
        "one input": lambda d: move(start(d), Concatenation(1)),
        "rows of packed bits": _concatenate_bits(1, 33, 33),
        "columns of packed bits": _concatenate_bits(-2, 7, 7, 7),
        "channels of packed bits": _concatenate_bits(3, 64, 32, 9),
        "a constant": _concatenated_constant(3),
        "a constant in rows": _concatenated_constant(1),
    },
    "PACK": {
        "in front of rows": _pack(4, 1),
        "behind channels": _pack(4, 4, 3),
        "from the back": _pack(4, -2),
        "vectors": _pack(2, 1, 4),
        "one input": lambda d: move(start(d), Pack(1, 1)),
    },
    "SQUEEZE": {
        "one axis": _squeeze(2),
        "two axes, one from the back": _squeeze(-1, 2),
        "the same axis twice": _squeeze(2, -3),
        "between steps": squeezed_in_the_middle,
    },
    "EXPAND_DIMS": {
        **{f"axis {axis}": _expand_dims(axis) for axis in (0, 1, 2, 3, -1, -3)},
        "axis as a vector": _expand_dims([1]),
    },
    "RESIZE_NEAREST_NEIGHBOR": {
        "double": _resize([8, 10]),
        "half": _resize([2, 2]),
        "odd": _resize([7, 3]),
        "one pixel": _resize([1, 1], align=True),
        "aligned corners": _resize([7, 9], align=True),
        "half-pixel centers": _resize([3, 11], half=True),
        "both": _resize([9, 4], align=True, half=True),
    },
}  # fmt: skip


def cases(*ops: str) -> list[Any]:
    """pytest parameters (make, dtype) for the nets of these operators."""
    return [
        pytest.param(make, dtype, id=f"{name}, {dtype.value}")
        for op in ops
        for name, make in NETS[op].items()
        for dtype in (F32, I8)
    ]


def every_movement(dtype: DType) -> Net:
    """One chain with every operator that moves elements."""
    net = start(dtype, (1, 4, 4, 6))
    for i in range(3):
        move(back_to(net, "input"), Split(3, 3, i))
    move(net, Concatenation(-1), "split_0", "split_1")
    move(net, Pad(), [[0, 0], [1, 0], [0, 1], [0, 0]])
    move(net, PadV2(), [[0, 0], [0, 0], [1, 1], [0, 0]], value(net, [3]))
    move(net, Slice(), [0, 1, 1, 0], [-1, 3, -1, 6])
    move(net, StridedSlice(begin_mask=1, end_mask=15), [0, 0, 0, 1], [0] * 4, [1, 1, 2, 2])
    move(net, Transpose(), [0, 3, 1, 2])
    move(net, ResizeNearestNeighbor(half_pixel_centers=True), [5, 4])
    move(move(net, ExpandDims(), 2), Squeeze((2,)))
    return move(net, Pack(2, 2), net.now.name)
