"""IR-Net: a surrogate gradient that sharpens from the identity to the sign, over balanced weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from onebit.train.methods.base import Attached, Method, checked_binary_layers
from onebit.train.methods.parts import (
    INPUTS,
    WEIGHTS,
    LayerMethod,
    SurrogateSign,
    add_weight_transform,
    filter_mean,
    parts_of,
)
from onebit.train.options import option
from onebit.train.quantizers import hard_sign

STD_EPSILON = 1e-8


class _EdeFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, t: Tensor) -> Tensor:
        ctx.save_for_backward(x, t)
        return hard_sign(x)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        x, t = ctx.saved_tensors
        slope = torch.clamp_min(1.0 / t, 1.0) * t * (1.0 - torch.tanh(t * x).square())
        return grad_outputs[0] * slope.to(x.dtype), None


class EdeSign(SurrogateSign):
    """Forward: the sign, +1 for 0. Gradient: dq/dx = k t (1 - tanh^2(t x)), k = max(1/t, 1)."""

    name = "ede_sign"
    t: Tensor

    def __init__(self, t: float) -> None:
        super().__init__()
        self.register_buffer("t", torch.tensor(t), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """The signs of `x`."""
        return cast("Tensor", _EdeFunction.apply(x, self.t))  # type: ignore[no-untyped-call]


class BalancedWeight(nn.Module):
    """u = (w - mean) / std per filter (Libra parameter binarization): as many +1 as -1, spread of one."""

    def forward(self, weight: Tensor) -> Tensor:
        """Latent weight [O, ...] -> the same shape."""
        centred = weight - filter_mean(weight)
        return centred / torch.sqrt(filter_mean(centred.square()) + STD_EPSILON)


@dataclass(frozen=True)
class Ede(Method):
    """Error decay estimator: dq/dx = k t (1 - tanh^2(t x)), k = max(1/t, 1), of weights and inputs.

    t rises from `t_start` to `t_end` by t(e) = t_start (t_end / t_start)^e, e = share of the run; so the gradient goes
    from nearly the identity (slope 1 in a wide band) to a narrow peak at 0. With `balance` weights are standardised per
    filter first, u = (w - mean) / std (IR-Net's Libra binarization without its power-of-two scale, which batch norm
    absorbs [I]).
    Source: Qin, Gong, Liu, Shen, Wei, Yu, Song, "Forward and Backward Information Retention for Accurate Binary Neural
    Networks" (IR-Net), 2020 (arXiv 1909.10788). AdaBin's code starts at t = 1e-3; t_end = 5 suits less than 60 epochs.
    """

    name = "ede"
    summary = "IR-Net: dq/dx = k t (1 - tanh^2(t x)), t rising; weights standardised"
    t_start: float = option(0.1, above=0)
    t_end: float = option(10.0, above=0)
    balance: bool = True

    def t_at(self, done: float) -> float:
        """t at the share `done` of the run."""
        return self.t_start * math.pow(self.t_end / self.t_start, done)

    def attach(self, net: nn.Module) -> Attached:
        layers = checked_binary_layers(net, self)
        signs = []
        for name, layer in layers.items():
            if self.balance:
                add_weight_transform(layer, name, BalancedWeight())
            for role in (INPUTS, WEIGHTS):
                signs.append(EdeSign(self.t_start))
                parts_of(layer, name).replace_quantizer(layer, role, signs[-1], self.name)
        attached = _EdeAttached(net, layers)
        attached.method, attached.signs = self, signs
        return attached


class _EdeAttached(LayerMethod):
    method: Ede
    signs: list[EdeSign]

    def progress(self, done: float) -> None:
        for sign in self.signs:
            sign.t.fill_(self.method.t_at(done))
