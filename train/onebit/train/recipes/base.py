"""What a recipe is: everything that decides a training run, as data."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from torch import nn

from onebit.core.errors import BadInputError
from onebit.core.metadata import ModelMetadata, Preprocessing
from onebit.train.methods import Method, TwoStep
from onebit.train.optimizers import Adam, OptimizerConfig
from onebit.train.options import check_options, option


@dataclass(frozen=True)
class RandomCrop:
    """A window of `size` x `size` pixels at a random place of the image, widened by `pad` pixels on every side.

    `fill` is what the widened part shows: "edge" repeats the border pixel, "zero" is pixel value 0. Until the share
    `small_until` of the run is over, windows of `small_size` pixels are cut instead: an epoch of 24x24 windows costs
    little more than half of one of 32x32, and a network that ends in a global mean takes either.
    """

    size: int
    pad: int = 4
    fill: Literal["edge", "zero"] = "zero"
    small_size: int = 0
    small_until: float = 0.0

    def size_at(self, done: float) -> int:
        """The window's side when the share `done` of the run (0 to 1) is over."""
        return self.small_size if done < self.small_until else self.size


@dataclass(frozen=True)
class Augmentation:
    """Random change of every training image: `crop`, a mirror image for every other one if `flip`, an affine map.

    The amounts of the affine map are drawn uniformly from [-value, +value]; if all are 0 there is none.
    `shift_pixels` moves along both axes, `rotation_degrees` turns about the centre, `zoom` scales by 1 + amount,
    `shear` slants by that tangent, `elastic_pixels` bends: 5x5 points over the image are moved at random, those
    between them by bicubic interpolation. Pixels are interpolated bilinearly, outside is 0.
    """

    shift_pixels: float = 0.0
    rotation_degrees: float = 0.0
    zoom: float = 0.0
    shear: float = 0.0
    elastic_pixels: float = 0.0
    flip: bool = False
    crop: RandomCrop | None = None

    @property
    def is_affine(self) -> bool:
        """Whether images are interpolated at all."""
        return any((self.shift_pixels, self.rotation_degrees, self.zoom, self.shear, self.elastic_pixels))


@dataclass(frozen=True)
class Schedule(ABC):
    """A learning rate: `peak` times a factor that falls with progress, after a linear warm-up over `warmup_epochs`."""

    peak: float
    warmup_epochs: float = option(0.0, least=0)

    def __post_init__(self) -> None:
        check_options(self, type(self).__name__)

    def rate(self, epoch: float, epochs: float) -> float:
        """The learning rate at a fractional `epoch` of `epochs` in all."""
        warmup = min(1.0, epoch / self.warmup_epochs) if self.warmup_epochs > 0 else 1.0
        return self.peak * warmup * self.factor(min(epoch / epochs, 1.0))

    @abstractmethod
    def factor(self, done: float) -> float:
        """The share of the peak when the share `done` of the run (0 to 1) is over."""

    def step(self, done: float) -> int:
        """The number, from 0, of the run's part at its share `done`; between parts the optimizer loses its averages."""
        return 0

    def decays(self, done: float) -> bool:
        """Whether weight decay acts at the share `done` of the run."""
        return True


@dataclass(frozen=True)
class CosineSchedule(Schedule):
    """factor = (1 + cos(pi * done)) / 2."""

    def factor(self, done: float) -> float:
        """See the class."""
        return 0.5 * (1.0 + math.cos(math.pi * done))


@dataclass(frozen=True)
class LinearSchedule(Schedule):
    """factor = 1 - done."""

    def factor(self, done: float) -> float:
        """See the class."""
        return 1.0 - done


@dataclass(frozen=True)
class TwoStepSchedule(LinearSchedule):
    """Two runs in one, the second from the share `share` on: each warms up, falls from the peak to 0 and has its own
    averages of the optimizer; weight decay acts in the first one only.

    Source: Liu, Shen, Savvides, Cheng, "ReActNet", 2020 (arXiv 2003.03488), from the public code. For the method
    `two_step` with the same share.
    """

    share: float = option(0.5, above=0, below=1)

    def rate(self, epoch: float, epochs: float) -> float:
        """See the base class."""
        start = self.share * epochs if self.step(epoch / epochs) else 0.0
        length = epochs - start if start else self.share * epochs
        return super().rate(epoch - start, length)

    def step(self, done: float) -> int:
        """See the base class."""
        return int(done >= self.share)

    def decays(self, done: float) -> bool:
        """See the base class."""
        return self.step(done) == 0


@dataclass(frozen=True)
class MultiStepSchedule(Schedule):
    """factor = `gamma` to the power of the number of `milestones` (shares of the run) that are over."""

    milestones: tuple[float, ...] = (0.5, 0.75, 0.9)
    gamma: float = 0.1

    def factor(self, done: float) -> float:
        """See the class."""
        return float(self.gamma ** sum(done >= milestone for milestone in self.milestones))


@dataclass(frozen=True)
class Recipe:
    """A named, reproducible training run.

    `model` builds the untrained network; `dataset` is a name for `onebit.core.datasets.load_dataset`, whose train split
    (the first `train_images` of it, if given) is learned from and whose test split is only measured on, after every
    `validate_every`-th epoch and the last. `input_shape` is (C, H, W).

    `latent_scale` multiplies the initial latent weights of binary layers: smaller ones flip earlier. `latent_clamp`
    keeps them in [-value, +value] (beyond 1 the clipped straight-through estimator gives no gradient). With
    `precision` "bf16-mixed" convolutions and matrix products multiply in bfloat16 (+-1 is exact) while training;
    accuracy is always measured in float32.

    `expected_accuracy` (0 to 1) is what `expected_source` says: "measured" stands for a run in docs/results.md,
    anything else names the publication that states it and, behind "but for", in what the recipe is not what was
    published. From all of them it differs in padding, which is +1 here and 0 there.
    """

    name: str
    description: str
    model: Callable[[], nn.Module]
    dataset: str
    input_shape: tuple[int, int, int]
    classes: tuple[str, ...]
    epochs: int
    batch_size: int
    schedule: Schedule
    augmentation: Augmentation
    optimizer: OptimizerConfig = field(default_factory=Adam)
    methods: tuple[Method, ...] = ()
    seed: int = 1
    label_smoothing: float = 0.0
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    expected_accuracy: float | None = None
    expected_source: str = ""
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    latent_scale: float = 1.0
    latent_clamp: float | None = 1.0
    train_images: int | None = None
    validate_every: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.schedule, TwoStepSchedule):
            return
        share = self.schedule.share
        for method in self.methods:
            if isinstance(method, TwoStep) and method.share != share:
                raise BadInputError(
                    f"method two_step begins step 2 at share={method.share}, the schedule at share={share}",
                    where=f"recipe {self.name}",
                    fix=f"use two_step:share={share}, or another schedule",
                )

    def metadata(self) -> ModelMetadata:
        """What travels with a model trained by this recipe."""
        return ModelMetadata(self.preprocessing, "NHWC", self.classes, self.dataset)
