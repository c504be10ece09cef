"""The C of operators that move elements against the interpreter, and the parameters of the strided copy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from onebit.codegen import find_target
from onebit.codegen.generate import random_inputs
from onebit.codegen.kernel import Struct
from onebit.codegen.kernels.movement import copy_fields
from onebit.codegen.sharing import Memory
from onebit.core import DType, Graph, read_model, write_model
from onebit.core.graph import Array
from onebit.simulate import simulate
from onebit.simulate.toolchain import find_compiler
from support.host_code import HostCode, build
from support.lce import LceSession
from support.movement_nets import NETS, every_movement

F32, I8 = DType.FLOAT32, DType.INT8
#: as the reader gives them: with the parts of a SPLIT that nothing reads
GRAPHS: dict[str, Graph] = {
    f"move_{i}_{j}_{dtype.value}": read_model(write_model(make(dtype).graph()))
    for i, nets in enumerate(NETS.values())
    for j, make in enumerate(nets.values())
    for dtype in (F32, I8)
}
LABELS = [f"{op}, {case}, {d.value}" for op, nets in NETS.items() for case in nets for d in (F32, I8)]
Truth = Mapping[str, tuple[Array, dict[str, Array]]]


@pytest.fixture(scope="module")
def truth(lce: LceSession) -> Truth:
    """Inputs and the value of every tensor, from the interpreter."""
    inputs = {name: random_inputs(graph, 3, seed=1) for name, graph in GRAPHS.items()}
    return {name: (x, lce.run(GRAPHS[name], x)) for name, x in inputs.items()}


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> HostCode:
    return build(GRAPHS, tmp_path_factory.mktemp("host"), find_compiler(find_target("host")))


@pytest.mark.parametrize("name", list(GRAPHS), ids=LABELS)
def test_every_byte_is_the_interpreters(name: str, host: HostCode, truth: Truth) -> None:
    x, expected = truth[name]
    values = host.run(name, x)
    assert GRAPHS[name].outputs[0] in values
    for tensor, got in values.items():
        want = expected[tensor].reshape(got.shape)
        np.testing.assert_array_equal(got.view(np.uint8), want.view(np.uint8), err_msg=tensor)


@pytest.mark.parametrize("dtype", [F32, I8], ids=lambda d: d.value)
@pytest.mark.parametrize("target", ["host", "cortex-m4", "cortex-m0plus"])
def test_one_chain_on_emulated_cores(target: str, dtype: DType, requires_tool: Callable[[str], str]) -> None:
    if target == "cortex-m0plus":
        requires_tool("arm-none-eabi-gcc")
    net = every_movement(dtype)
    result = simulate(write_model(net.graph()), "random:3", target=target, layers=True)
    assert result.ok, result.first_mismatch
    assert result.outputs_equal == result.outputs_compared == 3 * net.now.elements


def test_clang_agrees(tmp_path: Path, truth: Truth, requires_tool: Callable[[str], str]) -> None:
    """Without a warning, at the other end of optimisation, and with undefined behaviour stopped."""
    requires_tool("clang")
    names = list(GRAPHS)[::3]
    flags = ("-O0", "-fsanitize=undefined", "-fsanitize-trap=all")
    code = build({n: GRAPHS[n] for n in names}, tmp_path, find_compiler(find_target("host"), "clang"), extra=flags)
    for name in names:
        test_every_byte_is_the_interpreters(name, code, truth)


def test_aliases_are_no_steps(host: HostCode) -> None:
    """SQUEEZE, EXPAND_DIMS, a SLICE of whole rows: only bytes from the model's input to its output are copied."""
    graphs = dict(zip(LABELS, GRAPHS, strict=True))
    program = host.programs[graphs["SQUEEZE, between steps, int8"]]
    assert [step.node.op.name for step in program.steps] == ["CONCATENATION"]
    assert [(buffer.memory, buffer.offset) for buffer in program.steps[0].inputs] == [(Memory.INPUT, 30)] * 2
    program = host.programs[graphs["EXPAND_DIMS, axis 1, float32"]]
    assert [step.kernel.function for step in program.steps] == ["ob_copy"]


# ----------------------------------------------------------------------------------------------------------- parameters


def copied(fields: Struct, x: Array, size: int) -> Array:
    """What ob_copy_strided does, on bytes."""
    f: Mapping[str, int] = fields.fields  # type: ignore[assignment]
    axes: list[Mapping[str, int]] = [fields.fields[f"axis{i}"] for i in range(4)]  # type: ignore[misc]
    out = np.zeros(size, np.uint8)
    raw = np.ascontiguousarray(x).view(np.uint8).reshape(-1)
    for index in np.ndindex(*(axis["count"] for axis in axes)):
        at = f["in_start"] + sum(i * axis["in_step"] for i, axis in zip(index, axes, strict=True))
        to = f["out_start"] + sum(i * axis["out_step"] for i, axis in zip(index, axes, strict=True))
        out[to : to + f["run"]] = raw[at : at + f["run"]]
    return out


def loops(fields: Struct) -> int:
    return sum(fields.fields[f"axis{i}"]["count"] > 1 for i in range(4))  # type: ignore[index, operator]


@pytest.mark.parametrize(
    ("index", "axes", "run", "count"),
    [
        (np.s_[:], (0, 1, 2, 3), 4 * 4 * 5 * 6, 0),
        (np.s_[:, 1:3], (0, 1, 2, 3), 4 * 2 * 5 * 6, 0),
        (np.s_[:, :, 1:3], (0, 1, 2, 3), 4 * 2 * 6, 1),
        (np.s_[:, :, :, 2:5], (0, 1, 2, 3), 4 * 3, 1),
        (np.s_[:, ::2, :, 2:5], (0, 1, 2, 3), 4 * 3, 2),
        (np.s_[:, :, :, ::-1], (0, 1, 2, 3), 4, 2),
        (np.s_[:], (0, 3, 1, 2), 4, 2),
        (np.s_[:, ::-1, ::2, 1::3], (0, 2, 3, 1), 4, 3),
    ],
    ids=str,
)
def test_neighbouring_loops_become_one(index: tuple[slice, ...], axes: tuple[int, ...], run: int, count: int) -> None:
    x = np.random.default_rng(0).normal(size=(1, 4, 5, 6)).astype(np.float32)
    source = x[index].transpose(axes)
    output = np.zeros(source.shape, np.float32)
    fields = copy_fields(output, output, source, x)
    assert fields.fields["run"] == run
    assert loops(fields) == count
    np.testing.assert_array_equal(copied(fields, x, output.nbytes).view(np.float32).reshape(source.shape), source)
