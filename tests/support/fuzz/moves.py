"""How each operator of the registry is proposed to a growing graph: one function per operator, found by its name.

A move may propose what the operator's constraints refuse; `Growth.add` then says so and nothing happens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from onebit.core import DType, Quantization, Tensor
from onebit.core.graph import Array
from onebit.core.ops import (
    OPS,
    AveragePool2d,
    BinaryWindow,
    Conv2d,
    DepthwiseConv2d,
    FullyConnected,
    LceBconv2d,
    LceBMaxPool2d,
    LeakyRelu,
    MaxPool2d,
    Op,
    Padding,
    PoolWindow,
    Softmax,
)
from support.fuzz.growth import BITS, BOOL, F32, I8, I32, Growth

Propose = Callable[[Growth, Tensor], bool]


@dataclass(frozen=True)
class Move:
    """Proposes an operator that reads a tensor of one of `dtypes` with one of `ranks` dimensions."""

    propose: Propose
    dtypes: frozenset[DType]
    ranks: frozenset[int]

    def accepts(self, x: Tensor) -> bool:
        return x.dtype in self.dtypes and len(x.shape) in self.ranks


MOVES: dict[str, Move] = {}
REAL = (F32, I8)
EVERY = (1, 2, 3, 4, 5)


def move(
    *names: str, dtypes: Sequence[DType] = REAL, ranks: Sequence[int] = EVERY
) -> Callable[[Callable[[Growth, Tensor, str], bool]], Callable[[Growth, Tensor, str], bool]]:
    """Decorator: the function proposes the operators called `names`, whose name is its third argument."""

    def register(function: Callable[[Growth, Tensor, str], bool]) -> Callable[[Growth, Tensor, str], bool]:
        for name in names:

            def propose(g: Growth, x: Tensor, name: str = name) -> bool:
                return function(g, x, name)

            MOVES[name] = Move(propose, frozenset(dtypes), frozenset(ranks))
        return function

    return register


def plain(name: str) -> Op:
    """An operator without attributes."""
    return OPS[name]()


# --------------------------------------------------------------------------------------------------- element by element


@move("RELU", "RELU6", "RELU_N1_TO_1", "ABS", "TANH", "HARD_SWISH", "LOGISTIC", "LEAKY_RELU", "SIGN", "ROUND")
def unary(g: Growth, x: Tensor, name: str) -> bool:
    op = LeakyRelu(g.pick((0.25, 0.0, -0.5, 1.5, 0.1))) if name == "LEAKY_RELU" else plain(name)
    quant = Quantization.per_tensor(1 / 256, -128) if name == "LOGISTIC" else g.pick((x.quant, g.quant()))
    return g.add(op, x.name, dtype=x.dtype, quant=quant if x.dtype is I8 else None)


def repeating_shape(g: Growth, shape: Sequence[int]) -> tuple[int, ...]:
    """A shape that repeats along the leading axes of `shape`, or nearly."""
    kept = g.number(0, len(shape))
    ones = g.number(0, len(shape) - kept)
    return (1,) * ones + tuple(shape[len(shape) - kept :])


@move("ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM", "GREATER", "GREATER_EQUAL")
def two_operands(g: Growth, x: Tensor, name: str) -> bool:
    """With a constant, an earlier value of the same or a repeated shape, or the same value twice; in either order."""
    same_scale = name in ("MAXIMUM", "MINIMUM")

    def fits(t: Tensor) -> bool:
        repeats = t.shape[-1:] == x.shape[-1:] or t.elements == 1
        return t.dtype is x.dtype and repeats and (not same_scale or t.quant == x.quant)

    computed = g.others(fits)
    if g.chance(60):
        other = g.pick(computed)
    else:
        other = g.operand(repeating_shape(g, x.shape), x.dtype, x.quant if same_scale else g.quant())
    names = (other, x.name) if g.chance(50) else (x.name, other)
    if name in ("GREATER", "GREATER_EQUAL"):
        return g.add(plain(name), *names, dtype=BOOL)
    if same_scale:
        return g.add(plain(name), *names, dtype=x.dtype, quant=x.quantization)
    scales = [g.tensor(n).quant.scale for n in names]
    reach = 60 * (scales[0] * scales[1] * 127 if name == "MUL" else sum(scales))
    return g.add(OPS[name](g.activation()), *names, dtype=x.dtype, quant=g.quant_for(x.dtype, reach))  # type: ignore[call-arg]


@move("PRELU")
def prelu(g: Growth, x: Tensor, name: str) -> bool:
    alpha = g.operand(repeating_shape(g, x.shape), x.dtype, g.quant())
    return g.add(plain(name), x.name, alpha, dtype=x.dtype, quant=g.quant_for(x.dtype, x.quant.scale * 100))


@move("QUANTIZE")
def quantize(g: Growth, x: Tensor, name: str) -> bool:
    return g.add(plain(name), x.name, dtype=I8, quant=g.quant())


@move("DEQUANTIZE", dtypes=(I8,))
def dequantize(g: Growth, x: Tensor, name: str) -> bool:
    return g.add(plain(name), x.name, dtype=F32)


@move("SOFTMAX")
def softmax(g: Growth, x: Tensor, name: str) -> bool:
    quant = Quantization.per_tensor(1 / 256, -128) if x.dtype is I8 else None
    return g.add(Softmax(g.pick((1.0, 0.5, 2.0))), x.name, dtype=x.dtype, quant=quant)


# ------------------------------------------------------------------------------------------------------ signs as bits


@move("LceQuantize", dtypes=(F32, I8, BOOL))
def lce_quantize(g: Growth, x: Tensor, name: str) -> bool:
    return g.add(plain(name), x.name, dtype=BITS)


@move("LceDequantize", dtypes=(BITS,))
def lce_dequantize(g: Growth, x: Tensor, name: str) -> bool:
    dtype = g.pick((*REAL, BOOL))
    return g.add(plain(name), x.name, dtype=dtype, quant=g.quant() if dtype is I8 else None)


@move("LceBMaxPool2d", dtypes=(BITS,), ranks=(4,))
def binary_pool(g: Growth, x: Tensor, name: str) -> bool:
    return g.add(LceBMaxPool2d(pool_window(g, x)), x.name, dtype=BITS)


@move("LceBconv2d", dtypes=(BITS,), ranks=(4,))
def binary_conv(g: Growth, x: Tensor, name: str) -> bool:
    channels, padding = x.shape[3], g.padding()
    groups = g.pick([n for n in (1, 2, 3) if n == 1 or channels % (32 * n) == 0])
    kernel, stride, dilation = window(g, x, padding)
    to = g.pick((BITS, F32, I8))
    pad_value = 0 if padding is Padding.VALID else g.number(1 if to is BITS else 0, 1)
    activation = g.activation()
    op = LceBconv2d(BinaryWindow(channels, stride, dilation, padding, pad_value), activation)
    outs, per_group = g.channels() * groups, channels // groups
    taps = kernel[0] * kernel[1] * per_group
    filters = g.constant("filter", g.rng.random((outs, *kernel, per_group)) < 0.5, BITS)
    if to is BITS:
        spread = g.rng.normal(taps / 2, taps**0.5 / 2, outs).round()
        ends = g.rng.choice([-(2**31), 2**31 - 1, -1, 0, taps], outs)
        threshold = g.constant("threshold", np.where(g.rng.random(outs) < 0.1, ends, spread), I32)
        return g.add(op, x.name, filters, None, None, threshold, dtype=BITS)
    multiplier = g.rng.normal(0, 1, outs) / taps**0.5
    if g.chance(30):  # a batch norm without scale, which passes may turn into integers
        multiplier = np.full(outs, 1 / 8)
    m = g.constant("multiplier", multiplier, F32)
    b = g.constant("bias", g.rng.normal(0, 0.5, outs) * g.number(0, 1), F32)
    return g.add(op, x.name, filters, m, b, None, dtype=to, quant=g.quant_for(to, 2.5))


# ------------------------------------------------------------------------------------------------------------- windows


def window(g: Growth, x: Tensor, padding: Padding) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Kernel, stride and dilation, which often fit `x`."""
    kernel = g.pair(3, 1, 2, 5)
    if padding is Padding.VALID:
        kernel = (min(kernel[0], x.shape[1]), min(kernel[1], x.shape[2]))
    return kernel, g.pair(1, 1, 2, 3), g.pair(1, 1, 1, 2, 3)


