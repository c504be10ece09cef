"""AdaBin: two adaptive values per weight filter and per layer's input instead of -1 and +1."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from onebit.core.errors import BadInputError
from onebit.train.layers import BinaryLayer, QuantConv2d, QuantLinear, SameConv2d, bake_weights, binary_layers
from onebit.train.methods.base import Attached, Method, checked_binary_layers
from onebit.train.methods.er_bnn import RestoredWeight
from onebit.train.methods.parts import along_channels, changes_results, filter_mean, replace_module

SMALLEST_SCALE = 1e-2
TINY = 1e-12


class _Levels(nn.Module):
    """The input's levels scale * (s + offset), s = sign((x - offset) / scale)."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.offset = nn.Parameter(torch.zeros(()))


class AdaBinLayer(nn.Module):
    """A binary layer whose weights and inputs have two levels each, computed exactly by binary layers.

    With weights aw b + bw and inputs aa (s + ba): y = aa aw (b . s) + aa bw (1 . s) + aa ba (aw sum(b) + bw K). (1 . s)
    is one filter of ones, shared by all output channels: `ones`; `spread` multiplies it per channel and adds the bias.
    """

    def __init__(self, layer: BinaryLayer) -> None:
        super().__init__()
        self.main = layer
        outputs = len(layer.weight)
        self.ones: BinaryLayer
        if isinstance(layer, QuantConv2d):
            self.ones = QuantConv2d(
                layer.in_channels, 1, (layer.kernel_size[0], layer.kernel_size[1]),
                stride=(layer.stride[0], layer.stride[1]), padding=layer.pad_mode, pad_value=layer.pad_value,
                dilation=(layer.dilation[0], layer.dilation[1]), input_quantizer=layer.input_quantizer,
            )  # fmt: skip
            self.spread: SameConv2d | nn.Linear = SameConv2d(1, outputs, 1)
        else:
            self.ones = QuantLinear(layer.in_features, 1, input_quantizer=layer.input_quantizer)
            self.spread = nn.Linear(1, outputs)
        with torch.no_grad():
            self.ones.weight.fill_(1.0)
        self.ones.requires_grad_(False)
        self.spread.requires_grad_(False)
        self.threshold = nn.Parameter(torch.zeros(1), requires_grad=False)
        self.levels: _Levels | None = None

    def learn(self) -> None:
        """Starts to learn the levels."""
        self.levels = _Levels()
        self.main.weight_transform = RestoredWeight()

    def forward(self, x: Tensor) -> Tensor:
        """As the layer it stands for."""
        if self.levels is None:
            centred = x - self.threshold
            y: Tensor = self.main(centred) + self.spread(self.ones(centred))
            return y
        z = (x - self.levels.offset) / self.levels.scale
        scale, spread, bias = (along_channels(v, x) for v in self._coefficients(self.levels))
        learned: Tensor = self.main(z) * scale + self.ones(z) * spread + bias
        return learned

    def _coefficients(self, levels: _Levels) -> tuple[Tensor, Tensor, Tensor]:
        """(scale, spread, bias), [O] each: y = (b . s) scale + (1 . s) spread + bias."""
        weight = self.main.weight
        mean = filter_mean(weight)
        size = torch.sqrt(filter_mean((weight - mean).square()).clamp_min(TINY)).flatten()
        mean = mean.flatten()
        total = self.main.quantized_weight().flatten(1).sum(dim=1)
        bias = levels.scale * levels.offset * (size * total + mean * weight[0].numel())
        return levels.scale * size, levels.scale * mean, bias

    @torch.no_grad()
    def settle(self) -> None:
        """Moves what was learned into plain layers."""
        if self.levels is None:
            return
        scale, spread, bias = self._coefficients(self.levels)
        self.main.output_scale = nn.Parameter(scale)
        self.threshold.fill_(self.levels.offset)
        self.spread.weight.copy_(spread.reshape(self.spread.weight.shape))
        assert self.spread.bias is not None
        self.spread.bias.copy_(bias)
        bake_weights(self.main)
        self.levels = None


@dataclass(frozen=True)
class AdaBin(Method):
    """W = aw b + bw, A = aa (s + ba), b = sign((w - bw) / aw), s = sign((x - ba) / aa).

    bw = mean w, aw = sqrt(mean (w - bw)^2) per filter; aa > 0 and ba learned per layer. Leaves per binary layer: a
    threshold, a second binary convolution with one filter of ones, a 1x1 convolution that spreads it over the channels,
    and an addition; exact with one-padding and without padding. Its Maxout activation and EDE gradient are not part of
    it (see `ede`).
    Source: Tu, Chen, Ren, Wang, "AdaBin: Improving Binary Neural Networks with Adaptive Binary Sets", 2022 (arXiv
    2208.08084), formulas from the public code.
    """

    name = "adabin"
    summary = "two learned levels for weights and inputs; leaves a second small convolution"

    def attach(self, net: nn.Module) -> Attached:
        checked_binary_layers(net, self)
        self.leaves(net)
        layers = [module for module in net.modules() if isinstance(module, AdaBinLayer)]
        for layer in layers:
            layer.learn()
        attached = _AdaBinAttached(net)
        attached.adabin = layers
        return attached

    def leaves(self, net: nn.Module) -> None:
        for name, layer in binary_layers(net).items():
            if type(layer) not in (QuantConv2d, QuantLinear) or getattr(layer, "groups", 1) != 1 or not name:
                raise BadInputError(
                    f"method {self.name} cannot treat {type(layer).__name__}",
                    where=name,
                    fix="it treats QuantConv2d with groups=1 and QuantLinear inside a network",
                )
            if getattr(layer, "pad_mode", "") == "same" and layer.pad_value != 1:
                raise BadInputError(
                    f"method {self.name} needs one-padding, this layer pads with 0", where=name, fix="use pad_value=1"
                )
            if layer.weight_transform is not None:
                raise BadInputError(
                    f"method {self.name} changes weights that another method changes", where=name, fix="use one of them"
                )
            if any(value is not None for value in (layer.input_threshold, layer.output_scale, layer.bias)):
                raise BadInputError(
                    f"method {self.name} needs a layer without threshold, scale and bias",
                    where=name,
                    fix="start from a model that was trained without other methods, or leave them out",
                )
            if changes_results(layer):
                raise BadInputError(
                    f"method {self.name} treats a layer that another method scales or shifts",
                    where=name,
                    fix="use one of them",
                )
            replace_module(net, name, AdaBinLayer(layer))


class _AdaBinAttached(Attached):
    adabin: list[AdaBinLayer]

    def after_step(self, learning_rate: float) -> None:
        with torch.no_grad():
            for layer in self.adabin:
                if layer.levels is not None:
                    layer.levels.scale.clamp_min_(SMALLEST_SCALE)

    def finish(self) -> None:
        for layer in self.adabin:
            layer.settle()
