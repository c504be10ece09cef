"""The kernel files themselves: warnings, freestanding includes, one public function a file, static analysis."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from onebit.codegen import find_target, generate
from onebit.codegen.templates_path import templates_root
from onebit.core import write_model
from onebit.simulate.toolchain import MODEL_FLAGS, WARNINGS, Preference, find_compiler
from support.host_code import STRICT
from support.net_table import graph_of

KERNELS = templates_root() / "kernels"
SOURCES = sorted(KERNELS.glob("*.c"))
HEADERS = sorted(KERNELS.glob("*.h"))
STANDARD = {"stdint.h", "stddef.h", "stdbool.h", "string.h"}
#: compiler intrinsics, only behind a test for the extension
INTRINSICS = {"arm_acle.h"}

RequireTool = Callable[[str], str]


def need(program: str, requires_tool: RequireTool) -> None:
    """Skips without a program from a Debian package; what comes with pip and the host's compiler are required."""
    if program in ("arm-none-eabi-gcc", "clang", "cppcheck"):
        requires_tool(program)


@pytest.mark.parametrize(
    ("target", "prefer", "program"),
    [
        ("host", "auto", "cc"),
        ("host", "clang", "clang"),
        ("cortex-m4", "zig", "zig"),
        ("cortex-m0plus", "gcc", "arm-none-eabi-gcc"),
        ("cortex-m4", "gcc", "arm-none-eabi-gcc"),
        ("cortex-m55", "gcc", "arm-none-eabi-gcc"),
        ("rv32imc_zbb", "zig", "zig"),
    ],
)
def test_every_kernel_compiles_without_a_warning(
    target: str, prefer: Preference, program: str, tmp_path: Path, requires_tool: RequireTool
) -> None:
    need(program, requires_tool)
    compiler = find_compiler(find_target(target), prefer)
    # the string.h of a freestanding target is the toolchain's or, as in a simulation, onebit's
    include = () if target == "host" else (Path(native_include()),)
    compiler.compile(SOURCES, tmp_path, include=(KERNELS, *include), extra=(*MODEL_FLAGS, *WARNINGS))


def native_include() -> Path:
    from onebit.simulate.emulators.counting import NATIVE

    return NATIVE / "include"


def test_the_warnings_are_those_that_design_demands() -> None:
    wanted = "-Wall -Wextra -Werror -pedantic -Wconversion -Wsign-conversion -Wshadow -Wundef -Wmissing-prototypes"
    assert set(wanted.split()) | {"-std=c99", "-ffp-contract=off"} <= set(STRICT)


def test_every_header_stands_alone(tmp_path: Path) -> None:
    units = []
    for header in HEADERS:
        units.append(tmp_path / f"{header.stem}_alone.c")
        units[-1].write_text(f'#include "{header.name}"\n#include "{header.name}"\ntypedef int a_declaration;\n')
    compiler = find_compiler(find_target("host"))
    compiler.compile(units, tmp_path, include=(KERNELS,), extra=(*MODEL_FLAGS, *WARNINGS))


@pytest.mark.parametrize("path", [*SOURCES, *HEADERS], ids=lambda path: path.name)
def test_only_freestanding_headers_are_included(path: Path) -> None:
    text = path.read_text()
    assert set(re.findall(r"#\s*include <(.+)>", text)) <= STANDARD | INTRINSICS
    for name in re.findall(r"#\s*include <(arm_acle\.h)>", text):
        assert re.search(rf"#if defined\(__ARM_FEATURE_\w+\).*\n#include <{name}>", text)
    for name in re.findall(r'#\s*include "(.+)"', text):
        assert (KERNELS / name).is_file()
    assert not re.search(r"\b(malloc|calloc|realloc|free|printf|alloca)\s*\(", text)
    assert not re.search(r"\bdouble\b", re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_a_file_defines_the_one_public_function_it_is_named_after(path: Path) -> None:
    """The gather file is shared by its kernels and may hold their helpers."""
    defined = re.findall(r"^(?!static)[\w \*]+?\b(ob_\w+)\([^;{]*\)\s*\{", path.read_text(), flags=re.MULTILINE)
    assert path.stem in defined
    assert len(defined) == 1 or path.stem.endswith("_gather")


def test_a_generated_model_compiles_without_a_warning_with_clang(tmp_path: Path, requires_tool: RequireTool) -> None:
    """All files, with the self-test, the program around it, and bits as the output."""
    requires_tool("clang")
    compiler = find_compiler(find_target("host"), "clang")
    for name in ("int8_head_relu", "float_head_relu", "clamped_bits"):
        folder = tmp_path / name
        generate(write_model(graph_of(name)), "host", folder, name=name, project="cmake")
        compiler.compile(sorted(folder.glob("*.c")), folder / "out", include=(folder,), extra=WARNINGS)


def test_a_generated_header_serves_cplusplus(tmp_path: Path, requires_tool: RequireTool) -> None:
    requires_tool("clang")
    generate(write_model(graph_of("int8_head_relu")), "host", tmp_path, name="net")
    unit = tmp_path / "user.cpp"
    unit.write_text('#include "net.h"\nint f(const net_input_t *x, net_output_t *y) { return net_invoke(x, y); }\n')
    command = ["clang", "-x", "c++", "-std=c++11", "-Wall", "-Wextra", "-Werror", "-pedantic", "-fsyntax-only"]
    done = subprocess.run([*command, str(unit)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
