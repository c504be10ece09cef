"""Kernels of binary convolutions: one loop, and an output stage each."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from onebit.codegen.kernel import (
    Arg,
    Constant,
    Fields,
    Input,
    Kernel,
    Literal,
    Output,
    Scratch,
    Struct,
    register_kernel,
)
from onebit.codegen.kernels.border import corrections
from onebit.codegen.kernels.common import constant, pitch_of, window_fields
from onebit.codegen.ops import (
    BinaryConvBitTable,
    BinaryConvRange,
    BinaryConvScale,
    BinaryConvSegments,
    BinaryConvSign,
    BinaryConvTable,
    IntegerBconv2d,
)
from onebit.core.bits import words_for
from onebit.core.graph import DType
from onebit.core.ops import BinaryWindow, LceBconv2d, Op, View

_HEADER = "ob_bconv2d.h"


def _window(view: View) -> BinaryWindow:
    op = view.node.op
    assert isinstance(op, LceBconv2d | IntegerBconv2d)
    return op.window


def _params(view: View) -> Struct:
    window, filters = _window(view), view.input(1)
    border = corrections(window, view.input(0), filters)
    fields: Fields = {
        "window": window_fields(*window.axes(view.input(0), filters)),
        "words": words_for(window.channels_in),
        "groups": window.groups(filters),
        "out_channels": filters.shape[0],
        "pitch": pitch_of(view),
        "border": Constant("border", border.table) if border.table.size else None,
        **border.fields,
    }
    return Struct("ob_bconv2d_params", fields)


def _patch(view: View) -> Scratch:
    words = view.input(1).shape[1] * view.input(1).shape[2] * words_for(_window(view).channels_in)
    return Scratch("uint32_t", 4 * words)


def _cost(view: View) -> float:
    """Instructions: 7 per word of XOR and carry-save addition, 40 per output, 6 per gathered word."""
    rows, cols = _window(view).axes(view.input(0), view.input(1))
    words = view.input(1).shape[1] * view.input(1).shape[2] * words_for(view.input(1).shape[3])
    return rows.out * cols.out * (view.input(1).shape[0] * (7.0 * words + 40.0) + 6.0 * words)


def _kernel(
    name: str, op: type[Op], stage: Callable[[View], tuple[Arg, ...]], dtype: DType, extra: float = 0.0
) -> Kernel:
    def lower(view: View) -> tuple[Arg, ...]:
        return _params(view), Input(), constant("filter", view.input(1)), *stage(view), _patch(view), Output()

    return register_kernel(
        Kernel(
            function=name,
            header=_HEADER,
            sources=(f"{name}.c", "ob_bconv2d_gather.c"),
            op=op,
            lower=lower,
            cost=lambda view: _cost(view) + extra * view.output.elements,
            supports=lambda view: view.output.dtype is dtype,
        )
    )


def _lce_threshold(view: View) -> tuple[Arg, ...]:
    """p > t is x > 2t; thresholds beyond the accumulator's range (LCE's sentinels) become -1 and 2K."""
    taps = _window(view).taps(view.input(1))
    threshold = view.input(4).constant().astype(np.int64)
    return (Constant("threshold", np.clip(2 * threshold, -1, 2 * taps).astype(np.int32)),)


def _threshold(view: View) -> tuple[Arg, ...]:
    return (constant("threshold", view.input(2)),)


def _range(view: View) -> tuple[Arg, ...]:
    return tuple(constant(role, view.input(i)) for i, role in enumerate(("below", "end", "outside"), start=2))


def _scale(view: View) -> tuple[Arg, ...]:
    op = view.node.op
    assert isinstance(op, BinaryConvScale)
    return constant("multiplier", view.input(2)), constant("offset", view.input(3)), Literal(op.shift)


def _segments(view: View) -> tuple[Arg, ...]:
    return constant("first", view.input(2)), constant("segments", view.input(3))


def _table(view: View) -> tuple[Arg, ...]:
    op = view.node.op
    assert isinstance(op, BinaryConvTable | BinaryConvBitTable)
    table = constant("table", view.input(2))
    return table, Literal(table.data.shape[1]), Literal(op.index_shift(view))


def _float_stage(view: View) -> tuple[Arg, ...]:
    op = view.node.op
    assert isinstance(op, LceBconv2d)
    stage = op.output_transform(view)
    return (
        Constant("multiplier", stage.multiplier), Constant("bias", stage.bias), *(Literal(v) for v in stage.clamp),
    )  # fmt: skip


_kernel("ob_bconv2d_bits", BinaryConvSign, _threshold, DType.BITS)
_kernel("ob_bconv2d_bits", LceBconv2d, _lce_threshold, DType.BITS)
_kernel("ob_bconv2d_bits_range", BinaryConvRange, _range, DType.BITS, extra=3.0)
_kernel("ob_bconv2d_bits_table", BinaryConvBitTable, _table, DType.BITS, extra=4.0)
_kernel("ob_bconv2d_i8", BinaryConvScale, _scale, DType.INT8, extra=8.0)
_kernel("ob_bconv2d_i8_table", BinaryConvTable, _table, DType.INT8, extra=4.0)
_kernel("ob_bconv2d_i8_segments", BinaryConvSegments, _segments, DType.INT8, extra=12.0)
_kernel("ob_bconv2d_f32", LceBconv2d, _float_stage, DType.FLOAT32, extra=10.0)
