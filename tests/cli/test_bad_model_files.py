"""Model files with one wrong thing in them, through ``onebit generate``: one line, exit code 2, nothing written."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from onebit.cli import main
from onebit.core import DType, write_model
from onebit.core.ops import Relu
from support.bad_files import CASES
from support.command_line import fails
from support.files import edited, int8_net, tensor
from support.nets import Net

#: CPU seconds; a refusal takes a few hundredths
QUICKLY = 1.0

#: what may be wrong with a file, in the words of the specification, and the cases that have it
KINDS = {
    "cyclic tensors": ("cycle", "reads itself", "out of order"),
    "dangling tensors": ("dangling input", "dangling negative input", "dangling output", "output out of range"),
    "missing buffers": ("missing buffer", "no buffers", "metadata buffer missing"),
    "wrong buffer sizes": ("short buffer", "empty buffer"),
    "zero or negative strides": ("zero stride", "negative stride", "zero stride of a bconv"),
    "absurd shapes": ("product beyond 2**31", "product beyond 2**64", "100,000 dimensions", "absurd stride"),
    "unknown custom options": ("unknown custom option", "options of LceQuantize", "custom options are garbage"),
    "duplicate names": ("same name twice",),
    "non-finite scales": ("NaN scale", "infinite scale", "zero scale", "negative scale"),
}


def refused(content: bytes, folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The line that ``onebit generate`` prints about a file, which it must refuse without leaving anything."""
    model = folder / "test"
    model.write_bytes(content)
    start = time.process_time()
    line = fails(capsys, 2, "generate", model, "--target", "cortex-m4", "--out", folder / "out" / "deep")
    assert time.process_time() - start < QUICKLY
    assert [path.name for path in folder.iterdir()] == ["test"]
    return line


def test_every_kind_of_bad_file_has_cases() -> None:
    assert {name for names in KINDS.values() for name in names} <= CASES.keys()


@pytest.mark.parametrize("name", CASES)
def test_one_wrong_thing(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change, _, words = CASES[name]
    line = refused(edited(write_model(int8_net()), change), tmp_path, capsys)
    assert re.search(words, line), line


@pytest.mark.parametrize("at", ["the root", "the subgraph", "a buffer"])
def test_offsets_out_of_range(at: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = bytearray(write_model(int8_net()))
    root = int.from_bytes(content[:4], "little")
    vtable = root - int.from_bytes(content[root : root + 4], "little", signed=True)
    slot = {"the root": None, "the subgraph": 2, "a buffer": 4}[at]
    place = 0
    if slot is not None:
        entry = vtable + 4 + 2 * slot
        place = root + int.from_bytes(content[entry : entry + 2], "little")
    content[place : place + 4] = (2**31 - 1).to_bytes(4, "little")
    assert "points outside the file" in refused(bytes(content), tmp_path, capsys)


@pytest.mark.parametrize("channels", [1, 4])
def test_a_map_that_no_target_holds(channels: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Legal in a flatbuffer, and gigabytes of memory and of text for the self-test."""
    model = write_model(Net((1, 8192, 8192, channels)).node(Relu(), dtype=DType.FLOAT32).graph())
    line = refused(model, tmp_path, capsys)
    assert f"'input' float32 [1, 8192, 8192, {channels}] takes {channels * 2**28:,} bytes, at most 16,777,216" in line


@pytest.mark.parametrize("name", ["a-b", "int", "9lives", "stdint", "ob_copy", "naïve", ""])
def test_a_module_name_that_is_none_in_c(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tmp_path / "net.tflite"
    model.write_bytes(write_model(int8_net()))
    arguments = ["generate", model, "--target", "host", "--out", tmp_path / "out", "--name", name]
    assert "cannot be the name of a C module" in fails(capsys, 2, *arguments)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("stem", ["int", "9 lives", "a-b", "üß", "stdint", "ob_copy"])
def test_a_file_whose_name_is_no_identifier_gets_one(stem: str, tmp_path: Path) -> None:
    model = tmp_path / f"{stem}.tflite"
    model.write_bytes(write_model(int8_net()))
    assert main.main(["generate", str(model), "--target", "host", "--out", str(tmp_path / "out")]) == 0
    (source,) = (path for path in (tmp_path / "out").glob("*_selftest.c"))
    assert re.fullmatch(r"[a-z]\w*_selftest", source.stem, re.ASCII)


@pytest.mark.parametrize("name", ["int", "a b/c:0", "*/ #error", "\\", "%s", "return", "ärger", "x" * 2000])
def test_tensor_names_are_free_text(name: str, tmp_path: Path) -> None:
    """They stand in comments only: the C of a renamed model is the same but for these."""
    model, out = tmp_path / "net.tflite", tmp_path / "out"
    first = int8_net().nodes[0].output
    model.write_bytes(edited(write_model(int8_net()), lambda r: tensor(r, first).update(name=name)))
    assert main.main(["simulate", str(model), "--data", "random:2", "--reference", "numpy", "--json"]) == 0
    assert main.main(["generate", str(model), "--target", "host", "--out", str(out)]) == 0
    assert "#error" not in re.sub(r"/\*.*?\*/", "", (out / "net.c").read_text(), flags=re.DOTALL)
