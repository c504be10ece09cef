"""Shared memory: what is decided for joins, slices and residuals, and a replay of every net in real memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided

from onebit.codegen import Program, compile_graph, find_target
from onebit.codegen.generate import random_inputs
from onebit.codegen.kernel import Kernel, Output, every_kernel, knows_pitch
from onebit.codegen.planner import Lifetime
from onebit.codegen.schedule import Buffer, Step
from onebit.codegen.sharing import Memory, Origin, Sharing, Value, cut
from onebit.core import DType, Graph, Quantization, bits, evaluate
from onebit.core.graph import Array
from onebit.core.ops import Add, Concatenation, Mul, Padding, Relu, Slice, View
from support.movement_nets import back_to, move
from support.net_table import NETS, graph_of
from support.nets import INT8_INPUT, Net

F32, I8 = DType.FLOAT32, DType.INT8
HOST = find_target("cortex-m4")


def compiled(net: Net | Graph) -> Program:
    return compile_graph(net if isinstance(net, Graph) else net.graph(), HOST)


# --------------------------------------------------------------------------------------------------------------- replay


class Machine:
    """The memories of a program, and its steps executed in them by the operators' own semantics."""

    def __init__(self, program: Program, x: Array) -> None:
        self.program = program
        graph = program.graph
        self.memory = {
            Memory.INPUT: np.ascontiguousarray(x).view(np.uint8).reshape(-1),
            Memory.OUTPUT: np.full(graph.output.nbytes, 0xA5, np.uint8),
            Memory.ARENA: np.full(program.arena_bytes, 0xA5, np.uint8),
        }
        self.input = self.memory[Memory.INPUT].copy()

    def read(self, buffer: Buffer) -> Array:
        raw = self.bytes_of(buffer).reshape(-1)
        return raw.view(buffer.tensor.dtype.numpy).reshape(buffer.tensor.stored_shape)

    def bytes_of(self, buffer: Buffer) -> Array:
        """A view [runs, bytes] of what the buffer holds."""
        count, size = buffer.runs
        step = size + buffer.gap
        raw = self.memory[buffer.memory][buffer.offset : buffer.offset + count * step - buffer.gap]
        assert len(raw) == count * step - buffer.gap, "reaches beyond its memory"
        return as_strided(raw, (count, size), (step, 1))

    def run(self, step: Step) -> None:
        """Scratch memory is filled first; a movement writes only what its remaining calls copy."""
        graph, view = self.program.graph, View.of(self.program.graph, step.node)
        if step.scratch is not None:
            assert step.scratch_offset + step.scratch.bytes <= self.program.arena_bytes
            self.memory[Memory.ARENA][step.scratch_offset : step.scratch_offset + step.scratch.bytes] = 0x5A
        values = iter([self.read(buffer) for buffer in step.inputs])
        tensors = [None if n is None else graph.tensors[n] for n in step.node.inputs]
        args = [t if t is None else t.data if t.is_constant else next(values) for t in tensors]
        value = np.ascontiguousarray(step.node.op.evaluate(view, args))
        if step.signs is not None:
            self.write(step.signs, bits.pack(value < view.output.quant.zero_point))
        y = value.view(np.uint8).reshape(-1)
        if all(call.function == "ob_copy_strided" for call in step.calls):
            memory = self.memory[step.output.memory]
            before, laid = memory.copy(), self.bytes_of(step.output)
            laid[:] = y.reshape(laid.shape)
            right = memory[step.output.offset :].copy()
            memory[:] = before
            for call in step.calls:
                for start, size in copied_bytes(call.args[0].fields):  # type: ignore[union-attr]
                    memory[step.output.offset + start :][:size] = right[start : start + size]
        else:
            self.write(step.output, value)

    def write(self, buffer: Buffer, value: Array) -> None:
        place = self.bytes_of(buffer)
        place[:] = np.ascontiguousarray(value).view(np.uint8).reshape(place.shape)


def copied_bytes(fields: Any) -> list[tuple[int, int]]:
    """(start, size) of the runs that ob_copy_strided writes."""
    axes = [fields[f"axis{i}"] for i in range(4)]
    return [
        (fields["out_start"] + sum(i * a["out_step"] for i, a in zip(index, axes, strict=True)), fields["run"])
        for index in np.ndindex(*(axis["count"] for axis in axes))
    ]


