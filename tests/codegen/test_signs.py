"""Signs that are taken while their value is computed: where that is done, where not, and what is said about it.

That memory holds both is replayed in `test_sharing.py`; the C is compared with the interpreter with the table of nets.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from onebit.codegen import Program, compile_graph, find_target
from onebit.codegen.emit import SelfTest, model_context
from onebit.codegen.findings import find_costs
from onebit.codegen.inspection import inspect_graph
from onebit.codegen.kernel import KERNELS
from onebit.codegen.options import Optimize
from onebit.core import DType, Graph, Quantization, write_model
from onebit.core.ops import Add, Concatenation, Prelu
from onebit.simulate import simulate
from support.movement_nets import back_to
from support.net_table import NETS, graph_of
from support.nets import Net

F32, I8 = DType.FLOAT32, DType.INT8
M4 = find_target("cortex-m4")


def compiled(made: Net | Graph, optimize: Optimize = "speed") -> Program:
    return compile_graph(made if isinstance(made, Graph) else made.graph(), M4, optimize)


def taken(program: Program) -> list[tuple[str, str]]:
    """The kernels that take signs, and whose."""
    return [(s.kernel.function, s.signs.tensor.name) for s in program.steps if s.signs is not None]


def quant(dtype: DType, scale: float = 0.06) -> Quantization | None:
    return Quantization.per_tensor(scale, 3) if dtype is I8 else None


def stem(dtype: DType, channels: int = 40) -> Net:
    return Net((1, 4, 5, channels), dtype, quant(dtype)).conv(channels, quant=quant(dtype))


def block(net: Net, dtype: DType) -> Net:
    """A sign, a binary convolution, and what both read added."""
    stream = net.now.name
    net.quantize().bconv(net.now.shape[3], to=dtype, quant=quant(dtype, 0.047))
    return net.node(Add(), stream, dtype=dtype, quant=quant(dtype, 0.071))


@pytest.mark.parametrize(("dtype", "kernel"), [(I8, "ob_add_i8_fixed_bits"), (F32, "ob_add_f32_bits")])
def test_the_sign_of_a_sum_that_a_shortcut_reads_too(dtype: DType, kernel: str) -> None:
    program = compiled(block(block(stem(dtype), dtype), dtype))
    assert taken(program) == [(kernel, "lcequantize_4")]
    step = program.step_of("lcequantize_4")
    assert step is not None and step.tensors == ("add_3", "lcequantize_4")
    assert "LceQuantize" not in [s.node.op.name for s in program.steps[step.index :]]
    # the sum lies over an operand, the signs over nothing that lives
    assert step.output.offset in [buffer.offset for buffer in step.inputs]
    signs = step.signs
    assert signs is not None
    for other in (*step.inputs, step.output):
        assert other.offset >= signs.offset + signs.nbytes or signs.offset >= other.offset + other.nbytes


def test_before_and_after() -> None:
    """The same values with and without; --optimize size keeps two steps, for less code."""
    graph = block(block(stem(I8), I8), I8).graph()
    one, two = compiled(graph), compiled(graph, "size")
    assert (taken(two), len(two.steps)) == ([], len(one.steps) + 1)
    assert one.arena_bytes == two.arena_bytes
    optimizations: tuple[Optimize, ...] = ("speed", "size")
    for optimize in optimizations:
        result = simulate(write_model(graph), "random:3", layers=True, optimize=optimize)
        assert result.ok, result.first_mismatch
        assert result.layers is not None
        assert [layer.tensor for layer in result.layers] == [tensor.name for tensor in graph.activations()]
        assert all(layer.outputs_equal == layer.outputs_compared for layer in result.layers)


@pytest.mark.parametrize("dtype", [I8, F32])
def test_a_prelu_that_a_shortcut_reads_too(dtype: DType) -> None:
    net = block(stem(dtype), dtype)
    slopes = net.constant("slopes", np.arange(40), dtype, quant=quant(dtype, 0.01))
    program = compiled(block(net.node(Prelu(), slopes, dtype=dtype, quant=quant(dtype, 0.05)), dtype))
    assert taken(program) == [(f"ob_prelu_{'i8' if dtype is I8 else 'f32'}_bits", "lcequantize_5")]


def single_slope(net: Net) -> Net:
    """One slope for all channels."""
    return net.node(Prelu(), net.constant("slope", [0.25], F32), dtype=F32)


def from_a_row(net: Net) -> Net:
    """An operand that repeats, but not pixel by pixel."""
    return net.add(np.ones((5, 40), np.float32))


@pytest.mark.parametrize("make", [single_slope, from_a_row])
def test_operands_that_are_read_in_another_order_keep_two_steps(make: Callable[[Net], Net]) -> None:
    assert taken(compiled(block(make(block(stem(F32), F32)), F32))) == []


def test_a_value_that_only_the_sign_reads_keeps_two_steps_where_memory_is_short() -> None:
    """Signs that are taken early meet both operands; later they meet the sum alone."""
    net = stem(F32)
    stream = net.now.name
    program = compiled(net.mul([2.0]).node(Add(), stream, dtype=F32).quantize().bconv(3))
    without = compiled(net, "size")
    assert taken(program) == []
    assert program.arena_bytes == without.arena_bytes


def test_a_sign_that_the_file_takes_later() -> None:
    """Another reader stands between the sum and its sign, and outlives it: both are complete after one step."""
    net = block(stem(I8), I8)
    stream = net.now.name
    pooled = net.pool(1).now.name
    back_to(net, stream).quantize().bconv(40, to=I8, quant=quant(I8))
    graph = net.node(Add(), pooled, dtype=I8, quant=quant(I8)).graph()
    program = compiled(graph)
    step = program.step_of(stream)
    assert step is not None and step.tensors == (stream, "lcequantize_5")
    result = simulate(write_model(graph), "random:3", layers=True)
    assert result.ok, result.first_mismatch


def test_two_signs_of_one_value() -> None:
    """The first is taken with it, the other reads it."""
    net = block(stem(I8), I8)
    stream = net.now.name
    first = net.quantize().bconv(40, to=I8, quant=quant(I8)).now.name
    back_to(net, stream).quantize().bconv(40, to=I8, quant=quant(I8))
    graph = net.node(Add(), first, dtype=I8, quant=quant(I8)).graph()
    assert len(taken(compiled(graph))) == 1
    result = simulate(write_model(graph), "random:3", layers=True)
    assert result.ok, result.first_mismatch


@pytest.mark.parametrize("dtype", [I8, F32])
def test_an_operand_that_lies_among_the_channels_of_a_join(dtype: DType) -> None:
    net = stem(dtype)
    first = net.now.name
    part = net.conv(40, (1, 1), quant=quant(dtype)).now.name
    joined = net.node(Concatenation(3), part, dtype=dtype, quant=quant(dtype)).pool(1).now.name
    stream = back_to(net, part).node(Add(), first, dtype=dtype, quant=quant(dtype, 0.071)).now.name
    branch = net.quantize().bconv(80, to=dtype, quant=quant(dtype)).now.name
    back_to(net, stream).node(Concatenation(3), stream, dtype=dtype, quant=quant(dtype, 0.071))
    net.node(Add(), branch, dtype=dtype, quant=quant(dtype, 0.09)).node(Add(), joined, dtype=dtype, quant=quant(dtype))
    program = compiled(net)
    assert len(taken(program)) == 1
    step = program.step_of(stream)
    assert step is not None and any(buffer.gap for buffer in step.inputs)
    result = simulate(write_model(net.graph()), "random:3", layers=True)
    assert result.ok, result.first_mismatch


def test_inspection_says_where_a_sign_is_taken_and_what_it_costs() -> None:
    graph = block(block(stem(I8), I8), I8).graph()
    row = next(row for row in inspect_graph(graph, M4).ops if row.tensor == "lcequantize_4")
    assert (row.why, row.instructions) == ("sign of ADD, taken while that is computed", 0)
    found = {f.tensor: f for f in find_costs(compiled(graph)) if f.kind == "surviving_sign"}
    assert list(found) == ["lcequantize_1", "lcequantize_4"]
    assert 0 < found["lcequantize_4"].instructions < found["lcequantize_1"].instructions
    assert "sign of ADD, in int8 because ADD reads it too" in found["lcequantize_4"].what


def test_the_layer_function_names_both() -> None:
    program = compiled(block(block(stem(F32), F32), F32))
    x = np.zeros((4, 5, 40), np.float32)
    context = model_context(program, "net", [], [], SelfTest(x, x))
    (comment,) = [layer.comment for layer in context.layers if "signs" in layer.comment]
    assert comment == "ADD: 'add_3' float32 [1, 4, 5, 40] dense, and its signs 'lcequantize_4' bits [1, 4, 5, 40]"


def test_every_kernel_that_takes_signs_does_so_in_some_net_with_a_rest_of_a_word() -> None:
    """So the sanitizers, the analyzers and the comparison with the interpreter see each of them."""
    seen = set()
    for name in NETS:
        program = compiled(graph_of(name))
        seen |= {f for f, sign in taken(program) if program.graph.tensors[sign].shape[-1] % 32}
    assert seen == {kernel.with_signs.function for kernel in KERNELS if kernel.with_signs is not None}
