"""`onebit train`: what it prints, and what it refuses. The engine has its own tests (tests/train)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import onebit.train
from onebit.cli.main import main
from onebit.train import TrainResult, recipe_names
from onebit.train.methods import method_names


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Stands in for the training engine; holds the arguments of its call."""
    called: dict[str, Any] = {}

    def planted(recipe: Any, **options: Any) -> TrainResult:
        called.update(options, recipe=recipe.name)
        out = Path(options["out"])
        return TrainResult(out, out / "model.pt", 0.9812, 3, 12.3)

    monkeypatch.setattr(onebit.train, "train", planted, raising=False)
    return called


def test_json_says_what_was_trained(engine: dict[str, Any], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out, data = tmp_path / "run", tmp_path / "data"
    options = ["--epochs", "3", "--seed", "7", "--resume", "--download", "--data-dir", str(data), "--out", str(out)]
    options += ["--threads", "1"]
    assert main(["train", "digits", *options, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "recipe": "digits",
        "run_dir": str(out),
        "checkpoint": str(out / "model.pt"),
        "accuracy": 0.9812,
        "epochs": 3,
        "seconds": 12.3,
    }
    assert engine == {
        "recipe": "digits",
        "out": out,
        "data_dir": data,
        "epochs": 3,
        "seed": 7,
        "devices": 1,
        "nodes": 1,
        "compiled": False,
        "resume": True,
        "download": True,
        "threads": 1,
        "start": None,
    }


def test_text_names_the_data_behind_the_accuracy(engine: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "digits"]) == 0
    assert capsys.readouterr().out == "runs/digits/model.pt: 98.12 % on mnist5k:test after 3 epochs, 12 s\n"
    assert engine["out"] == Path("runs/digits")


def test_list_shows_size_and_cost(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ONEBIT_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/nonexistent")
    assert main(["train", "--list", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["recipes"]}
    assert tuple(rows) == recipe_names()
    digits = rows["digits"]
    assert (digits["macs"], digits["weights"], digits["binary_weights"]) == (4_779_136, 102_304, 102_016)
    assert digits["binary_macs"] / digits["macs"] >= 0.85
    assert digits["train_images"] == 4000
    assert rows["digits-full"]["train_images"] is None
    assert main(["train", "--list"]) == 0
    printed = capsys.readouterr().out
    assert all(
        text in printed for text in ("digits-full", "102,304", "95 %", "4,000", "not here", "no GPU was at hand")
    )


def test_list_reads_each_data_set_once(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def planted(name: str, **_options: Any) -> range:
        read.append(name)
        return range(50_000)

    monkeypatch.setattr("onebit.core.datasets.load_dataset", planted)
    assert main(["train", "--list", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["recipes"]}
    assert len(read) == len(set(read))
    assert set(read) == {f"{row['dataset']}:train" for row in rows.values()}
    assert (rows["cifar10"]["train_images"], rows["cifar10-comparison"]["train_images"]) == (50_000, 10_000)


def test_list_shows_what_methods_cost(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--list", "--json"]) == 0
    methods = {row["name"]: row for row in json.loads(capsys.readouterr().out)["methods"]}
    assert tuple(methods) == method_names()
    assert methods["ste"] | {"summary": ""} == {
        "name": "ste", "summary": "", "step": 1.0, "chain_bytes": 0, "residual_bytes": 0,
    }  # fmt: skip
    assert methods["dynamic_distribution"]["residual_bytes"] > 1000


def refusal(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, str]:
    assert main(["train", *args, "--json"]) == 2
    error: dict[str, str] = json.loads(capsys.readouterr().out)["error"]
    return error


def test_no_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    error = refusal(capsys)
    assert error["message"] == "no recipe given"
    assert "digits-full" in error["fix"]


def test_an_unknown_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    error = refusal(capsys, "letters")
    assert "'letters'" in error["message"]
    assert "digits" in error["fix"]


def test_out_is_a_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "run"
    file.write_text("mine")
    error = refusal(capsys, "digits", "--out", str(file))
    assert error["where"] == str(file)
    assert "folder" in error["message"]
    assert file.read_text() == "mine"


@pytest.mark.parametrize(("option", "value"), [("--threads", "0"), ("--epochs", "-1")])
def test_what_is_not_positive_leaves_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, option: str, value: str
) -> None:
    error = refusal(capsys, "digits", option, value, "--out", str(tmp_path / "run"))
    assert (error["message"], error["fix"]) == (f"{value} {option[2:]}", "give 1 or more")
    assert not (tmp_path / "run").exists()


def test_resume_without_a_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    error = refusal(capsys, "digits", "--resume", "--out", str(tmp_path / "run"))
    assert error["message"] == "holds no run to resume"
    assert "--resume" in error["fix"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [("--epochs", "0", "0 epochs"), ("--devices", "0", "0 devices"), ("--nodes", "0", "0 nodes")],
)
def test_a_number_out_of_range(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, option: str, value: str, message: str
) -> None:
    assert refusal(capsys, "digits", "--out", str(tmp_path / "run"), option, value)["message"] == message
    assert list(tmp_path.iterdir()) == []


def test_missing_data_is_said_before_anything_is_trained(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ONEBIT_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    error = refusal(capsys, "digits-full", "--out", str(tmp_path / "run"))
    assert error["message"].startswith("data set mnist: ")
    assert "--download" in error["fix"]
