"""The arena in the module or in the caller's memory, and what generated code is optimized for."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from onebit.codegen import compile_graph, find_target, generate
from onebit.codegen.generate import random_inputs
from onebit.codegen.options import OPTIMIZE_FLAGS, Optimize
from onebit.core import DType, evaluate, write_model
from onebit.core.errors import BadInputError
from onebit.core.pretrained import pretrained_path
from onebit.simulate import simulate
from onebit.simulate.toolchain import BASE_FLAGS, MODEL_FLAGS, WARNINGS, Preference, find_compiler
from support.net_table import graph_of
from support.nets import INT8_INPUT, Net

HOST = find_target("host")
#: bits, int8 and float, joins, scratch memory, and a net that needs no arena at all
CALLERS = ("dense_block_int8", "residual_chain_float32", "joined_rows_int8", "linear_stride", "copy_int8")


def library_of(folder: Path) -> ctypes.CDLL:
    compiler = find_compiler(HOST)
    out = folder / "model.so"
    flags = [*compiler.flags, *BASE_FLAGS, *MODEL_FLAGS, *WARNINGS, "-O2", "-shared", "-fPIC"]
    sources = sorted(map(str, folder.glob("*.c")))
    subprocess.run([*compiler.command, *flags, *sources, "-o", str(out)], check=True, capture_output=True)
    return ctypes.CDLL(str(out))


@pytest.mark.parametrize("name", CALLERS)
def test_a_callers_arena_may_hold_anything_and_nothing_beside_it_is_touched(name: str, tmp_path: Path) -> None:
    graph = graph_of(name)
    result = generate(write_model(graph), "host", tmp_path, name="net", arena="caller")
    assert "static uint32_t arena" not in (tmp_path / "net.c").read_text()
    invoke = library_of(tmp_path).net_invoke
    x = random_inputs(graph, 4, seed=2)
    expected = evaluate(graph, x)[graph.outputs[0]]
    guard = 64
    for i, fill in enumerate((0x00, 0xFF, 0xA5, 0x7F)):
        # at a word that is no multiple of 8 bytes
        memory = np.full(guard + 4 + result.arena_bytes + guard, fill, np.uint8)
        start = memory.ctypes.data + guard + 4
        start -= start % 8 - 4
        y = np.zeros(graph.output.nbytes, np.uint8)
        sample = np.ascontiguousarray(x[i])
        assert invoke(*(ctypes.c_void_p(a) for a in (sample.ctypes.data, y.ctypes.data, start))) == 0
        first = start - memory.ctypes.data
        assert (memory[:first] == fill).all() and (memory[first + result.arena_bytes :] == fill).all()
        got, want = y.view(graph.output.dtype.numpy), expected[i].reshape(-1)
        if graph.output.dtype is DType.FLOAT32:
            np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * np.ptp(expected))
        else:
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("target", ["host", "cortex-m4"])
def test_simulation_with_a_callers_arena(target: str) -> None:
    results = [
        simulate(pretrained_path("digits"), "random:3", target=target, layers=True, arena=arena)
        for arena in ("static", "caller")
    ]
    for result in results:
        assert result.ok and result.outputs_equal == result.outputs_compared == 30
    assert results[0].arena_bytes == results[1].arena_bytes


def test_sources_say_themselves_whose_arena_they_use(tmp_path: Path) -> None:
    model = pretrained_path("digits")
    generate(model, "host", tmp_path, arena="caller")
    result = simulate(model, "random:2", sources=tmp_path, layers=True)
    assert result.ok and result.outputs_equal == 20


def test_the_header_states_size_and_alignment(tmp_path: Path) -> None:
    result = generate(pretrained_path("digits"), "host", tmp_path, name="net", arena="caller", project="cmake")
    header = (tmp_path / "net.h").read_text()
    for macro, value in (("BYTES", result.arena_bytes), ("WORDS", result.arena_bytes // 4), ("ALIGNMENT", 4)):
        assert f"#define NET_ARENA_{macro} {value}\n" in header
    assert "uint32_t arena[NET_ARENA_WORDS])" in header
    assert "--arena caller" in header
    library_of(tmp_path)
    compiler = find_compiler(HOST)
    program = tmp_path / "selftest"
    sources = sorted(map(str, tmp_path.glob("*.c")))
    subprocess.run([*compiler.command, *BASE_FLAGS, *WARNINGS, *sources, "-o", str(program)], check=True)
    assert subprocess.run([str(program)], capture_output=True, check=False).returncode == 0


# ------------------------------------------------------------------------------------------------------------- optimize


def kernels_for(optimize: Optimize, channels: int) -> list[str]:
    graph = Net((1, 6, 6, channels), DType.INT8, INT8_INPUT).conv(channels).graph()
    program = compile_graph(graph, find_target("cortex-m4"), optimize)
    return [step.kernel.function for step in program.steps]


def test_size_takes_the_smaller_weights_where_that_saves_a_kibibyte() -> None:
    """The DSP form of an int8 convolution has weights of 16 bits."""
    assert kernels_for("speed", 32) == kernels_for("ram", 32) == ["ob_conv2d_i8_dsp"]
    assert kernels_for("size", 32) == ["ob_conv2d_i8"]
    assert kernels_for("size", 4) == ["ob_conv2d_i8_dsp"]


@pytest.mark.parametrize("optimize", ["speed", "size", "ram"])
def test_build_files_and_banner_state_the_choice(optimize: Optimize, tmp_path: Path) -> None:
    generate(pretrained_path("digits"), "cortex-m4", tmp_path, optimize=optimize, project="cmake")
    flag = OPTIMIZE_FLAGS[optimize]
    assert f"$<$<NOT:$<CONFIG:Debug>>:{flag}>" in (tmp_path / "CMakeLists.txt").read_text()
    assert f"Optimize with `{flag}`" in (tmp_path / "README.md").read_text()
    chosen = f"--name digits --optimize {optimize}" if optimize != "speed" else "--name digits */"
    assert chosen in (tmp_path / "digits.c").read_text()


@pytest.mark.parametrize("compiler", ["gcc", "zig"])
def test_the_digits_net_for_size_has_little_code(
    compiler: Preference, requires_tool: Callable[[str], str], requires_package: Callable[[str], None]
) -> None:
    requires_package("unicorn")
    if compiler == "gcc":
        requires_tool("arm-none-eabi-gcc")
    else:
        requires_package("ziglang")
    result = simulate(pretrained_path("digits"), "random:1", target="cortex-m4", compiler=compiler, optimize="size")
    assert result.ok
    assert result.code_bytes is not None and 0 < result.code_bytes <= 12 * 1024


def test_unknown_choices_write_nothing(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="unknown optimisation 'flash'.*speed, size, ram"):
        generate(pretrained_path("digits"), "host", tmp_path / "out", optimize="flash")  # type: ignore[arg-type]
    with pytest.raises(BadInputError, match="unknown place 'heap'.*static, caller"):
        generate(pretrained_path("digits"), "host", tmp_path / "out", arena="heap")  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()
