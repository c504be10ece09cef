"""The results page: what is in it is what the run folders say."""

from __future__ import annotations

import dataclasses
import statistics
from pathlib import Path
from typing import Any

import pytest

from docs import results
from onebit.core.errors import BadInputError
from onebit.train.methods import get_method
from onebit.train.provenance import RunRecord, load_record, save_record
from onebit.train.recipes import get_recipe, recipe_names

RUN = RunRecord(
    recipe="fashion", recipe_sha256="0" * 64, description="", methods=(), dataset="fashion_mnist", train_images=60000,
    train_sha256="1" * 64, test_images=10000, test_sha256="2" * 64, data_note="", epochs=60, seed=1, threads=2,
    devices=1, processor="a processor", torch="2", accuracy=0.9012, seconds=3600.0,
)  # fmt: skip


def compared(method: str, seed: int, accuracy: float, seconds: float) -> RunRecord:
    return dataclasses.replace(
        RUN, recipe=results.COMPARISON, methods=(method,), seed=seed, accuracy=accuracy, seconds=seconds
    )


def test_page_is_current() -> None:
    page = results.OUTPUT.read_text("utf-8") if results.OUTPUT.is_file() else ""
    assert page == results.document(results.records()), "run python -m docs.results"


def test_best_runs() -> None:
    page = results.document({"fashion": RUN})
    assert (
        "| `fashion` | fashion_mnist | 90.12 % | 60 | 1.00 | 1 | 2 | straight-through | random weights | a processor |"
        in page
    )


def test_gains_are_paired_by_seed() -> None:
    accuracies = {"Ste()": (0.50, 0.60, 0.55), "Recu()": (0.53, 0.62, 0.59)}
    runs = {
        f"{method}{seed}": compared(method, seed, accuracy, 100.0 if method == "Ste()" else 125.0)
        for method, values in accuracies.items()
        for seed, accuracy in enumerate(values)
    }
    page = results.document(runs)
    spread = statistics.stdev([53.0, 62.0, 59.0])
    assert f"| `recu` | 58.00 ± {spread:.2f} | +3.00 ± 1.00 | 3 | 1.25 |" in page
    assert "| `ste` | 55.00 ± 5.00 |  | 3 | 1.00 |" in page
    assert page.index("`recu`") < page.index("`ste`")


def test_the_error_of_a_mean_gain_is_pooled() -> None:
    runs = {f"ste{s}": compared("Ste()", s, 0.5, 1.0) for s in range(4)}
    for name, spread in (("Recu()", 0.01), ("Ede()", 0.03)):
        runs |= {f"{name}{s}": compared(name, s, 0.5 + spread * (-1) ** s, 1.0) for s in range(4)}
    # gains of +-1 and +-3 points: variances 4/3 and 12, of the means 1/3 and 3
    assert f"a standard error of {((1 / 3 + 3) / 2) ** 0.5:.2f} points" in results.document(runs)


def test_seeds_without_a_baseline_do_not_count() -> None:
    runs = {
        "a": compared("Ste()", 1, 0.5, 1.0),
        "b": compared("Recu()", 1, 0.6, 1.0),
        "c": compared("Recu()", 2, 0.9, 1.0),
    }
    runs["d"] = compared("Ede()", 3, 0.9, 1.0)
    page = results.document(runs)
    assert "| `recu` | 60.00 | +10.00 | 1 | 1.00 |" in page
    assert "ede" not in page


@pytest.mark.parametrize(
    "change", [{"epochs": 9}, {"train_sha256": "3" * 64}, {"threads": 8}, {"started_from": "runs/other"}], ids=str
)
def test_what_is_not_comparable_is_refused(change: dict[str, Any]) -> None:
    other = dataclasses.replace(compared("Recu()", 1, 0.9, 1.0), **change)
    with pytest.raises(BadInputError, match=f"{next(iter(change))} is .* in the run of Recu"):
        results.document({"a": compared("Ste()", 1, 0.5, 1.0), "b": other})


def test_methods_are_named_as_the_command_line_takes_them() -> None:
    for text in ("ste", "recu", "recu:variant=projection", "distillation:teacher=runs/teacher/model.pt,weight=0.5"):
        assert results.asked_for(repr(get_method(text))) == text
    for text in ("Mine(strength=2)", "NormalizerFree(gain=1.0, clip=inf)", "Distillation(teacher=<function f at 0x1>)"):
        assert results.asked_for(text) == text


def test_what_a_recipe_calls_measured_is_on_the_page() -> None:
    measured = {run.recipe: run for run in results.records().values() if not run.methods and run.started_from is None}
    recipes = [recipe for recipe in map(get_recipe, recipe_names()) if recipe.expected_source == "measured"]
    assert len(recipes) >= 4
    for recipe in recipes:
        run = measured[recipe.name]
        assert (run.epochs, run.accuracy) == (recipe.epochs, recipe.expected_accuracy), recipe.name


def test_records_survive_the_file(tmp_path: Path) -> None:
    save_record(tmp_path / "run.json", RUN)
    assert load_record(tmp_path / "run.json") == RUN


def test_unfinished_and_foreign_folders_are_refused(tmp_path: Path) -> None:
    save_record(tmp_path / "run.json", dataclasses.replace(RUN, accuracy=None))
    with pytest.raises(BadInputError, match="is not finished"):
        results.add([tmp_path])
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(BadInputError, match="is no record of a run"):
        results.add([tmp_path])
