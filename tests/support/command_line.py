"""The command line, called in this process."""

from __future__ import annotations

import pytest

from onebit.cli import main


def fails(capsys: pytest.CaptureFixture[str], code: int, *args: object) -> str:
    """Run the command line; it must exit with `code` and print one line on stderr, which is returned."""
    assert main.main([str(a) for a in args]) == code
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.strip().splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("error: ")
    return lines[0]
