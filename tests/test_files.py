"""Output files and folders: complete or not there."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from onebit.core.errors import BadInputError
from onebit.core.files import atomic_write_bytes, atomic_write_text, staged_directory


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_writes_replaces_and_makes_parents(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file.txt"
    atomic_write_text(path, "first\r\n")
    atomic_write_text(path, "zwei\n")
    assert path.read_bytes() == b"zwei\n"
    assert names(tmp_path) == ["a", "a/b", "a/b/file.txt"]


def test_mode_is_that_of_an_ordinary_file(tmp_path: Path) -> None:
    atomic_write_bytes(tmp_path / "ours", b"")
    (tmp_path / "ordinary").write_bytes(b"")
    with staged_directory(tmp_path / "folder") as folder:
        (folder / "file").write_bytes(b"")
    (tmp_path / "ordinary_folder").mkdir()
    mode = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert mode["ours"] == mode["ordinary"]
    assert mode["folder"] == mode["ordinary_folder"]


def test_write_into_a_file_or_onto_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(BadInputError, match="is a file, not a folder"):
        atomic_write_bytes(tmp_path / "file" / "x", b"")
    with pytest.raises(BadInputError, match="is a file, not a folder"):
        atomic_write_bytes(tmp_path / "file" / "deeper" / "x", b"")
    (tmp_path / "folder").mkdir()
    with pytest.raises(BadInputError, match="is a folder, not a file"):
        atomic_write_bytes(tmp_path / "folder", b"")
    assert names(tmp_path) == ["file", "folder"]


def test_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail(_self: Path, _target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(BadInputError, match="cannot be written: No space left on device"):
        atomic_write_text(path, "new")
    assert (names(tmp_path), path.read_text()) == (["file"], "old")


def test_staged_directory_appears_whole(tmp_path: Path) -> None:
    with staged_directory(tmp_path / "made" / "out") as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "x.c").write_text("x")
        assert folder.parent == tmp_path / "made"
        assert not (tmp_path / "made" / "out").exists()
    assert names(tmp_path) == ["made", "made/out", "made/out/sub", "made/out/sub/x.c"]


def test_staged_directory_keeps_other_files(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "sub").mkdir(parents=True)
    (out / "mine.txt").write_text("mine")
    (out / "x.c").write_text("old")
    with staged_directory(out) as folder:
        (folder / "x.c").write_text("new")
        (folder / "sub").mkdir()
        (folder / "sub" / "y.c").write_text("y")
    assert names(tmp_path) == ["out", "out/mine.txt", "out/sub", "out/sub/y.c", "out/x.c"]
    assert ((out / "mine.txt").read_text(), (out / "x.c").read_text()) == ("mine", "new")


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_staged_directory_leaves_nothing_on_an_exception(tmp_path: Path, error: type[BaseException]) -> None:
    def half_done() -> None:
        with staged_directory(tmp_path / "out") as folder:
            (folder / "x.c").write_text("half")
            raise error

    with pytest.raises(error):
        half_done()
    assert names(tmp_path) == []


def test_staged_directory_onto_a_file(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("kept")
    with pytest.raises(BadInputError, match="is a file, not a folder"), staged_directory(tmp_path / "out"):
        pytest.fail("the block must not run")
    with pytest.raises(BadInputError, match="is a file, not a folder"), staged_directory(tmp_path / "out" / "sub"):
        pytest.fail("the block must not run")
    assert (tmp_path / "out").read_text() == "kept"


def test_clash_of_file_and_folder_changes_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "z.c").mkdir(parents=True)

    def write_both() -> None:
        with staged_directory(out) as folder:
            (folder / "a.c").write_text("new")
            (folder / "z.c").write_text("new")

    with pytest.raises(BadInputError, match=r"z\.c: is a folder, not a file"):
        write_both()
    assert names(tmp_path) == ["out", "out/z.c"]


def test_relative_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with staged_directory("out") as folder:
        (folder / "x").write_text("x")
    with staged_directory(".") as folder:
        (folder / "y").write_text("y")
    assert names(tmp_path) == ["out", "out/x", "y"]
