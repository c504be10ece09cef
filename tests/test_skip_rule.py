"""The rule of tests/conftest.py about skips, on a small suite of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SUITE = """
import pytest

def test_passes(): pass
def test_tool(requires_tool): requires_tool("no-such-tool")
def test_data(requires_data): requires_data("no-such-data")
@pytest.mark.xfail(reason="known")
def test_known(): assert False
"""
MODULE = "import pytest\npytest.importorskip('no_such_module')\ndef test_never(): pass\n"


@pytest.mark.parametrize(
    ("forbid", "data", "summary"),
    [
        (False, False, "1 passed, 3 skipped, 1 xfailed"),
        (True, False, "1 failed, 1 passed, 1 skipped, 1 xfailed, 1 error"),
        (True, True, "2 failed, 1 passed, 1 xfailed, 1 error"),
    ],
)
def test_a_forbidden_skip_fails(tmp_path: Path, repository: Path, forbid: bool, data: bool, summary: str) -> None:
    shutil.copy(repository / "tests" / "conftest.py", tmp_path)
    (tmp_path / "test_suite.py").write_text(SUITE)
    (tmp_path / "test_module.py").write_text(MODULE)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("ONEBIT_", "PYTEST_"))}
    if forbid:
        environment["ONEBIT_FORBID_SKIPS"] = "1"
    if data:
        environment["ONEBIT_DATA_DIR"] = str(tmp_path)
    options = [
        "--continue-on-collection-errors",
        "-p",
        "no:cacheprovider",
        "-c",
        os.devnull,
        "--rootdir",
        str(tmp_path),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(tmp_path)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert summary in done.stdout.splitlines()[-1], done.stdout
    assert done.returncode == (1 if forbid else 0)
    if forbid:
        assert "skipped, which ONEBIT_FORBID_SKIPS=1 does not allow: tool: no-such-tool is not installed" in done.stdout
