"""`generate` replaces its own output and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from onebit.codegen import generate
from onebit.core.errors import BadInputError
from onebit.core.pretrained import pretrained_path


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
