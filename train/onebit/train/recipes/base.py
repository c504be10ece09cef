"""What a recipe is: everything that decides a training run, as data."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import nn

from onebit.core.metadata import ModelMetadata, Preprocessing


@dataclass(frozen=True)
class Augmentation:
    """Random affine change of every training image; each amount is drawn uniformly from [-value, +value].

    `shift_pixels` moves along both axes, `rotation_degrees` turns about the centre, `zoom` scales by 1 + amount,
    `shear` slants by that tangent, `elastic_pixels` bends: 5x5 points over the image are moved at random, those
    between them by bicubic interpolation. Pixels are interpolated bilinearly, outside is 0.
    """

    shift_pixels: float = 0.0
    rotation_degrees: float = 0.0
    zoom: float = 0.0
    shear: float = 0.0
    elastic_pixels: float = 0.0


@dataclass(frozen=True)
class CosineSchedule:
    """Learning rate = peak * (1 + cos(pi * progress)) / 2, after a linear warm-up over `warmup_epochs`."""

    peak: float
    warmup_epochs: float = 0.0

    def rate(self, epoch: float, epochs: int) -> float:
        """The learning rate at a fractional `epoch` of `epochs` in all."""
        warmup = min(1.0, epoch / self.warmup_epochs) if self.warmup_epochs > 0 else 1.0
        return self.peak * warmup * 0.5 * (1.0 + math.cos(math.pi * min(epoch / epochs, 1.0)))


@dataclass(frozen=True)
class Recipe:
    """A named, reproducible training run.

    `model` builds the untrained network; `dataset` is a name for `onebit.core.datasets.load_dataset`, whose train split
    is learned from and whose test split is only measured on. `input_shape` is (C, H, W). Optimizer: Adam.
    """

    name: str
    description: str
    model: Callable[[], nn.Module]
    dataset: str
    input_shape: tuple[int, int, int]
    classes: tuple[str, ...]
    epochs: int
    batch_size: int
    schedule: CosineSchedule
    augmentation: Augmentation
    seed: int = 1
    label_smoothing: float = 0.0
    preprocessing: Preprocessing = field(default_factory=Preprocessing)

    def metadata(self) -> ModelMetadata:
        """What travels with a model trained by this recipe."""
        return ModelMetadata(self.preprocessing, "NHWC", self.classes, self.dataset)
