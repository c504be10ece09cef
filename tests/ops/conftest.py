"""The LCE interpreter as the independent oracle of every operator."""

from __future__ import annotations

import pytest

from onebit.core import Graph
from onebit.core.graph import Array
from support.lce import Agrees, LceSession, assert_agrees


@pytest.fixture
def agrees(lce: LceSession) -> Agrees:
    """``agrees(graph, x)`` asserts that core's semantics and shapes are the interpreter's, node by node."""

    def check(graph: Graph, x: Array) -> None:
        assert_agrees(graph, x, lce)

    return check
