"""Kernels of operators that only move elements: one strided copy per input, behind a fill where one is needed.

The parameters of a copy are the strides of the very NumPy views that define the operator (`Movement.parts`).
"""

from __future__ import annotations

from functools import partial

import numpy as np

from onebit.codegen.kernel import (
    Arg,
    Call,
    Constant,
    Input,
    Kernel,
    Literal,
    Output,
    Struct,
    pitch_in,
    register_kernel,
)
from onebit.codegen.kernels.common import constant
from onebit.codegen.memory import start_in
from onebit.core.graph import Array, DType, Tensor
from onebit.core.ops import (
    Concatenation,
    Movement,
    Op,
    Pack,
    Pad,
    PadV2,
    ResizeNearestNeighbor,
    Slice,
    Split,
    StridedSlice,
    Transpose,
    View,
)

_COPY = "ob_copy_strided"
#: loops of ob_copy_strided around the contiguous run
AXES = 4


def copy_fields(target: Array, output: Array, source: Array, x: Array) -> Struct:
    """The `ob_copy_params` that assign `source`, a view of `x`, to `target`, a view of `output`, in fewest loops."""
    run = x.itemsize
    loops: list[tuple[int, int, int]] = []
    for count, in_step, out_step in reversed(list(zip(source.shape, source.strides, target.strides, strict=True))):
        if count == 1:
            continue
        if not loops and in_step == out_step == run:
            run *= count
        elif loops and (in_step, out_step) == (loops[-1][0] * loops[-1][1], loops[-1][0] * loops[-1][2]):
            loops[-1] = (loops[-1][0] * count, *loops[-1][1:])
        else:
            loops.append((count, in_step, out_step))
    loops += [(1, 0, 0)] * (AXES - len(loops))
    axes = {
        f"axis{i}": {"count": count, "in_step": in_step, "out_step": out_step}
        for i, (count, in_step, out_step) in enumerate(reversed(loops))
    }
    return Struct(
        "ob_copy_params", {"run": run, "in_start": start_in(source, x), "out_start": start_in(target, output), **axes}
    )


def _memory_of(view: View, tensor: Tensor) -> Array:
    """An array that lies as the tensor does. Never touched: it only gives addresses to views."""
    whole: Array = np.empty((*tensor.stored_shape[:-1], pitch_in(view, tensor)), tensor.dtype.numpy)
    return whole[..., : tensor.stored_shape[-1]]


def _copies(view: View) -> list[Call]:
    op = view.node.op
    assert isinstance(op, Movement)
    moved = [view.input(i) for i in op.moved(view)]
    inputs, output = [_memory_of(view, tensor) for tensor in moved], _memory_of(view, view.output)
    calls = []
    activations = 0
    for i, (tensor, x, (target, source)) in enumerate(zip(moved, inputs, op.parts(view, inputs, output), strict=True)):
        pointer: Arg = constant(f"input{i}", tensor) if tensor.is_constant else Input(activations)
        activations += not tensor.is_constant
        calls.append(Call(_COPY, (copy_fields(target, output, source, x), pointer, Output())))
    return calls


def copy_again(view: View, first: int, again: int) -> Call:
    """The call for the part `again` of a movement where it is the part `first` too, which lies in the output."""
    op = view.node.op
    assert isinstance(op, Movement)
    inputs, output = [_memory_of(view, view.input(i)) for i in op.moved(view)], _memory_of(view, view.output)
    targets = [target for target, _ in op.parts(view, inputs, output)]
    return Call(_COPY, (copy_fields(targets[again], output, targets[first], output), Output(), Output()))


def _move(view: View) -> tuple[Call, ...]:
    return tuple(_copies(view))


def _fill_and_move(view: View) -> tuple[Call, ...]:
    op = view.node.op
    assert isinstance(op, Movement)
    value = op.fill(view)
    assert value is not None
    count = view.output.nbytes // view.output.dtype.numpy.itemsize
    return Call(_FILLS[view.output.dtype], (Literal(value), Literal(count), Output())), *_copies(view)


def _resize(view: View) -> tuple[Arg, ...]:
    op, x, y = view.node.op, view.input(0), view.output
    assert isinstance(op, ResizeNearestNeighbor)
    rows, cols = op.tables(view)
    fields = {
        "in_w": x.shape[2], "out_h": y.shape[1], "out_w": y.shape[2],
        "pixel": x.shape[3] * x.dtype.numpy.itemsize,
    }  # fmt: skip
    return Struct("ob_resize_params", fields), Constant("row", rows), Constant("col", cols), Input(), Output()


def _cost(view: View) -> float:
    """Instructions: 2 per byte moved."""
    return 2.0 * view.output.nbytes


def _moved(view: View) -> tuple[int, ...]:
    op = view.node.op
    assert isinstance(op, Movement)
    return tuple(op.moved(view))


def _has(dtype: DType, view: View) -> bool:
    return view.output.dtype is dtype


_FILLS = {DType.INT8: "ob_fill_i8", DType.FLOAT32: "ob_fill_f32", DType.BITS: "ob_fill_bits"}
_MOVEMENTS: tuple[type[Op], ...] = (Concatenation, Pack, Slice, Split, StridedSlice, Transpose)

for _op in _MOVEMENTS:
    register_kernel(
        Kernel(_COPY, "ob_move.h", (f"{_COPY}.c",), _op, _move, _cost, reads_pitch=_moved, writes_pitch=lambda _: True)
    )
for _dtype, _fill in _FILLS.items():
    for _op in (Pad, PadV2) if _dtype is not DType.BITS else (Pad,):
        _supports = partial(_has, _dtype)
        sources = (f"{_fill}.c", f"{_COPY}.c")
        register_kernel(Kernel(_fill, "ob_move.h", sources, _op, _fill_and_move, _cost, _supports))
register_kernel(
    Kernel("ob_resize_nearest", "ob_move.h", ("ob_resize_nearest.c",), ResizeNearestNeighbor, _resize, _cost)
)
