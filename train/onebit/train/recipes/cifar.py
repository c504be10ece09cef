"""CIFAR-10."""

from __future__ import annotations

from torch import nn

from onebit.core.datasets import CIFAR10_NAMES
from onebit.core.metadata import Preprocessing
from onebit.train.models.residual import residual_net
from onebit.train.recipes.base import Augmentation, CosineSchedule, RandomCrop, Recipe

CIFAR10_PREPROCESSING = Preprocessing(mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616))
"""Mean and standard deviation of the training images' channels, on the scale of 0 to 1."""


def small_residual_net() -> nn.Module:
    """Residual network of 47 KB of binary weights: 32 channels at 32x32, 64 at 16x16, 128 at 8x8."""
    return residual_net(widths=(32, 64, 128), units=(0, 5, 2), activation="prelu")


CIFAR10 = Recipe(
    name="cifar10",
    description="binary residual CNN of 50 KB",
    model=small_residual_net,
    dataset="cifar10",
    input_shape=(3, 32, 32),
    classes=CIFAR10_NAMES,
    epochs=50,
    batch_size=128,
    schedule=CosineSchedule(peak=4e-3, warmup_epochs=1.0),
    augmentation=Augmentation(flip=True, crop=RandomCrop(32, pad=4, small_size=24, small_until=0.8)),
    preprocessing=CIFAR10_PREPROCESSING,
    precision="bf16-mixed",
    validate_every=5,
)
