"""ReCU: a clamp that moves far-away weights, which no gradient would flip any more, closer to zero."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from onebit.train.methods.base import Attached, Method, checked_binary_layers
from onebit.train.methods.parts import (
    INPUTS,
    WEIGHTS,
    IdentitySign,
    InputPart,
    LayerMethod,
    add_input_part,
    add_weight_transform,
    filter_mean,
    parts_of,
    sample_statistics,
)
from onebit.train.methods.weight_constraint import LOWEST_TAU, laplace_quantile
from onebit.train.options import option
from onebit.train.quantizers import get_quantizer

VARIANTS = ("clamp", "ste", "projection")
EPSILON = 1e-5


def standardised(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(w1, mean, unit): w1 = (w - mean) / unit per filter, unit = std / (2 sqrt 2), so that w1 has std 2 sqrt 2."""
    mean = filter_mean(weight)
    count = weight[0].numel()
    variance = filter_mean((weight - mean).square()) * (count / max(count - 1, 1))
    unit = torch.sqrt(variance + EPSILON) / (2.0 * math.sqrt(2.0))
    return (weight - mean) / unit, mean, unit


class RectifiedWeight(nn.Module):
    """w2 = clamp(w1, -Q, Q), Q = -mean |w1| ln(2 - 2 tau) over the layer, a constant; w1 as in `standardised`."""

    q: Tensor

    def __init__(self, tau: float, variant: str) -> None:
        super().__init__()
        self.variant = variant
        self.register_buffer("q", torch.tensor(laplace_quantile(tau)), persistent=False)

    def forward(self, weight: Tensor) -> Tensor:
        """Latent weight [O, ...] -> the same shape."""
        w1 = standardised(weight)[0]
        if self.variant == "projection":
            return w1
        limit = self.limit(w1)
        w2 = torch.clamp(w1, -limit, limit)
        return w1 + (w2 - w1).detach() if self.variant == "ste" else w2

    def latent(self, weight: Tensor) -> Tensor:
        """w1: clamped ones have the same signs, but another mean, which a run that starts from them would take off."""
        return standardised(weight)[0]

    def limit(self, w1: Tensor) -> Tensor:
        """Q, a scalar."""
        return w1.detach().abs().mean() * self.q

    def project(self, weight: Tensor) -> None:
        """Clamps the latent weight itself, in place: |w - mean| <= Q unit."""
        w1, mean, unit = standardised(weight)
        limit = self.limit(w1)
        weight.copy_(mean + torch.clamp(w1, -limit, limit) * unit)


class _UnitVariance(InputPart):
    """x / sqrt(var + 1e-5) per sample in training: rescales the gradient only; x itself in eval mode."""

    def forward(self, x: Tensor) -> Tensor:
        """Input [N, C, ...] -> the same shape."""
        if not self.training:
            return x
        _, variance = sample_statistics(x)
        return x / torch.sqrt(variance + EPSILON).reshape(-1, *(1,) * (x.ndim - 1))


@dataclass(frozen=True)
class Recu(Method):
    """b = sign(clamp(w1, -Q, Q)), Q = -mean |w1| ln(2 - 2 tau): a tau-quantile of a Laplace distribution.

    w1 = (w - mean) / (std / (2 sqrt 2)) per filter. tau(e) = A exp(e) + B rises from `tau_start` to `tau_end`. The
    weights' gradient is the identity behind the clamp, the inputs' 2 - 2|x| after division by each sample's deviation;
    every output channel gets a learned scale, drawn from U(0, 1), where `scale`. By `variant`:

    - "clamp": as published. Clamped weights get gradient through the standardisation only;
    - "ste": the gradient passes the clamp [I];
    - "projection": the latent weight itself is clamped after every step, |w - mean| <= Q std / (2 sqrt 2) [I].

    Source: Xu, Lin, Liu, Chen, Wang, Ji, "ReCU: Reviving the Dead Weights in Binary Neural Networks", 2021 (arXiv
    2103.12369), formulas from the public code (z-hXu/ReCU).
    """

    name = "recu"
    summary = "weights standardised and clamped at a rising quantile"
    variant: str = option("clamp", one_of=VARIANTS)
    tau_start: float = option(0.85, above=LOWEST_TAU, below=1)
    tau_end: float = option(0.99, above=LOWEST_TAU, below=1)
    scale: bool = True

    def tau_at(self, done: float) -> float:
        """tau at the share `done` of the run."""
        a = (self.tau_end - self.tau_start) / (math.e - 1.0)
        return a * math.exp(done) + self.tau_start - a

    def attach(self, net: nn.Module) -> Attached:
        layers = checked_binary_layers(net, self)
        # a generator of its own: what a run starts from does not depend on who drew random numbers before
        generator = torch.Generator().manual_seed(len(layers))
        weights = {}
        for name, layer in layers.items():
            parts = parts_of(layer, name)
            parts.replace_quantizer(layer, WEIGHTS, IdentitySign(), self.name)
            parts.replace_quantizer(layer, INPUTS, get_quantizer("approx_sign"), self.name)
            weights[name] = RectifiedWeight(self.tau_start, self.variant)
            add_weight_transform(layer, name, weights[name])
            add_input_part(layer, name, _UnitVariance())
            if self.scale and layer.output_scale is None:
                layer.output_scale = nn.Parameter(torch.rand(len(layer.weight), generator=generator).clamp_min(1e-3))
        attached = _RecuAttached(net, layers)
        attached.method, attached.weights = self, weights
        return attached


class _RecuAttached(LayerMethod):
    method: Recu
    weights: dict[str, RectifiedWeight]

    def progress(self, done: float) -> None:
        for weight in self.weights.values():
            weight.q.fill_(laplace_quantile(self.method.tau_at(done)))

    def after_step(self, learning_rate: float) -> None:
        if self.method.variant == "projection":
            with torch.no_grad():
                for name, layer in self.layers.items():
                    self.weights[name].project(layer.weight)
