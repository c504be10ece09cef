"""The C of element by element operators against the interpreter, on the host and on emulated cores."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from onebit.codegen import find_target
from onebit.codegen.kernel import select_kernel
from onebit.codegen.kernels.elementwise import function_table
from onebit.core import Graph, evaluate, write_model
from onebit.core.graph import Array
from onebit.core.ops import Logistic, Op, Tanh, View
from onebit.simulate import simulate
from onebit.simulate.toolchain import find_compiler
from support.elementwise_nets import CHAINS, NETS, RAMP, Case, unary
from support.host_code import HostCode, build
from support.lce import LceSession


def _is_worth_compiling(op: str, case: str, graph: Graph) -> bool:
    """A few of the cases that take the same way through the C, and none that only compiles long."""
    if any(t.elements > 256 for t in graph.tensors.values() if t.is_constant):
        return False
    if "value " in case or "first " in case or case.startswith("size "):
        return case in {"usual, value 38", "usual, first 38", "size 7", "size 33", "size 33, float"}
    if op in {"QUANTIZE", "DEQUANTIZE"}:
        return "0.037" in case or "far" in case
    if op in {"SUB", "MINIMUM", "GREATER_EQUAL"}:
        # they share loop, operands and set-up with ADD, MAXIMUM and GREATER
        return case in {"channels", "channels, float", "rows first", "full first, float", "usual, channels", "zeros"}
    call = select_kernel(View.of(graph, graph.nodes[-1]), find_target("host"))
    return call.function != "ob_table_i8" or case in {"one value", "usual", "usual, 0.3"}


CASES: dict[str, Case] = {
    f"{op}, {case}": made
    for op, cases in NETS.items()
    for case, made in cases.items()
    if _is_worth_compiling(op, case, made[0])
}
NAMES = {f"net_{i}": label for i, label in enumerate(CASES)}
#: operator, function in double, and the error that the header of the kernel states
SIGMOIDS: dict[str, tuple[Op, Callable[[Array], Array], int]] = {
    "logistic": (Logistic(), lambda x: 1 / (1 + np.exp(-x)), 2),
    "tanh": (Tanh(), np.tanh, 2),
}
DENSE = np.concatenate([sign * np.geomspace(1e-30, 86, 20000) for sign in (-1, 1)]).astype(np.float32)
Truth = Mapping[str, dict[str, Array]]


@pytest.fixture(scope="module")
def truth(lce: LceSession) -> Truth:
    return {name: lce.run(*CASES[label]) for name, label in NAMES.items()}


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> HostCode:
    graphs = {name: CASES[label][0] for name, label in NAMES.items()}
    graphs |= {name: unary(op, (1, len(DENSE)), None, None) for name, (op, _, _) in SIGMOIDS.items()}
    return build(graphs, tmp_path_factory.mktemp("host"), find_compiler(find_target("host")))


@pytest.mark.parametrize("name", list(NAMES), ids=list(NAMES.values()))
def test_every_element_is_the_interpreters(name: str, host: HostCode, truth: Truth) -> None:
    found = host.compare(name, CASES[NAMES[name]][1], truth[name])
    assert found
    for comparison in found:
        assert comparison.first is None, comparison


@pytest.mark.parametrize("name", SIGMOIDS)
def test_the_error_of_a_sigmoid_is_what_its_header_says(name: str, host: HostCode) -> None:
    _, function, bound = SIGMOIDS[name]
    exact = function(DENSE.astype(np.float64))
    error = np.abs(host.run(name, DENSE[np.newaxis])["y"][0] - exact) / np.spacing(np.abs(exact).astype(np.float32))
    assert bound - 1 < error.max() + 0.5 <= bound + 0.5


TABLES = [
    pytest.param(graph, id=f"{op}, {case}")
    for op, cases in NETS.items()
    for case, (graph, _) in cases.items()
    if graph.input.shape == (1, 256)
    and op != "QUANTIZE"  # has two tables: net `requantized`
    and select_kernel(View.of(graph, graph.nodes[-1]), find_target("host")).function == "ob_table_i8"
]


@pytest.mark.parametrize("graph", TABLES)
def test_a_table_is_the_operator(graph: Graph) -> None:
    (node,) = graph.nodes
    table = function_table(View.of(graph, node))
    np.testing.assert_array_equal(table, evaluate(graph, RAMP.reshape(1, 256))[graph.output.name][0])


@pytest.mark.parametrize("target", ["host", "cortex-m4", "cortex-m0plus"])
@pytest.mark.parametrize("chain", CHAINS)
def test_chains_on_emulated_cores(chain: str, target: str, requires_package: Callable[[str], None]) -> None:
    if target != "host":
        requires_package("unicorn")
    result = simulate(write_model(CHAINS[chain]()), "random:6", target=target, layers=True)
    assert result.ok, result.first_mismatch
    assert result.outputs_equal == result.outputs_compared
