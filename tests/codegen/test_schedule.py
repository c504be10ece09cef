"""The scheduled form: steps, buffers, aliases, selection of kernels, and models that cannot be compiled."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from onebit.codegen import compile_graph, find_target, kernel
from onebit.codegen.kernel import KERNELS, Layout, select_kernel
from onebit.codegen.schedule import Program
from onebit.codegen.sharing import Memory
from onebit.core import DType, Graph, Node, Tensor
from onebit.core.errors import UnsupportedError
from onebit.core.ops import View
from support.net_table import graph_of
from support.nets import INT8_INPUT, Net

HOST = find_target("host")


def program_of(net: Net | Graph) -> Program:
    return compile_graph(net if isinstance(net, Graph) else net.graph(), HOST)


def renamed(graph: Graph, names: dict[str, str]) -> Graph:
    """The same graph with other names of tensors."""

    def new(name: str) -> str:
        return names.get(name, name)

    nodes = tuple(
        Node(n.op, tuple(None if i is None else new(i) for i in n.inputs), tuple(map(new, n.outputs)))
        for n in graph.nodes
    )
    tensors = {new(k): replace(t, name=new(k)) for k, t in graph.tensors.items()}
    return Graph(tensors, nodes, tuple(map(new, graph.inputs)), tuple(map(new, graph.outputs)), graph.metadata)


def test_steps_follow_the_graph_and_know_their_tensors() -> None:
    program = program_of(Net((1, 6, 6, 3), DType.INT8, INT8_INPUT).conv(4).pool().reshape(1, 36).dense(5))
    assert [step.node.op.name for step in program.steps] == ["CONV_2D", "MAX_POOL_2D", "FULLY_CONNECTED"]
    assert [step.index for step in program.steps] == [0, 1, 2]
    assert [step.tensors for step in program.steps] == [
        ("conv_2d_0",), ("max_pool_2d_1", "reshape_2"), ("fully_connected_3",),
    ]  # fmt: skip
    assert [step.output.memory for step in program.steps] == [Memory.ARENA, Memory.ARENA, Memory.OUTPUT]
    assert program.steps[0].inputs[0].memory is Memory.INPUT
    reshaped = program.step_of("reshape_2")
    assert reshaped is not None and reshaped.index == 1
    assert program.step_of("input") is None
    assert [step.macs for step in program.steps] == [(0, 36 * 4 * 27), (0, 0), (0, 36 * 5)]


def test_a_reshape_in_front_of_the_output_lets_the_kernel_write_the_output() -> None:
    program = program_of(Net((1, 4, 4, 3)).conv(4).reshape(1, 64))
    assert [(step.node.op.name, step.output.memory) for step in program.steps] == [("CONV_2D", Memory.OUTPUT)]


def test_a_reshape_of_the_input_costs_nothing_unless_it_is_the_output() -> None:
    program = program_of(Net((1, 4, 4, 3)).reshape(1, 48).dense(5))
    assert [step.inputs[0].memory for step in program.steps] == [Memory.INPUT]
    copy = program_of(Net((1, 4, 4, 3)).reshape(1, 48))
    assert [step.kernel.function for step in copy.steps] == ["ob_copy"]


def test_bits_are_channel_packed_and_all_else_dense() -> None:
    program = program_of(Net((1, 5, 5, 33)).quantize().bconv(40, to=DType.BITS).bconv(7))
    assert [step.output.layout for step in program.steps] == [Layout.CHANNEL_PACKED] * 2 + [Layout.DENSE]
    assert [step.output.nbytes for step in program.steps] == [25 * 2 * 4, 25 * 2 * 4, 25 * 7 * 4]


def test_weights_are_counted_with_all_constants_of_the_output_stage() -> None:
    program = program_of(Net((1, 5, 5, 33)).quantize().bconv(40, to=DType.BITS))
    assert program.weight_bytes == 40 * 9 * 2 * 4 + 40 * 4


@pytest.mark.parametrize("name", ["input", "output", "scratch of node 1", "arena", "scratch of node 2"])
@pytest.mark.parametrize("which", ["lcequantize_0", "lcebconv2d_1"])
def test_a_tensor_may_have_any_name(name: str, which: str) -> None:
    """Names that the scheduler uses itself, for values in the middle of the model."""
    graph = renamed(
        Net((1, 5, 5, 8)).quantize().bconv(40, to=DType.BITS).bconv(33, to=DType.BITS).bconv(7).graph(),
        {"input": "x", which: name},
    )
    program = program_of(graph)
    assert [step.output.memory for step in program.steps].count(Memory.OUTPUT) == 1
    assert [step.inputs[0].memory for step in program.steps].count(Memory.INPUT) == 1
    arena = [step.output.tensor.name for step in program.steps[:-1]]
    scratches = sum(step.scratch is not None for step in program.steps)
    assert len(set(arena)) == len(arena)
    assert set(arena) < set(program.plan.offsets) and len(program.plan.offsets) == len(arena) + scratches


def test_several_outputs_are_refused() -> None:
    graph = Net((1, 4, 4, 3)).conv(4).pool().graph()
    with pytest.raises(UnsupportedError, match="1 inputs and 2 outputs") as caught:
        compile_graph(replace(graph, outputs=(*graph.outputs, "conv_2d_0")), HOST)
    assert caught.value.exit_code == 2


def test_a_model_that_computes_nothing_is_refused() -> None:
    graph = Net((1, 4, 4, 3)).conv(4).graph()
    with pytest.raises(UnsupportedError, match="output is its input"):
        compile_graph(replace(graph, outputs=graph.inputs), HOST)


def test_a_node_without_kernel_is_named_with_its_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "KERNELS", [k for k in KERNELS if k.function != "ob_maxpool2d_f32"])
    message = r"MAX_POOL_2D 'max_pool_2d_1' on host: no kernel .*float32 \[1, 2, 2, 4\]"
    with pytest.raises(UnsupportedError, match=message):
        program_of(Net((1, 4, 4, 3)).conv(4).pool())


def test_the_cheapest_kernel_that_the_target_can_run_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = Net((1, 4, 4, 3)).conv(4).graph()
    view = View.of(graph, graph.nodes[0])
    (usual,) = [k for k in KERNELS if k.function == "ob_conv2d_f32"]
    cheap = replace(usual, function="cheap", cost=lambda _: 1.0)
    free = replace(usual, function="free", cost=lambda _: 0.0, requires=frozenset({"mve"}))
    refusing = replace(usual, function="refusing", cost=lambda _: 0.0, supports=lambda _: False)
    monkeypatch.setattr(kernel, "KERNELS", [*KERNELS, cheap, free, refusing])
    assert select_kernel(view, HOST).function == "cheap"
    assert select_kernel(view, find_target("cortex-m55")).function == "free"


@pytest.mark.parametrize("name", ["digits_like", "residual", "two_readers", "float_head_relu"])
def test_compiling_twice_gives_the_same(name: str) -> None:
    def make() -> Graph:
        if name == "digits_like":
            return Net((1, 9, 9, 3), DType.INT8, INT8_INPUT).conv(8).quantize().bconv(9, to=DType.INT8).graph()
        return graph_of(name)

    first, second = program_of(make()), program_of(make())
    assert first.plan == second.plan
    assert [s.kernel.function for s in first.steps] == [s.kernel.function for s in second.steps]
    for a, b in zip(first.steps, second.steps, strict=True):
        for left, right in zip(a.constants, b.constants, strict=True):
            np.testing.assert_array_equal(left.data, right.data)


def test_the_programs_source_is_the_model_and_not_the_rewritten_graph() -> None:
    graph = Net((1, 5, 5, 8)).quantize().bconv(8).quantize().bconv(4).graph()
    program = program_of(graph)
    assert program.source is graph
    assert dict(program.eliminated) == {"lcebconv2d_1": "fold_sign_into_bconv"}
    assert isinstance(program.graph.tensors["lcequantize_2"], Tensor)
