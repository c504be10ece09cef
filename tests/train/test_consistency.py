"""Recipes whose network, data and classes do not belong together are refused in one line."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from onebit.core.datasets import Dataset
from onebit.core.errors import BadInputError
from onebit.train.consistency import check_consistent
from onebit.train.engine import train
from onebit.train.recipes import Augmentation, CosineSchedule, RandomCrop, Recipe


def net(channels: int = 1, classes: int = 3) -> nn.Module:
    conv = nn.Conv2d(channels, 4, 3, padding=1)
    return nn.Sequential(conv, nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(256, classes))


MINE = Recipe(
    name="mine", description="", model=net, dataset="digits", input_shape=(1, 8, 8), classes=("a", "b", "c"), epochs=1,
    batch_size=1, schedule=CosineSchedule(peak=1.0), augmentation=Augmentation(flip=True),
)  # fmt: skip


def images(*shape: int, label: int = 2) -> Dataset:
    return Dataset("some", "train", np.zeros((2, *shape), np.uint8), np.array([0, label]), (), "")


def test_what_fits_is_left_as_it_is() -> None:
    for training in (True, False):
        fitting = net().train(training)
        before = {name: value.clone() for name, value in fitting.state_dict().items()}
        check_consistent(MINE, fitting, images(8, 8, 1))
        assert fitting.training == training
        assert all(torch.equal(value, before[name]) for name, value in fitting.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "data", "module", "message"),
    [
        ({}, images(8, 8, 3), net(3), r"input_shape is \(1, 8, 8\), that of data set some is \(3, 8, 8\); give"),
        ({}, images(8, 8, 1), net(3), r"the network cannot take images of \(1, 8, 8\): Given groups"),
        ({}, images(8, 8, 1, label=3), net(), "data set some has label 3, the recipe 3 classes"),
        ({}, images(8, 8, 1), net(classes=4), r"the network makes \(1, 4\) of one image of \(1, 8, 8\), there are 3"),
        (
            {"augmentation": Augmentation(crop=RandomCrop(8, small_size=6, small_until=0.5))},
            images(8, 8, 1), net(), r"the network cannot take images of \(1, 6, 6\): mat1 and mat2",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(changes: dict[str, Any], data: Dataset, module: nn.Module, message: str) -> None:
    with pytest.raises(BadInputError, match=f"^recipe mine: {message}"):
        check_consistent(replace(MINE, **changes), module, data)


def test_the_engine_asks(tmp_path, requires_package) -> None:  # type: ignore[no-untyped-def]
    requires_package("sklearn")
    with pytest.raises(BadInputError, match="^recipe mine: data set digits has label 9, the recipe 3 classes"):
        train(MINE, out=tmp_path / "run", progress=False)
    assert list((tmp_path / "run").iterdir()) == []
