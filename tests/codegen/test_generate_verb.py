"""``onebit generate``: the JSON object, exit codes, one line per error, and what the process imports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from onebit.core import DType, write_model
from onebit.core.metadata import ModelMetadata, Preprocessing
from support.nets import INT8_INPUT, Net

#: top-level packages that a process which only generates code has no use for
HEAVY = {
    "ai_edge_litert", "elftools", "keras", "larq", "larq_compute_engine", "lightning", "matplotlib", "mlxtend",
    "pandas", "scipy", "sklearn", "tensorflow", "tf_keras", "torch", "torchmetrics", "torchvision", "unicorn",
    "ziglang",
}  # fmt: skip


def onebit(
    *args: str | Path, python: tuple[str, ...] = (), cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *python, "-m", "onebit.cli", *map(str, args)],
        capture_output=True, text=True, check=False, timeout=60, cwd=cwd,
    )  # fmt: skip


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    net = Net((1, 8, 8, 1), DType.INT8, INT8_INPUT).conv(16).quantize().bconv(10, to=DType.INT8)
    path = tmp_path_factory.mktemp("model") / "digits.tflite"
    path.write_bytes(write_model(net.graph(ModelMetadata(Preprocessing()))))
    return path


def test_the_process_imports_no_framework_and_no_emulator(model: Path, tmp_path: Path) -> None:
    """All modules that the process itself imports, as Python lists them."""
    done = onebit("generate", model, "--target", "cortex-m4", "--out", tmp_path / "c", python=("-X", "importtime"))
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    imported = {line.rpartition("|")[2].strip() for line in lines}
    assert {"onebit.codegen.generate", "numpy"} <= imported
    assert {name.partition(".")[0] for name in imported} & HEAVY == set()
    portions = {name.split(".")[1] for name in imported if name.startswith("onebit.")}
    assert portions == {"cli", "codegen", "core"}


def test_json(model: Path, tmp_path: Path) -> None:
    done = onebit("generate", model, "--target", "cortex-m4", "--out", tmp_path / "c", "--project", "cmake", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    result = json.loads(done.stdout)
    assert {"files", "arena_bytes", "weight_bytes", "kernels"} <= set(result)
    assert sorted(result["files"]) == listing(tmp_path / "c")
    assert result["name"] == "digits"
    assert 0 < result["arena_lower_bound_bytes"] <= result["arena_bytes"]
    assert sum(result["kernels"].values()) == 2


def test_without_json_it_says_where_to_start(model: Path, tmp_path: Path) -> None:
    done = onebit("generate", model, "--target", "host", "--out", "out", "--name", "my_net", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "start with my_net.h" in done.stdout
    assert (tmp_path / "out" / "my_net.h").is_file()


CASES = {
    "unknown target": (["--target", "z80"], "unknown target 'z80'", "choose one of: host, cortex-m0plus"),
    "unknown project": (
        ["--target", "host", "--project", "make"],
        "unknown project kind 'make'",
        "allowed are c, cmake",
    ),
    "bad name": (["--target", "host", "--name", "3d"], "'3d' cannot be the name of a C module", "no C keyword"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_wrong_option_is_one_line_and_exit_code_2(case: str, model: Path, tmp_path: Path) -> None:
    options, message, fix = CASES[case]
    done = onebit("generate", model, *options, "--out", tmp_path / "c")
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("error: ")
    assert message in done.stderr and fix in done.stderr
    as_json = onebit("generate", model, *options, "--out", tmp_path / "c", "--json")
    assert as_json.returncode == 2 and as_json.stderr == ""
    error = json.loads(as_json.stdout)["error"]
    assert set(error) == {"kind", "message", "where", "fix"} and error["kind"] == "bad_input"
    assert message in error["message"] and fix in error["fix"]
    assert not (tmp_path / "c").exists()


def test_a_bad_model_or_folder_is_one_line_and_exit_code_2(model: Path, tmp_path: Path) -> None:
    content = model.read_bytes()
    (tmp_path / "truncated.tflite").write_bytes(content[: len(content) // 3])
    (tmp_path / "text.tflite").write_text("hello")
    (tmp_path / "file").write_text("mine")
    cases = [
        (tmp_path / "none.tflite", tmp_path / "c", "does not exist"),
        (tmp_path / "truncated.tflite", tmp_path / "c", "truncated.tflite"),
        (tmp_path / "text.tflite", tmp_path / "c", "text.tflite"),
        (model, tmp_path / "file", "is a file, not a folder"),
    ]
    for path, out, message in cases:
        done = onebit("generate", path, "--target", "host", "--out", out)
        assert done.returncode == 2, done.stderr
        assert len(done.stderr.splitlines()) == 1 and message in done.stderr
    assert listing(tmp_path) == ["file", "text.tflite", "truncated.tflite"]
    assert (tmp_path / "file").read_text() == "mine"


def test_an_option_that_is_missing_is_a_usage_error(model: Path) -> None:
    done = onebit("generate", model, "--target", "host")
    assert done.returncode == 2 and "--out" in done.stderr
