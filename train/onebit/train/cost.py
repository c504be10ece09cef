"""What a network costs, from its shapes alone, and a network to measure the rest on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from onebit.train.layers import QuantConv2d, QuantLinear
from onebit.train.recipes import Recipe


@dataclass(frozen=True)
class ModelCost:
    """Weights of convolutions and dense layers, and multiply-accumulates for one image; the binary ones of each."""

    weights: int
    binary_weights: int
    macs: int
    binary_macs: int


def model_cost(recipe: Recipe) -> ModelCost:
    """The cost of the recipe's network; nothing is computed and no memory is used (torch's meta device)."""
    with torch.device("meta"):
        module = recipe.model().eval()
        image = torch.zeros(1, *recipe.input_shape)
    counts = {True: [0, 0], False: [0, 0]}

    def count(layer: nn.Module, _inputs: Any, output: Tensor) -> None:
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        binary = isinstance(layer, QuantConv2d | QuantLinear) and layer.kernel_quantizer.deploys_as.endswith("sign")
        pair = counts[binary]
        pair[0] += layer.weight.numel()
        pair[1] += output.numel() * layer.weight[0].numel()

    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    with torch.no_grad():
        module(image)
    (binary_weights, binary_macs), (real_weights, real_macs) = counts[True], counts[False]
    return ModelCost(binary_weights + real_weights, binary_weights, binary_macs + real_macs, binary_macs)


def as_if_trained(net: nn.Module) -> nn.Module:
    """The untrained `net` in eval mode, its batch norms with seeded random values.

    It takes on a device what a trained one takes; the values of an untrained one are often exactly zero, and whose sign
    that has, rounding decides.
    """
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for norm in net.modules():
            if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d) and norm.affine:
                norm.weight.copy_(0.5 + torch.rand(norm.num_features, generator=generator))
                norm.bias.copy_(torch.randn(norm.num_features, generator=generator) * 0.5)
    return net.eval()
