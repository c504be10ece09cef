"""Binary weights with the mean magnitude of their filter as scale: XNOR-Net, and Bi-Real's magnitude-aware form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from onebit.core.errors import BadInputError
from onebit.train.layers import BinaryLayer
from onebit.train.methods.base import Attached, Method, checked_binary_layers
from onebit.train.methods.parts import LayerMethod, OutputPart, along_channels, parts_of, transformed_weight

SMALLEST = 1e-30


class MeanMagnitude(OutputPart):
    """y * a, a[o] = mean |w[o]| over the filter; a takes part in the gradient where `learned`."""

    def __init__(self, *, learned: bool) -> None:
        super().__init__()
        self.learned = learned

    def scale(self, layer: BinaryLayer) -> Tensor:
        """a, [O]."""
        weight = transformed_weight(layer)
        weight = weight if self.learned else weight.detach()
        return weight.abs().flatten(1).mean(dim=1)

    def forward(self, y: Tensor, layer: BinaryLayer) -> Tensor:
        """The layer's result [N, O, ...], scaled."""
        return y * along_channels(self.scale(layer), y)

    def affine(self, layer: BinaryLayer) -> tuple[Tensor, Tensor | None]:
        # an all-zero filter stands for a constant 0, which no sign can express: the smallest scale instead
        return self.scale(layer).clamp_min(SMALLEST), None


def add_mean_magnitude(layer: BinaryLayer, name: str, part: MeanMagnitude) -> None:
    """Puts `part` behind the layer; BadInputError if another method scales its results in the same way.

    A scale that the layer has (a run that starts from a trained model) is divided by the part's: outputs stay.
    """
    parts = parts_of(layer, name)
    if any(isinstance(other, MeanMagnitude) for other in parts.outputs):
        raise BadInputError(
            "two methods both scale the layer's results by the mean magnitude of its weights",
            where=name,
            fix="use one of xnor, magnitude_aware, normalizer_free and two_step",
        )
    parts.outputs.append(part)
    if layer.output_scale is not None:
        with torch.no_grad():
            layer.output_scale.div_(part.affine(layer)[0])


@dataclass(frozen=True)
class _Scaled(Method):
    learned: ClassVar[bool] = True

    def attach(self, net: nn.Module) -> Attached:
        layers = checked_binary_layers(net, self)
        for name, layer in layers.items():
            add_mean_magnitude(layer, name, MeanMagnitude(learned=self.learned))
        return LayerMethod(net, layers)


@dataclass(frozen=True)
class Xnor(_Scaled):
    """W ~ a sign(w), a[o] = mean |w[o]|: the least-squares scale. The gradient flows through a as well.

    Only the weights' scale, not the activations' (K), which costs real arithmetic per pixel on the device.
    Source: Rastegari, Ordonez, Redmon, Farhadi, "XNOR-Net", 2016 (arXiv 1603.05279).
    """

    name = "xnor"
    summary = "weights a sign(w), a = mean |w| per filter, in the gradient"
    learned = True


@dataclass(frozen=True)
class MagnitudeAware(_Scaled):
    """W = a sign(w), a[o] = mean |w[o]| as a constant: dL/dw = a dL/dW for |w| <= 1.

    The gradient of a weight gets the magnitude of its filter, and no term through a.
    Source: Liu, Wu, Luo, Yang, Liu, Cheng, "Bi-Real Net", 2018 (arXiv 1808.00278).
    """

    name = "magnitude_aware"
    summary = "weights a sign(w), a = mean |w| per filter, as a constant"
    learned = False
