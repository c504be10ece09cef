"""Batches and augmentation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from onebit.core.datasets import Dataset
from onebit.core.errors import BadInputError
from onebit.core.metadata import Preprocessing
from onebit.train.data import EvalBatches, TensorImages, TrainBatches, Window, augment
from onebit.train.recipes import Augmentation, CosineSchedule, LinearSchedule, MultiStepSchedule, RandomCrop

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


@pytest.mark.parametrize("world", [2, 3, 4, 10])
def test_evaluation_is_shared_by_image(world: int) -> None:
    shares = [EvalBatches(images(), 4) for _ in range(world)]
    for rank, share in enumerate(shares):
        share.shard(rank, world)
    seen = [torch.cat([y for _, y in share]).tolist() for share in shares]
    assert sorted(label for labels in seen for label in labels) == list(range(10))
    assert max(map(len, seen)) - min(map(len, seen)) <= 1
    assert all(len(list(share)) == len(share) for share in shares)
    shares[0].skip = True
    assert list(shares[0]) == []


def test_more_devices_than_test_images_are_refused() -> None:
    with pytest.raises(BadInputError, match="10 test images cannot be shared by 11 devices"):
        EvalBatches(images(), 4).shard(0, 11)


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


def test_linear_and_multi_step_schedules() -> None:
    assert [LinearSchedule(peak=2.0).rate(epoch, 10) for epoch in (0, 5, 10)] == pytest.approx([2.0, 1.0, 0.0])
    steps = MultiStepSchedule(peak=1.0, milestones=(0.5, 0.8), gamma=0.1)
    assert [steps.rate(epoch, 10) for epoch in (0, 4.9, 5, 7.9, 8, 10)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def windowed(crop: RandomCrop | None, *, flip: bool = False, done: float = 0.0, count: int = 200) -> Window:
    return Window.draw(crop, flip, (6, 5), count, done, torch.Generator().manual_seed(3))


def read(window: Window, count: int = 200) -> np.ndarray:
    tensors = images()
    return window.read(tensors.x, torch.arange(count) % 10).numpy()


def test_crops_are_windows_of_the_padded_image() -> None:
    """Every window is one of NumPy's padded image, all places occur, and both ways of filling are NumPy's."""
    for fill, mode in (("edge", "edge"), ("zero", "constant")):
        crops = read(windowed(RandomCrop(5, pad=1, fill=fill)))  # type: ignore[arg-type]
        places = set()
        for i, crop in enumerate(crops):
            padded = np.pad(dataset().x[i % 10], ((1, 1), (1, 1), (0, 0)), mode=mode).transpose(2, 0, 1)  # type: ignore[call-overload]
            found = [
                (y, x) for y in range(4) for x in range(3) if np.array_equal(crop, padded[:, y : y + 5, x : x + 5])
            ]
            assert found
            places.update(found)
        assert len(places) == 12


def test_half_of_the_images_are_mirrored() -> None:
    mirrored = 0
    for i, image in enumerate(read(windowed(None, flip=True))):
        original = dataset().x[i % 10].transpose(2, 0, 1)
        is_mirrored = np.array_equal(image, original[:, :, ::-1])
        assert is_mirrored or np.array_equal(image, original)
        mirrored += is_mirrored
    assert 70 < mirrored < 130


def test_small_windows_until_their_share_of_the_run() -> None:
    crop = RandomCrop(5, pad=1, small_size=3, small_until=0.5)
    assert read(windowed(crop, done=0.49)).shape == (200, 2, 3, 3)
    assert read(windowed(crop, done=0.5)).shape == (200, 2, 5, 5)


def test_an_impossible_crop_is_refused() -> None:
    with pytest.raises(BadInputError, match=r"crop of 9 pixels .* image of 6x5 with 1"):
        windowed(RandomCrop(9, pad=1))


def test_batches_crop_and_flip_before_preprocessing() -> None:
    batches = TrainBatches(images(), 5, Augmentation(flip=True, crop=RandomCrop(4, pad=2)), seed=1)
    pixels, _ = next(iter(batches))
    assert pixels.shape == (5, 2, 4, 4)
    assert pixels.is_contiguous(memory_format=torch.channels_last)
    # What lies outside the image is pixel value 0, preprocessed like any other.
    background = PREPROCESSING.real_table(2)[:, 0]
    assert any(np.allclose(corner, background) for corner in pixels[:, :, 0, 0].numpy())
