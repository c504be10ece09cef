"""Training without batch norm: scaled weight standardisation and adaptive gradient clipping."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from onebit.train.layers import BinaryLayer
from onebit.train.methods.base import Attached, Method, checked_binary_layers
from onebit.train.methods.parts import LayerMethod, add_weight_transform, filter_mean
from onebit.train.methods.scale import MeanMagnitude, add_mean_magnitude
from onebit.train.options import option

VARIANCE_EPSILON = 1e-4
SMALLEST_NORM = 1e-3


class ScaledStandardisation(nn.Module):
    """W = gain (w - mean) / (std sqrt(n)) per filter of n weights."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.gain = gain

    def forward(self, weight: Tensor) -> Tensor:
        """Latent weight [O, ...] -> the same shape."""
        centred = weight - filter_mean(weight)
        size = weight[0].numel()
        variance = filter_mean(centred.square())
        return centred * (self.gain / torch.sqrt(torch.clamp_min(variance * size, VARIANCE_EPSILON)))


def unit_norms(values: Tensor) -> Tensor:
    """The norm per output unit, [O, 1, ...]; of a vector the norm of all of it."""
    rows = values.flatten(1) if values.ndim > 1 else values[None]
    norms: Tensor = torch.linalg.vector_norm(rows, dim=1)
    return norms.reshape(-1, *(1,) * (values.ndim - 1))


def clip_gradient(parameter: nn.Parameter, limit: float) -> None:
    """g *= limit max(||w||, 1e-3) / ||g|| per output unit where that is below 1."""
    if parameter.grad is None:
        return
    allowed = limit * unit_norms(parameter.detach()).clamp_min(SMALLEST_NORM)
    norm = unit_norms(parameter.grad).clamp_min(1e-6)
    parameter.grad.mul_(torch.clamp_max(allowed / norm, 1.0))


@dataclass(frozen=True)
class NormalizerFree(Method):
    """W = gain (w - mean) / (std sqrt(n)) before the sign, y scaled by mean |W|; gradients clipped per unit.

    Adaptive gradient clipping: g *= `clip` max(||w||, 1e-3) / ||g|| per output unit where that is below 1, for all
    parameters but those of nn.Linear. The scale gives results of unit size where batch norm is missing (`gain` = 1 for
    signs as inputs [I]); with batch norm behind the layer it changes nothing but the gradient.
    Source: Chen, Zhang, Ouyang, Liu, Shen, Wang, "BNN - BN = ?", 2021 (arXiv 2104.08215), formulas from the public code
    (VITA-Group/BNN_NoBN); Brock, De, Smith, Simonyan, 2021 (arXiv 2102.06171).
    """

    name = "normalizer_free"
    summary = "weights standardised and scaled, gradients clipped per unit; for nets without batch norm"
    gain: float = option(1.0, above=0)
    clip: float = option(0.02, above=0)

    def attach(self, net: nn.Module) -> Attached:
        layers = checked_binary_layers(net, self)
        for name, layer in layers.items():
            add_weight_transform(layer, name, ScaledStandardisation(self.gain))
            add_mean_magnitude(layer, name, MeanMagnitude(learned=False))
        return _NormalizerFree(self, net, layers)


class _NormalizerFree(LayerMethod):
    def __init__(self, method: NormalizerFree, net: nn.Module, layers: dict[str, BinaryLayer]) -> None:
        super().__init__(net, layers)
        self.method = method
        dense = {id(p) for m in net.modules() if type(m) is nn.Linear for p in m.parameters(recurse=False)}
        self.clipped = [p for p in net.parameters() if p.requires_grad and id(p) not in dense]

    def after_backward(self, learning_rate: float) -> None:
        with torch.no_grad():
            for parameter in self.clipped:
                clip_gradient(parameter, self.method.clip)
