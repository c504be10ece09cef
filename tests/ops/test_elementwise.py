"""Element by element operators, float32 and int8, against the interpreter: every int8 value or pair, every shape."""

from __future__ import annotations

import numpy as np
import pytest

from support.elementwise_nets import NETS
from support.lce import Agrees

CASES = [pytest.param(op, case, id=f"{op}, {case}") for op, cases in NETS.items() for case in cases]


@pytest.mark.parametrize(("op", "case"), CASES)
def test_it_is_the_interpreters(op: str, case: str, agrees: Agrees) -> None:
    graph, x = NETS[op][case]
    with np.errstate(over="ignore", invalid="ignore"):
        agrees(graph, x)
