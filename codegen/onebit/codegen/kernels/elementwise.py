"""Kernels of element by element operators: two operands, one operand, and between float32 and int8."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import numpy as np

from onebit.codegen.kernel import (
    Arg,
    Call,
    Constant,
    Fields,
    Input,
    Kernel,
    Literal,
    Lowered,
    Output,
    Signs,
    Struct,
    pitch_in,
    register_kernel,
)
from onebit.codegen.kernels.common import constant, float_bounds, over_operands
from onebit.codegen.kernels.int8_sum import fixed_sum, has_fixed_sum
from onebit.core.fixed_point import quantize_multiplier
from onebit.core.graph import Array, DType, Tensor
from onebit.core.ops import (
    Abs,
    Add,
    Dequantize,
    Greater,
    GreaterEqual,
    HardSwish,
    LceQuantize,
    LeakyRelu,
    Logistic,
    Maximum,
    Minimum,
    Mul,
    Op,
    Prelu,
    Quantize,
    Relu,
    Relu6,
    ReluN1To1,
    Round,
    Sign,
    Sub,
    Tanh,
    View,
)
from onebit.core.ops.affine import BLOCK, INT8_BLOCK
from onebit.core.ops.elementwise import Arithmetic, Extremum, ProductSteps, SumSteps
from onebit.core.ops.operands import run_length
from onebit.core.ops.unary import Clamp
from onebit.core.rounding import Rounding

Lower = Callable[[View], Lowered]


def _kernel(
    function: str,
    header: str,
    op: type[Op],
    lower: Lower,
    per_element: float,
    supports: Callable[[View], bool],
    reads_pitch: Callable[[View], tuple[int, ...]] = lambda _: (),
    writes_pitch: Callable[[View], bool] = lambda _: False,
    with_signs: Kernel | None = None,
) -> Kernel:
    def cost(view: View) -> float:
        return per_element * view.output.elements

    return Kernel(
        function, header, (f"{function}.c",), op, lower, cost, supports,
        in_place=over_operands, reads_pitch=reads_pitch, writes_pitch=writes_pitch, with_signs=with_signs,
    )  # fmt: skip


def _reads_float(view: View) -> bool:
    return view.input(0).dtype is DType.FLOAT32


def _litert_reads_float(view: View) -> bool:
    return view.rounding is Rounding.LITERT and _reads_float(view)


def _tflm_reads_float(view: View) -> bool:
    return view.rounding is Rounding.TFLM and _reads_float(view)


def _reads_int8(view: View) -> bool:
    return view.input(0).dtype is DType.INT8


# ---------------------------------------------------------------------------------------------------------- one operand


def _is_table(view: View) -> bool:
    """Whether the node is a function of one int8 value: what else it reads is a single constant."""
    others = [t for t in view.inputs if t is not None and t.is_constant]
    computed = len(view.inputs) - len(others)
    kinds = {view.output.dtype, *(t.dtype for t in view.inputs if t is not None)}
    return kinds == {DType.INT8} and computed == 1 and all(t.elements == 1 for t in others)


def function_table(view: View) -> Array:
    """int8[256]: what the operator itself makes of the values -128 to 127, each as one sample of one element."""
    ramp = np.arange(-128, 128).astype(np.int8)
    inputs = [view.input(i) for i in range(len(view.inputs))]
    args = [t.data if t.is_constant else ramp.reshape(256, *(1,) * (len(t.shape) - 1)) for t in inputs]
    return view.node.op.evaluate(view, args).reshape(256)


def _look_up(view: View, table: Array) -> tuple[Arg, ...]:
    """The arguments of one call of ob_table_i8: pixel by pixel where input or output lie among other channels."""
    x, y = _only_input(view), view.output
    channels, pitches = y.shape[-1], (pitch_in(view, x), pitch_in(view, y))
    runs = (1, y.elements, 0, 0) if pitches == (channels, channels) else (y.elements // channels, channels, *pitches)
    return Input(), *(Literal(n) for n in runs), Constant("table", table), Output()


def _only_input(view: View) -> Tensor:
    return next(t for t in view.inputs if t is not None and not t.is_constant)


def _keeps_channels(view: View) -> bool:
    return _only_input(view).shape[-1] == view.output.shape[-1]


def _the_input(view: View) -> tuple[int, ...]:
    """The position of the only computed input."""
    return tuple(i for i, t in enumerate(view.inputs) if t is not None and not t.is_constant and _keeps_channels(view))


def _table(view: View) -> tuple[Arg, ...]:
    return _look_up(view, function_table(view))


def _tables(view: View) -> tuple[Array, Array, int]:
    """What QUANTIZE makes of -128 to 127 in whole blocks and behind them, and the elements in whole blocks."""
    op, x, y = view.node.op, view.input(0), view.output
    assert isinstance(op, Quantize)
    ramp = np.arange(-128, 128).astype(np.int8)
    blocks, rest = (
        np.clip(op.requantized(ramp, x.quant, y.quant, away=away) + y.quant.zero_point, -128, 127).astype(np.int8)
        for away in (False, True)
    )
    cut = view.rounding.blocks(y.elements, INT8_BLOCK)
    return blocks, rest, y.elements if cut and (blocks == rest).all() else cut


def _is_one_table(view: View) -> bool:
    return _tables(view)[2] in (0, view.output.elements)


def _requantize(view: View) -> Lowered:
    """One table, or another one for the elements behind the last whole block where it differs."""
    blocks, rest, cut = _tables(view)
    if _is_one_table(view):
        return _look_up(view, blocks if cut else rest)

    def part(first: int, count: int, role: str, table: Array) -> Call:
        runs = (Literal(n) for n in (1, count, 0, 0))
        return Call("ob_table_i8", (Input(offset=first), *runs, Constant(role, table), Output(offset=first)))

    return part(0, cut, "table", blocks), part(cut, view.output.elements - cut, "table_rest", rest)


def _unary(*parameters: Callable[[View], tuple[Arg, ...]]) -> Lower:
    def lower(view: View) -> Lowered:
        found = (argument for parameter in parameters for argument in parameter(view))
        return Input(), Literal(view.output.elements), *found, Output()

    return lower


def _clamp_bounds(view: View) -> tuple[Arg, ...]:
    assert isinstance(view.node.op, Clamp)
    low, high = view.node.op.bounds
    return Literal(low), Literal(high)


def _slope(view: View) -> tuple[Arg, ...]:
    assert isinstance(view.node.op, LeakyRelu)
    return Literal(float(view.node.op.alpha)), Literal(float(view.node.op.least_kept(view)))


def _quantize(view: View) -> tuple[Arg, ...]:
    quant = view.output.quant
    inverse = np.float32(1) / np.float32(quant.scale)
    return Literal(quant.scale), Literal(float(inverse)), Literal(quant.zero_point)


def _quantize_scalar(view: View) -> tuple[Arg, ...]:
    return Literal(view.output.quant.scale), Literal(view.output.quant.zero_point)


def _dequantize(view: View) -> tuple[Arg, ...]:
    quant = view.input(0).quant
    offset = -np.float32(quant.scale) * np.float32(quant.zero_point)
    blocks = view.rounding.blocks(view.output.elements, BLOCK)
    return Literal(blocks), Literal(quant.scale), Literal(float(offset)), Literal(quant.zero_point)


_TABLES: tuple[type[Op], ...] = (
    *(Relu, Relu6, ReluN1To1, LeakyRelu, Abs, Logistic, Tanh, HardSwish),
    # not ADD and QUANTIZE, whose rounding depends on the position
    *(Sub, Mul, Maximum, Minimum, Prelu),
)
for _op in _TABLES:
    register_kernel(_kernel("ob_table_i8", "ob_unary.h", _op, _table, 6.0, _is_table, _the_input, _keeps_channels))
register_kernel(_kernel(
    "ob_table_i8", "ob_unary.h", Quantize, _requantize, 6.0, _is_table,
    lambda view: (0,) if _is_one_table(view) else (), _is_one_table,
))  # fmt: skip
for _op in (Relu, Relu6, ReluN1To1):
    register_kernel(_kernel("ob_clamp_f32", "ob_unary.h", _op, _unary(_clamp_bounds), 8.0, _reads_float))
register_kernel(_kernel("ob_leaky_relu_f32", "ob_unary.h", LeakyRelu, _unary(_slope), 7.0, _reads_float))
register_kernel(_kernel("ob_abs_f32", "ob_unary.h", Abs, _unary(), 5.0, _reads_float))
register_kernel(_kernel("ob_sign_f32", "ob_unary.h", Sign, _unary(), 8.0, _reads_float))
register_kernel(_kernel("ob_round_f32", "ob_unary.h", Round, _unary(), 20.0, _reads_float))
register_kernel(_kernel("ob_logistic_f32", "ob_sigmoid.h", Logistic, _unary(), 50.0, _reads_float))
register_kernel(_kernel("ob_tanh_f32", "ob_sigmoid.h", Tanh, _unary(), 50.0, _reads_float))
register_kernel(_kernel("ob_hard_swish_f32", "ob_sigmoid.h", HardSwish, _unary(), 25.0, _reads_float))
register_kernel(_kernel("ob_quantize_f32_i8", "ob_affine.h", Quantize, _unary(_quantize), 15.0, _litert_reads_float))
register_kernel(
    _kernel("ob_quantize_f32_i8_scalar", "ob_affine.h", Quantize, _unary(_quantize_scalar), 25.0, _tflm_reads_float)
)
register_kernel(_kernel("ob_dequantize_i8_f32", "ob_affine.h", Dequantize, _unary(_dequantize), 7.0, _reads_int8))


# --------------------------------------------------------------------------------------------------------- two operands


def _operands(view: View, first: int = 0, *, by_pixel: bool = False) -> tuple[Arg, ...]:
    """The `ob_operands` and both operands, the input `first` in front. A run is a pixel, where pixels lie apart."""
    whole, channels, length = view.output.elements, view.output.shape[-1], run_length(view)
    inputs = view.input(0), view.input(1)
    by_pixel = by_pixel or any(not t.is_constant and pitch_in(view, t) != t.shape[-1] for t in inputs)
    length = channels if by_pixel else length
    computed = [i for i in (0, 1) if not view.input(i).is_constant]
    fields = {"runs": whole // length, "length": length}
    pointers: list[Arg] = []
    for letter, i in zip("ab", (first, 1 - first), strict=True):
        tensor = view.input(i)
        fields |= {
            f"next_{letter}": int(tensor.elements > 1),
            f"step_{letter}": (pitch_in(view, tensor) if by_pixel else length) if tensor.elements == whole else 0,
        }
        pointers.append(constant("operand", tensor) if tensor.is_constant else Input(computed.index(i)))
    return Struct("ob_operands", fields), *pointers


def _operands_apart(view: View) -> tuple[int, ...]:
    """Operands of which a run can be a pixel: those of full size, if the other repeats after a pixel or not at all."""
    whole, channels = view.output.elements, view.output.shape[-1]
    regular = run_length(view) in (whole, channels)
    return tuple(i for i in (0, 1) if regular and not view.input(i).is_constant and view.input(i).elements == whole)


def _arithmetic_f32(view: View) -> tuple[Arg, ...]:
    assert isinstance(view.node.op, Arithmetic)
    return *_operands(view), *float_bounds(view.node.op.activation), Output()


def _factor(multiplier: tuple[int, int]) -> Fields:
    return {"q": multiplier[0], "exponent": multiplier[1]}


def _arithmetic_i8(view: View) -> tuple[Arg, ...]:
    assert isinstance(view.node.op, Arithmetic)
    steps = view.node.op.steps(view)
    low, high = view.node.op.activation.quantized_bounds(view.output.quant)
    fields: Fields = {
        "zero_a": steps.zero_points[0],
        "zero_b": steps.zero_points[1],
        "output": _factor(steps.output),
        "zero_point": view.output.quant.zero_point,
        "low": low,
        "high": high,
    }
    if isinstance(steps, ProductSteps):
        return Struct("ob_mul_i8_params", fields), *_operands(view), Output()
    assert isinstance(steps, SumSteps)
    block = view.node.op.block_rounding(view).value if isinstance(view.node.op, Add) else 0
    operands: Fields = {"a": _factor(steps.first), "b": _factor(steps.second), "sign": steps.sign, "block": block}
    return Struct("ob_add_i8_params", {**fields, **operands}), *_operands(view), Output()


def _fixed_sum(view: View) -> tuple[Arg, ...]:
    found = fixed_sum(view)
    assert found is not None
    return Struct("ob_fixed_sum", asdict(found)), *_operands(view), Output()


def _extremum(view: View) -> tuple[Arg, ...]:
    assert isinstance(view.node.op, Extremum)
    return *_operands(view, first=int(view.node.op.swaps(view))), Output()


def _prelu_i8(view: View) -> tuple[Arg, ...]:
    assert isinstance(view.node.op, Prelu)
    positive, negative = (_factor(quantize_multiplier(gain)) for gain in view.node.op.gains(view))
    fields: Fields = {
        "zero_a": view.input(0).quant.zero_point,
        "zero_alpha": view.input(1).quant.zero_point,
        "positive": positive,
        "negative": negative,
        "zero_point": view.output.quant.zero_point,
    }
    return Struct("ob_prelu_i8_params", fields), *_operands(view), Output()


def _plain(view: View) -> tuple[Arg, ...]:
    return *_operands(view), Output()


def _greater_i8(view: View) -> tuple[Arg, ...]:
    fields = {"or_equal": int(isinstance(view.node.op, GreaterEqual))}
    for letter, tensor in zip("ab", (view.input(0), view.input(1)), strict=True):
        q, exponent = quantize_multiplier(tensor.quant.scale)
        fields |= {f"zero_{letter}": tensor.quant.zero_point, f"q_{letter}": q, f"exponent_{letter}": exponent}
    return Struct("ob_greater_i8_params", fields), *_operands(view), Output()


def _by_channel(view: View) -> bool:
    """Whether each operand has one element for every element of the output, or one per channel."""
    x, y, output = view.input(0), view.input(1), view.output
    return all(t.elements in (output.elements, output.shape[-1]) for t in (x, y))


def _signed(lower: Lower, limit: Callable[[View], float]) -> Lower:
    """The arguments of a kernel that takes signs, too: runs are pixels, the sign's limit stands before the output."""

    def signed(view: View) -> Lowered:
        args = [arg for arg in lower(view) if not isinstance(arg, Call)]
        (at,) = (i for i, arg in enumerate(args) if isinstance(arg, Struct) and arg.ctype == "ob_operands")
        operands = _operands(view, by_pixel=True)
        front, back = args[:at], args[at + len(operands) : -1]
        return *front, *operands, *back, Literal(limit(view)), Output(), Signs()

    return signed


