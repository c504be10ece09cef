"""Writing output so that nothing half-written is ever seen: a temporary name in the same folder, then a rename."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from onebit.core.errors import BadInputError


def _current_umask() -> int:
    """The process's umask. There is no way to read it but to set it and set it back."""
    umask = os.umask(0)
    os.umask(umask)
    return umask


def _make_parent(path: Path) -> None:
    """Creates the folders above `path`; BadInputError if one of them is a file or cannot be made."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise BadInputError(
            f"{error.filename or path.parent} is a file, not a folder",
            where=str(path),
            fix="choose another output path",
        ) from error
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> BadInputError:
    return BadInputError(
        f"cannot be written: {error.strerror or error}", where=str(path), fix="choose another output path"
    )


def check_place_for_file(path: Path | str) -> None:
    """BadInputError where `atomic_write_bytes` could not write `path`, before the work whose result belongs there.

    Creates nothing.
    """
    target = Path(path)
    _refuse_folder(target)
    folder = next(parent for parent in target.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise BadInputError(f"{folder} is a file, not a folder", where=str(path), fix="choose another output path")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _unwritable(target, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))


def _refuse_folder(target: Path) -> None:
    if target.is_dir():
        raise BadInputError("is a folder, not a file", where=str(target), fix="choose another output path")


def atomic_write_bytes(path: Path | str, data: bytes) -> None:
    """Writes `data` to `path` completely or not at all; parent folders are created, an existing file is replaced.

    BadInputError if `path` is a folder, if a parent is a file, or if the place cannot be written.
    """
    target = Path(path)
    _make_parent(target)
    _refuse_folder(target)
    try:
        descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
    except OSError as error:
        raise _unwritable(target, error) from error
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
        # mkstemp makes files private to the user; the result gets the mode an ordinary open() would have given.
        Path(temporary).chmod(0o666 & ~_current_umask())
        Path(temporary).replace(target)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _unwritable(target, error) from error
        raise


def atomic_write_text(path: Path | str, text: str) -> None:
    """`atomic_write_bytes` of `text` in UTF-8, newlines as they are in `text` on every system."""
    atomic_write_bytes(path, text.encode("utf-8"))


@contextmanager
def staged_directory(target: Path | str) -> Iterator[Path]:
    """A fresh temporary folder beside `target`, moved into place when the block ends without an exception.

    If `target` exists as a folder, each staged file replaces the one of the same relative path in it (each by one
    rename) and all other files in it stay. On an exception the temporary folder is removed and `target` is untouched.
    BadInputError if `target` is a file, if a staged file meets a folder or the reverse, or if the place cannot be
    written.
    """
    # Absolute, so that "." and a path without a folder have a parent and a name; links are not followed.
    place = Path(os.path.abspath(target))  # noqa: PTH100 - Path.resolve would follow links
    if place.exists() and not place.is_dir():
        raise BadInputError("is a file, not a folder", where=str(target), fix="choose another output folder")
    _make_parent(place)
    try:
        staging = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}.", suffix=".tmp"))
    except OSError as error:
        raise _unwritable(place, error) from error
    try:
        yield staging
        _move_into_place(staging, place)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _move_into_place(staging: Path, place: Path) -> None:
    """Renames `staging` to `place`, or its files one by one into `place` where that folder exists."""
    try:
        if not place.exists():
            staging.chmod(0o777 & ~_current_umask())
            staging.rename(place)
            return
        staged = sorted(staging.rglob("*"))
        for source in staged:
            destination = place / source.relative_to(staging)
            # Seen before the first rename, so that a clash leaves the folder as it was.
            if destination.exists() and source.is_dir() != destination.is_dir():
                found, needed = ("folder", "file") if destination.is_dir() else ("file", "folder")
                raise BadInputError(f"is a {found}, not a {needed}", where=str(destination), fix="move it away")
        for source in staged:
            destination = place / source.relative_to(staging)
            if source.is_dir():
                destination.mkdir(exist_ok=True)
            else:
                source.replace(destination)
    except OSError as error:
        raise _unwritable(place, error) from error
