"""Quantizers: the step from real values to a few levels, with a surrogate gradient for training.

Every quantizer of Larq is here under Larq's name and with Larq's forward and gradient. One is chosen by name
(``"ste_sign"``), by name with parameters (``"swish_sign(beta=2.0)"``, also what `Quantizer.spec` gives) or as an object
(``SwishSign(beta=2.0)``); objects with equal parameters are equal.

| name | levels | `deploys_as` |
|---|---|---|
| ste_sign, approx_sign, swish_sign | -1, +1 | sign |
| magnitude_aware_sign | -s, +s, one s per channel | scaled_sign |
| dorefa_quantizer | 2^k_bit in [0, 1] or, as weights, in [-1, 1] | multibit; sign with k_bit=1, mode="weights" |
| ste_tern | -1, 0, +1 | ternary |
| ste_heaviside | 0, 1 | heaviside |
| no_op | all | identity |

The forward pass is Larq's for every number; NaN, which Larq passes on, becomes +1 as on the device.
"""

from __future__ import annotations

from onebit.train.quantizers.levels import DoReFa, NoOp, SteHeaviside, SteTern
from onebit.train.quantizers.registry import Quantizer, get_quantizer, quantizer_names, register
from onebit.train.quantizers.signs import ApproxSign, MagnitudeAwareSign, SteSign, SwishSign, hard_sign

__all__ = [
    "ApproxSign", "DoReFa", "MagnitudeAwareSign", "NoOp", "Quantizer", "SteHeaviside", "SteSign", "SteTern",
    "SwishSign", "get_quantizer", "hard_sign", "quantizer_names", "register",
]  # fmt: skip
