"""The table of nets under AddressSanitizer and UndefinedBehaviorSanitizer, with a guard zone around every value.

Every tensor is compared with the interpreter's too (`support.fuzz.farm`). A read or a write outside the input, the
weights, the output or a value of the arena ends the program.
"""

from __future__ import annotations

from pathlib import Path

from onebit.core import write_model
from support.fuzz.farm import Case, Farm
from support.fuzz.graphs import samples
from support.fuzz.oracle import truth
from support.lce import LceSession
from support.net_table import graphs


def test_no_kernel_leaves_its_buffers_or_relies_on_undefined_behaviour(lce: LceSession, tmp_path: Path) -> None:
    cases = []
    for name, graph in graphs().items():
        x = samples(graph)
        cases.append(Case(f"net_{name}", write_model(graph), x, truth(lce, graph, x), guarded=True))
    assert Farm(tmp_path).check(cases) == {}


def test_the_guards_catch_a_kernel_that_writes_too_far(lce: LceSession, tmp_path: Path) -> None:
    graph = graphs()["bits_33"]
    x = samples(graph)

    def one_more_word(text: str) -> str:
        """A second output word per pixel that is not there."""
        changed = text.replace(".out_channels = 33", ".out_channels = 65", 1)
        assert changed != text
        return changed

    case = Case("wide", write_model(graph), x, lce.run(graph, x), guarded=True, edit=one_more_word)
    assert "AddressSanitizer" in Farm(tmp_path).check([case])["wide"]
