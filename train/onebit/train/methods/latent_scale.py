"""Smaller latent weights at the start, so that signs flip sooner."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from onebit.train.methods.base import Attached, Method, checked_binary_layers
from onebit.train.options import option


@dataclass(frozen=True)
class LatentScale(Method):
    """w0 <- `scale` w0 for the latent weights of all binary layers, once at the start.

    The signs stay; the same step of the optimizer crosses 0 sooner. It matters with SGD and short runs, where few
    weights flip at all.
    Source: a trial of the project's own (short runs with SGD), not a publication.
    """

    name = "latent_scale"
    summary = "latent weights start smaller, so that more signs flip in a short run"
    scale: float = option(0.1, above=0)

    def attach(self, net: nn.Module) -> Attached:
        with torch.no_grad():
            for layer in checked_binary_layers(net, self).values():
                layer.weight.mul_(self.scale)
        return Attached(net)