def replay(program: Program, x: Array) -> None:
    """Every step finds its operands whole and leaves complete what it says it completes."""
    graph = program.graph
    names = [tensor.name for tensor in graph.activations()]
    expected = evaluate(graph, x, names)
    machine = Machine(program, x)
    complete: set[str] = set()
    for step in program.steps:
        for buffer in step.inputs:
            name = buffer.tensor.name
            want = x if name == graph.input.name else expected[name]
            np.testing.assert_array_equal(machine.read(buffer), want.reshape(buffer.tensor.stored_shape), err_msg=name)
        machine.run(step)
        for buffer in step.values:
            name = buffer.tensor.name
            np.testing.assert_array_equal(
                machine.read(buffer), expected[name].reshape(buffer.tensor.stored_shape), err_msg=name
            )
            assert name not in complete
            complete.add(name)
    np.testing.assert_array_equal(machine.memory[Memory.INPUT], machine.input, err_msg="the input was overwritten")
    y = np.ascontiguousarray(expected[graph.outputs[0]]).view(np.uint8).reshape(-1)
    np.testing.assert_array_equal(machine.memory[Memory.OUTPUT], y)


@pytest.mark.parametrize("name", NETS)
def test_every_net_of_the_table_in_real_memory(name: str) -> None:
    program = compiled(graph_of(name))
    replay(program, random_inputs(program.source, 1, seed=5))
    assert program.plan.lower_bound_bytes <= program.arena_bytes <= 1.05 * program.plan.lower_bound_bytes


def test_the_replay_notices_memory_that_is_used_twice() -> None:
    """A residual block with every value at the start of the arena."""
    program = compiled(graph_of("residual_chain_int8"))

    def first(buffer: Buffer) -> Buffer:
        return replace(buffer, offset=0) if buffer.memory is Memory.ARENA else buffer

    steps = tuple(
        replace(s, inputs=tuple(map(first, s.inputs)), output=first(s.output), values=tuple(map(first, s.values)))
        for s in program.steps
    )
    with pytest.raises(AssertionError, match="conv_2d_0"):
        replay(replace(program, steps=steps), random_inputs(program.source, 1, seed=5))


@st.composite
def random_nets(draw: st.DrawFn) -> Graph:
    """Branches, joins, pieces and residuals of int8 maps of up to 4 rows, in any order."""
    quant = Quantization.per_tensor(0.05, 3)
    net = Net((1, 4, 3, 4), I8, quant, seed=draw(st.integers(0, 5)))
    values = [net.conv(4, (1, 1), quant=quant).now]
    for _ in range(draw(st.integers(2, 14))):
        net.now = draw(st.sampled_from(values))
        alike = [v.name for v in values if v.shape == net.now.shape]
        joinable = [v.name for v in values if v.shape[2:] == net.now.shape[2:]]
        match draw(
            st.sampled_from(["conv", "relu", "add", "rows", "channels", "piece", "sign", "pool", "reshape", "repeated"])
        ):
            case "conv":
                net.conv(draw(st.sampled_from([3, 4])), (1, 1), quant=quant)
            case "relu":
                net.node(Relu(), dtype=I8, quant=quant)
            case "add":
                net.node(Add(), draw(st.sampled_from(alike)), dtype=I8, quant=quant)
            case "repeated":
                net.node(Concatenation(3), net.now.name, dtype=I8, quant=quant)
            case "rows":
                net.node(Concatenation(1), draw(st.sampled_from(joinable)), dtype=I8, quant=quant)
            case "channels":
                net.node(Concatenation(3), draw(st.sampled_from(alike)), dtype=I8, quant=quant)
            case "piece":
                first = draw(st.integers(0, net.now.shape[1] - 1))
                rows = draw(st.integers(1, net.now.shape[1] - first))
                begin = net.constant(f"begin_{len(net.nodes)}", [0, first, 0, 0], DType.INT32)
                size = net.constant(f"size_{len(net.nodes)}", [1, rows, -1, -1], DType.INT32)
                net.node(Slice(), begin, size, dtype=I8, quant=quant)
            case "sign":
                net.quantize().bconv(4, (1, 1), to=I8, quant=quant)
            case "pool":
                net.pool(min(2, net.now.shape[1], net.now.shape[2]), Padding.SAME)
            case _:
                net.reshape(1, net.now.shape[1] * net.now.shape[2], 1, net.now.shape[3])
        values.append(net.now)
    return net.graph()


