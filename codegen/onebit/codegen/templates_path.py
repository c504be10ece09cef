"""Where the firmware templates are: the one place that knows."""

from __future__ import annotations

from pathlib import Path


def templates_root() -> Path:
    """The folder ``firmware_templates`` (kernels/, model/, projects/) that belongs to this very copy of the code.

    In a source checkout or an editable install, where this file lies in ``<repo>/codegen/onebit/codegen/``, that is
    ``<repo>/firmware_templates``. In an installed wheel it is ``firmware_templates`` beside this file. An editable
    install also leaves a copy of the folder in site-packages that no edit ever reaches; it is never looked at, because
    the search starts from this file and not from the import path.

    Raises FileNotFoundError if the installation lost the folder.
    """
    package = Path(__file__).resolve().parent
    repository = package.parents[2]
    checkout = repository / "firmware_templates"
    if package.relative_to(repository).parts == ("codegen", "onebit", "codegen") and checkout.is_dir():
        return checkout
    installed = package / "firmware_templates"
    if not installed.is_dir():
        raise FileNotFoundError(f"no firmware_templates in {package}: reinstall onebit")
    return installed
