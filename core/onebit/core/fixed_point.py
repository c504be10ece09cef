"""Integer requantization as LiteRT's built-in kernels do it on the host (and the LCE interpreter with them).

A real multiplier is ``q * 2**(exponent - 31)`` with q in [2**30, 2**31). The accumulator is shifted left by a positive
exponent, multiplied with rounding doubling high multiplication, and shifted right with round half up. Their
scalar code, and all of TFLite Micro, rounds the last shift half away from zero instead.
"""

from __future__ import annotations

import math

import numpy as np

from onebit.core.graph import Array


def quantize_multiplier(real: float) -> tuple[int, int]:
    """The pair (q, exponent) for a positive real multiplier given in double precision; q is rounded half away."""
    if real == 0.0:
        return 0, 0
    fraction, exponent = math.frexp(real)
    q = math.floor(abs(fraction) * (1 << 31) + 0.5)
    if q == 1 << 31:
        q //= 2
        exponent += 1
    if exponent < -31:
        return 0, 0
    return int(math.copysign(q, fraction)), exponent


def requantize(acc: Array, q: Array | int, exponent: Array | int, away: Array | bool = False) -> Array:
    """Scale int32 accumulators by ``q * 2**(exponent-31)``, rounding as LiteRT's built-in kernels do; int64 result.

    Where `away` holds, the last shift rounds half away from zero instead of up.
    """
    exponent = np.asarray(exponent, np.int64)
    left = np.maximum(exponent, 0)
    right = np.maximum(-exponent, 0)
    # the shifted accumulator wraps at 32 bits in the original; spec'd models keep it inside
    shifted = acc.astype(np.int64) << left
    high = (shifted * np.asarray(q, np.int64) + (1 << 30)) >> 31
    half = np.where(right > 0, np.int64(1) << np.maximum(right - 1, 0), 0)
    return np.asarray((high + half - (away & (high < 0) & (right > 0))) >> right)


def round_half_away(x: Array) -> Array:
    """std::round of a float array, as int64; values beyond +-2**62 become +-2**62."""
    wide = np.clip(np.asarray(x, np.float64), -(2.0**62), 2.0**62)
    return np.where(wide >= 0, np.floor(wide + 0.5), np.ceil(wide - 0.5)).astype(np.int64)
