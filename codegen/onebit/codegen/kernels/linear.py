"""Kernels of CONV_2D, of its sign form, of DEPTHWISE_CONV_2D, and of FULLY_CONNECTED."""

from __future__ import annotations

import numpy as np

from onebit.codegen.kernel import Arg, Constant, Fields, Input, Kernel, Output, Pitch, Scratch, Struct, register_kernel
from onebit.codegen.kernels.common import bias_of, constant, float_bounds, pitch_of, stage_params, window_fields
from onebit.codegen.ops import ConvSign
from onebit.core.graph import DType
from onebit.core.ops import Conv2d, DepthwiseConv2d, FullyConnected, View


def _conv(view: View) -> Conv2d:
    op = view.node.op
    assert isinstance(op, (Conv2d, ConvSign))
    return op.conv if isinstance(op, ConvSign) else op


def _conv_params(view: View) -> Struct:
    fields: Fields = {
        "window": window_fields(*_conv(view).axes(view.input(0), view.input(1))),
        "in_channels": view.input(0).shape[3],
        "out_channels": view.input(1).shape[0],
        "zero_point": view.input(0).quant.zero_point,
        "pitch": pitch_of(view),
    }
    return Struct("ob_conv2d_params", fields)


def _taps(view: View) -> int:
    return view.input(1).elements // view.input(1).shape[0]


def _requantization(view: View) -> tuple[Arg, ...]:
    op = view.node.op
    assert isinstance(op, (Conv2d, DepthwiseConv2d, FullyConnected))
    stage = op.requantization(view)
    return (
        Constant("multiplier", stage.q.astype(np.int32)),
        Constant("exponent", stage.exponent.astype(np.int32)),
        stage_params(stage),
    )


def _conv_i8(view: View) -> tuple[Arg, ...]:
    filters, patch = constant("filter", view.input(1)), Scratch("int16_t", 2 * _taps(view))
    stage = _requantization(view)
    return _conv_params(view), Input(), filters, bias_of(view, np.int32), *stage, patch, Output()


def _conv_i8_bits(view: View) -> tuple[Arg, ...]:
    filters, patch = constant("filter", view.input(1)), Scratch("int16_t", 2 * _taps(view))
    return _conv_params(view), Input(), filters, constant("threshold", view.input(2)), patch, Output()


