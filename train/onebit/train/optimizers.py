"""Optimizers as data: what a recipe says, and the torch optimizer it becomes.

Binary layers' latent weights form a parameter group of their own: their scale means nothing (only the sign counts), so
weight decay and learning rate act on them differently from real-valued weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from onebit.train.layers import binary_weights


@dataclass(frozen=True)
class OptimizerConfig:
    """`binary_rate` multiplies the learning rate of latent weights.

    Weight decay is added to the gradient: `weight_decay` for real-valued weights of two or more dimensions, i.e. not
    for batch norm, bias, slopes and thresholds; `binary_weight_decay` for latent weights.
    """

    weight_decay: float = 0.0
    binary_weight_decay: float = 0.0
    binary_rate: float = 1.0

    def groups(self, net: nn.Module) -> list[dict[str, Any]]:
        """Parameter groups with the key "factor", which multiplies the scheduled learning rate; empty ones left out."""
        latent = binary_weights(net)
        known = {id(weight) for weight in latent}
        rest = [parameter for parameter in net.parameters() if id(parameter) not in known and parameter.requires_grad]
        groups = (
            {"params": latent, "weight_decay": self.binary_weight_decay, "factor": self.binary_rate},
            {"params": [p for p in rest if p.ndim > 1], "weight_decay": self.weight_decay, "factor": 1.0},
            {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0, "factor": 1.0},
        )
        return [group for group in groups if group["params"]]

    def build(self, net: nn.Module, peak_rate: float) -> torch.optim.Optimizer:
        """The optimizer over all parameters of `net` that want a gradient."""
        raise NotImplementedError


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
