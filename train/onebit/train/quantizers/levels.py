"""Quantizers to levels that are no signs. LCE has no bits for them: their layers stay real-valued on the device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from onebit.train.quantizers.registry import (
    ClippedQuantizer,
    Quantizer,
    is_real,
    register,
    straight_through,
    with_gradient,
)

MODES = ("activations", "weights")
MAX_BITS = 16


@register("ste_tern")
@dataclass(frozen=True)
class SteTern(ClippedQuantizer):
    """Three levels with a clipped straight-through estimator.

    The threshold t is `threshold_value`, or with `ternary_weight_networks` 0.7 times the mean magnitude of the tensor.
    Forward: q(x) = sgn(sgn(x + t) + sgn(x - t)) with sgn(0) = 0: +1 for x >= t, -1 for x <= -t, 0 between.
    Gradient: dq/dx = 1 for |x| <= clip_value, else 0.
    Source: Li, Zhang, Liu, "Ternary Weight Networks", 2016 (arXiv 1605.04711).
    """

    threshold_value: float = 0.05
    ternary_weight_networks: bool = False
    deploys_as = "ternary"
    alternative = "ste_sign or approx_sign"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(is_real(self.threshold_value) and self.threshold_value >= 0, "threshold_value", "0 or more")
        self.check(isinstance(self.ternary_weight_networks, bool), "ternary_weight_networks", "True or False")

    def __call__(self, x: Tensor) -> Tensor:
        return with_gradient(x, self._levels, straight_through(self.clip_value))

    def _levels(self, x: Tensor) -> Tensor:
        t = 0.7 * x.abs().sum() / x.numel() if self.ternary_weight_networks else self.threshold_value
        return torch.sign(torch.sign(x + t) + torch.sign(x - t))


@register("ste_heaviside")
@dataclass(frozen=True)
class SteHeaviside(ClippedQuantizer):
    """Step from 0 to 1 with a clipped straight-through estimator.

    Forward: q(x) = 1 for x > 0, 0 for x <= 0. Gradient: dq/dx = 1 for |x| <= clip_value, else 0.
    Source: larq.quantizers.SteHeaviside; the estimator as for ste_sign (arXiv 1602.02830).
    """

    deploys_as = "heaviside"
    alternative = "ste_sign or approx_sign; heaviside(x) is (1 + sign(x)) / 2, which batch norm absorbs"

    def __call__(self, x: Tensor) -> Tensor:
        return with_gradient(x, lambda x: (x > 0).to(x.dtype), straight_through(self.clip_value))


@register("dorefa_quantizer")
@dataclass(frozen=True)
class DoReFa(Quantizer):
    """2^k_bit equidistant levels, n = 2^k_bit - 1 steps.

    Forward, activations: q(x) = r(min(max(x, 0), 1)) with r(v) = round(v n) / n, halves to even.
    Gradient, activations: dq/dx = 1 for 0 <= x <= 1, else 0.
    Forward, weights: q(w) = 2 r(tanh(w) / (2 m) + 1/2) - 1, m = max |tanh(w)| over the tensor; r(1/2) for m = 0.
    Gradient, weights: dq/dw = (1 - tanh(w)^2) / m, where m counts as a constant; 0 where m = 0.
    Source: Zhou, Wu, Ni, Zhou, Wen, Zou, "DoReFa-Net", 2016, section 2.3 (arXiv 1606.06160).
    """

    k_bit: int = 2
    mode: str = "activations"

    def __post_init__(self) -> None:
        self.check(type(self.k_bit) is int and 1 <= self.k_bit <= MAX_BITS, "k_bit", f"1 to {MAX_BITS}")
        self.check(self.mode in MODES, "mode", " or ".join(MODES))

    @property
    def deploys_as(self) -> str:
        """One bit of weights is -1 or +1; more levels, and activations 0 to 1, are no bits of LCE."""
        return "sign" if self.k_bit == 1 and self.mode == "weights" else "multibit"

    @property
    def alternative(self) -> str:
        """The binary quantizer of the same kind."""
        if self.deploys_as == "sign":
            return ""
        return "ste_sign or approx_sign" if self.mode == "activations" else "dorefa_quantizer(k_bit=1, mode='weights')"

    def __call__(self, x: Tensor) -> Tensor:
        if self.mode == "activations":
            return self._rounded(x.clamp(0.0, 1.0))
        limited = torch.tanh(x)
        largest = limited.detach().abs().max()
        # all weights 0: infinity makes 0 of them, and of their gradients
        normed = limited / torch.where(largest > 0, 2.0 * largest, torch.inf)
        return 2.0 * self._rounded(normed + 0.5) - 1.0

    def _rounded(self, x: Tensor) -> Tensor:
        steps = 2**self.k_bit - 1
        return with_gradient(x, lambda x: torch.round(x * steps) / steps, straight_through(None))


@register("no_op")
@dataclass(frozen=True)
class NoOp(Quantizer):
    """Leaves the values as they are; `precision` (bits, None if unsaid) only says what they are meant to be.

    Forward: q(x) = x. Gradient: dq/dx = 1.
    Source: larq.quantizers.NoOp.
    """

    precision: int | None = None
    deploys_as = "identity"
    alternative = "ste_sign or approx_sign"

    def __post_init__(self) -> None:
        fits = self.precision is None or (type(self.precision) is int and self.precision > 0)
        self.check(fits, "precision", "a number of bits, or None")

    def __call__(self, x: Tensor) -> Tensor:
        return x
