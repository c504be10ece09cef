"""Fashion-MNIST: clothes on 28x28 pixels."""

from __future__ import annotations

from onebit.core.datasets import FASHION_NAMES
from onebit.train.models.digits import DigitsNet
from onebit.train.recipes.base import Augmentation, CosineSchedule, RandomCrop, Recipe

FASHION = Recipe(
    name="fashion",
    description="the binary CNN of the digits on Fashion-MNIST's 60,000 training images; accuracy on its test set",
    model=DigitsNet,
    dataset="fashion_mnist",
    input_shape=(1, 28, 28),
    classes=FASHION_NAMES,
    epochs=60,
    expected_accuracy=0.9025,
    expected_source="measured",
    batch_size=128,
    schedule=CosineSchedule(peak=5e-3),
    augmentation=Augmentation(flip=True, crop=RandomCrop(28, pad=2)),
    precision="bf16-mixed",
)
