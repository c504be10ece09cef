"""Kernels of one loop: signs in and out of bits, pooling, softmax, copies, layout conversion."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

from onebit.codegen.kernel import (
    Arg,
    Constant,
    Input,
    Kernel,
    Layout,
    Literal,
    Output,
    Pitch,
    Struct,
    pitch_in,
    register_kernel,
)
from onebit.codegen.kernels.common import constant, float_bounds, over_operands, over_window, pixels, window_fields
from onebit.codegen.ops import BinaryPool, ConvertLayout, Int8Sign
from onebit.core.graph import DType
from onebit.core.ops import (
    AveragePool2d,
    Axis,
    ExpandDims,
    LceBMaxPool2d,
    LceDequantize,
    LceQuantize,
    MaxPool2d,
    Op,
    Reshape,
    ReshapeBits,
    Softmax,
    Squeeze,
    View,
)
from onebit.core.ops.lce_quantize import dequantized_levels
from onebit.core.ops.pooling import BinaryPooling
from onebit.core.rounding import Rounding

InPlace = Callable[[View], tuple[int, ...]]


def _register(
    name: str,
    header: str,
    op: type[Op],
    lower: Callable[[View], tuple[Arg, ...]],
    per_element: float,
    dtypes: tuple[DType | None, DType | None] = (None, None),
    layouts: tuple[Layout | None, Layout | None] = (None, None),
    in_place: InPlace | None = None,
    roundings: Collection[Rounding] = tuple(Rounding),
    reads_pitch: tuple[int, ...] = (),
) -> None:
    """A kernel for the given (input, output) dtypes that costs `per_element` instructions per larger element count."""

    def supports(view: View) -> bool:
        actual = (view.input(0).dtype, view.output.dtype)
        return view.rounding in roundings and all(
            want is None or want is have for want, have in zip(dtypes, actual, strict=True)
        )

    def cost(view: View) -> float:
        return per_element * max(view.input(0).elements, view.output.elements)

    kernel = Kernel(
        name, header, (f"{name}.c",), op, lower, cost, supports, layouts=layouts, reads_pitch=lambda _: reads_pitch
    )
    register_kernel(kernel if in_place is None else replace(kernel, in_place=in_place))


def _shape(view: View) -> tuple[Literal, Literal]:
    x = view.input(0)
    return Literal(pixels(x)), Literal(x.shape[-1])


def _pitched_shape(view: View) -> tuple[Literal, ...]:
    return *_shape(view), Literal(pitch_in(view, view.input(0)))


def _all_pixels(view: View) -> tuple[Arg, ...]:
    return Input(), *_shape(view), Output()


def _quantize_f32(view: View) -> tuple[Arg, ...]:
    op = view.node.op
    assert isinstance(op, LceQuantize)
    return Input(), *_pitched_shape(view), Literal(float(op.largest_negative(view))), Output()


def _quantize_i8(view: View) -> tuple[Arg, ...]:
    return Input(), *_pitched_shape(view), Literal(view.input(0).quant.zero_point), Output()


def _sign_i8(view: View) -> tuple[Arg, ...]:
    constants = constant("threshold", view.input(1)), constant("inverted", view.input(2))
    return Input(), *_pitched_shape(view), *constants, Output()


def _dequantize_i8(view: View) -> tuple[Arg, ...]:
    return Input(), *_shape(view), *(Literal(v) for v in dequantized_levels(view.output.quant)), Output()


def _pool_axes(view: View) -> tuple[Axis, Axis]:
    op = view.node.op
    assert isinstance(op, (AveragePool2d, BinaryPooling, MaxPool2d))
    return op.window.axes(view.input(0))


def _pool_window(view: View) -> Struct:
    return Struct("ob_window", window_fields(*_pool_axes(view)))


def _over_pool_window(view: View) -> tuple[int, ...]:
    return over_window(*_pool_axes(view))


def _over_signs(view: View) -> tuple[int, ...]:
    """A word of a pixel is written when its channels are read, which from 4 channels on fill the word's bytes."""
    return (0,) if view.input(0).shape[-1] >= 4 else ()


def _bmaxpool(view: View) -> tuple[Arg, ...]:
    return _pool_window(view), Input(), Literal(view.input(0).stored_shape[-1]), Output()


def _bpool(view: View) -> tuple[Arg, ...]:
    window, bits, words, output = _bmaxpool(view)
    return window, bits, constant("minima", view.input(1)), words, output


