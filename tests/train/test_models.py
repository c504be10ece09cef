"""Models: shape, share of binary MACs, size, and the order of operations that the converter relies on."""

from __future__ import annotations

import math

import pytest
import torch
from torch import fx, nn

from onebit.train.layers import QuantConv2d, QuantLinear
from onebit.train.models.digits import DigitsNet
from onebit.train.recipes import get_recipe, list_recipes, recipe_names


def macs_per_layer(net: nn.Module, x: torch.Tensor) -> dict[nn.Module, int]:
    macs: dict[nn.Module, int] = {}

    def count(layer: nn.Module, _inputs: object, output: torch.Tensor) -> None:
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        macs[layer] = output.shape[1:].numel() * math.prod(layer.weight.shape[1:])

    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    net.eval()(x)
    return macs


def test_digits_net_is_binary_where_it_counts() -> None:
    net = DigitsNet()
    macs = macs_per_layer(net, torch.zeros(1, 1, 28, 28))
    binary = [layer for layer in macs if isinstance(layer, QuantConv2d | QuantLinear)]
    assert sum(macs[layer] for layer in binary) >= 0.85 * sum(macs.values())
    convolutions = [layer for layer in binary if isinstance(layer, QuantConv2d)]
    assert len(convolutions) >= 3
    assert all(
        layer.kernel_size == (3, 3) and layer.pad_mode == "same" and layer.pad_value == 1 for layer in convolutions
    )
    assert isinstance(list(macs)[-1], QuantLinear)
    packed_bytes = sum(
        layer.weight.shape[0] * math.prod(layer.weight.shape[2:]) * 4 * math.ceil(layer.weight.shape[1] / 32)
        for layer in binary
    )
    assert packed_bytes <= 14 * 1024


def test_documented_macs_are_the_counted() -> None:
    macs = macs_per_layer(DigitsNet(), torch.zeros(1, 1, 28, 28))
    assert all(f" {count:,} |" in (DigitsNet.__doc__ or "") for count in macs.values())


def test_sign_before_or_behind_the_pool_is_the_same() -> None:
    """The identity that lets the device pool bits: also for negative gamma, because batch norm is before the pool."""
    torch.manual_seed(6)
    norm = nn.BatchNorm2d(8).eval()
    norm.weight.data.uniform_(-1, 1)
    norm.running_mean = torch.randn(8)
    y = norm(torch.randint(-9, 10, (4, 8, 6, 6)).float())
    pool = nn.MaxPool2d(2)
    sign = QuantConv2d(8, 8, 3).input_quantizer
    assert torch.equal(sign(pool(y)), pool(sign(y)))


@pytest.mark.parametrize("name", recipe_names())
def test_models_trace_with_binary_layers_as_leaves(name: str) -> None:
    class Tracer(fx.Tracer):
        def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
            return hasattr(m, "onebit_kind") or super().is_leaf_module(m, module_qualified_name)

    recipe = get_recipe(name)
    net = recipe.model().eval()
    graph = Tracer().trace(net)
    x = torch.rand(2, *recipe.input_shape)
    assert torch.equal(fx.GraphModule(net, graph)(x), net(x))
    assert net(x).shape == (2, len(recipe.classes))
    assert {node.op for node in graph.nodes} <= {
        "placeholder",
        "call_module",
        "call_function",
        "call_method",
        "get_attr",
        "output",
    }


def test_recipes_are_listed_by_name() -> None:
    assert [recipe.name for recipe in list_recipes()] == list(recipe_names())
    assert {"digits", "digits-full"} <= set(recipe_names())
