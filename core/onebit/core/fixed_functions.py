"""exp, 1 / (1 + x), logistic and tanh in 32-bit fixed point, to the bit as TensorFlow Lite Micro computes them on int8.

A number in Q(i) is an integer that stands for itself times 2**(i - 31), held in int64 arrays here. The algorithms are
those of gemmlowp: exp by a polynomial of degree 4 on [-1/4, 0) times factors exp(-2**k), quotients by three steps of
Newton's method from 48/17 - 32/17 d. Every product rounds half up, every division by a power of two half away from 0.
"""

from __future__ import annotations

import math

import numpy as np

from onebit.core.graph import Array

#: 1 in Q(0), as near as 32 bits come
ONE = 2**31 - 1


def _q(value: float, integer_bits: int = 0) -> int:
    """A real number in Q(integer_bits), rounded to nearest."""
    return math.floor(value * 2.0 ** (31 - integer_bits) + 0.5)


def product(a: Array, b: Array | int) -> Array:
    """Q(i) times Q(j) in Q(i + j), rounded half up."""
    return np.asarray((a * b + (1 << 30)) >> 31)


def divide_by_power(x: Array, bits: Array | int) -> Array:
    """x / 2**bits, rounded half away from zero."""
    half = np.left_shift(np.int64(1), bits) >> 1
    return np.asarray(np.sign(x) * ((np.abs(x) + half) >> bits))


def _saturated(x: Array) -> Array:
    return np.clip(x, -(2**31), 2**31 - 1)


def exp_negative(x: Array, integer_bits: int) -> Array:
    """exp(x) in Q(0) for x <= 0 in Q(integer_bits), integer_bits up to 5."""
    fraction_bits = 31 - integer_bits
    quarter = 1 << (fraction_bits - 2)
    rest = (x & (quarter - 1)) - quarter
    y = _exp_quarter(rest << integer_bits)
    whole = rest - x
    for k in range(-2, integer_bits):
        chosen = whole & (1 << (fraction_bits + k)) != 0
        y = np.where(chosen, product(y, _q(math.exp(-(2.0**k)))), y)
    return np.where(x == 0, ONE, y)


def _exp_quarter(x: Array) -> Array:
    """exp(x) in Q(0) for -1/4 <= x < 0: Taylor's polynomial around -1/8."""
    center = _q(math.exp(-1 / 8))
    t = x + _q(1 / 8)
    t2 = product(t, t)
    t3, t4 = product(t2, t), product(t2, t2)
    higher = divide_by_power(product(divide_by_power(t4, 2) + t3, _q(1 / 3)) + t2, 1)
    return center + product(t + higher, center)


def _reciprocal(x: Array) -> Array:
    """2 / (1 + x) in Q(2) for 0 <= x <= 1 in Q(0)."""
    # the denominator (1 + x) / 2; the sum is not negative, so that this rounds half away from zero
    d = (x + ONE + 1) >> 1
    y = _q(48 / 17, 2) + product(d, _q(-32 / 17, 2))
    for _ in range(3):
        y = y + _saturated(product(y, _q(1, 2) - product(d, y)) << 2)
    return y


def one_over_one_plus(x: Array) -> Array:
    """1 / (1 + x) in Q(0) for 0 <= x <= 1 in Q(0)."""
    return _saturated(_reciprocal(x) << 1)


def logistic(x: Array, integer_bits: int) -> Array:
    """1 / (1 + exp(-x)) in Q(0) for x in Q(integer_bits)."""
    y = one_over_one_plus(exp_negative(-np.abs(x), integer_bits))
    return np.where(x == 0, 1 << 30, np.where(x > 0, y, ONE - y))


def tanh(x: Array, integer_bits: int) -> Array:
    """Hyperbolic tangent in Q(0) of x in Q(integer_bits): (1 - exp(-2|x|)) / (1 + exp(-2|x|)) with the sign of x."""
    y = _saturated((_reciprocal(exp_negative(-np.abs(x), integer_bits + 1)) - _q(1, 2)) << 2)
    return np.sign(x) * y
