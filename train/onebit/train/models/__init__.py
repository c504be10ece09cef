"""Network architectures; every factory returns an fx-traceable `torch.nn.Module` that takes NCHW float32.

`ARCHITECTURES` names those that scale to a microcontroller, at a small default size:

    from onebit.train.models import build_architecture
    net = build_architecture("quicknet", input_shape=(1, 48, 48), classes=2, widths=(32, 64))

`input_shape` is (C, H, W). All have one input, one-padding and logits [N, classes]; the attribute ``example_input`` of
what `build_architecture` returns is float32 zeros [1, C, H, W].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from onebit.core.errors import BadInputError
from onebit.train.models.dense import binary_densenet, meliusnet
from onebit.train.models.quicknet import quicknet
from onebit.train.models.residual import bireal_resnet, reactnet, real_to_binary, resnet8_hybrid
from onebit.train.models.vgg import binary_alexnet, binarynet, small_cifar, vgg_small

__all__ = ["ARCHITECTURES", "Architecture", "architecture_names", "build_architecture"]


@dataclass(frozen=True)
class Architecture:
    """A named network: ``build(input_shape, classes, **options)``, and the input that its default size is for."""

    name: str
    title: str
    build: Callable[..., nn.Module]
    input_shape: tuple[int, int, int] = (3, 32, 32)
    classes: int = 10


_ALL = (
    Architecture("vgg-small", "VGG-Small", vgg_small),
    Architecture("binarynet", "BinaryNet", binarynet),
    Architecture("small-cifar", "SmallCifar", small_cifar),
    Architecture("bireal-resnet8", "Bi-Real ResNet-8", partial(bireal_resnet, blocks=(1, 1, 1))),
    Architecture("bireal-resnet20", "Bi-Real ResNet-20", partial(bireal_resnet, blocks=(3, 3, 3))),
    Architecture("quicknet", "QuickNet", quicknet),
    Architecture("reactnet", "ReActNet", reactnet),
    Architecture("binary-densenet", "BinaryDenseNet", binary_densenet),
    Architecture("meliusnet", "MeliusNet", meliusnet),
    Architecture("real-to-binary", "RealToBinary", real_to_binary),
    Architecture("binary-alexnet", "BinaryAlexNet", binary_alexnet),
    Architecture("resnet8-hybrid", "ResNet-8 hybrid", resnet8_hybrid),
)

ARCHITECTURES: Mapping[str, Architecture] = {architecture.name: architecture for architecture in _ALL}


def architecture_names() -> tuple[str, ...]:
    """All names, in the order of `ARCHITECTURES`."""
    return tuple(ARCHITECTURES)


def build_architecture(
    name: str, *, input_shape: tuple[int, int, int] | None = None, classes: int | None = None, **options: Any
) -> nn.Module:
    """An untrained network; `options` are those of its factory (widths, blocks, ...). Unknown name: BadInputError."""
    if name not in ARCHITECTURES:
        raise BadInputError(f"unknown architecture {name!r}", fix=f"known: {', '.join(ARCHITECTURES)}")
    architecture = ARCHITECTURES[name]
    shape = input_shape or architecture.input_shape
    module = architecture.build(shape, architecture.classes if classes is None else classes, **options)
    module.example_input = torch.zeros(1, *shape)
    return module
