"""What docs/training.md says works."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from onebit.cli.fit import parse_fit
from onebit.train.methods import get_method
from onebit.train.recipes import get_recipe

PAGE = (Path(__file__).parents[2] / "docs" / "training.md").read_text("utf-8")


def test_recipes_and_methods_of_the_commands_exist() -> None:
    recipes = re.findall(r"onebit train ([a-z][\w-]*)", PAGE)
    methods = re.findall(r"--method ([\w:=,.]+)", PAGE)
    assert len(recipes) >= 4
    assert len(methods) >= 3
    budgets = re.findall(r"--fit (\S+)", PAGE)
    assert len(budgets) >= 3
    for text in budgets:
        parse_fit(text.rstrip("`"))
    for name in recipes:
        get_recipe(name)
    for text in methods:
        get_method(text)


def test_the_recipe_of_ones_own_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, requires_package) -> None:  # type: ignore[no-untyped-def]
    requires_package("mlxtend")
    monkeypatch.chdir(tmp_path)
    (code,) = (code for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "train(" in code)
    Path("example.py").write_text(code, "utf-8")
    runpy.run_path("example.py")
    files = {path.name for path in (tmp_path / "runs" / "mine").iterdir()}
    table = PAGE[: PAGE.index("## Methods")]
    assert files == set(re.findall(r"^\| `([\w.]+)` \|", table, re.MULTILINE))
