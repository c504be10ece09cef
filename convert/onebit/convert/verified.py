"""What the check of a conversion to float compares, allows and finds; the sources' own checks use it.

A float output differs from the source's for one of two reasons: rounding, or a value that is zero up to rounding got
the other sign.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onebit.core.errors import VerificationError
from onebit.core.graph import Array

FLOAT_TOLERANCE = 1e-4
"""Allowed difference of a float tensor, relative to its range (outputs) or its largest magnitude (inner tensors)."""

TIE_TOLERANCE = 1e-5
"""How far from 0, relative to the tensor's largest magnitude, a value may be whose sign flips (float)."""

MAX_FLIPPED = 0.01
"""Share of the samples (at least one) whose outputs may differ because of a flipped sign.

Beyond it `MAX_FLIPPED_SIGNS` decides.
"""

MAX_FLIPPED_SIGNS = 1e-5
"""Share of all signs that may flip where many samples are affected, because each has very many signs.

Float results differ by some 1e-7 of their range, so that about as many signs flip; more is a wrong conversion.
"""


@dataclass(frozen=True)
class Verified:
    """What was compared: `max_abs_diff` of the outputs in logits (float), or of any int8 tensor in steps (int8).

    `argmax_equal` counts samples, of `samples` in all. `sign_flips` counts the samples whose float outputs differ
    because a sign of a value that is zero up to rounding was decided otherwise; `max_abs_diff` leaves them out.
    """

    samples: int
    max_abs_diff: float
    argmax_equal: int
    sign_flips: int
    engine: str


@dataclass(frozen=True)
class Flips:
    """Signs that were compared (`decided`), and those of values near zero that the file decided otherwise.

    `samples`, bool [N], tells which samples have such a sign.
    """

    decided: int
    flipped: int
    samples: Array


def output_tolerance(wanted: Array) -> float:
    """Allowed difference of outputs, of which the source gives `wanted`."""
    return FLOAT_TOLERANCE * max(float(np.ptp(wanted)), float(np.finfo(np.float32).tiny))


def disagreeing(got: Array, wanted: Array, tolerance: float) -> Array:
    """bool [N]: outputs that differ by more, or in their argmax though its logit is not equal up to the tolerance."""
    chosen = np.take_along_axis(wanted, got.argmax(axis=1)[:, None], 1)[:, 0]
    far = ~(np.abs(got - wanted).max(axis=1) <= tolerance)
    return np.asarray(far | (wanted.max(axis=1) - chosen > tolerance))


def judge(got: Array, wanted: Array, tolerance: float, engine: str, flips: Flips, where: str) -> Verified:
    """What to report of outputs [N, classes] that may disagree in samples with flipped signs only.

    VerificationError if others disagree, though every layer agreed: the source does not always compute what it was
    taken for. And if more signs flipped than rounding explains.
    """
    flipped = disagreeing(got, wanted, tolerance)
    few = max(1, MAX_FLIPPED * len(got))
    unexplained = np.flatnonzero(flipped & ~flips.samples)
    # a few: the source's own rounding, where a call was taken apart, may decide a sign otherwise
    if len(unexplained) > few:
        i = unexplained[0]
        raise VerificationError(
            f"the source's output differs in {len(unexplained)} of {len(got)} samples, though all its layers agree; in "
            f"sample {i} by {np.abs(got[i] - wanted[i]).max():g}",
            where=where,
            fix="forward() must compute the same in every call, and nothing at random",
        )
    if flipped.sum() > few and flips.flipped > MAX_FLIPPED_SIGNS * flips.decided:
        raise VerificationError(
            f"signs of values near zero flip in {flipped.sum()} of {len(got)} samples, allowed are {MAX_FLIPPED:.0%} "
            f"(or {MAX_FLIPPED_SIGNS * flips.decided:.1f} of all {flips.decided} signs, found {flips.flipped})",
            where=where,
            fix="train without values that are exactly zero, or give other samples",
        )
    off = np.abs(got - wanted).max(axis=1)
    equal = int((got.argmax(axis=1) == wanted.argmax(axis=1)).sum())
    return Verified(len(got), float(off[~flipped].max(initial=0)), equal, int(flipped.sum()), engine)
