"""A classifier that does not learn: class vectors fixed in the most symmetric arrangement."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from onebit.core.errors import BadInputError
from onebit.train.methods.base import Attached, Method, checked_binary_layers
from onebit.train.options import option

ARRANGEMENTS = ("simplex", "plane")


def class_vectors(classes: int, features: int, arrangement: str) -> Tensor:
    """Unit vectors [classes, features] that sum to zero: corners of a simplex, or evenly around a circle.

    The simplex needs features >= classes. The basis comes from a fixed seed.
    """
    dimensions = classes if arrangement == "simplex" else 2
    generator = torch.Generator().manual_seed(0)
    basis, _ = torch.linalg.qr(torch.randn(features, dimensions, generator=generator, dtype=torch.float64))
    if arrangement == "simplex":
        corners = torch.eye(classes, dtype=torch.float64) - 1.0 / classes
        corners *= math.sqrt(classes / (classes - 1.0))
    else:
        angles = torch.arange(classes, dtype=torch.float64) * (2.0 * math.pi / classes)
        corners = torch.stack([angles.cos(), angles.sin()], dim=1)
    vectors: Tensor = corners @ basis.T
    return vectors.float()


@dataclass(frozen=True)
class SymmetricClassifier(Method):
    """The last dense layer's weight is fixed: `scale` times unit class vectors that sum to zero, no bias.

    "simplex": pairwise cosine -1 / (classes - 1), the widest angles there are [I]. "plane": coplanar, 360 / classes
    degrees apart, the abstract's arrangement. The features learn to point at the class vectors. `scale` is chosen here.
    Source: "Do neural network weights account for classes centers?", 2021 (arXiv 2104.07004), abstract only.
    """

    name = "symmetric_classifier"
    summary = "last dense layer fixed to symmetric unit vectors"
    arrangement: str = option("simplex", one_of=ARRANGEMENTS)
    scale: float = option(4.0, above=0)

    def attach(self, net: nn.Module) -> Attached:
        checked_binary_layers(net, self)
        name, layer = self._last(net)
        needed = layer.out_features if self.arrangement == "simplex" else 2
        if layer.in_features < needed or layer.out_features < 2:
            raise BadInputError(
                f"method {self.name} needs at least 2 classes and {needed} features, this layer has "
                f"{layer.out_features} and {layer.in_features}",
                where=name,
                fix="widen the layer before it, or use arrangement=plane",
            )
        with torch.no_grad():
            layer.weight.copy_(self.scale * class_vectors(layer.out_features, layer.in_features, self.arrangement))
            if layer.bias is not None:
                layer.bias.zero_()
        layer.requires_grad_(False)
        return Attached(net)

    def _last(self, net: nn.Module) -> tuple[str, nn.Linear]:
        leaves = [(name, layer) for name, layer in net.named_modules() if not list(layer.children())]
        name, layer = leaves[-1]
        if type(layer) is not nn.Linear:
            raise BadInputError(
                f"method {self.name} needs a network that ends with nn.Linear, this one ends with "
                f"{type(layer).__name__}",
                where=name,
                fix="use a network with a real-valued head",
            )
        return name, layer
