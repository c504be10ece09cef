"""Weight constraint and weight transition: weights that can still flip, and do not flip to and fro.

Source: a thesis on optimised binary ResNets (source 0 of the project), of which only the abstract is public: the proxy
weight is kept within "a carefully calculated threshold range", and reset to a value "that varies with the learning
rate" when its sign changes. All formulas here are inferred [I].
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from onebit.train.layers import BinaryLayer
from onebit.train.methods.base import Attached, Method, checked_binary_layers
from onebit.train.methods.parts import LayerMethod, parts_of
from onebit.train.options import option
from onebit.train.quantizers import hard_sign

READINGS = ("quantile", "reach", "fixed")

LOWEST_TAU = 1.0 - 0.5 / math.e
"""Below it the quantile lies under the mean magnitude, and projecting again and again shrinks all weights to 0."""

REACH_MOMENTUM = 0.01


def laplace_quantile(tau: float) -> float:
    """Q with P(|w| <= ...) by a Laplace distribution of mean magnitude 1: Q = -ln(2 - 2 tau)."""
    return -math.log(2.0 - 2.0 * tau)


class _Reach(nn.Module):
    """The running mean square of update / learning rate of one layer's weight."""

    square: Tensor
    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("square", torch.zeros(()))
        self.register_buffer("seen", torch.zeros(()))

    def observe(self, update: Tensor, learning_rate: float) -> None:
        """Takes in one step's change of the weight."""
        self.seen += 1
        momentum = torch.clamp_min(1.0 / self.seen, REACH_MOMENTUM)
        self.square += momentum * ((update / learning_rate).square().mean() - self.square)


@dataclass(frozen=True)
class WeightConstraint(Method):
    """After every step w <- clamp(w, -T, T), T per layer. Three readings of the thesis [I], by `reading`:

    - "quantile" (C1): T = -b ln(2 - 2 tau), b = mean |w| of the layer, tau linear from `tau_start` to `tau_end`: the
      tau-quantile of a Laplace distribution, as in ReCU, but applied to the parameter, and at every step anew: what is
      clamped lowers b and so T, and far more than the share 1 - tau of the weights ends up at T (60 to 63 % of each
      layer's in three epochs of `digits` on 640 images, at tau = 0.85). Relative to the weights' own magnitude, so that
      standardised weights change nothing;
    - "reach" (C2): T = `steps` * learning rate * rms(update / learning rate): any weight can flip within `steps` steps;
    - "fixed" (C3): T = `sigmas` * sqrt(2 / n), n = weights per filter: He's deviation at initialisation.

    Use little or no weight decay on binary weights with it.
    """

    name = "weight_constraint"
    summary = "after each step |w| <= T, T a quantile, a reach or fixed"
    reading: str = option("quantile", one_of=READINGS)
    tau_start: float = option(0.85, above=LOWEST_TAU, below=1)
    tau_end: float = option(0.99, above=LOWEST_TAU, below=1)
    steps: float = option(100.0, above=0)
    sigmas: float = option(2.0, above=0)

    def attach(self, net: nn.Module) -> Attached:
        return _Constrained(self, net, checked_binary_layers(net, self))


class _Constrained(LayerMethod):
    def __init__(self, method: WeightConstraint, net: nn.Module, layers: dict[str, BinaryLayer]) -> None:
        super().__init__(net, layers)
        self.method = method
        self.tau = method.tau_start
        self._limits: dict[BinaryLayer, Tensor] = {}
        self._before: dict[str, Tensor] = {}
        self._reach: dict[str, _Reach] = {}
        if method.reading == "reach":
            for name, layer in layers.items():
                self._reach[name] = _Reach()
                parts_of(layer, name).add_module("reach", self._reach[name])

    def progress(self, done: float) -> None:
        self.tau = self.method.tau_start + (self.method.tau_end - self.method.tau_start) * done

    def after_backward(self, learning_rate: float) -> None:
        if self._reach:
            self._before = {name: layer.weight.detach().clone() for name, layer in self.layers.items()}

    def after_step(self, learning_rate: float) -> None:
        with torch.no_grad():
            for name, layer in self.layers.items():
                limit = self.limit(name, layer, learning_rate)
                if limit is not None:
                    layer.weight.clamp_(-limit, limit)
                    self._limits[layer] = limit

    def limit_of(self, layer: BinaryLayer) -> float | None:
        return float(self._limits[layer]) if layer in self._limits else None

    def limit(self, name: str, layer: BinaryLayer, learning_rate: float) -> Tensor | None:
        """T of a layer, a scalar; None while it is not known (no step with a learning rate above 0 yet)."""
        weight = layer.weight.detach()
        if self.method.reading == "quantile":
            return weight.abs().mean() * laplace_quantile(self.tau)
        if self.method.reading == "fixed":
            return torch.full((), self.method.sigmas * math.sqrt(2.0 / weight[0].numel()), device=weight.device)
        if learning_rate <= 0:
            return None
        reach = self._reach[name]
        reach.observe(weight - self._before[name], learning_rate)
        return self.method.steps * learning_rate * reach.square.sqrt()


class _Anchor(nn.Module):
    """s0 of a layer and the highest learning rate seen."""

    start: Tensor
    peak: Tensor

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.register_buffer("start", start)
        self.register_buffer("peak", torch.zeros_like(start))

    def threshold(self, learning_rate: float, power: float) -> Tensor:
        """s_th = s0 (rate / peak)^power, above 0 so that the sign stays."""
        self.peak.clamp_min_(learning_rate)
        share = torch.where(self.peak > 0, learning_rate / self.peak, 1.0)
        return torch.clamp_min(self.start * share.pow(power), torch.finfo(self.start.dtype).tiny)


@dataclass(frozen=True)
class WeightTransition(Method):
    """Where a step flips the sign of w: w <- sign(w) s_th, s_th = s0 (rate / peak rate)^power, s0 = rho mean |w0|.

    w0 is the weight at the start. A hysteresis: to flip back takes s_th / (rate |g|) consistent steps, the same number
    throughout training because s_th follows the learning rate. Put it before `WeightConstraint`, whose T should exceed
    s_th. All of it is inferred [I], rho and power too.
    """

    name = "weight_transition"
    summary = "a flipped weight restarts at s_th, proportional to the learning rate"
    rho: float = option(0.25, above=0)
    power: float = option(1.0, least=0)

    def attach(self, net: nn.Module) -> Attached:
        return _Transition(self, net, checked_binary_layers(net, self))


class _Transition(LayerMethod):
    def __init__(self, method: WeightTransition, net: nn.Module, layers: dict[str, BinaryLayer]) -> None:
        super().__init__(net, layers)
        self.method = method
        self._anchors: dict[str, _Anchor] = {}
        self._negative: dict[str, Tensor] = {}
        for name, layer in layers.items():
            self._anchors[name] = _Anchor(method.rho * layer.weight.detach().abs().mean())
            parts_of(layer, name).add_module("anchor", self._anchors[name])

    def after_backward(self, learning_rate: float) -> None:
        self._negative = {name: layer.weight.detach() < 0 for name, layer in self.layers.items()}

    def after_step(self, learning_rate: float) -> None:
        with torch.no_grad():
            for name, layer in self.layers.items():
                flipped = (layer.weight < 0) != self._negative[name]
                reset = hard_sign(layer.weight) * self._anchors[name].threshold(learning_rate, self.method.power)
                layer.weight.copy_(torch.where(flipped, reset, layer.weight))