def _negative(view: View) -> float:
    return float(LceQuantize().largest_negative(view))


def _zero_point(view: View) -> int:
    return view.output.quant.zero_point


_ELEMENTWISE, _COMPARE = "ob_elementwise.h", "ob_compare.h"
register_kernel(_kernel(
    "ob_add_f32", _ELEMENTWISE, Add, _arithmetic_f32, 8.0, _reads_float, _operands_apart,
    with_signs=_kernel("ob_add_f32_bits", _ELEMENTWISE, Add, _signed(_arithmetic_f32, _negative), 12.0, _by_channel),
))  # fmt: skip
register_kernel(_kernel("ob_sub_f32", _ELEMENTWISE, Sub, _arithmetic_f32, 8.0, _reads_float, _operands_apart))
register_kernel(_kernel("ob_mul_f32", _ELEMENTWISE, Mul, _arithmetic_f32, 8.0, _reads_float, _operands_apart))
for _op in (Add, Sub):
    register_kernel(_kernel(
        "ob_add_i8_fixed", _ELEMENTWISE, _op, _fixed_sum, 12.0, has_fixed_sum, _operands_apart,
        with_signs=_kernel(
            "ob_add_i8_fixed_bits", _ELEMENTWISE, _op, _signed(_fixed_sum, _zero_point), 16.0, _by_channel
        ),
    ))  # fmt: skip
    register_kernel(_kernel("ob_add_i8", _ELEMENTWISE, _op, _arithmetic_i8, 95.0, _reads_int8))
