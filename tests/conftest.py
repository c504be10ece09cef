"""Fixtures that any test may use, and the rule about skips.

A test that needs a tool calls `requires_tool`; where the tool is missing the test is skipped, and the reason names the
tool. With ``ONEBIT_FORBID_SKIPS=1`` (set by .ci/run, which installs every tool) a skip is a failure: a CI that passes
has run every test. The only exception are tests that need a data set which is not part of the project, skipped through
`requires_data`: their skips are allowed as long as ``ONEBIT_DATA_DIR`` is unset.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import zlib
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from support.lce import LceSession
    from support.tflm import TflmSession

REPOSITORY = Path(__file__).resolve().parents[1]
DATA_PREFIX = "data:"

# A shell starts background jobs with SIGINT ignored, and children inherit that; the tests of Ctrl-C need it to arrive.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the source tree under test."""
    return REPOSITORY


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """A generator seeded by the test's own id: the same inputs in every run, others in every test."""
    return np.random.default_rng(zlib.crc32(request.node.nodeid.encode()))


@pytest.fixture
def requires_tool() -> Callable[[str], str]:
    """``requires_tool("qemu-system-arm")`` gives the path of a program, or skips the test where it is not installed."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            pytest.skip(f"tool: {name} is not installed (`onebit doctor` tells how to get it)")
        return path

    return find


@pytest.fixture
def requires_package() -> Callable[[str], None]:
    """``requires_package("unicorn")`` skips the test where a Python module is not installed; it does not import it."""

    def find(module: str) -> None:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"package: the Python module {module} is not installed")

    return find


@pytest.fixture
def requires_data() -> Callable[[str], Path]:
    """``requires_data("mnist")`` gives the folder of that name in ``ONEBIT_DATA_DIR``, or skips the test."""

    def find(name: str) -> Path:
        folder = os.environ.get("ONEBIT_DATA_DIR")
        if not folder:
            pytest.skip(f"{DATA_PREFIX} {name} is needed; point ONEBIT_DATA_DIR to a folder that holds it")
        path = Path(folder) / name
        if not path.is_dir():
            pytest.skip(f"{DATA_PREFIX} ONEBIT_DATA_DIR has no folder {name}")
        return path

    return find


@pytest.fixture(scope="session")
def lce(tmp_path_factory: pytest.TempPathFactory) -> Generator[LceSession, None, None]:
    """The LCE interpreter, in one child process for all tests."""
    from onebit.simulate.oracle import _interpreter_library
    from support.lce import LceSession

    if _interpreter_library() is None:
        pytest.skip("package: the Python module larq_compute_engine is not installed")
    with LceSession(tmp_path_factory.mktemp("lce") / "stderr.txt") as session:
        yield session


@pytest.fixture(scope="session")
def tflm() -> Generator[TflmSession, None, None]:
    """The TFLM interpreter, likewise."""
    from onebit.simulate.tflm import is_installed
    from support.tflm import TflmSession

    if not is_installed():
        pytest.skip("package: the Python module tflite_micro is not installed")
    with TflmSession() as session:
        yield session


def skip_is_forbidden(reason: str, environment: dict[str, str] | os._Environ[str]) -> bool:
    """Whether a test skipped for `reason` counts as failed under `environment`."""
    if environment.get("ONEBIT_FORBID_SKIPS") != "1":
        return False
    return not (reason.startswith(DATA_PREFIX) and not environment.get("ONEBIT_DATA_DIR"))


def _fail_forbidden_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    reason = reason.removeprefix("Skipped: ")
    if skip_is_forbidden(reason, os.environ):
        report.outcome = "failed"
        report.longrepr = f"skipped, which ONEBIT_FORBID_SKIPS=1 does not allow: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turns a forbidden skip of a test into a failure."""
    report = yield
    _fail_forbidden_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Turns a forbidden skip of a whole module into a failure."""
    report = yield
    _fail_forbidden_skip(report)
    return report
