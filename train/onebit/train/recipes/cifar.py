"""CIFAR-10."""

from __future__ import annotations

from onebit.core.datasets import CIFAR10_NAMES
from onebit.core.metadata import Preprocessing
from onebit.train.models.cifar import CifarNet
from onebit.train.recipes.base import Augmentation, CosineSchedule, RandomCrop, Recipe

CIFAR10_PREPROCESSING = Preprocessing(mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616))
"""Mean and standard deviation of the training images' channels, on the scale of 0 to 1."""

CIFAR10 = Recipe(
    name="cifar10",
    description="binary residual CNN of 50 KB",
    model=CifarNet,
    dataset="cifar10",
    input_shape=(3, 32, 32),
    classes=CIFAR10_NAMES,
    epochs=60,
    batch_size=128,
    schedule=CosineSchedule(peak=2e-3, warmup_epochs=1.0),
    augmentation=Augmentation(flip=True, crop=RandomCrop(32, pad=4, small_size=24, small_until=0.8)),
    preprocessing=CIFAR10_PREPROCESSING,
    precision="bf16-mixed",
)
