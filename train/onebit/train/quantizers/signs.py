"""Quantizers to -1 and +1, with or without a scale: the binary ones. They differ in the gradient only."""

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


def hard_sign(x: Tensor) -> Tensor:
    """-1 where x < 0, +1 elsewhere (also for 0, -0.0 and NaN); same shape and dtype as `x`."""
    return torch.where(x < 0, -1.0, 1.0).to(x.dtype)


@register("ste_sign")
@dataclass(frozen=True)
class SteSign(ClippedQuantizer):
    """Sign with a clipped straight-through estimator.

    Forward: q(x) = -1 for x < 0, +1 for x >= 0. Gradient: dq/dx = 1 for |x| <= clip_value, else 0.
    Source: Hubara, Courbariaux, Soudry, El-Yaniv, Bengio, "Binarized Neural Networks", 2016 (arXiv 1602.02830).
    """

    deploys_as = "sign"

    def __call__(self, x: Tensor) -> Tensor:
        return with_gradient(x, hard_sign, straight_through(self.clip_value))


@register("approx_sign")
@dataclass(frozen=True)
class ApproxSign(Quantizer):
    """Sign with the gradient of a piecewise quadratic approximation.

    Forward: q(x) = -1 for x < 0, +1 for x >= 0. Gradient: dq/dx = 2 - 2|x| for |x| <= 1, else 0.
    Source: Liu, Wu, Luo, Yang, Liu, Cheng, "Bi-Real Net", 2018 (arXiv 1808.00278).
    """

    deploys_as = "sign"

    def __call__(self, x: Tensor) -> Tensor:
        return with_gradient(x, hard_sign, lambda x, dy: torch.where(x.abs() <= 1.0, (1.0 - x.abs()) * 2.0 * dy, 0.0))


@register("swish_sign")
@dataclass(frozen=True)
class SwishSign(Quantizer):
    """Sign with the gradient of a scaled and shifted swish; a larger `beta` is closer to the sign's own.

    Forward: q(x) = -1 for x < 0, +1 for x >= 0. Gradient: dq/dx = b (2 - bx tanh(bx / 2)) / (1 + cosh(bx)), b = beta.
    Source: Darabi, Belbahri, Courbariaux, Nia, "BNN+: Improved Binary Network Training", 2018 (arXiv 1812.11800).
    """

    beta: float = 5.0
    deploys_as = "sign"

    def __post_init__(self) -> None:
        self.check(is_real(self.beta) and self.beta > 0, "beta", "a positive number")

    def __call__(self, x: Tensor) -> Tensor:
        return with_gradient(x, hard_sign, self._gradient)

    def _gradient(self, x: Tensor, dy: Tensor) -> Tensor:
        bx = self.beta * x
        return dy * self.beta * (2.0 - bx * torch.tanh(bx * 0.5)) / (1.0 + torch.cosh(bx))


@register("magnitude_aware_sign")
@dataclass(frozen=True)
class MagnitudeAwareSign(ClippedQuantizer):
    """Sign times the mean magnitude of the channel, which counts as a constant in the gradient.

    `channel_axis` holds the channels that have a scale each: 0 for kernels [O, ...] (the default), 1 for activations
    [N, C, ...]; Larq's is the last axis of its layouts, which is the same axis. Only kernels deploy: the scale of an
    activation depends on the batch.

    Forward: q(x) = s * sign(x), s = mean |x| over all other axes, sign(0) = +1.
    Gradient: dq/dx = s for |x| <= clip_value, else 0.
    Source: Liu, Wu, Luo, Yang, Liu, Cheng, "Bi-Real Net", 2018, section 3.3 (arXiv 1808.00278).
    """

    channel_axis: int = 0
    deploys_as = "scaled_sign"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(type(self.channel_axis) is int, "channel_axis", "the index of an axis")

    @property
    def alternative(self) -> str:
        """For activations; see the class."""
        return "ste_sign or approx_sign for activations; magnitude_aware_sign for kernels only"

    def __call__(self, x: Tensor) -> Tensor:
        others = [axis for axis in range(x.ndim) if axis != self.channel_axis % x.ndim]
        magnitude = x.detach().abs()
        scale = magnitude.mean(dim=others, keepdim=True) if others else magnitude
        return scale * with_gradient(x, hard_sign, straight_through(self.clip_value))
