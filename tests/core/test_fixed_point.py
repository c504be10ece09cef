"""Fixed-point multipliers against exact rational arithmetic and against gemmlowp's definition in plain integers."""

from __future__ import annotations

import math
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction

import numpy as np
import pytest

from onebit.core.fixed_point import quantize_multiplier, requantize, round_half_away

INT32 = np.iinfo(np.int32)


def doubling_high_mul(a: int, b: int) -> int:
    """gemmlowp's SaturatingRoundingDoublingHighMul without the overflow case: C's division truncates."""
    product = a * b
    nudge = 2**30 if product >= 0 else 1 - 2**30
    return math.trunc(Fraction(product + nudge, 2**31))


def litert(acc: int, q: int, exponent: int) -> int:
    """LiteRT's optimized kernels: the right shift rounds a half up."""
    high = doubling_high_mul(acc << max(exponent, 0), q)
    return math.floor(Fraction(high, 2 ** max(-exponent, 0)) + Fraction(1, 2)) if exponent < 0 else high


REALS = [1.0, 0.5, 0.25, 1 / 3, 1 - 2**-33, 1 - 2**-53, 1e-3, 1e-9, 2**-31, 2**-32, 1.5, 7.3, 255.9, 1e-300]


@pytest.mark.parametrize("real", REALS)
def test_a_multiplier_is_the_nearest_of_31_bits(real: float) -> None:
    q, exponent = quantize_multiplier(real)
    if real < 2.0**-32:
        assert (q, exponent) == (0, 0)
        return
    assert 2**30 <= q < 2**31
    unit = Fraction(2) ** (exponent - 31)
    assert abs(q * unit - Fraction(real)) <= unit / 2


def test_a_multiplier_that_rounds_up_to_a_power_of_two() -> None:
    assert quantize_multiplier(1 - 2**-53) == (2**30, 1)


def test_zero_and_vanishing_multipliers() -> None:
    assert quantize_multiplier(0.0) == (0, 0)
    assert quantize_multiplier(2.0**-33) == (0, 0)
    assert quantize_multiplier(2.0**-32) == (2**30, -31)
    assert requantize(np.array([INT32.max, INT32.min]), 0, 0).tolist() == [0, 0]


@pytest.mark.parametrize("exponent", [-31, -30, -12, -8, -2, -1, 0, 1, 4])
def test_requantization_against_gemmlowp_in_plain_integers(exponent: int, rng: np.random.Generator) -> None:
    limit = 2 ** (31 - max(exponent, 0))
    accs = [0, 1, -1, 2, -2, limit - 1, -limit, *(int(a) for a in rng.integers(-limit, limit, 200))]
    accs += [int(a) for a in rng.integers(-1000, 1000, 200)]
    for q in (2**30, 2**31 - 1, 3 * 2**29, int(rng.integers(2**30, 2**31))):
        got = requantize(np.array(accs, np.int64), q, exponent)
        assert got.tolist() == [litert(a, q, exponent) for a in accs]


def test_halves_round_up_in_both_steps() -> None:
    # q = 1/2, no shift: the high multiplication itself rounds
    assert requantize(np.array([1, -1, 3, -3]), 2**30, 0).tolist() == [1, 0, 2, -1]
    # q = 1/2 with a shift of 1: 2 -> 1 -> 1/2 -> 1, -2 -> -1 -> -1/2 -> 0
    assert requantize(np.array([2, -2]), 2**30, -1).tolist() == [1, 0]


def test_one_multiplier_per_channel() -> None:
    acc = np.array([[100, 100, 100], [-100, -100, -100]])
    q, exponent = np.array([2**30, 2**30, 3 * 2**29]), np.array([1, 0, -1])
    assert requantize(acc, q, exponent).tolist() == [[100, 50, 38], [-100, -50, -37]]


def test_rounding_half_away_from_zero() -> None:
    values = [0.5, -0.5, 1.5, 2.5, -2.5, 0.49999997, -0.49999997, 8388607.5, -8388607.5, 2**24 + 0.0, 0.0, -0.0]
    want = [int(Decimal(float(np.float32(v))).quantize(Decimal(1), ROUND_HALF_UP)) for v in values]
    assert round_half_away(np.array(values, np.float32)).tolist() == want


def test_rounding_saturates_instead_of_wrapping() -> None:
    big = round_half_away(np.array([1e30, -1e30, np.inf, -np.inf], np.float32))
    assert (np.sign(big) == [1, -1, 1, -1]).all()
