"""The LCE interpreter as the independent oracle of every operator."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from onebit.core import Graph
from onebit.core.graph import Array
from onebit.simulate.oracle import _interpreter_library
from support.lce import Agrees, LceSession, assert_agrees


@pytest.fixture(scope="session")
def lce(tmp_path_factory: pytest.TempPathFactory) -> Generator[LceSession, None, None]:
    """The interpreter, in one child process for all tests."""
    if _interpreter_library() is None:
        pytest.skip("package: the Python module larq_compute_engine is not installed")
    with LceSession(tmp_path_factory.mktemp("lce") / "stderr.txt") as session:
        yield session


@pytest.fixture
def agrees(lce: LceSession) -> Agrees:
    """``agrees(graph, x)`` asserts that core's semantics and shapes are the interpreter's, node by node."""

    def check(graph: Graph, x: Array) -> None:
        assert_agrees(graph, x, lce)

    return check