def pool_window(g: Growth, x: Tensor) -> PoolWindow:
    padding = g.padding()
    size, stride, _ = window(g, x, padding)
    return PoolWindow(size, stride, padding)


@move("MAX_POOL_2D", "AVERAGE_POOL_2D", ranks=(4,))
def pool(g: Growth, x: Tensor, name: str) -> bool:
    op = {"MAX_POOL_2D": MaxPool2d, "AVERAGE_POOL_2D": AveragePool2d}[name]
    return g.add(op(pool_window(g, x), g.activation()), x.name, dtype=x.dtype, quant=x.quantization)


@move("CONV_2D", "DEPTHWISE_CONV_2D", ranks=(4,))
def convolution(g: Growth, x: Tensor, name: str) -> bool:
    padding = g.padding()
    kernel, stride, dilation = window(g, x, padding)
    channels = x.shape[3]
    if name == "CONV_2D":
        outs = g.channels(33)
        op: Op = Conv2d(g.activation(), stride=stride, dilation=dilation, padding=padding)
        return linear(g, x, op, (outs, *kernel, channels), 0)
    times = g.pick((1, 1, 2, 3))
    op = DepthwiseConv2d(g.activation(), stride=stride, dilation=dilation, padding=padding, depth_multiplier=times)
    return linear(g, x, op, (1, *kernel, channels * times), 3)


