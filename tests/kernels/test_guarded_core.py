"""No read or write outside input, weights, values and output on an emulated core (`support.guarded_core`)."""

from __future__ import annotations

import re

import numpy as np
import pytest

from onebit.codegen import find_target
from onebit.codegen.schedule import compile_graph
from onebit.core import Graph, evaluate
from support.fuzz.graphs import samples
from support.guarded_core import GuardedCore
from support.net_table import graphs


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> GuardedCore:
    for module in ("unicorn", "elftools"):
        pytest.importorskip(module, reason=f"package: the Python module {module} is not installed")
    return GuardedCore(tmp_path_factory.mktemp("guarded"))


def covering() -> dict[str, Graph]:
    """Few nets of the table that call every function that the table calls."""
    calls = {}
    nets = graphs()
    for name, graph in nets.items():
        steps = compile_graph(graph, find_target("cortex-m4")).steps
        calls[name] = {call.function for step in steps for call in step.calls}
    missing, chosen = set().union(*calls.values()), {}
    while missing:
        best = max(calls, key=lambda name: len(calls[name] & missing))
        chosen[best] = nets[best]
        missing -= calls[best]
    return chosen


def test_every_kernel_stays_inside_its_objects(core: GuardedCore) -> None:
    for name, graph in covering().items():
        x = samples(graph, 1)
        found, output = core.run(f"net_{name}", graph, x)
        assert found == "", name
        y = evaluate(graph, x)[graph.outputs[0]]
        if y.dtype != np.float32:
            np.testing.assert_array_equal(output, np.ascontiguousarray(y).view(np.uint8).reshape(-1), err_msg=name)


#: net, text of its C file, what stands there instead, and the object that is left
BROKEN = {
    "a read behind the weights": ("without_bias_int8", ".outputs = 4,", ".outputs = 5,", "_00_bias"),
    "a read behind the input": ("bits_33", "input,\n      30,", "input,\n      31,", "input"),
    "a write behind a value": ("movement_int8", ".out_start = 0,", ".out_start = 4,", "arena["),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_call_is_caught_and_named(fault: str, core: GuardedCore) -> None:
    name, old, new, place = BROKEN[fault]
    graph = graphs()[name]

    def edit(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    found, _ = core.run(f"broken_{sum(map(ord, fault))}", graph, samples(graph, 1), edit)
    assert re.match(
        rf"broken_\d+_layer_\d+.*: {fault.split()[1]} of \d bytes at 0x[0-9a-f]{{8}}, next to \S*" + re.escape(place),
        found,
    ), found
