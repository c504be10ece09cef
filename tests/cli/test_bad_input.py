"""What a user can do wrong with a model: one clear line, the right exit code, nothing half-written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from onebit.cli import main
from onebit.core import DType, evaluate, read_model, write_model
from onebit.core.flatbuffer import reader
from onebit.core.flatbuffer.decode import Decoder
from onebit.core.flatbuffer.encode import Encoder
from onebit.core.graph import Array
from onebit.core.metadata import ModelMetadata
from onebit.core.ops import Padding
from onebit.core.oracle import Oracle
from onebit.simulate import simulate
from support.command_line import fails
from support.nets import INT8_INPUT, Net


@pytest.fixture(scope="module")
def content() -> bytes:
    """A small int8 model with 4 outputs that takes 6x6 grey images."""
    net = Net((1, 6, 6, 1), DType.INT8, INT8_INPUT).conv(32).quantize().bpool()
    net.bconv(4, (3, 3), to=DType.INT8, padding=Padding.VALID).reshape(1, 4)
    return write_model(net.graph(ModelMetadata(classes=("a", "b", "c", "d"))))


@pytest.fixture
def model(content: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "small.tflite"
    path.write_bytes(content)
    return path


def edited(content: bytes, path: Path, **changes: object) -> Path:
    """The model with fields of its input tensor (or operator codes) changed."""
    record = Decoder(content, "model").root("Model")
    subgraph = record["subgraphs"][0]
    if "codes" in changes:
        record["operator_codes"] = changes.pop("codes")
    subgraph["tensors"][int(subgraph["inputs"][0])].update(changes)
    path.write_bytes(Encoder().finish("Model", record))
    return path


def generate(model: Path, out: Path, target: str = "cortex-m4") -> list[object]:
    return ["generate", model, "--target", target, "--out", out]


def bad_models(content: bytes, folder: Path) -> dict[str, tuple[Path, str]]:
    """File and words that the message must have, for every kind of unusable model."""
    truncated, text, empty = folder / "truncated.tflite", folder / "text.tflite", folder / "empty.tflite"
    truncated.write_bytes(content[: len(content) // 2])
    text.write_text("no flatbuffer at all")
    empty.write_bytes(b"")
    unknown = [{"deprecated_builtin_code": 99, "version": 1, "builtin_code": 99}] * 5
    return {
        "missing": (folder / "missing.tflite", "does not exist"),
        "a folder": (folder, "does not exist"),
        "truncated": (truncated, "outside the file"),
        "no flatbuffer": (text, "not a TFLite flatbuffer"),
        "empty": (empty, "not a TFLite flatbuffer"),
        "unsupported operator": (edited(content, folder / "op.tflite", codes=unknown), "unsupported"),
        "unsupported dtype": (edited(content, folder / "dtype.tflite", type=1), "float16"),
        "dynamic shape": (edited(content, folder / "dynamic.tflite", shape_signature=[1, -1, 6, 1]), "dynamic"),
        "batch of 2": (edited(content, folder / "batch.tflite", shape=[2, 6, 6, 1]), "batch"),
    }


BAD_MODELS = (
    "missing", "a folder", "truncated", "no flatbuffer", "empty", "unsupported operator", "unsupported dtype",
    "dynamic shape", "batch of 2",
)  # fmt: skip


@pytest.mark.parametrize("kind", BAD_MODELS)
def test_unusable_models(kind: str, content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, words = bad_models(content, tmp_path)[kind]
    out = tmp_path / "out"
    line = fails(capsys, 2, *generate(path, out))
    assert words in line
    assert not out.exists()
    assert words in fails(capsys, 2, "simulate", path, "--data", "random:1") or kind == "a folder"


def test_unknown_target(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = fails(capsys, 2, *generate(model, tmp_path / "out", "cortex-m99"))
    assert "cortex-m99" in line
    assert "cortex-m4" in line
    assert not (tmp_path / "out").exists()


def test_a_target_without_emulation(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "esp32" in fails(capsys, 2, "simulate", model, "--data", "random:1", "--target", "esp32")


def test_unknown_data_set(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = fails(capsys, 2, "simulate", model, "--data", "nothing")
    assert "nothing" in line
    assert "mnist5k" in line


@pytest.mark.parametrize("spec", ["random:", "random:0", "random:-1", "random:x"])
def test_random_without_a_number(spec: str, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "random:N" in fails(capsys, 2, "simulate", model, "--data", spec)


def test_labels_that_do_not_fit(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "labels.npz"
    np.savez(path, x=np.zeros((2, 6, 6, 1), np.uint8), y=np.array([0, 4]))
    line = fails(capsys, 2, "simulate", model, "--data", path)
    assert "4 outputs" in line


def test_data_of_another_shape(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "shape.npz"
    np.savez(path, x=np.zeros((2, 7, 6, 1), np.uint8))
    assert "[7, 6, 1]" in fails(capsys, 2, "simulate", model, "--data", path)


def test_an_output_folder_that_is_a_file(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    out.write_text("mine")
    assert "file" in fails(capsys, 2, *generate(model, out))
    assert out.read_text() == "mine"


@pytest.mark.parametrize("options", [["--mean", "0.5"], ["--std", "0.5"]], ids=["mean", "std"])
def test_half_of_a_preprocessing(options: list[str], model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = fails(capsys, 2, "simulate", model, "--data", "random:1", *options)
    assert "--mean" in line
    assert "--std" in line


@pytest.mark.parametrize("place", ["a folder", "below a file", "no permission"])
def test_a_dump_that_cannot_be_written_is_seen_before_the_run(
    place: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onebit.simulate.simulator.generate", lambda *_, **__: pytest.fail("it ran"))
    path = {"a folder": tmp_path, "below a file": model / "x.npz"}.get(place, tmp_path / "new" / "x.npz")
    if place == "no permission":
        monkeypatch.setattr("os.access", lambda _, mode, **__: not mode & os.W_OK)
    line = fails(capsys, 2, "simulate", model, "--data", "random:1", "--dump", path)
    assert str(path) in line
    assert sorted(tmp_path.iterdir()) == [model]


def test_simulate_reads_the_model_once(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = read_model(content)

    class Fixed(Oracle):
        engine = "fixed"

        def run(self, model: bytes, x: Array, tensors: Sequence[str]) -> list[Array]:
            return list(evaluate(graph, x, tensors).values())

    read: list[object] = []
    original = reader._Reader.graph
    monkeypatch.setattr(reader._Reader, "graph", lambda self, *rest: (read.append(self), original(self, *rest))[1])
    assert simulate(content, "random:1", reference=Fixed()).ok
    assert len(read) == 1


@pytest.mark.parametrize("target", ["host", "cortex-m4"])
def test_no_compiler(
    target: str, model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr("onebit.simulate.toolchain._zig_program", lambda: None)
    arguments = ["simulate", model, "--data", "random:1", "--target", target, "--reference", "numpy"]
    assert "compiler" in fails(capsys, 3, *arguments)


def test_errors_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["inspect", str(tmp_path / "missing.tflite"), "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert set(error) == {"kind", "message", "where", "fix"}


def test_an_interrupted_run(model: Path) -> None:
    """Ctrl-C while samples run: exit code 130, one line, no traceback."""
    command = [sys.executable, "-m", "onebit.cli", "simulate", str(model), "--data", "random:500000"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            time.sleep(4)
            assert process.poll() is None
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 130
    assert out == ""
    assert err.strip().splitlines()[-1] == "interrupted"
    assert "Traceback" not in err
