"""Every kernel's C on the host against the interpreter of LCE or TFLM, tensor by tensor, over one table of nets.

The table is built once per compiler and set of flags, as one shared library.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from onebit.codegen import Target, find_target, targets
from onebit.codegen.generate import random_inputs
from onebit.codegen.kernel import every_kernel
from onebit.codegen.ops import ConvertLayout
from onebit.core import DType, Graph, Rounding, evaluate, write_model
from onebit.core.graph import Array
from onebit.core.ops import LceBconv2d, Padding, View
from onebit.simulate import simulate
from onebit.simulate.toolchain import Compiler, find_compiler
from support.host_code import HostCode, build
from support.lce import LceRefusedError, LceSession
from support.net_table import NETS, graph_of, graphs
from support.nets import INT8_INPUT, Net
from support.tflm import TflmSession

Truth = Mapping[str, tuple[Array, dict[str, Array]]]
RequireTool = Callable[[str], str]

HOST_DSP = Target(
    name="host_dsp", description="the host with the kernels of the DSP extension", isa="host",
    extensions=frozenset({"dsp"}),
)  # fmt: skip
SAMPLES = 6


def refused_by_lce(graph: Graph) -> bool:
    """LCE has no zero padding of an odd number of channels; core's own semantics are tested against plain loops."""
    views = [View.of(graph, node) for node in graph.nodes if isinstance(node.op, LceBconv2d)]
    return any(view.node.op.window.zero_padded and view.input(0).shape[3] % 2 for view in views)  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def truth(lce: LceSession, tflm: TflmSession) -> Truth:
    """Inputs and the value of every tensor, from the interpreter that the graph's rounding names."""
    found = {}
    for name, graph in graphs().items():
        x = random_inputs(graph, SAMPLES, seed=1)
        if graph.input.dtype is DType.INT8:
            x[0], x[1] = -128, 127
        else:
            x[0] = 0
        if refused_by_lce(graph):
            with pytest.raises(LceRefusedError):
                lce.run(graph, x)
            found[name] = x, evaluate(graph, x, [tensor.name for tensor in graph.activations()])
        else:
            found[name] = x, (lce if graph.rounding is Rounding.LITERT else tflm).run(graph, x)
    return found


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> HostCode:
    return build(graphs(), tmp_path_factory.mktemp("host"), find_compiler(find_target("host")))


def assert_equal(code: HostCode, name: str, truth: Truth) -> None:
    x, expected = truth[name]
    compared = code.compare(name, x, expected)
    assert compared[-1].tensor.name == code.programs[name].source.outputs[0]
    assert {c.tensor.name: c.first for c in compared if c.first is not None} == {}
    assert all(c.equal == c.compared for c in compared)


@pytest.mark.parametrize("name", NETS)
def test_the_c_code_computes_what_the_interpreter_computes(name: str, host: HostCode, truth: Truth) -> None:
    assert_equal(host, name, truth)


@pytest.mark.parametrize("name", NETS)
def test_integers_and_bits_are_identical_and_so_are_floats_of_fixed_order(
    name: str, host: HostCode, truth: Truth
) -> None:
    """As `assert_equal`, without its tolerance where none is owed: the comparison is by NumPy, not by onebit."""
    x, expected = truth[name]
    source = host.programs[name].source
    unordered = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "MEAN", "SOFTMAX"}
    unordered |= {"HARD_SWISH", "LOGISTIC", "TANH"}
    loose: set[str] = set()
    for node in source.nodes:
        if node.op.name in unordered or loose & set(node.inputs):
            loose.add(node.output)
    for tensor, value in host.run(name, x).items():
        if tensor not in loose or source.tensors[tensor].dtype is not DType.FLOAT32:
            np.testing.assert_array_equal(value, expected[tensor].reshape(value.shape), err_msg=tensor)


def test_the_table_reaches_every_kernel(host: HostCode, dsp: HostCode) -> None:
    """A new kernel needs a net that selects it here (layout conversions: test_layouts.py)."""
    called = {step.kernel.function for code in (host, dsp) for p in code.programs.values() for step in p.steps}
    assert called == {kernel.function for kernel in every_kernel() if kernel.op is not ConvertLayout}


# ---------------------------------------------------------------------------------------------------- other builds

#: nets whose kernels the DSP extension changes, and one of each other kind
DSP_NETS = [n for n in NETS if n.removeprefix("tflm_").startswith(("linear_", "zero_point_", "int8_head_"))]
MIXED = [
    *DSP_NETS,
    "tflm_softmax_int8",
    "bits_33",
    "int8_33",
    "zeros_33",
    "groups_2",
    "table",
    "segments",
    "int8_pools",
    "copy_int8",
    "ranges_zero_padded",
    "bit_table",
    "minima",
]