@settings(max_examples=150, derandomize=True, deadline=None)
@given(random_nets())
def test_random_nets_in_real_memory(graph: Graph) -> None:
    program = compiled(graph)
    replay(program, random_inputs(program.source, 1, seed=5))
    assert program.plan.lower_bound_bytes <= program.arena_bytes


# ------------------------------------------------------------------------------------------------------------ decisions


def offsets(program: Program) -> dict[str, tuple[Memory, int]]:
    return {b.tensor.name: (b.memory, b.offset) for b in program.buffers()}


def test_a_chain_of_elementwise_operators_is_computed_in_the_output() -> None:
    program = compiled(Net((1, 4, 4, 3)).conv(5).mul(np.ones(5)).add(np.ones(5)).node(Relu(), dtype=F32))
    assert {memory for memory, _ in offsets(program).values()} == {Memory.OUTPUT}
    assert program.arena_bytes == program.steps[0].scratch.bytes  # type: ignore[union-attr]


def test_an_operand_that_is_read_later_stays() -> None:
    net = Net((1, 4, 4, 3)).conv(5)
    a = net.now.name
    net.mul(np.full(5, 2.0))
    b = net.now.name
    places = offsets(compiled(net.node(Add(), a, dtype=F32).conv(2)))
    assert places[a] != places[b]
    assert places["add_2"] in (places[a], places[b])


def test_the_input_is_never_written() -> None:
    places = offsets(compiled(Net((1, 4, 4, 3)).node(Relu(), dtype=F32).conv(2)))
    assert places["relu_0"][0] is Memory.ARENA


def test_an_operand_that_repeats_stays() -> None:
    """[1, 1, 1, C] times [1, H, W, C]: only the map can be written over, and H * W is 1 nowhere."""
    net = Net((1, 4, 4, 6)).conv(6)
    whole = net.now.name
    net.pool(4)
    vector = net.now.name
    net.now = net.tensors[whole]
    places = offsets(compiled(net.node(Mul(), vector, dtype=F32).conv(2)))
    assert places["mul_2"] == places[whole] != places[vector]


def test_an_operand_twice_is_written_over_once() -> None:
    net = Net((1, 4, 4, 3)).conv(5)
    places = offsets(compiled(net.node(Add(), net.now.name, dtype=F32).conv(2)))
    assert places["add_1"] == places["conv_2d_0"]


def test_branches_are_computed_where_they_are_joined() -> None:
    """Rows of a map: no copy; the ReLU of a branch, too, is done in the join."""
    program = compiled(graph_of("joined_rows_float32"))
    places, row = offsets(program), 4 * 7 * 4
    joined = places["concatenation_4"][1]
    # parts: 3 rows of b, which lie in b and are copied, then a, then b
    assert [len(step.calls) for step in program.steps if step.node.op.name == "CONCATENATION"] == [1]
    assert places["conv_2d_0"][1] == joined + 3 * row
    assert places["relu_2"][1] == places["conv_2d_1"][1] == joined + 8 * row
    assert places["relu6_5"][1] == joined


def test_a_dense_net_along_rows_never_copies() -> None:
    program = compiled(graph_of("joined_twice_int8"))
    assert {step.node.op.name for step in program.steps} == {"CONV_2D"}
    assert {buffer.memory for buffer in program.buffers()} == {Memory.OUTPUT}


def test_channels_are_computed_where_they_are_joined() -> None:
    """The one that another operator reads too is copied: it reads pixels that follow each other."""
    net = Net((1, 4, 4, 3)).conv(5)
    a = net.now.name
    net.conv(2, (1, 1))
    b = net.now.name
    net.now = net.tensors[a]
    program = compiled(net.node(Concatenation(3), b, dtype=F32).conv(2))
    (step,) = [step for step in program.steps if step.node.op.name == "CONCATENATION"]
    assert len(step.calls) == 1
    part = program.step_of("conv_2d_1").output  # type: ignore[union-attr]
    assert (part.offset, part.gap) == (step.output.offset + 5 * 4, 5 * 4)
    # the first part, the join, and the scratch memory of the convolution that writes there
    assert program.arena_bytes == program.plan.lower_bound_bytes == (5 + 7) * 16 * 4 + 5 * 4


