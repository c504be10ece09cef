"""The architectures: parameters, padding, order of operations, and that all of them learn."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import fx, nn

from onebit.core.errors import BadInputError
from onebit.train.cost import as_if_trained
from onebit.train.layers import QuantConv2d, QuantLinear, SameConv2d, binary_layers
from onebit.train.models import ARCHITECTURES, architecture_names, build_architecture
from onebit.train.models.quicknet import blur
from onebit.train.models.residual import bireal_resnet

OTHER_SIZES = {
    "vgg-small": {"widths": (32, 64)},
    "binarynet": {"widths": (32,), "hidden": ()},
    "small-cifar": {"widths": (16, 32, 32)},
    "bireal-resnet8": {"widths": (32, 64), "blocks": (1, 2), "activation": "rprelu"},
    "bireal-resnet20": {"widths": (8, 16, 32), "activation": "hardtanh"},
    "quicknet": {"widths": (32, 64), "blocks": (1, 1), "stem_strides": (2, 2)},
    "reactnet": {"widths": (16, 32, 32), "first_stride": 2},
    "binary-densenet": {"layers": (1, 1), "growth": 16},
    "meliusnet": {"layers": (2,), "growth": 16},
    "real-to-binary": {"widths": (16, 32), "blocks": (1, 1)},
    "binary-alexnet": {"hidden": (64,), "first_kernel": 3},
    "resnet8-hybrid": {"widths": (32, 64, 128)},
}


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return hasattr(m, "onebit_kind") or super().is_leaf_module(m, module_qualified_name)


@pytest.mark.parametrize("name", architecture_names())
def test_every_architecture_learns_and_traces(name: str) -> None:
    torch.manual_seed(1)
    net = build_architecture(name)
    architecture = ARCHITECTURES[name]
    assert net.example_input.shape == (1, *architecture.input_shape)  # type: ignore[union-attr]
    x = torch.randn(2, *architecture.input_shape)
    logits = net(x)
    assert logits.shape == (2, architecture.classes)
    nn.functional.cross_entropy(logits, torch.tensor([0, 1])).backward()
    without = [key for key, p in net.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    # thresholds behind a sign whose inputs are all far from it, and shifts in front of a batch norm, may get none
    assert [key for key in without if key.endswith(".weight")] == []
    net.eval()
    assert torch.equal(fx.GraphModule(net, _Tracer().trace(net))(x), net(x))


@pytest.mark.parametrize("name", architecture_names())
def test_no_sign_is_decided_by_what_stands_in_front_of_it(name: str) -> None:
    """Behind a ReLU all signs are +1: the layer that reads them learns nothing."""
    torch.manual_seed(1)
    net = as_if_trained(build_architecture(name))
    negative: dict[str, float] = {}
    for layer_name, layer in binary_layers(net).items():
        layer.register_forward_pre_hook(
            lambda _layer, args, key=layer_name: negative.update({key: float((args[0] < 0).float().mean())})
        )
    net(torch.randn(2, *ARCHITECTURES[name].input_shape))
    assert len(negative) == len(binary_layers(net))
    assert {key: share for key, share in negative.items() if not 0 < share < 1} == {}


@pytest.mark.parametrize("name", architecture_names())
def test_width_size_and_classes_are_parameters(name: str) -> None:
    assert set(OTHER_SIZES) == set(architecture_names())
    net = build_architecture(name, input_shape=(1, 48, 40), classes=3, **OTHER_SIZES[name]).eval()
    assert net(torch.zeros(2, 1, 48, 40)).shape == (2, 3)
    assert net.example_input.shape == (1, 1, 48, 40)  # type: ignore[union-attr]


@pytest.mark.parametrize("name", architecture_names())
def test_binary_layers_pad_with_one_and_read_batch_norms_that_stand_before_pools(name: str) -> None:
    net = build_architecture(name)
    binary = [layer for layer in net.modules() if isinstance(layer, QuantConv2d)]
    assert len(binary) >= 2
    assert all((layer.pad_mode, layer.pad_value) == ("same", 1) for layer in binary)
    layers = [layer for layer in net.modules() if not list(layer.children())]
    behind = [b for a, b in pairwise(layers) if isinstance(a, nn.MaxPool2d)]
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in behind)


def test_sizes_of_the_published_networks() -> None:
    """Binary weights: ResNet-20 has 267,264 (AdaBin, ReCU), ResNet-8 for images 32 wide 73,728 at 16, 32, 64."""

    def bits(name: str) -> int:
        layers = build_architecture(name).modules()
        return sum(layer.weight.numel() for layer in layers if isinstance(layer, QuantConv2d | QuantLinear))

    assert bits("bireal-resnet20") == 267_264
    assert bits("bireal-resnet8") == 73_728
    # 25 taps, 32 to 32 and 32 to 64 channels, and 1024 to 10
    assert bits("small-cifar") == 25 * 32 * 32 + 25 * 32 * 64 + 1024 * 10


def test_blur_keeps_a_constant_and_does_not_learn() -> None:
    layer = blur(4)
    assert isinstance(layer, SameConv2d)
    inside = layer(torch.full((1, 4, 8, 8), 3.0))[:, :, 1:-1, 1:-1]
    assert torch.equal(inside, torch.full_like(inside, 3.0))
    assert not layer.weight.requires_grad


def test_unknown_names_list_the_known() -> None:
    with pytest.raises(BadInputError, match="unknown architecture 'resnet'.*vgg-small, binarynet"):
        build_architecture("resnet")
    with pytest.raises(BadInputError, match="unknown activation 'gelu'.*none, hardtanh, prelu, rprelu"):
        bireal_resnet(blocks=(1, 1, 1), activation="gelu")
