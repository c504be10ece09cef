"""What happens to binary weights while they are learned: flips, weights that never flip, clamped ones, entropy.

These are the curves that tell a learning rate or a method from another: a weight that never flips was never trained.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from onebit.train.layers import BinaryLayer, binary_layers


@dataclass(frozen=True)
class LayerStatistics:
    """One binary layer over one epoch.

    `flips` is the number of sign changes per weight in this epoch, `never_flipped` the share of weights whose sign
    never changed in the whole run, `clamped` the share of latent weights at the clamp or at a method's limit, whichever
    is lower, `entropy` the mean over output channels of the entropy of their signs in bits (1: as many +1 as -1).
    """

    layer: str
    weights: int
    flips: float
    never_flipped: float
    clamped: float
    entropy: float


class FlipCounter:
    """Watches the signs of all binary layers of `net` that learn; call `observe` after every step, `close_epoch` at the
    epoch's end. `clamp` is the limit of all latent weights, `limits` tell that of a layer; None: there is none.
    """

    def __init__(
        self, net: nn.Module, clamp: float | None, limits: Sequence[Callable[[BinaryLayer], float | None]] = ()
    ) -> None:
        self.layers = {name: layer for name, layer in binary_layers(net).items() if layer.weight.requires_grad}
        self.clamp = clamp
        self.limits = limits
        self._signs = {name: _negative(layer) for name, layer in self.layers.items()}
        self._flipped = {name: torch.zeros_like(signs) for name, signs in self._signs.items()}
        self._flips = {name: torch.zeros((), dtype=torch.int64) for name in self.layers}

    def observe(self) -> None:
        """Counts the weights whose sign differs from that of the call before."""
        for name, layer in self.layers.items():
            signs = _negative(layer)
            changed = signs ^ self._signs[name]
            self._flips[name] = self._flips[name].to(signs.device) + changed.sum()
            self._flipped[name] |= changed
            self._signs[name] = signs

    def close_epoch(self) -> tuple[LayerStatistics, ...]:
        """The epoch's figures; the flips start at 0 again."""
        rows = tuple(self._row(name, layer) for name, layer in self.layers.items())
        self._flips = {name: torch.zeros((), dtype=torch.int64) for name in self.layers}
        return rows

    def state(self) -> dict[str, Tensor]:
        """Which weights have flipped so far: all that a resumed run needs."""
        return {name: flipped.cpu() for name, flipped in self._flipped.items()}

    def resume(self, state: dict[str, Tensor]) -> None:
        """Continues from `state`; the network must hold the weights of that moment."""
        self._flipped = {name: state[name].to(flipped.device) for name, flipped in self._flipped.items()}
        self._signs = {name: _negative(layer) for name, layer in self.layers.items()}

    def _row(self, name: str, layer: BinaryLayer) -> LayerStatistics:
        signs, latent = self._signs[name], layer.weight.detach()
        positive = 1.0 - signs.flatten(1).to(torch.float64).mean(1)
        terms = torch.special.entr(positive) + torch.special.entr(1.0 - positive)
        limits = [value for value in (self.clamp, *(limit(layer) for limit in self.limits)) if value is not None]
        clamped = float((latent.abs() >= min(limits)).to(torch.float64).mean()) if limits else 0.0
        return LayerStatistics(
            layer=name,
            weights=signs.numel(),
            flips=int(self._flips[name]) / signs.numel(),
            never_flipped=1.0 - float(self._flipped[name].to(torch.float64).mean()),
            clamped=clamped,
            entropy=float(terms.mean()) / math.log(2.0),
        )


def _negative(layer: BinaryLayer) -> Tensor:
    """True where the layer's binary weight is -1."""
    with torch.no_grad():
        return layer.quantized_weight() < 0