def test_channels_that_stand_twice_are_computed_once() -> None:
    """As where a shortcut grows by repetition: the second is copied from the first, inside the join."""
    net = Net((1, 4, 4, 3), I8, INT8_INPUT).conv(5).pool(2)
    a, quant = net.now.name, net.now.quantization
    program = compiled(net.node(Concatenation(3), a, dtype=I8, quant=quant).conv(2))
    (step,) = [step for step in program.steps if step.node.op.name == "CONCATENATION"]
    (call,) = step.calls
    assert call.args[1:] == (Output(), Output())
    assert copied_bytes(call.args[0].fields) == [(5 + 10 * i, 5) for i in range(4)]  # type: ignore[union-attr]


def test_a_join_that_would_cost_memory_is_copied() -> None:
    """A small branch that waits for a long one: the whole map would live as long."""
    net = Net((1, 8, 8, 3)).conv(2)
    stem = net.now.name
    net.conv(1, (1, 1))
    small = net.now.name
    net.now = net.tensors[stem]
    net.conv(40).conv(60).conv(30)
    program = compiled(net.node(Concatenation(3), small, dtype=F32).conv(2))
    gaps = {buffer.tensor.name: buffer.gap for buffer in program.buffers()}
    assert (gaps["conv_2d_1"], gaps["conv_2d_4"]) == (0, 4)


def test_a_part_that_stands_twice_is_copied_once() -> None:
    net = Net((1, 4, 4, 3)).conv(5)
    program = compiled(net.node(Concatenation(1), net.now.name, dtype=F32).conv(2))
    (step,) = [step for step in program.steps if step.node.op.name == "CONCATENATION"]
    assert len(step.calls) == 1


def test_a_slice_at_an_odd_byte() -> None:
    """int8 may start anywhere; signs written over it may not."""
    net = Net((1, 3, 1, 5), I8, INT8_INPUT).conv(5)
    begin, size = net.constant("begin", [0, 1, 0, 0], DType.INT32), net.constant("size", [1, 2, 1, 5], DType.INT32)
    quant = net.now.quantization
    net.node(Slice(), begin, size, dtype=I8, quant=quant).quantize().bconv(3)
    program = compiled(net)
    places = offsets(program)
    assert places["slice_1"][1] - places["conv_2d_0"][1] == 5
    assert places["lcequantize_2"][1] % 4 == 0
    replay(program, random_inputs(program.source, 1, seed=5))


def test_every_kernel_that_may_write_over_an_operand_does_so_in_some_net() -> None:
    """So the tests of the table against the interpreter see each of them do it."""
    seen: set[str] = set()
    for name in NETS:
        for step in compiled(graph_of(name)).steps:
            places = {(b.memory, b.offset) for b in step.inputs}
            if (step.output.memory, step.output.offset) in places:
                seen.add(step.kernel.function)
    nowhere = Kernel.__dataclass_fields__["in_place"].default
    # float operands of a comparison are larger than its truth values, int8 ones are smaller than float results
    never = {"ob_greater_f32", "ob_greater_equal_f32", "ob_dequantize_i8_f32"}
    assert {k.function for k in every_kernel() if k.in_place is not nowhere} - seen == never


def test_every_kernel_that_can_compute_some_channels_of_a_map_does_so_in_some_net() -> None:
    """On cores with and without the DSP extension, which has a convolution of its own."""
    joins = ("dense_block", "inception", "joined_channels", "grown_shortcut", "read_in_joins")
    nets = [graph_of(f"{name}_{dtype.value}") for name in joins for dtype in (F32, I8)] + [graph_of("joined_stages")]
    seen, able = set(), set()
    for target in (HOST, find_target("cortex-m0plus")):
        for step in (step for net in nets for step in compile_graph(net, target).steps):
            seen |= {step.kernel.function} if step.output.gap else set()
        for program in (compile_graph(graph_of(name), target) for name in NETS):
            for step in program.steps:
                places = any(knows_pitch(arg) for call in step.calls for arg in call.args)
                places |= step.kernel.writes_pitch(View.of(program.graph, step.node))
                able |= {step.kernel.function} if places else set()
    assert seen == able


def test_every_kernel_that_can_read_some_channels_of_a_map_does_so_in_some_net() -> None:
    seen, able = set(), set()
    for name in NETS:
        program = compiled(graph_of(name))
        for step in program.steps:
            read = [buffer.tensor.name for buffer in step.inputs if buffer.gap]
            positions = step.kernel.reads_pitch(View.of(program.graph, step.node))
            assert {i for i, name in enumerate(step.node.inputs) if name in read} <= set(positions)
            seen |= {step.kernel.function} if read else set()
            able |= {step.kernel.function} if positions else set()
    assert seen == able