@move("FULLY_CONNECTED")
def fully_connected(g: Growth, x: Tensor, name: str) -> bool:
    return linear(g, x, FullyConnected(g.activation()), (g.channels(33), x.elements), 0)


def linear(g: Growth, x: Tensor, op: Op, shape: tuple[int, ...], axis: int) -> bool:
    """A filter of `shape` with its output channels along `axis`, and a bias."""
    outs, fan_in = shape[axis], prod(shape) // shape[axis]
    if prod(shape) > 20_000:
        return False
    if x.dtype is F32:
        weights = g.constant("filter", g.rng.normal(0, fan_in**-0.5, shape), F32)
        return g.add(op, x.name, weights, g.constant("bias", g.rng.normal(0, 0.3, outs), F32), dtype=F32)
    scales = float_scales(g, 1 if op.name == "FULLY_CONNECTED" or g.chance(30) else outs, fan_in)
    data = g.rng.integers(-127, 128, shape)
    weights = g.constant("filter", data, I8, Quantization(scales, (0,) * len(scales), axis))
    # in float32, as the converter computes them
    products = np.asarray(scales, np.float32) * np.float32(x.quant.scale)
    bias_scales = tuple(map(float, products))
    values = np.broadcast_to(g.rng.normal(0, 30, outs) * 127 * g.number(0, 1), (outs,)).round()
    bias = g.constant("bias", values, I32, Quantization(bias_scales, (0,) * len(scales), 0))
    reach = x.quant.scale * scales[0] * 127 * 70 * fan_in**0.5
    return g.add(op, x.name, weights, bias, dtype=I8, quant=g.quant_for(I8, reach))


def float_scales(g: Growth, count: int, fan_in: int) -> tuple[float, ...]:
    values: Array = (g.rng.uniform(0.3, 2, count) * fan_in**-0.5 / 64).astype(np.float32)
    return tuple(map(float, values))


@move("MEAN", "REDUCE_MAX", ranks=(2, 3, 4, 5))
def reduction(g: Growth, x: Tensor, name: str) -> bool:
    rank = len(x.shape)
    first = g.number(1, rank - 1)
    axes = [a - rank if g.chance(20) else a for a in range(first, g.number(first, rank - 1) + 1)]
    if g.chance(20):
        axes.reverse()
    op = OPS[name](g.chance(50))  # type: ignore[call-arg]
    quant = x.quantization if name == "REDUCE_MAX" or g.chance(50) else g.quant_for(x.dtype, x.quant.scale * 40)
    return g.add(op, x.name, g.constant("axes", axes, I32), dtype=x.dtype, quant=quant)
