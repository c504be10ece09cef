"""Training data on the device: images stay uint8 in memory, batches are drawn and augmented as tensors.

There are no worker processes: for images of this size an affine change of a whole batch costs less than moving it
between processes. Every epoch draws from its own generator, seeded by (seed, epoch), so that a resumed run sees exactly
the batches that the uninterrupted run would have seen.

Legend: N samples, B batch, C channels, H height, W width; images are NCHW.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name PyTorch's own documentation uses
from torch import Tensor

from onebit.core.datasets import Dataset
from onebit.core.errors import BadInputError
from onebit.core.metadata import Preprocessing
from onebit.train.recipes.base import Augmentation, RandomCrop

ELASTIC_POINTS = 5
"""Points per axis of the random displacement grid of `Augmentation.elastic_pixels`."""


class TensorImages:
    """A data set as tensors on `device`: `x` uint8 [N, C, H, W], `y` int64 [N]."""

    def __init__(self, dataset: Dataset, preprocessing: Preprocessing, device: torch.device) -> None:
        if dataset.y is None or dataset.x.ndim != 4 or dataset.x.dtype != np.uint8:
            raise BadInputError(
                f"data set {dataset.name} is {dataset.x.dtype} of shape {dataset.x.shape}",
                fix="training needs labelled uint8 images [N, H, W, C]",
            )
        # A copy in any case: the data set's memory may be read-only, which tensors cannot be.
        self.x = torch.from_numpy(dataset.x.transpose(0, 3, 1, 2).copy(order="C")).to(device)
        self.y = torch.from_numpy(dataset.y.copy()).to(device)
        self.table = torch.from_numpy(preprocessing.real_table(dataset.x.shape[3])).to(device)

    def __len__(self) -> int:
        return int(self.x.shape[0])

    def batch(self, index: Tensor, window: Window | None = None) -> tuple[Tensor, Tensor]:
        """Preprocessed images float32 [B, C, H, W] (channels last in memory) and labels [B] of those samples.

        Preprocessing is the same table look-up as on the device that runs the model. With `window` only that part of
        each image is read.
        """
        pixels = self.x[index] if window is None else window.read(self.x, index)
        channel = torch.arange(pixels.shape[1], device=pixels.device).view(1, -1, 1, 1)
        images = self.table[channel, pixels.to(torch.int64)]
        return images.contiguous(memory_format=torch.channels_last), self.y[index]


@dataclass(frozen=True)
class Window:
    """Which pixels of each image of a batch to read: row and column numbers [B, S], `inside` where they exist."""

    rows: Tensor
    columns: Tensor
    inside: Tensor | None

    @staticmethod
    def draw(
        crop: RandomCrop | None, flip: bool, shape: tuple[int, int], count: int, done: float, generator: torch.Generator
    ) -> Window:
        """A window for each of `count` images of `shape` (H, W); numbers are drawn whether they are used or not."""
        draws = torch.rand(count, 3, generator=generator)
        height, width = shape
        if crop is not None:
            size, pad = crop.size_at(done), crop.pad
            if size > min(height, width) + 2 * pad:
                raise BadInputError(
                    f"a crop of {size} pixels is larger than an image of {height}x{width} with {pad} pixels around it"
                )
            top = (draws[:, 0] * (height + 2 * pad - size + 1)).floor().to(torch.int64) - pad
            left = (draws[:, 1] * (width + 2 * pad - size + 1)).floor().to(torch.int64) - pad
            rows = top[:, None] + torch.arange(size)
            columns = left[:, None] + torch.arange(size)
        else:
            rows = torch.arange(height).expand(count, height)
            columns = torch.arange(width).expand(count, width)
        if flip:
            columns = torch.where(draws[:, 2:] < 0.5, columns.flip(1), columns)
        inside = None
        if crop is not None and crop.fill == "zero" and crop.pad:
            row_in, column_in = (rows >= 0) & (rows < height), (columns >= 0) & (columns < width)
            inside = row_in[:, :, None] & column_in[:, None, :]
        return Window(rows.clamp(0, height - 1), columns.clamp(0, width - 1), inside)

    def read(self, images: Tensor, index: Tensor) -> Tensor:
        """The windows of images [N, C, H, W] at `index` [B]: [B, C, S, S]; pixels outside are 0 where `inside` says."""
        device = images.device
        rows, columns = self.rows.to(device)[:, :, None], self.columns.to(device)[:, None, :]
        pixels = images.permute(0, 2, 3, 1)[index[:, None, None], rows, columns]
        if self.inside is not None:
            pixels = pixels * self.inside.to(device)[..., None]
        return pixels.permute(0, 3, 1, 2)


class TrainBatches:
    """Shuffled, augmented batches of one epoch; every batch is full, the rest of the permutation is left out.

    Set `epoch` before iterating: it decides the permutation and all random changes. `epochs` is the length of the run,
    for changes that depend on its progress. With `shard` several processes share every batch.
    """

    def __init__(
        self, images: TensorImages, batch_size: int, augmentation: Augmentation, seed: int, epochs: int = 1
    ) -> None:
        if len(images) < batch_size:
            raise BadInputError(f"{len(images)} training images are fewer than a batch of {batch_size}")
        self.images = images
        self.batch_size = batch_size
        self.augmentation = augmentation
        self.seed = seed
        self.epochs = epochs
        self.epoch = 0
        self.rank, self.world = 0, 1
        self.background = images.table[:, :1].reshape(1, -1, 1, 1)

    def shard(self, rank: int, world: int) -> None:
        """Makes this the share of process `rank` of `world`: each gets every world-th sample of a batch."""
        check_shares(self.batch_size, world)
        self.rank, self.world = rank, world

    def __len__(self) -> int:
        return len(self.images) // self.batch_size

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(epoch_seed(self.seed, self.epoch))
        device = self.images.x.device
        amounts, shape = self.augmentation, (int(self.images.x.shape[2]), int(self.images.x.shape[3]))
        windowed = amounts.flip or amounts.crop is not None
        order = torch.randperm(len(self.images), generator=generator).to(device)
        if self.rank:
            # The order is common to all processes, the random changes are not.
            generator.manual_seed(epoch_seed(self.seed, self.epoch) ^ self.rank)
        count = self.batch_size // self.world
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            window = None
            if windowed:
                done = self.epoch / self.epochs
                window = Window.draw(amounts.crop, amounts.flip, shape, count, done, generator)
            mine = order[start + self.rank : start + self.batch_size : self.world]
            images, labels = self.images.batch(mine, window)
            if amounts.is_affine:
                # Interpolation blends with 0 outside the image, which must be what pixel 0 stands for.
                images = augment(images - self.background, amounts, generator) + self.background
            yield images, labels


class EvalBatches:
    """All samples in order, unchanged, in batches of at most `batch_size`; none while `skip` is set.

    Of several processes each takes every world-th sample (`shard`).
    """

    def __init__(self, images: TensorImages, batch_size: int = 500) -> None:
        self.images = images
        self.batch_size = batch_size
        self.skip = False
        self.rank, self.world = 0, 1

    def shard(self, rank: int, world: int) -> None:
        """Makes this the share of process `rank` of `world`; BadInputError if a process would have none."""
        if world > len(self.images):
            raise BadInputError(
                f"{len(self.images)} test images cannot be shared by {world} devices", fix="use fewer devices"
            )
        self.rank, self.world = rank, world

    def _share(self) -> range:
        return range(self.rank, len(self.images), self.world)

    def __len__(self) -> int:
        return math.ceil(len(self._share()) / self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        share = self._share()
        for start in range(0, 0 if self.skip else len(share), self.batch_size):
            part = share[start : start + self.batch_size]
            yield self.images.batch(torch.arange(part.start, part.stop, part.step, device=self.images.x.device))


def check_shares(batch_size: int, world: int) -> None:
    """BadInputError unless `world` processes can share a batch evenly."""
    if batch_size % world:
        raise BadInputError(
            f"a batch of {batch_size} images cannot be shared by {world} devices",
            fix="use a number of devices that divides the batch",
        )


def epoch_seed(seed: int, epoch: int) -> int:
    """A 63-bit seed from both numbers, unrelated for neighbouring ones (sha256, so that it is the same everywhere)."""
    digest = hashlib.sha256(f"{seed}/{epoch}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def augment(images: Tensor, amounts: Augmentation, generator: torch.Generator) -> Tensor:
    """Every image [B, C, H, W] under its own random affine map; same shape and memory format.

    Output coordinates p (in [-1, 1] from edge to edge) are read at A p + t + bend(p), with A = rotation * shear * zoom.
    """
    count, _, height, width = images.shape
    # One row of six numbers per image, always drawn, so that the amounts do not change the order of the stream.
    draws = (torch.rand(count, 6, generator=generator) * 2 - 1).to(images.device)
    angle = draws[:, 0] * math.radians(amounts.rotation_degrees)
    zoom = 1 + draws[:, 1:3] * amounts.zoom
    shear = draws[:, 3] * amounts.shear
    shift_x = draws[:, 4] * (2 * amounts.shift_pixels / width)
    shift_y = draws[:, 5] * (2 * amounts.shift_pixels / height)
    cos, sin = torch.cos(angle), torch.sin(angle)
    row_x = torch.stack([cos * zoom[:, 0], (cos * shear - sin) * zoom[:, 1], shift_x], dim=1)
    row_y = torch.stack([sin * zoom[:, 0], (sin * shear + cos) * zoom[:, 1], shift_y], dim=1)
    grid = F.affine_grid(torch.stack([row_x, row_y], dim=1), list(images.shape), align_corners=False)
    if amounts.elastic_pixels:
        bend = torch.rand(count, 2, ELASTIC_POINTS, ELASTIC_POINTS, generator=generator) * 2 - 1
        bend = F.interpolate(bend.to(images.device), size=(height, width), mode="bicubic", align_corners=True)
        pixel = torch.tensor([2 / width, 2 / height], device=images.device)
        grid = grid + bend.permute(0, 2, 3, 1) * (amounts.elastic_pixels * pixel)
    return F.grid_sample(images, grid, align_corners=False).contiguous(memory_format=torch.channels_last)
