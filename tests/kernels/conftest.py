"""The LCE interpreter for the tests of kernels."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from onebit.simulate.oracle import _interpreter_library
from support.lce import LceSession


@pytest.fixture(scope="session")
def lce(tmp_path_factory: pytest.TempPathFactory) -> Generator[LceSession, None, None]:
    """The interpreter, in one child process for all tests."""
    if _interpreter_library() is None:
        pytest.skip("package: the Python module larq_compute_engine is not installed")
    with LceSession(tmp_path_factory.mktemp("lce") / "stderr.txt") as session:
        yield session