register_kernel(_kernel("ob_mul_i8", _ELEMENTWISE, Mul, _arithmetic_i8, 50.0, _reads_int8, _operands_apart))
register_kernel(_kernel("ob_maximum_f32", _ELEMENTWISE, Maximum, _extremum, 7.0, _reads_float, _operands_apart))
register_kernel(_kernel("ob_minimum_f32", _ELEMENTWISE, Minimum, _extremum, 7.0, _reads_float, _operands_apart))
register_kernel(_kernel("ob_maximum_i8", _ELEMENTWISE, Maximum, _extremum, 13.0, _reads_int8, _operands_apart))
register_kernel(_kernel("ob_minimum_i8", _ELEMENTWISE, Minimum, _extremum, 13.0, _reads_int8, _operands_apart))
register_kernel(_kernel(
    "ob_prelu_f32", _ELEMENTWISE, Prelu, _plain, 7.0, _reads_float, _operands_apart,
    with_signs=_kernel("ob_prelu_f32_bits", _ELEMENTWISE, Prelu, _signed(_plain, _negative), 11.0, _by_channel),
))  # fmt: skip
register_kernel(_kernel(
    "ob_prelu_i8", _ELEMENTWISE, Prelu, _prelu_i8, 42.0, _reads_int8, _operands_apart,
    with_signs=_kernel("ob_prelu_i8_bits", _ELEMENTWISE, Prelu, _signed(_prelu_i8, _zero_point), 46.0, _by_channel),
))  # fmt: skip
register_kernel(_kernel("ob_greater_f32", _COMPARE, Greater, _plain, 6.0, _reads_float, _operands_apart))
register_kernel(_kernel("ob_greater_equal_f32", _COMPARE, GreaterEqual, _plain, 6.0, _reads_float, _operands_apart))
for _op in (Greater, GreaterEqual):
    register_kernel(_kernel("ob_greater_i8", _COMPARE, _op, _greater_i8, 65.0, _reads_int8, _operands_apart))
