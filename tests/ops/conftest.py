"""The interpreters of LCE and TFLM as the independent oracles of every operator."""

from __future__ import annotations

import pytest

from onebit.core import Graph, Rounding
from onebit.core.graph import Array
from support.lce import Agrees, assert_agrees


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests of built-in operators run under both roundings, those of LCE's operators in LCE's interpreter."""
    if "agrees" in metafunc.fixturenames:
        of_lce = metafunc.module.__name__.rpartition(".")[2].startswith("test_lce_")
        roundings = [Rounding.LITERT] if of_lce else list(Rounding)
        metafunc.parametrize("rounding", roundings, indirect=True, ids=lambda rounding: rounding.value)


@pytest.fixture
def rounding(request: pytest.FixtureRequest) -> Rounding:
    """The rounding of a test that uses `agrees`."""
    found: Rounding = request.param
    return found


@pytest.fixture
def agrees(rounding: Rounding, request: pytest.FixtureRequest) -> Agrees:
    """``agrees(graph, x)`` asserts that core's semantics and shapes are the interpreter's, node by node."""
    interpreter = request.getfixturevalue("lce" if rounding is Rounding.LITERT else "tflm")

    def check(graph: Graph, x: Array) -> None:
        assert_agrees(graph, x, interpreter)

    return check
