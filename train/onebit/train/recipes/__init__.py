"""The recipes by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from onebit.core.errors import BadInputError
from onebit.train.recipes.base import (
    Augmentation,
    CosineSchedule,
    LinearSchedule,
    MultiStepSchedule,
    RandomCrop,
    Recipe,
    TwoStepSchedule,
)
from onebit.train.recipes.cifar import CIFAR_RECIPES
from onebit.train.recipes.digits import DIGITS, DIGITS_FULL
from onebit.train.recipes.fashion import FASHION

__all__ = [
    "MEASURED", "Augmentation", "CosineSchedule", "LinearSchedule", "MultiStepSchedule", "RandomCrop", "Recipe",
    "TwoStepSchedule",    "get_recipe", "list_recipes", "measured_figures", "recipe_names",
]  # fmt: skip

MEASURED = Path(__file__).with_name("measured.json")
"""Figures per recipe that `python -m benchmarks.recipes` wrote."""

_RECIPES = {recipe.name: recipe for recipe in (*CIFAR_RECIPES, DIGITS, DIGITS_FULL, FASHION)}


def measured_figures() -> dict[str, dict[str, Any]]:
    """What was measured, by recipe; nothing for a recipe that was not."""
    figures: dict[str, dict[str, Any]] = json.loads(MEASURED.read_text("utf-8"))
    return figures


def list_recipes() -> tuple[Recipe, ...]:
    """All recipes, sorted by name."""
    return tuple(_RECIPES[name] for name in recipe_names())


def recipe_names() -> tuple[str, ...]:
    """The names of all recipes, sorted."""
    return tuple(sorted(_RECIPES))


def get_recipe(name: str) -> Recipe:
    """The recipe of that name; BadInputError lists those that exist."""
    if name not in _RECIPES:
        raise BadInputError(f"unknown recipe {name!r}", fix=f"known: {', '.join(recipe_names())}")
    return _RECIPES[name]
