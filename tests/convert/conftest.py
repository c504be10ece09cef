"""The LCE interpreter as the oracle of conversions, one child process for all tests of a module."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest

from onebit.core.oracle import Oracle
from support.lce import LceSession, SessionOracle


@pytest.fixture(scope="module")
def interpreter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Oracle]:
    if importlib.util.find_spec("larq_compute_engine") is None:
        pytest.skip("package: the Python module larq_compute_engine is not installed")
    with LceSession(tmp_path_factory.mktemp("lce") / "stderr.txt") as session:
        yield SessionOracle(session)
