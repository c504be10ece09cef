"""Every recipe builds, takes its own input, and has the cost that its layers' shapes say."""

from __future__ import annotations

import pytest
import torch

from onebit.train.cost import model_cost
from onebit.train.data import check_shares
from onebit.train.methods import METHODS
from onebit.train.recipes import get_recipe, list_recipes

FROM_THE_ISSUE = (
    "digits", "fashion", "cifar10-vgg-w32", "cifar10-vgg-small", "cifar10-resnet20", "cifar10-resnet18",
    "cifar10-reactnet18", "smallcifar", "resnet8-hybrid",
)  # fmt: skip


@pytest.mark.parametrize("name", FROM_THE_ISSUE)
def test_recipe_exists(name: str) -> None:
    assert get_recipe(name).epochs >= 1


@pytest.mark.parametrize("recipe", list_recipes(), ids=lambda recipe: recipe.name)
def test_recipe_is_consistent(recipe) -> None:  # type: ignore[no-untyped-def]
    with torch.device("meta"):
        module = recipe.model().eval()
        assert module(torch.zeros(2, *recipe.input_shape)).shape == (2, len(recipe.classes))
        for method in recipe.methods:
            assert type(method) is METHODS[method.name]
    check_shares(recipe.batch_size, 4)
    crop = recipe.augmentation.crop
    assert crop is None or crop.size <= recipe.input_shape[1]
    assert recipe.schedule.rate(recipe.epochs, recipe.epochs) < 0.2 * recipe.schedule.peak


def test_costs_are_those_of_the_layers() -> None:
    """SmallCifar by hand: 5x5 convolutions at 32x32, 16x16 and 8x8, then 1024-10."""
    first, second, third = 25 * 3 * 32, 25 * 32 * 32, 25 * 32 * 64
    cost = model_cost(get_recipe("smallcifar"))
    assert (cost.weights, cost.binary_weights) == (first + second + third + 10240, second + third + 10240)
    assert cost.binary_macs == second * 256 + third * 64 + 10240
    assert cost.macs == cost.binary_macs + first * 1024