def test_a_dense_net_along_channels_never_copies() -> None:
    """Every value is read where it lies in all the joins behind it; the last map holds all channels."""
    program = compiled(graph_of("dense_block_int8"))
    assert "CONCATENATION" not in {step.node.op.name for step in program.steps}
    places = offsets(program)
    last = places["concatenation_9"][1]
    inner = [places[name][1] - last for name in ("conv_2d_0", "concatenation_3", "concatenation_6")]
    assert inner == [48, 32, 16]


@pytest.mark.parametrize("rows", [1, 4])
def test_a_value_whose_bytes_are_taken_without_a_copy_stays_in_one_piece(rows: int) -> None:
    """A row that is read on its own, or a reshape of all: in the join its pixels would lie apart."""
    net = Net((1, 4, 4, 3)).conv(5)
    a = net.now.name
    if rows == 4:
        net.reshape(1, 1, 16, 5)
    else:
        move(net, Slice(), [0, 1, 0, 0], [1, rows, 4, 5])
    taken = net.conv(5, (1, 4 * rows), padding=Padding.VALID).pool(1).now.name
    branch = back_to(net, a).quantize().bconv(3).now.name
    join = back_to(net, a).node(Concatenation(3), branch, dtype=F32).conv(5, (4, 4), padding=Padding.VALID).pool(1)
    assert join.now.shape[3] == 5
    program = compiled(
        join.node(Mul(), taken, dtype=F32) if rows == 4 else join.node(Concatenation(2), taken, dtype=F32)
    )
    gaps = {buffer.tensor.name: buffer.gap for buffer in program.buffers()}
    assert (gaps[a], gaps[branch]) == (0, 5 * 4)


# ---------------------------------------------------------------------------------------------------------------- rules


def value(name: str, size: int, first: int, last: int, **kw: Any) -> Value:
    return Value(
        Lifetime(name, size, first, last),
        I8,
        kw.get("memory", Memory.ARENA),
        kw.get("content", (Origin(name, 0, size),)),
    )


def test_values_that_live_together_share_only_what_is_equal() -> None:
    a, b = value("a", 8, 0, 2), value("b", 8, 1, 3)
    assert not Sharing([a, b]).put("b", "a", 0)
    assert Sharing([a, b]).put("b", "a", 8)
    part = value("part", 4, 1, 3, content=(Origin("a", 4, 4),))
    assert Sharing([a, part]).put("part", "a", 4)
    assert not Sharing([a, part]).put("part", "a", 0)


def test_a_group_moves_as_a_whole() -> None:
    """b lies behind a; c, which lives with a only, cannot lie where b would then meet it."""
    a, b, c = value("a", 4, 0, 1), value("b", 4, 0, 5), value("c", 8, 4, 5)
    sharing = Sharing([a, b, c])
    assert sharing.put("b", "a", 4)
    assert not sharing.put("c", "a", 0)
    assert sharing.put("c", "b", 4)
    (block,) = sharing.blocks()
    assert {(m.value.name, m.offset) for m in block.members} == {("a", 0), ("b", 4), ("c", 8)}


def test_only_the_operand_itself_may_be_written_over() -> None:
    """Not where another value in its memory is read at the same time."""
    a, y = value("a", 8, 0, 2), value("y", 8, 2, 3)
    assert Sharing([a, y]).write_over("a", "y")
    assert not Sharing([value("a", 8, 0, 3), y]).write_over("a", "y")
    head = value("head", 4, 1, 2, content=(Origin("a", 0, 4),))
    sharing = Sharing([a, head, y])
    assert sharing.put("head", "a", 0)
    assert not sharing.write_over("a", "y")


def test_the_callers_output_is_not_exceeded() -> None:
    y = value("y", 4, 3, 9, memory=Memory.OUTPUT)
    assert not Sharing([value("a", 8, 0, 3), y]).write_over("a", "y")
    sharing = Sharing([value("a", 4, 0, 3), y])
    assert sharing.write_over("a", "y") and sharing.memory("a") is Memory.OUTPUT and sharing.blocks() == []


def test_content_is_cut_and_joined() -> None:
    content = (Origin("a", 0, 4), Origin("a", 4, 4), Origin("b", 2, 3))
    assert cut(content, 0, 11) == (Origin("a", 0, 8), Origin("b", 2, 3))
    assert cut(content, 3, 9) == (Origin("a", 3, 5), Origin("b", 2, 1))
    assert cut(content, 5, 5) == ()
