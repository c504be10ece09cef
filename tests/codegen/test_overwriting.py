"""`generate` replaces and removes its own output and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from onebit.codegen import generate
from onebit.codegen.leftovers import stale_files
from onebit.core import write_model
from onebit.core.errors import BadInputError
from onebit.core.pretrained import pretrained_path
from support.nets import Net


@pytest.mark.parametrize("file", ["README.md", "digits.c", "CMakeLists.txt"])
def test_a_file_that_someone_wrote_stays(file: str, tmp_path: Path) -> None:
    (tmp_path / file).write_text("mine")
    with pytest.raises(BadInputError, match=f"'{file}' is there, and onebit did not generate it"):
        generate(pretrained_path("digits"), "host", tmp_path, project="cmake")
    assert [path.name for path in tmp_path.iterdir()] == [file]
    assert (tmp_path / file).read_text() == "mine"


def test_an_earlier_output_is_replaced(tmp_path: Path) -> None:
    generate(pretrained_path("digits"), "host", tmp_path, project="cmake")
    (tmp_path / "main.c").write_text("mine")
    generate(pretrained_path("digits"), "cortex-m4", tmp_path, project="cmake")
    assert "--target cortex-m4" in (tmp_path / "digits.c").read_text()
    assert (tmp_path / "main.c").read_text() == "mine"


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def model(*, bits: bool) -> bytes:
    net = Net((1, 4, 4, 3)).quantize()
    return write_model((net.bconv(4) if bits else net.dequantize()).graph())


def test_what_an_earlier_run_wrote_and_this_one_does_not_is_removed(tmp_path: Path) -> None:
    generate(pretrained_path("digits"), "host", tmp_path, name="net", project="cmake")
    (tmp_path / "ob_mine.c").write_text("mine")
    generate(model(bits=False), "host", tmp_path, name="net")
    expected = set(generate(model(bits=False), "host", tmp_path / "fresh", name="net").files)
    assert names(tmp_path) == {*expected, "ob_mine.c", "fresh"}
    assert not {"CMakeLists.txt", "net_preprocess.c", "ob_bmaxpool2d.c"} & expected


def test_models_in_one_folder_keep_their_files(tmp_path: Path) -> None:
    """Also where they share kernels, and one of them stops using some."""
    generate(model(bits=True), "host", tmp_path, name="first")
    files = set(generate(model(bits=True), "host", tmp_path, name="second").files)
    kept = {file for file in names(tmp_path) if file.startswith("first")} | files
    generate(model(bits=False), "host", tmp_path, name="first")
    assert kept <= names(tmp_path)
    generate(model(bits=False), "host", tmp_path, name="second")
    assert "ob_bconv2d_f32.c" in kept and "ob_bconv2d_f32.c" not in names(tmp_path)


def test_a_listed_file_that_someone_replaced_stays(tmp_path: Path) -> None:
    generate(pretrained_path("digits"), "host", tmp_path, name="net", project="cmake")
    (tmp_path / "selftest_main.c").write_text("int main(void) { return 7; }")
    generate(pretrained_path("digits"), "host", tmp_path, name="net")
    assert (tmp_path / "selftest_main.c").read_text() == "int main(void) { return 7; }"
    assert not (tmp_path / "CMakeLists.txt").exists()


def test_a_list_in_a_file_that_onebit_did_not_generate_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "other.c").write_text("/* Files of this model:\n * ob_mine.c ../x\n */\n")
    (tmp_path / "ob_mine.c").write_text("mine")
    assert stale_files(tmp_path, "other", []) == []
    generate(model(bits=False), "host", tmp_path, name="net")
    assert {"other.c", "ob_mine.c"} <= names(tmp_path)
