"""``onebit convert`` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from onebit.cli.main import main
from onebit.core import read_model
from onebit.core.metadata import Preprocessing
from onebit.train.checkpoint import save_model
from onebit.train.recipes import get_recipe
from support.torch_nets import digits, randomized

SOURCE = """
import torch
from torch import nn
from onebit.train.layers import QuantLinear, SameConv2d

def net():
    torch.manual_seed(1)
    layers = [SameConv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), QuantLinear(8 * 36, 4), nn.BatchNorm1d(4)]
    return nn.Sequential(*layers)

def with_example():
    model = net()
    model.example_input = torch.zeros(1, 3, 6, 6)
    return model

def no_model():
    return 3
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with a module of models, that is not imported from an earlier test's folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    name = f"models_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text(SOURCE)
    return tmp_path


@pytest.fixture
def module(folder: Path) -> str:
    return next(folder.glob("models_*.py")).stem


def as_json(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, Any]:
    code = main(["convert", *arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_a_checkpoint_is_calibrated_and_checked_on_its_own_data(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_model(folder / "model.pt", randomized(digits()), get_recipe("digits"), accuracy=0.1, epochs=1, seed=1)
    code, result = as_json(["model.pt", "--out", "digits.tflite", "--int8"], capsys)
    assert code == 0
    assert set(result) == {"output", "sha256", "bytes", "dtype", "verified", "ops", "int8"}
    assert result["dtype"] == "int8"
    assert result["output"] == "digits.tflite"
    verified = result["verified"]
    assert (verified["samples"], verified["argmax_equal"]) == (1000, 1000)
    assert verified["max_abs_diff"] <= 1
    metadata = read_model("digits.tflite").metadata
    assert metadata == get_recipe("digits").metadata()


def test_a_function_with_an_input_shape(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, result = as_json([f"{module}:net", "--out", "m.tflite", "--input-shape", "1,6,6,3"], capsys)
    assert (code, result["dtype"], result["verified"]["samples"]) == (0, "float32", 64)
    assert read_model("m.tflite").metadata is None


def test_a_function_with_example_and_preprocessing(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [f"{module}:with_example", "--out", "m.tflite", "--int8", "--calibration", "random:40"]
    preprocessing = ["--mean", "0.5,0.4,0.3", "--std", "0.2"]
    code, result = as_json([*arguments, *preprocessing], capsys)
    assert (code, result["verified"]["samples"], result["verified"]["argmax_equal"]) == (0, 40, 40)
    metadata = read_model("m.tflite").metadata
    assert metadata is not None
    assert metadata.preprocessing == Preprocessing(1 / 255, 0.0, (0.5, 0.4, 0.3), (0.2,))


def test_samples_of_a_file(module: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(folder / "x.npz", x=np.random.default_rng(0).normal(0, 1, (30, 6, 6, 3)))
    arguments = [f"{module}:with_example", "--out", "m.tflite", "--int8", "--calibration", "x.npz"]
    code, result = as_json(arguments, capsys)
    assert (code, result["verified"]["samples"]) == (0, 30)


def test_a_tflite_and_the_text_output(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", f"{module}:with_example", "--out", "a.tflite"]) == 0
    assert main(["convert", "a.tflite", "--out", "b.tflite"]) == 0
    text = capsys.readouterr().out
    assert "b.tflite: " in text
    assert "argmax equal on 64" in text
    assert Path("a.tflite").read_bytes() == Path("b.tflite").read_bytes()


BAD = {
    "no such file": (["model.pt"], "model.pt: no such file"),
    "no such function": (["{module}:nothing"], "has no function 'nothing'"),
    "no such module": (["no_such_module_here:f"], "there is no module"),
    "no model": (["{module}:no_model"], "cannot convert a int"),
    "no shape": (["{module}:net"], "the shape of the model's input is not known"),
    "a bad shape": (["{module}:net", "--input-shape", "1,x"], "--input-shape 1,x"),
    "a batch": (["{module}:net", "--input-shape", "4,6,6,3"], "has a batch of 4"),
    "a shape that does not fit": (["{module}:net", "--input-shape", "1,6,6,1"], "does not run on an input of shape"),
    "no calibration": (["{module}:with_example", "--int8"], "int8 needs data"),
    "an unknown data set": (
        ["{module}:with_example", "--int8", "--input-range", "0,1", "--calibration", "nonsense"],
        "unknown data set 'nonsense'",
    ),
    "images of another shape": (
        ["{module}:with_example", "--int8", "--input-range", "0,1", "--calibration", "mnist5k"],
        "calibration samples of shape [1000, 28, 28, 1]",
    ),
    "a bad count": (["{module}:with_example", "--int8", "--calibration", "random:0"], "give random:N"),
    "a bad range": (["{module}:with_example", "--input-range", "1,0"], "use LO,HI with LO < HI"),
    "a bad mean": (["{module}:with_example", "--mean", "a", "--std", "1"], "--mean: 'a' is no list of numbers"),
    "a mean alone": (["{module}:with_example", "--mean", "0.5"], "--mean without --std; give both, or --input-range"),
    "a standard deviation of 0": (["{module}:with_example", "--mean", "0", "--std", "0"], "std must be > 0"),
}


@pytest.mark.parametrize("case", list(BAD))
def test_bad_input_is_one_line(case: str, module: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, message = BAD[case]
    before = sorted(folder.iterdir())
    code = main(["convert", *(argument.format(module=module) for argument in arguments), "--out", "out.tflite"])
    printed = capsys.readouterr()
    assert code == 2
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert message in printed.err
    assert [path for path in sorted(folder.iterdir()) if path.name != "__pycache__"] == [
        path for path in before if path.name != "__pycache__"
    ]


def test_the_place_of_the_file_is_checked_first(
    module: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onebit.convert.load_callable", lambda _: pytest.fail("the model was loaded"))
    assert main(["convert", f"{module}:net", "--out", "."]) == 2
    assert "is a folder, not a file" in capsys.readouterr().err


def test_a_checkpoint_refuses_other_preprocessing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_model(folder / "model.pt", randomized(digits()), get_recipe("digits"), accuracy=0.1, epochs=1, seed=1)
    assert main(["convert", "model.pt", "--out", "m.tflite", "--mean", "0.5", "--std", "1"]) == 2
    assert "brings its own preprocessing" in capsys.readouterr().err


def test_a_damaged_checkpoint(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"kind": "other"}, folder / "model.pt")
    assert main(["convert", "model.pt", "--out", "m.tflite"]) == 2
    assert "model.pt: is no onebit-model file" in capsys.readouterr().err
