"""Feature distribution adjustment, the static part: where the sign divides each channel is learned, and kept balanced.

Source: "Feature distribution guided binary neural network", Control and Decision 39(6), 2024, doi
10.13195/j.kzyjc.2022.1945 (chapter 2 of source 1 of the project), abstract only: it "adjusts the mean-variance of
features" and optimises the binarization threshold. All formulas here are inferred [I].
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from onebit.train.layers import BinaryLayer
from onebit.train.methods.base import Attached, Method, Step, checked_binary_layers
from onebit.train.methods.parts import InputPart, LayerMethod, add_input_part, along_channels, input_channels
from onebit.train.options import option
from onebit.train.quantizers import get_quantizer


class LearnedThreshold(InputPart):
    """z - t, z = (x - mean) / std per channel by batch statistics (running ones in eval mode), t learned."""

    def __init__(self, channels: int, maps: bool) -> None:
        super().__init__()
        self.norm = (nn.BatchNorm2d if maps else nn.BatchNorm1d)(channels, affine=False)
        self.shift = nn.Parameter(torch.zeros(channels))
        self._result: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Input [N, C, ...] -> the same shape."""
        z: Tensor = self.norm(x) - along_channels(self.shift, x)
        self._result = z if self.training else None
        return z

    def taken(self) -> Tensor | None:
        """The last result in training, once."""
        result, self._result = self._result, None
        return result

    def threshold(self, layer: BinaryLayer) -> Tensor | None:
        mean, variance = self.norm.running_mean, self.norm.running_var
        assert isinstance(mean, Tensor)
        assert isinstance(variance, Tensor)
        return mean + self.shift * torch.sqrt(variance + self.norm.eps)


def imbalance(z: Tensor) -> Tensor:
    """mean over channels of (mean of sign(z))^2: 0 where every channel has as many +1 as -1, 1 where it is constant."""
    signs = get_quantizer("ste_sign")(z)
    return signs.mean(dim=tuple(i for i in range(z.ndim) if i != 1)).square().mean()


@dataclass(frozen=True)
class FeatureDistribution(Method):
    """s = sign((x - mean_c) / std_c - t_c), t_c learned; loss += `balance` sum over layers of mean_c (mean s_c)^2.

    mean_c and std_c are batch statistics without affine part. On the device all of it is one threshold per channel. The
    variance term of the notes is always 0 behind this normalisation and left out.
    """

    name = "feature_distribution"
    summary = "normalised inputs with a learned threshold per channel, balanced signs"
    balance: float = option(1e-3, least=0)

    def attach(self, net: nn.Module) -> Attached:
        layers = checked_binary_layers(net, self)
        parts = []
        for name, layer in layers.items():
            parts.append(LearnedThreshold(input_channels(layer), isinstance(layer, nn.Conv2d)))
            add_input_part(layer, name, parts[-1])
        attached = _Balanced(net, layers)
        attached.method, attached.thresholds = self, parts
        return attached


class _Balanced(LayerMethod):
    method: FeatureDistribution
    thresholds: list[LearnedThreshold]

    def loss(self, loss: Tensor, step: Step) -> Tensor:
        results = [z for part in self.thresholds if (z := part.taken()) is not None]
        if not results or self.method.balance == 0:
            return loss
        return loss + self.method.balance * torch.stack([imbalance(z) for z in results]).sum()
