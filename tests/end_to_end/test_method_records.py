"""docs/methods.md is current, complete, and its figures are those that can be measured again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.methods import BASELINE, NETS, RECORDS, cases, left
from docs.methods import OUTPUT, description, document, formula
from onebit.train.methods import METHODS


def test_methods_page_is_current() -> None:
    assert OUTPUT.read_text("utf-8") == document(), "run python -m docs.methods"


def test_every_method_is_measured() -> None:
    recorded = json.loads(RECORDS.read_text("utf-8"))["methods"]
    assert list(recorded) == list(cases())
    assert set(recorded[BASELINE]) == {"step", *NETS}


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_a_formula_and_a_source(name: str) -> None:
    assert 10 < len(formula(METHODS[name])) < 160
    assert "Source:" in description(METHODS[name])[-1]


@pytest.mark.parametrize("text", [BASELINE, "er_activations", "adabin"])
def test_figures_can_be_measured_again(text: str, tmp_path: Path) -> None:
    """Operators and bytes; instructions need an emulator and a compiler, and are recorded with them."""
    recorded = json.loads(RECORDS.read_text("utf-8"))["methods"][text]
    for net, build in NETS.items():
        found = left(text, build, tmp_path, count=False)
        assert {key: recorded[net][key] for key in found} == found
