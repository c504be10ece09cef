"""Training of binarized networks: quantizers, layers, models, recipes, and the engine that runs a recipe.

    from onebit.train import load_checkpoint, train
    result = train("digits", out="runs/digits")
    model = load_checkpoint(result.checkpoint)

The names below are loaded on first use: the engine needs Lightning, which takes seconds to import.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onebit.train.checkpoint import LoadedModel, load_checkpoint
    from onebit.train.engine import TrainResult, train
    from onebit.train.recipes import Recipe, get_recipe, list_recipes, recipe_names

__all__ = [
    "LoadedModel", "Recipe", "TrainResult", "get_recipe", "list_recipes", "load_checkpoint", "recipe_names", "train",
]  # fmt: skip

_HOME = {
    "LoadedModel": "checkpoint",
    "load_checkpoint": "checkpoint",
    "TrainResult": "engine",
    "train": "engine",
    "Recipe": "recipes",
    "get_recipe": "recipes",
    "list_recipes": "recipes",
    "recipe_names": "recipes",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
