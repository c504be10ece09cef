"""Batches and augmentation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from onebit.core.datasets import Dataset
from onebit.core.errors import BadInputError
from onebit.core.metadata import Preprocessing
from onebit.train.data import EvalBatches, TensorImages, TrainBatches, augment
from onebit.train.recipes import Augmentation, CosineSchedule

CPU = torch.device("cpu")


def dataset(count: int = 10, channels: int = 2) -> Dataset:
    x = np.random.default_rng(0).integers(0, 256, (count, 6, 5, channels), dtype=np.uint8)
    return Dataset("made up", "train", x, np.arange(count, dtype=np.int64), (), "")


PREPROCESSING = Preprocessing(scale=1 / 255, offset=-0.5, mean=(0.1, 0.2), std=(0.5, 0.25))


def images() -> TensorImages:
    return TensorImages(dataset(), PREPROCESSING, CPU)


def test_batch_is_the_preprocessing_of_the_metadata() -> None:
    x, y = images().batch(torch.tensor([7, 2]))
    expected = PREPROCESSING.apply(dataset().x[[7, 2]], np.float32).transpose(0, 3, 1, 2)
    assert np.array_equal(x.numpy(), expected)
    assert y.tolist() == [7, 2]


def test_read_only_memory_is_fine() -> None:
    pixels = np.frombuffer(bytes(range(24)), np.uint8).reshape(2, 4, 3, 1)
    tensors = TensorImages(Dataset("read-only", "train", pixels, np.zeros(2, np.int64), (), ""), Preprocessing(), CPU)
    assert tensors.x.flatten().tolist() == list(range(24))


def test_an_epoch_is_decided_by_seed_and_number() -> None:
    batches = TrainBatches(images(), 3, Augmentation(shift_pixels=1.0), seed=5)

    def labels(epoch: int) -> list[list[int]]:
        batches.epoch = epoch
        return [y.tolist() for _, y in batches]

    assert labels(0) == labels(0)
    assert labels(0) != labels(1)
    assert [len(batch) for batch in labels(4)] == [3, 3, 3] == [3] * len(batches)
    assert len({label for batch in labels(4) for label in batch}) == 9


def test_no_augmentation_is_the_identity() -> None:
    x, _ = images().batch(torch.arange(4))
    assert torch.allclose(augment(x, Augmentation(), torch.Generator().manual_seed(1)), x, atol=1e-5)


def test_background_stays_what_pixel_0_is() -> None:
    blank = Dataset("blank", "train", np.zeros((4, 6, 5, 2), np.uint8), np.zeros(4, np.int64), (), "")
    tensors = TensorImages(blank, PREPROCESSING, CPU)
    batches = TrainBatches(tensors, 4, Augmentation(3.0, 45.0, 0.5, 0.5), seed=1)
    for x, _ in batches:
        assert torch.equal(x, tensors.batch(torch.arange(4))[0])


@pytest.mark.parametrize(
    "amounts",
    [Augmentation(shift_pixels=2.0), Augmentation(rotation_degrees=20.0), Augmentation(elastic_pixels=1.0)],
    ids=["shift", "rotation", "elastic"],
)
def test_augmentation_moves_but_keeps_the_mass(amounts: Augmentation) -> None:
    x = torch.zeros(8, 1, 28, 28)
    x[:, :, 10:18, 10:18] = 1.0
    moved = augment(x, amounts, torch.Generator().manual_seed(2))
    assert moved.shape == x.shape
    assert not torch.allclose(moved, x)
    assert torch.allclose(moved.sum((1, 2, 3)), x.sum((1, 2, 3)), rtol=0.35)


def test_evaluation_sees_every_image_once() -> None:
    batches = EvalBatches(images(), 4)
    assert torch.cat([y for _, y in batches]).tolist() == list(range(10))
    assert len(list(batches)) == len(batches) == 3


def test_unusable_data() -> None:
    with pytest.raises(BadInputError, match="fewer than a batch of 11"):
        TrainBatches(images(), 11, Augmentation(), seed=1)
    unlabelled = Dataset("made up", "train", dataset().x, None, (), "")
    with pytest.raises(BadInputError, match="labelled uint8 images"):
        TensorImages(unlabelled, PREPROCESSING, CPU)


def test_cosine_schedule() -> None:
    plain = CosineSchedule(peak=2.0)
    assert [plain.rate(epoch, 10) for epoch in (0, 5, 10)] == pytest.approx([2.0, 1.0, 0.0])
    warm = CosineSchedule(peak=2.0, warmup_epochs=2)
    assert warm.rate(0, 10) == 0.0
    assert warm.rate(1, 10) == pytest.approx(plain.rate(1, 10) / 2)
    assert warm.rate(3, 10) == plain.rate(3, 10)
