"""Scales and zero points: of activations, weights, constants, and of what is only read by a sign."""

from __future__ import annotations

import numpy as np

from onebit.convert.int8.calibration import Ranges
from onebit.core import Quantization, Tensor
from onebit.core.errors import BadInputError
from onebit.core.fixed_point import round_half_away
from onebit.core.graph import Array
from onebit.core.metadata import ModelMetadata

WEIGHT_LIMIT = 127
"""Quantized weights are in -127..127 (narrow range, zero point 0)."""

BIAS_LIMIT = 2**30
"""Largest quantized bias: leaves as much room in an int32 accumulator for the products."""

SIGN_LEVELS = Quantization.per_tensor(1 / 127, 0)
"""Quantization of signs that leave the binary part: +1 is 127, -1 is -127."""

TANH_LEVELS = Quantization.per_tensor(1 / 128, 0)
"""Quantization of TANH's output, fixed by the TFLite specification."""

SUM_STEPS = 2**14
"""Output steps that a sum which only a sign reads may reach; LiteRT's vector code keeps 16 bits."""


def activation_quantization(low: float, high: float) -> Quantization:
    """int8 quantization of a range, widened to include 0, which then is the zero point exactly.

    scale = (high - low) / 255, rounded to float32; zero point = round(-128 - low / scale). A range of zeros gets
    scale 1, zero point 0.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    if not np.isfinite([low, high]).all():
        raise BadInputError(f"a calibrated range {low:g} to {high:g} is not finite", fix="check the calibration data")
    scale = np.float32((high - low) / 255)
    if scale < np.finfo(np.float32).tiny:
        return Quantization.per_tensor(1.0, 0)
    zero_point = int(round_half_away(np.array(-128 - low / float(scale))))
    return Quantization.per_tensor(float(scale), min(127, max(-128, zero_point)))


def input_quantization(tensor: Tensor, metadata: ModelMetadata | None, ranges: Ranges) -> Quantization:
    """Quantization of the input: the range of pixels 0 to 255 by the metadata, or the calibrated one.

    Pixels scaled by 1/255 get scale 1/255 and zero point -128, so that pixel p becomes p - 128.
    """
    if metadata is None:
        return activation_quantization(*ranges[tensor.name])
    table = metadata.preprocessing.real_table(tensor.shape[-1] if len(tensor.shape) == 4 else 1)
    return activation_quantization(float(table.min()), float(table.max()))


def to_int8(values: Array, quant: Quantization) -> Array:
    """Real values in steps of a per-tensor quantization: halves away from zero, saturated, int8."""
    steps = round_half_away(values.astype(np.float64) / quant.scale) + quant.zero_point
    return np.clip(steps, -128, 127).astype(np.int8)


def sign_quantization(q: Array, bias: Array, steps: Array) -> Quantization:
    """Quantization of a real-valued layer's output of which only the sign is read.

    Range does not matter, since saturation keeps signs; resolution does: with a coarse scale everything in
    [-scale/2, 0) would round to 0, which counts as +1. So one step of the output is the smallest step of an accumulator
    (`steps`, real value per output channel), and no accumulator but 0 rounds to 0. The step is larger only where the
    largest accumulator times the multiplier would leave int32. Weights `q` ``[O, ...]``, `bias` [O].
    """
    largest = np.abs(q.reshape(len(q), -1)).sum(axis=1) * 255.0 + np.abs(bias)
    scale = max(float(steps.min()), float((largest * steps).max()) / 2**30)
    return Quantization.per_tensor(scale, 0)


def sum_sign_quantization(operands: list[Quantization]) -> Quantization:
    """Quantization of a sum of int8 operands of which only the sign is read: as fine as 16 bits of result allow."""
    reach = sum(quant.scale * (128 + abs(quant.zero_point)) for quant in operands)
    return Quantization.per_tensor(reach / SUM_STEPS, 0)


def threshold_quantization(values: Array, x: Quantization) -> Quantization | None:
    """The grid of `x` for constants that are added to it in front of a sign, None where they do not fit on it.

    On the grid of x, `x + floor(b)` is negative exactly where `x + b` is.
    """
    steps = np.floor(values.astype(np.float64) / x.scale)
    low, high = float(steps.min()), float(steps.max())
    zero_point = int(np.clip(-128 - low, -128, 127))
    return Quantization.per_tensor(x.scale, zero_point) if high + zero_point <= 127 else None


def weight_scales(weights: Array, bias: Array, in_scale: float, *, axis: int | None) -> Array:
    """float32 scales, one per output channel (`axis`) or one (None): max|w| / 127, but large enough for an int32 bias.

    Weights and biases that are all 0 get scale 1.
    """
    rows = weights.reshape(1, -1) if axis is None else np.moveaxis(weights, axis, 0).reshape(len(bias), -1)
    largest = np.abs(rows).max(axis=1).astype(np.float64)
    magnitude = np.abs(bias).max(keepdims=True) if axis is None else np.abs(bias)
    scales = np.maximum(largest / WEIGHT_LIMIT, magnitude / (in_scale * BIAS_LIMIT)).astype(np.float32)
    return np.where(scales > 0, scales, np.float32(1)).astype(np.float32)
