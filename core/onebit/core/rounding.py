"""Whose arithmetic the built-in operators of a model follow: that of LiteRT, or that of TensorFlow Lite Micro."""

from __future__ import annotations

from enum import Enum


class Rounding(Enum):
    """A property of a `Graph`: operators read it from their `View`, so evaluation, passes and kernels agree.

    The value is what ``--rounding`` takes. LCE's own operators are integer arithmetic, or fix every rounding
    themselves; they are the same under both.
    """

    #: the built-in kernels of LiteRT on x86, which the LCE interpreter has too (not XNNPACK)
    LITERT = "litert"
    #: the reference kernels of TensorFlow Lite Micro
    TFLM = "tflm"

    def blocks(self, count: int, size: int) -> int:
        """How many of `count` elements, from the first on, vector code computes in whole blocks of `size`.

        LiteRT's vector code rounds otherwise than the scalar code that gets the rest; TFLM has the scalar code only.
        """
        return count - count % size if self is Rounding.LITERT else 0

    @property
    def flushes_denormals(self) -> bool:
        """Whether float32 numbers below 2**-126 count as 0: LiteRT has the processor do so while a model runs."""
        return self is Rounding.LITERT