@pytest.fixture(scope="module")
def dsp(tmp_path_factory: pytest.TempPathFactory) -> HostCode:
    """Kernels for cores with SMLAD, which have the same C without it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(targets.TARGETS, HOST_DSP.name, HOST_DSP)
        compiler = find_compiler(find_target("host"))
        nets = {name: graph_of(name) for name in DSP_NETS}
        return build(nets, tmp_path_factory.mktemp("dsp"), compiler, target=HOST_DSP.name)


@pytest.mark.parametrize("name", DSP_NETS)
def test_the_kernels_of_the_dsp_extension_compute_the_same(name: str, dsp: HostCode, truth: Truth) -> None:
    assert any("_dsp" in step.kernel.function for step in dsp.programs[name].steps)
    assert_equal(dsp, name, truth)


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m0plus", "cortex-m3", "cortex-m33"])
def test_integer_kernels_on_emulated_cores(target: str, requires_tool: RequireTool) -> None:
    """With each core's own instructions. No operator here needs float helpers, which zig would build first."""
    if target != "cortex-m4":
        requires_tool("arm-none-eabi-gcc")
    net = Net((1, 6, 7, 3), DType.INT8, INT8_INPUT).conv(5, (2, 3), stride=(2, 1)).pool(2, Padding.SAME).conv(34)
    net.quantize().bconv(33, to=DType.BITS).bpool(2, padding=Padding.SAME).bconv(7, to=DType.INT8)
    result = simulate(write_model(net.graph()), "random:3", target=target, layers=True)
    has_dsp = "dsp" in find_target(target).extensions
    assert {"_dsp" in step.kernel for step in result.steps if step.op in ("CONV_2D", "onebit.ConvSign")} == {has_dsp}
    assert result.ok, result.first_mismatch
    assert result.outputs_compared == 3 * (1 * 2 * 7)


@pytest.mark.parametrize("name", ["ranges", "bit_table", "minima", "segments_of_a_large_window", "int8_thresholds"])
def test_output_stages_on_an_emulated_core(name: str) -> None:
    result = simulate(write_model(graph_of(name)), "random:2", target="cortex-m4", layers=True, emulator="unicorn")
    assert result.ok, result.first_mismatch
    stages = {
        "ranges": "ob_bconv2d_bits_range", "bit_table": "ob_bconv2d_bits_table", "minima": "ob_bpool2d",
        "segments_of_a_large_window": "ob_bconv2d_i8_segments", "int8_thresholds": "ob_sign_i8",
    }  # fmt: skip
    assert stages[name] in {step.kernel for step in result.steps}


def test_channels_computed_in_a_join_on_an_emulated_core() -> None:
    """Each part is reported pixel by pixel, and compared as if it lay alone."""
    model = write_model(graph_of("joined_channels_int8"))
    result = simulate(model, "random:2", target="cortex-m4", layers=True, emulator="unicorn")
    assert result.ok, result.first_mismatch
    assert result.layers is not None
    compared = {layer.tensor: layer.outputs_compared for layer in result.layers}
    assert compared["conv_2d_1"] == 2 * 30 * 5 and compared["concatenation_7"] == 2 * 30 * (5 + 8 + 8 + 8 + 7 + 8 + 8)


def check_build(compiler: Compiler, folder: Path, truth: Truth, *extra: str, dsp: bool = False) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(targets.TARGETS, HOST_DSP.name, HOST_DSP)
        nets = {name: graph_of(name) for name in MIXED}
        code = build(nets, folder, compiler, target=HOST_DSP.name if dsp else "host", extra=extra)
    for name in nets:
        assert_equal(code, name, truth)


def test_clang_agrees(tmp_path: Path, truth: Truth, requires_tool: RequireTool) -> None:
    requires_tool("clang")
    check_build(find_compiler(find_target("host"), "clang"), tmp_path, truth)


def test_link_time_optimization_finds_no_undefined_behaviour(
    tmp_path: Path, truth: Truth, requires_tool: RequireTool
) -> None:
    """Arduino and ESP-IDF projects may build with -flto: then kernel and gather are one function to the compiler."""
    requires_tool("gcc")
    check_build(find_compiler(find_target("host"), "gcc"), tmp_path, truth, "-O3", "-flto", dsp=True)


def test_the_other_end_of_optimization_agrees(tmp_path: Path, truth: Truth) -> None:
    check_build(find_compiler(find_target("host")), tmp_path, truth, "-O0")
