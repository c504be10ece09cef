"""Whether a recipe, its network and its data belong together, asked before anything is trained."""

from __future__ import annotations

import torch
from torch import nn

from onebit.core.datasets import Dataset
from onebit.core.errors import BadInputError
from onebit.train.recipes import Recipe


def check_consistent(recipe: Recipe, net: nn.Module, *datasets: Dataset) -> None:
    """BadInputError unless the `datasets` (uint8 [N, H, W, C], labelled) hold what `recipe` says, and `net` (on the
    CPU) takes their images at every size that the augmentation cuts.
    """
    for data in datasets:
        _check_data(recipe, data)
    training = net.training
    net.eval()
    for shape in _shapes(recipe):
        _check_network(recipe, net, shape)
    net.train(training)


def _check_data(recipe: Recipe, data: Dataset) -> None:
    height, width, channels = data.x.shape[1:]
    if recipe.input_shape != (channels, height, width):
        raise BadInputError(
            f"input_shape is {recipe.input_shape}, that of data set {data.name} is {(channels, height, width)}",
            where=f"recipe {recipe.name}",
            fix="give recipe and network the data's (channels, height, width)",
        )
    last = -1 if data.y is None else int(data.y.max())
    if last >= len(recipe.classes):
        raise BadInputError(
            f"data set {data.name} has label {last}, the recipe {len(recipe.classes)} classes",
            where=f"recipe {recipe.name}",
            fix="name all classes",
        )


def _shapes(recipe: Recipe) -> list[tuple[int, int, int]]:
    """The (C, H, W) of all images that the network will see."""
    crop = recipe.augmentation.crop
    sides = {crop.size_at(done) for done in (0.0, 1.0)} if crop is not None else set()
    return [recipe.input_shape, *((recipe.input_shape[0], side, side) for side in sorted(sides))]


def _check_network(recipe: Recipe, net: nn.Module, shape: tuple[int, int, int]) -> None:
    try:
        with torch.no_grad():
            logits = tuple(net(torch.zeros(1, *shape)).shape)
    except (RuntimeError, ValueError) as error:
        raise BadInputError(
            f"the network cannot take images of {shape}: {str(error).splitlines()[0]}",
            where=f"recipe {recipe.name}",
            fix="build it for that (channels, height, width), and cut images to no other size",
        ) from error
    if logits != (1, len(recipe.classes)):
        raise BadInputError(
            f"the network makes {logits} of one image of {shape}, there are {len(recipe.classes)} classes",
            where=f"recipe {recipe.name}",
            fix="let it make one logit per class",
        )
