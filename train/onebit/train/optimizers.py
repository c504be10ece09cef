"""Optimizers as data: what a recipe says, and the torch optimizer it becomes.

Binary layers' latent weights form a parameter group of their own: their scale means nothing (only the sign counts), so
weight decay and learning rate act on them differently from real-valued weights.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from onebit.train.layers import binary_weights
from onebit.train.quantizers import hard_sign


@dataclass(frozen=True)
class OptimizerConfig(ABC):
    """`binary_rate` multiplies the learning rate of latent weights.

    Weight decay is added to the gradient: `weight_decay` for the weights of real-valued convolutions and dense layers,
    i.e. not for batch norm, bias, slopes, shifts and thresholds; `binary_weight_decay` for latent weights.
    """

    weight_decay: float = 0.0
    binary_weight_decay: float = 0.0
    binary_rate: float = 1.0

    def groups(self, net: nn.Module) -> list[dict[str, Any]]:
        """Parameter groups with the key "factor", which multiplies the scheduled learning rate; empty ones left out."""
        latent = binary_weights(net)
        known = {id(weight) for weight in latent}
        rest = [parameter for parameter in net.parameters() if id(parameter) not in known and parameter.requires_grad]
        decayed = {id(layer.weight) for layer in net.modules() if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Linear)}
        groups = (
            {"params": latent, "weight_decay": self.binary_weight_decay, "factor": self.binary_rate},
            {"params": [p for p in rest if id(p) in decayed], "weight_decay": self.weight_decay, "factor": 1.0},
            {"params": [p for p in rest if id(p) not in decayed], "weight_decay": 0.0, "factor": 1.0},
        )
        return [group for group in groups if group["params"]]

    @abstractmethod
    def build(self, net: nn.Module, peak_rate: float) -> torch.optim.Optimizer:
        """The optimizer over all parameters of `net` that want a gradient."""


@dataclass(frozen=True)
class Adam(OptimizerConfig):
    """Kingma and Ba, 2015 (arXiv 1412.6980)."""

    betas: tuple[float, float] = (0.9, 0.999)

    def build(self, net: nn.Module, peak_rate: float) -> torch.optim.Optimizer:
        """See the base class."""
        return torch.optim.Adam(self.groups(net), lr=peak_rate, betas=self.betas)


@dataclass(frozen=True)
class SGD(OptimizerConfig):
    """Stochastic gradient descent with momentum."""

    momentum: float = 0.9
    nesterov: bool = False

    def build(self, net: nn.Module, peak_rate: float) -> torch.optim.Optimizer:
        """See the base class."""
        return torch.optim.SGD(self.groups(net), lr=peak_rate, momentum=self.momentum, nesterov=self.nesterov)


@dataclass(frozen=True)
class Bop(OptimizerConfig):
    """Binary optimizer for the binary weights, which are -1 or +1 from the start, and Adam for all others.

    m <- (1 - g) m + g dL/dw; w <- -w where m w >= `threshold`, i.e. where the averaged gradient agrees with the sign
    that it wants to leave, and is large enough. g = `gamma` * learning rate / peak rate: it decays with the schedule.
    `binary_rate` multiplies it; weight decay of binary weights means nothing here.
    Source: Helwegen, Widdicombe, Geiger, Liu, Cheng, Nusselder, "Latent Weights Do Not Exist", 2019 (arXiv 1906.02107).
    """

    betas: tuple[float, float] = (0.9, 0.999)
    gamma: float = 1e-4
    threshold: float = 1e-8

    def build(self, net: nn.Module, peak_rate: float) -> torch.optim.Optimizer:
        """See the base class. The binary weights of `net` become their signs."""
        weights = binary_weights(net)
        with torch.no_grad():
            for weight in weights:
                weight.copy_(hard_sign(weight))
        known = {id(weight) for weight in weights}
        groups = self.groups(net)
        for group in groups:
            group["bop"] = any(id(p) in known for p in group["params"])
        return _BopAdam(groups, peak_rate, self)


class _BopAdam(torch.optim.Adam):
    def __init__(self, groups: list[dict[str, Any]], peak_rate: float, config: Bop) -> None:
        super().__init__(groups, lr=peak_rate, betas=config.betas)
        self._config, self._peak = config, peak_rate

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Flips binary weights; the rest of the step is Adam's."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if group["bop"]:
                for weight in group["params"]:
                    self._flip(weight, self._config.gamma * float(group["lr"]) / self._peak)
        super().step()
        return loss

    @torch.no_grad()
    def _flip(self, weight: Tensor, gamma: float) -> None:
        if weight.grad is None:
            return
        state = self.state[weight]
        if "average" not in state:
            state["average"] = torch.zeros_like(weight)
            state["step"] = torch.zeros(())  # torch expects one in every state of Adam
        average = state["average"]
        average.mul_(1.0 - gamma).add_(weight.grad, alpha=gamma)
        weight.copy_(torch.where(average * weight >= self._config.threshold, -weight, weight))
        weight.grad = None  # Adam leaves alone what has no gradient
