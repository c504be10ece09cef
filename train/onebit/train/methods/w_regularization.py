"""W-shaped regularization: weights are drawn to two wells at -1 and +1, with a drift of their own for the tails.

Source: a thesis of Jiangnan University (source 1 of the project) and its first chapter as a paper: Liu Chang, Chen
Ying, ICCC 2022, doi 10.1109/ICCC56324.2022.10065794. Only abstracts are public: "W-shaped", "different functions at
different positions", "continuously differentiable variant cosine momentum". All formulas here are inferred [I].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from onebit.train.layers import BinaryLayer
from onebit.train.methods.base import Attached, Method, Step, checked_binary_layers
from onebit.train.methods.parts import LayerMethod, filter_mean
from onebit.train.options import option

TINY = 1e-12

SHAPES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "w1": lambda u: (u.abs() - 1.0).abs(),
    "w2": lambda u: (u.abs() - 1.0).square(),
    "w3": lambda u: (u.square() - 1.0).square() / 4.0,
}


def normalised(weight: Tensor) -> Tensor:
    """u = w / mean |w| per filter; the mean is a constant."""
    return weight / filter_mean(weight.detach().abs()).clamp_min(TINY)


def tail_drift(u: Tensor, width: float) -> Tensor:
    """c(u) = sign(u) (1 - cos(pi min((|u| - 1)+ / width, 1))) / 2: 0 up to |u| = 1, +-1 from |u| = 1 + width on."""
    position = ((u.abs() - 1.0) / width).clamp(0.0, 1.0)
    return torch.sign(u) * 0.5 * (1.0 - torch.cos(math.pi * position))


@dataclass(frozen=True)
class WRegularization(Method):
    """loss += lambda(e) sum over layers of mean R(u), u = w / mean |w| per filter, lambda(e) = `strength` e^2.

    R by `shape`: "w1" ||u| - 1|, "w2" (|u| - 1)^2, "w3" (u^2 - 1)^2 / 4, which is smooth at 0 and leaves undecided
    weights alone. With `tail` > 0, R acts on |u| <= 1 only, and weights beyond get the variant cosine momentum instead:

        g += lambda_c c(u), c(u) = sign(u) (1 - cos(pi min((|u| - 1)+ / width, 1))) / 2,
        lambda_c = tail rms(g) (1 + cos(pi e)) / 2

    g is the layer's gradient, so that the drift is accumulated in the velocity of SGD; with `decoupled` (for Adam)
    w -= rate tail c(u) (1 + cos(pi e)) / 2 after the step instead. Weight decay on the same weights works against it.
    """

    name = "w_regularization"
    summary = "loss term that draws weights to -1 and +1, cosine drift of the tails"
    shape: str = option("w2", one_of=tuple(SHAPES))
    strength: float = option(1e-3, least=0)
    tail: float = option(0.3, least=0)
    width: float = option(1.0, above=0)
    decoupled: bool = False

    def attach(self, net: nn.Module) -> Attached:
        return _Regularized(self, net, checked_binary_layers(net, self))

    def penalty(self, weight: Tensor) -> Tensor:
        """mean R(u) of one layer's weight, a scalar."""
        u = normalised(weight)
        cost = SHAPES[self.shape](u)
        return (torch.where(u.abs() <= 1, cost, 0.0) if self.tail > 0 else cost).mean()


class _Regularized(LayerMethod):
    def __init__(self, method: WRegularization, net: nn.Module, layers: dict[str, BinaryLayer]) -> None:
        super().__init__(net, layers)
        self.method = method
        self.done = 0.0

    def progress(self, done: float) -> None:
        self.done = done

    def loss(self, loss: Tensor, step: Step) -> Tensor:
        strength = self.method.strength * self.done**2
        return loss + strength * torch.stack([self.method.penalty(v.weight) for v in self.layers.values()]).sum()

    def _tail(self) -> float:
        return self.method.tail * 0.5 * (1.0 + math.cos(math.pi * self.done))

    def after_backward(self, learning_rate: float) -> None:
        if self.method.tail == 0 or self.method.decoupled:
            return
        with torch.no_grad():
            for layer in self.layers.values():
                gradient = layer.weight.grad
                if gradient is not None:
                    drift = tail_drift(normalised(layer.weight), self.method.width)
                    gradient += self._tail() * gradient.square().mean().sqrt() * drift

    def after_step(self, learning_rate: float) -> None:
        if self.method.tail == 0 or not self.method.decoupled:
            return
        with torch.no_grad():
            for layer in self.layers.values():
                layer.weight -= learning_rate * self._tail() * tail_drift(normalised(layer.weight), self.method.width)
