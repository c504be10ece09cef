"""The baselines that every other method is measured against: the sign with a fixed surrogate gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from onebit.train.methods.base import Attached, Method, checked_binary_layers
from onebit.train.methods.parts import INPUTS, WEIGHTS, LayerMethod, parts_of
from onebit.train.quantizers import get_quantizer


@dataclass(frozen=True)
class FixedGradient(Method):
    """Base: both quantizers of every binary layer become registered ones, until `finish` puts the old ones back."""

    inputs: ClassVar[str] = ""
    weights: ClassVar[str] = ""

    def attach(self, net: nn.Module) -> Attached:
        layers = checked_binary_layers(net, self)
        for name, layer in layers.items():
            parts = parts_of(layer, name)
            parts.replace_quantizer(layer, INPUTS, get_quantizer(self.inputs), self.name)
            parts.replace_quantizer(layer, WEIGHTS, get_quantizer(self.weights), self.name)
        return LayerMethod(net, layers)


@dataclass(frozen=True)
class Ste(FixedGradient):
    """Straight-through estimator with clipping: dq/dx = 1 for |x| <= 1, else 0, of inputs and weights.

    Source: Hubara, Courbariaux, Soudry, El-Yaniv, Bengio, "Binarized Neural Networks", 2016 (arXiv 1602.02830).
    """

    name = "ste"
    summary = "dq/dx = 1 for |x| <= 1, of inputs and weights"
    inputs = "ste_sign"
    weights = "ste_sign"


@dataclass(frozen=True)
class ApproxSign(FixedGradient):
    """Piecewise quadratic gradient of the inputs: dq/dx = 2 - 2|x| for |x| <= 1, else 0; weights as in `Ste`.

    Source: Liu, Wu, Luo, Yang, Liu, Cheng, "Bi-Real Net", 2018 (arXiv 1808.00278).
    """

    name = "approx_sign"
    summary = "dq/dx = 2 - 2|x| of inputs"
    inputs = "approx_sign"
    weights = "ste_sign"