def _pairs(view: View) -> int:
    return -(-_taps(view) // 2)


def _paired_filter(view: View) -> Constant:
    """Filters int8 [O, taps] as pairs of int16 in uint32 words, [ceil(O/4)][pairs][4], the rest zeros."""
    filters = view.input(1)
    outs, taps = filters.shape[0], _taps(view)
    quads = -(-outs // 4)
    padded = np.zeros((4 * quads, 2 * _pairs(view)), "<i2")
    padded[:outs, :taps] = filters.constant().reshape(outs, taps)
    words = padded.view("<u4").reshape(quads, 4, -1).transpose(0, 2, 1)
    return Constant("filter", np.ascontiguousarray(words, np.uint32), f"int8 {list(filters.shape)} as int16 pairs")


def _conv_i8_dsp(view: View) -> tuple[Arg, ...]:
    patch, stage = Scratch("uint32_t", 4 * _pairs(view)), _requantization(view)
    return _conv_params(view), Input(), _paired_filter(view), bias_of(view, np.int32), *stage, patch, Output()


def _conv_i8_bits_dsp(view: View) -> tuple[Arg, ...]:
    threshold = view.input(2).constant()
    filled = np.concatenate([threshold, np.zeros(-len(threshold) % 4, np.int32)])
    patch = Scratch("uint32_t", 4 * _pairs(view))
    return _conv_params(view), Input(), _paired_filter(view), Constant("threshold", filled), patch, Output()


def _conv_f32(view: View) -> tuple[Arg, ...]:
    filters, patch = constant("filter", view.input(1)), Scratch("float", 4 * _taps(view))
    bounds = float_bounds(_conv(view).activation)
    return _conv_params(view), Input(), filters, bias_of(view, np.float32), *bounds, patch, Output()


def _depthwise_params(view: View) -> Struct:
    op, x, filters = view.node.op, view.input(0), view.input(1)
    assert isinstance(op, DepthwiseConv2d)
    fields: Fields = {
        "window": window_fields(*op.axes(x, filters)),
        "in_channels": x.shape[3],
        "multiplier": filters.shape[3] // x.shape[3],
        "zero_point": x.quant.zero_point,
        "pitch": Pitch(),
    }
    return Struct("ob_depthwise_conv2d_params", fields)


def _depthwise_taps(view: View) -> Scratch:
    """A list of the taps inside the image: two int32 each."""
    return Scratch("ob_depthwise_tap", 8 * view.input(1).shape[1] * view.input(1).shape[2])


def _depthwise_i8(view: View) -> tuple[Arg, ...]:
    filters, bias = constant("filter", view.input(1)), bias_of(view, np.int32)
    return _depthwise_params(view), Input(), filters, bias, *_requantization(view), _depthwise_taps(view), Output()


def _depthwise_f32(view: View) -> tuple[Arg, ...]:
    op = view.node.op
    assert isinstance(op, DepthwiseConv2d)
    filters, bias = constant("filter", view.input(1)), bias_of(view, np.float32)
    bounds = float_bounds(op.activation)
    return _depthwise_params(view), Input(), filters, bias, *bounds, _depthwise_taps(view), Output()


def _fc_params(view: View) -> Struct:
    outputs, inputs = view.input(1).shape
    return Struct(
        "ob_fully_connected_params",
        {"inputs": inputs, "outputs": outputs, "zero_point": view.input(0).quant.zero_point},
    )


def _fc_i8(view: View) -> tuple[Arg, ...]:
    filters = constant("filter", view.input(1))
    return _fc_params(view), Input(), filters, bias_of(view, np.int32), *_requantization(view), Output()


def _fc_f32(view: View) -> tuple[Arg, ...]:
    op = view.node.op
    assert isinstance(op, FullyConnected)
    filters, bounds = constant("filter", view.input(1)), float_bounds(op.activation)
    return _fc_params(view), Input(), filters, bias_of(view, np.float32), *bounds, Output()


def _cost(view: View) -> float:
    """Instructions: 4 per multiply-accumulate, 20 per output, 5 per gathered element."""
    macs = view.node.op.macs(view)[1]
    return 4.0 * macs + 20.0 * view.output.elements + 5.0 * macs / view.input(1).shape[0]


def _dsp_cost(view: View) -> float:
    """Instructions: 1.5 per multiply-accumulate, 15 per output, 5 per gathered element."""
    macs = view.node.op.macs(view)[1]
    return 1.5 * macs + 15.0 * view.output.elements + 5.0 * macs / view.input(1).shape[0]


def _depthwise_cost(view: View) -> float:
    """Instructions: 5 per multiply-accumulate, 25 per output."""
    return 5.0 * view.node.op.macs(view)[1] + 25.0 * view.output.elements


def _is_int8(view: View) -> bool:
    return view.output.dtype is DType.INT8


def _is_float(view: View) -> bool:
    return view.output.dtype is DType.FLOAT32


_GATHER = "ob_conv2d_gather.c"
_CONV, _DEPTHWISE, _FC = "ob_conv2d.h", "ob_depthwise_conv2d.h", "ob_fully_connected.h"
_DSP = frozenset({"dsp"})

for _kernel in (
    Kernel("ob_conv2d_i8", _CONV, ("ob_conv2d_i8.c", _GATHER), Conv2d, _conv_i8, _cost, _is_int8),
    Kernel("ob_conv2d_i8_dsp", _CONV, ("ob_conv2d_i8_dsp.c", _GATHER), Conv2d, _conv_i8_dsp, _dsp_cost, _is_int8, _DSP),
    Kernel("ob_conv2d_i8_bits", _CONV, ("ob_conv2d_i8_bits.c", _GATHER), ConvSign, _conv_i8_bits, _cost),
    Kernel(
        "ob_conv2d_i8_bits_dsp",
        _CONV,
        ("ob_conv2d_i8_bits_dsp.c", _GATHER),
        ConvSign,
        _conv_i8_bits_dsp,
        _dsp_cost,
        requires=_DSP,
    ),
    Kernel("ob_conv2d_f32", _CONV, ("ob_conv2d_f32.c",), Conv2d, _conv_f32, _cost, _is_float),
    Kernel(
        "ob_depthwise_conv2d_i8",
        _DEPTHWISE,
        ("ob_depthwise_conv2d_i8.c",),
        DepthwiseConv2d,
        _depthwise_i8,
        _depthwise_cost,
        _is_int8,
    ),
    Kernel(
        "ob_depthwise_conv2d_f32",
        _DEPTHWISE,
        ("ob_depthwise_conv2d_f32.c",),
        DepthwiseConv2d,
        _depthwise_f32,
        _depthwise_cost,
        _is_float,
    ),
    Kernel("ob_fully_connected_i8", _FC, ("ob_fully_connected_i8.c",), FullyConnected, _fc_i8, _cost, _is_int8),
    Kernel("ob_fully_connected_f32", _FC, ("ob_fully_connected_f32.c",), FullyConnected, _fc_f32, _cost, _is_float),
):
    register_kernel(_kernel)
