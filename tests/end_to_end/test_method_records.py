"""docs/methods.md is current, complete, and its figures are those that can be measured again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.methods import BASELINE, NETS, RECORDS, cases, left
from docs.methods import OUTPUT, changes, description, document, formula
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


@pytest.mark.parametrize("net", NETS)
def test_what_is_left_can_be_measured_again(net: str, tmp_path: Path) -> None:
    """Operators beyond the baseline's; bytes and instructions belong to the converter they were recorded with."""
    recorded = json.loads(RECORDS.read_text("utf-8"))["methods"]
    found = {text: left(text, NETS[net], tmp_path, count=False) for text in (BASELINE, "er_activations", "adabin")}
    for text in ("er_activations", "adabin"):
        again = "run python -m benchmarks.methods --only left, then python -m docs.methods"
        assert changes(found[text], found[BASELINE]) == changes(recorded[text][net], recorded[BASELINE][net]), again