def _pool_i8(view: View) -> tuple[Arg, ...]:
    op = view.node.op
    assert isinstance(op, (AveragePool2d, MaxPool2d))
    bounds = (Literal(v) for v in op.activation.quantized_bounds(view.output.quant))
    return _pool_window(view), Input(), Literal(view.input(0).shape[3]), *bounds, Pitch(), Output()


def _pool_f32(view: View) -> tuple[Arg, ...]:
    op = view.node.op
    assert isinstance(op, (AveragePool2d, MaxPool2d))
    return _pool_window(view), Input(), Literal(view.input(0).shape[3]), *float_bounds(op.activation), Pitch(), Output()


def _softmax_i8(view: View) -> tuple[Arg, ...]:
    op = view.node.op
    assert isinstance(op, Softmax)
    return Input(), *_shape(view), Constant("exp", op.exp_table(view)), Output()


def _softmax_f32(view: View) -> tuple[Arg, ...]:
    op = view.node.op
    assert isinstance(op, Softmax)
    return Input(), *_shape(view), Literal(float(op.beta)), Output()


def _copy(view: View) -> tuple[Arg, ...]:
    return Input(), Literal(view.output.nbytes), Output()


_register("ob_quantize_f32", "ob_quantize.h", LceQuantize, _quantize_f32, 5.0, (DType.FLOAT32, None), reads_pitch=(0,))
_register(
    "ob_quantize_i8", "ob_quantize.h", LceQuantize, _quantize_i8, 5.0, (DType.INT8, None),
    in_place=_over_signs, reads_pitch=(0,),
)  # fmt: skip
_register("ob_sign_i8", "ob_quantize.h", Int8Sign, _sign_i8, 6.0, in_place=_over_signs, reads_pitch=(0,))
_register("ob_quantize_bool", "ob_quantize.h", LceQuantize, _all_pixels, 5.0, (DType.BOOL, None))
_register("ob_dequantize_f32", "ob_quantize.h", LceDequantize, _all_pixels, 6.0, (None, DType.FLOAT32))
_register("ob_dequantize_bool", "ob_quantize.h", LceDequantize, _all_pixels, 6.0, (None, DType.BOOL))
_register("ob_dequantize_i8", "ob_quantize.h", LceDequantize, _dequantize_i8, 6.0, (None, DType.INT8))
_register("ob_bmaxpool2d", "ob_pool.h", LceBMaxPool2d, _bmaxpool, 0.2, in_place=_over_pool_window)
_register("ob_bpool2d", "ob_pool.h", BinaryPool, _bpool, 0.3, in_place=_over_pool_window)
for _op, _pool in ((MaxPool2d, "ob_maxpool2d"), (AveragePool2d, "ob_averagepool2d")):
    for _suffix, _dtype, _lower in (("i8", DType.INT8, _pool_i8), ("f32", DType.FLOAT32, _pool_f32)):
        _register(f"{_pool}_{_suffix}", "ob_pool.h", _op, _lower, 8.0, (_dtype, None), in_place=_over_pool_window)
for _softmax, _rounding in (("ob_softmax_i8", Rounding.LITERT), ("ob_softmax_i8_fixed", Rounding.TFLM)):
    _register(
        _softmax, "ob_softmax.h", Softmax, _softmax_i8, 60.0, (DType.INT8, None), in_place=over_operands,
        roundings=(_rounding,),
    )  # fmt: skip
_register("ob_softmax_f32", "ob_softmax.h", Softmax, _softmax_f32, 40.0, (DType.FLOAT32, None), in_place=over_operands)
# a reshape is no step of its own, unless it connects the memory of the model's input with that of its output
for _alias in (ExpandDims, Reshape, ReshapeBits, Squeeze):
    _register("ob_copy", "ob_layout.h", _alias, _copy, 1.0)
_register(
    "ob_lanes_from_packed", "ob_layout.h", ConvertLayout, _all_pixels, 1.5,
    layouts=(Layout.CHANNEL_PACKED, Layout.PIXEL_LANES),
)  # fmt: skip
_register(
    "ob_packed_from_lanes", "ob_layout.h", ConvertLayout, _all_pixels, 1.5,
    layouts=(Layout.PIXEL_LANES, Layout.CHANNEL_PACKED),
)  # fmt: skip
