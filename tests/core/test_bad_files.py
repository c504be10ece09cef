"""Bad model files: one line that names the place, exit code 2, quickly, whatever the bytes are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from onebit.core import read_model, write_model
from onebit.core.errors import BadInputError, OnebitError, SpecError
from onebit.core.flatbuffer.builtin_names import _INSTEAD, BUILTIN_NAMES
from onebit.core.ops import OPS
from support.bad_files import CASES
from support.files import (
    all_small_files,
    edited,
    float_net,
    int8_net,
    subgraph,
    tensor,
)
from support.nets import Net


def error_of(source: Any) -> OnebitError:
    """The error that reading raises, after the checks that hold for every one."""
    with pytest.raises(OnebitError) as caught:
        read_model(source)
    error = caught.value
    assert error.exit_code == 2
    assert error.message
    assert error.where
    assert "\n" not in str(error)
    assert str(error).isprintable()
    return error


# -------------------------------------------------------------------------------------------- files and their form


def test_a_missing_file(tmp_path: Path) -> None:
    error = error_of(tmp_path / "none.tflite")
    assert isinstance(error, BadInputError)
    assert "No such file" in error.message
    assert error.where.endswith("none.tflite")


def test_a_directory(tmp_path: Path) -> None:
    assert "directory" in error_of(tmp_path).message


def test_a_path_that_no_file_can_have() -> None:
    assert "null" in error_of("a\0b").message


@pytest.mark.parametrize(
    "content",
    [b"", b"TFL3", b"\0" * 7, b"\0" * 64, b"PK\x03\x04" + b"x" * 100, b"\x18\0\0\0TFL4" + b"\0" * 100],
    ids=["empty", "4 bytes", "7 bytes", "zeros", "a zip", "TFL4"],
)
def test_no_tflite_flatbuffer(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    error = error_of(path)
    assert isinstance(error, BadInputError)
    assert "TFL3" in error.message
    assert error.where == "model.tflite"


def test_a_header_and_nothing_else() -> None:
    error_of(b"\x08\0\0\0TFL3")
    error_of(b"\xff\xff\xff\xffTFL3")
    error_of(b"\x00\0\0\0TFL3" + b"\0" * 100)


@pytest.mark.parametrize("name", all_small_files())
def test_truncation_at_any_length(name: str) -> None:
    content = all_small_files()[name]
    step = max(1, len(content) // 150)
    for length in (*range(0, len(content), step), *range(len(content) - 8, len(content))):
        error = error_of(content[:length])
        assert isinstance(error, BadInputError), length


# -------------------------------------------------------------------------------------------- one wrong thing at a time


@pytest.mark.parametrize("name", CASES)
def test_one_wrong_thing(name: str, tmp_path: Path) -> None:
    change, kind, words = CASES[name]
    path = tmp_path / "test"
    path.write_bytes(edited(write_model(int8_net()), change))
    error = error_of(path)
    assert isinstance(error, kind), error
    assert error.where.startswith("test")
    assert re.search(words, str(error)), str(error)


def test_unsupported_operators_are_all_named_with_what_would_help() -> None:
    line = str(error_of(edited(write_model(int8_net()), CASES["several unsupported"][0])))
    for part in (
        r"L2_NORMALIZATION \(output '\w+'\)",
        r"'LceOther' \(output '\w+'\)",
        r"GELU \(output '\w+': use RELU or",
    ):
        assert re.search(part, line), line


def test_advice_names_operators_that_both_sides_know() -> None:
    assert set(_INSTEAD) <= set(BUILTIN_NAMES)
    assert not set(_INSTEAD) & set(OPS)
    advised = {word for text in _INSTEAD.values() for word in re.findall(r"\b[A-Z][A-Z0-9_]{2,}\b", text)}
    assert advised <= set(OPS)


def test_an_unsupported_dtype_is_also_found_in_constants() -> None:
    content = edited(write_model(float_net()), lambda r: tensor(r, "filter_0").update(type=1))
    assert "dtype float16 (tensor 'filter_0')" in error_of(content).message


def test_reshape_to_another_shape_than_declared() -> None:
    content = edited(
        write_model(Net((1, 2, 6)).reshape(1, 12).graph()),
        lambda r: subgraph(r)["operators"][0]["builtin_options"].update(new_shape=[1, 3, 4]),
    )
    assert isinstance(error_of(content), SpecError)


def test_a_name_that_is_not_utf8() -> None:
    content = write_model(int8_net()).replace(b"input", b"inp\xfft")
    assert "UTF-8" in error_of(content).message


def test_a_name_that_does_not_end() -> None:
    content = write_model(int8_net()).replace(b"input\0", b"input!")
    assert "not terminated" in error_of(content).message
