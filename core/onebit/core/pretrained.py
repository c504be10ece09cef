"""Trained models that ship with onebit, as package data in ``onebit/core/models/``."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from onebit.core.errors import BadInputError

_SUFFIX = ".tflite"


def pretrained_names() -> tuple[str, ...]:
    """The names of the shipped models, sorted."""
    folder = _folder()
    return tuple(sorted(path.stem for path in folder.glob(f"*{_SUFFIX}"))) if folder.is_dir() else ()


def pretrained_path(name: str) -> Path:
    """The ``.tflite`` of that name. BadInputError lists those that exist."""
    names = pretrained_names()
    if name not in names:
        raise BadInputError(f"no pretrained model {name!r}", fix=f"shipped: {', '.join(names) or 'none'}")
    return _folder() / f"{name}{_SUFFIX}"


def _folder() -> Path:
    # An installed onebit is always unpacked: generate, simulate and the LCE interpreter need a real file.
    return Path(str(resources.files("onebit.core"))) / "models"
