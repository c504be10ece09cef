"""The table of nets under AddressSanitizer and UndefinedBehaviorSanitizer, with a guard zone behind every value."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from onebit.codegen import find_target, schedule
from onebit.codegen.planner import Block, Plan, lower_bound
from onebit.simulate.toolchain import MODEL_FLAGS, WARNINGS, Compiler, find_compiler
from support.guards import SANITIZERS, poison, with_guards
from support.host_code import generate_all
from support.net_table import graphs

RUN = """
#include "@.h"
int @_run(unsigned seed);
int @_run(unsigned seed)
{
    static @_input_t input[@@_INPUT_SIZE];
    static @_output_t output[@@_OUTPUT_SIZE];
    for (int i = 0; i < @@_INPUT_SIZE; ++i) {
        seed = seed * 1664525u + 1013904223u;
        input[i] = sizeof input[0] == 1u ? (@_input_t)((int)(seed >> 24) - 128)
                                         : (@_input_t)((float)(seed >> 8) / 8388608.0f - 1.0f);
    }
    (void)@_invoke(input, output);
    return @_selftest();
}
"""


def compile_and_run(compiler: Compiler, sources: Sequence[Path], include: Path, program: Path) -> str:
    """Build with the sanitizers and run; returns what the program printed if it failed."""
    flags = (*MODEL_FLAGS, *WARNINGS, *SANITIZERS)
    objects = compiler.compile(sources, program.parent / "objects", include=(include,), extra=flags)
    command = [*compiler.command, *SANITIZERS, *map(str, objects), "-o", str(program)]
    subprocess.run(command, check=True, capture_output=True)
    done = subprocess.run(
        [str(program)], capture_output=True, text=True, check=False,
        env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "print_stacktrace=1"},
    )  # fmt: skip
    return "" if done.returncode == 0 else f"exit code {done.returncode}: {done.stdout}{done.stderr[:3000]}"


@pytest.fixture
def sanitizing(tmp_path: Path) -> Compiler:
    """The host's compiler, if it has the sanitizers."""
    compiler = find_compiler(find_target("host"))
    probe = tmp_path / "probe.c"
    probe.write_text("int main(void) { return 0; }\n")
    command = [*compiler.command, *SANITIZERS, str(probe), "-o", str(tmp_path / "probe")]
    if compiler.kind == "zig" or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("tool: libasan and libubsan for the host's C compiler are not installed")
    return compiler


def main_of(names: Sequence[str], folder: Path) -> list[Path]:
    """A program that runs every model of `names` on three inputs, and its self-test."""
    declarations = "".join(f"void {n}_poison(void);\nint {n}_run(unsigned seed);\n" for n in names)
    calls = "".join(f"    {n}_poison();\n    status |= {n}_run(1u) | {n}_run(2u) | {n}_run(3u);\n" for n in names)
    main = folder / "main.c"
    main.write_text(f"{declarations}int main(void)\n{{\n    int status = 0;\n{calls}    return status;\n}}\n")
    files = [main]
    for name in names:
        files.append(folder / f"{name}_run.c")
        files[-1].write_text(RUN.replace("@@", name.upper()).replace("@", name))
    return files


def test_no_kernel_leaves_its_buffers_or_relies_on_undefined_behaviour(
    tmp_path: Path, sanitizing: Compiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned: list[Sequence[Block]] = []

    def plan(blocks: Sequence[Block]) -> Plan:
        planned.append(blocks)
        return with_guards(blocks)

    monkeypatch.setattr(schedule, "plan_memory", plan)
    nets, sources = graphs(), tmp_path / "sources"
    programs = generate_all(nets, sources)
    for (name, program), blocks in zip(programs.items(), planned, strict=True):
        file = sources / f"{name}.c"
        file.write_text(file.read_text() + poison(name, blocks, program.plan))
    runs = main_of(list(nets), tmp_path)
    assert compile_and_run(sanitizing, [*sorted(sources.glob("*.c")), *runs], sources, tmp_path / "all") == ""


def test_the_guards_catch_a_kernel_that_writes_too_far(
    tmp_path: Path, sanitizing: Compiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned: list[Sequence[Block]] = []
    monkeypatch.setattr(schedule, "plan_memory", lambda blocks: (planned.append(blocks), with_guards(blocks))[1])
    sources = tmp_path / "sources"
    (name, program), *_ = generate_all({"bits_33": graphs()["bits_33"]}, sources).items()
    file = sources / f"{name}.c"
    # a second output word per pixel that is not there
    text = file.read_text().replace(".out_channels = 31", ".out_channels = 33")
    changed = text.replace(".out_channels = 33", ".out_channels = 65", 1)
    assert changed != text
    file.write_text(changed + poison(name, planned[0], program.plan))
    runs = main_of([name], tmp_path)
    printed = compile_and_run(sanitizing, [*sorted(sources.glob("*.c")), *runs], sources, tmp_path / "one")
    assert "AddressSanitizer" in printed
