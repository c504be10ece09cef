"""Many models as sanitized programs of the host: kernels are compiled once, models in batches, each runs by itself.

Every value that a step completes is recorded and then replaced by the interpreter's. So a step computes from the inputs
that the interpreter had, a float tolerance of one step is none of the next, and a step that is wrong hides no other.
What one step destroys of another's memory still shows.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from onebit.codegen import Program, find_target, generate, schedule
from onebit.codegen.kernel import Layout
from onebit.codegen.options import ARENAS, OPTIMIZE_FLAGS, Arena, Optimize
from onebit.codegen.planner import Block, Plan
from onebit.codegen.templates_path import templates_root
from onebit.core.graph import Array, DType
from onebit.simulate.compare import UNORDERED, decode_buffer
from onebit.simulate.toolchain import BASE_FLAGS, MODEL_FLAGS, WARNINGS, find_compiler
from support.fuzz.oracle import difference
from support.guards import SANITIZERS, poison, with_guards

RECORDER = Path(__file__).with_name("recorder.c")
SECONDS = 60.0


@dataclass(frozen=True)
class Choices:
    """How the C of a model is generated."""

    optimize: Optimize = "speed"
    arena: Arena = "static"

    @classmethod
    def drawn_for(cls, model: bytes) -> Choices:
        """Choices that only depend on the model's bytes: a model that is met again is generated in the same way."""
        digest = hashlib.sha256(model).digest()
        return cls(tuple(OPTIMIZE_FLAGS)[digest[0] % len(OPTIMIZE_FLAGS)], ARENAS[digest[1] % len(ARENAS)])

    @property
    def command(self) -> str:
        """The same as options of `onebit simulate`."""
        return f"--optimize {self.optimize} --arena {self.arena}"


@dataclass(frozen=True)
class Case:
    """One model: its file, inputs in stored form, and what every tensor is expected to hold.

    `guarded`: see `Farm`. `edit` changes the text of the model's C file: a planted fault.
    """

    name: str
    model: bytes
    x: Array
    expected: Mapping[str, Array]
    guarded: bool = False
    edit: Callable[[str], str] | None = None
    choices: Choices = Choices()


class Farm:
    """Compiles and runs cases below `folder`.

    A guarded case gives every block of the arena a place of its own with forbidden bytes around it; the others are
    planned as users get them, so that what shares memory is put to the test too.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        compiler = find_compiler(find_target("host"))
        if not _has_sanitizers((*compiler.command, *SANITIZERS), folder):
            pytest.skip("tool: libasan and libubsan for the host's C compiler are not installed")
        self._command = (*compiler.command, *BASE_FLAGS, *compiler.flags, *MODEL_FLAGS, *WARNINGS, *SANITIZERS)
        self._archive: Path | None = None

    def _call(self, *arguments: str | Path) -> None:
        done = subprocess.run([str(a) for a in arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[:2000]

    def _compile(self, sources: Sequence[Path], out: Path, *flags: str) -> list[Path]:
        out.mkdir(parents=True, exist_ok=True)

        def one(source: Path) -> Path:
            target = out / f"{source.stem}.o"
            self._call(*self._command, *flags, "-c", source, "-o", target)
            return target

        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(one, sources))

    def kernels(self) -> Path:
        """All kernels and the recorder as one archive, compiled once."""
        if self._archive is None:
            folder = templates_root() / "kernels"
            objects = self._compile(sorted(folder.glob("*.c")), self.folder / "kernels", "-O1")
            recorder = self._compile([RECORDER], self.folder / "recorder", "-O1")
            self._archive = self.folder / "libkernels.a"
            self._call("ar", "rcs", self._archive, *objects, *recorder)
        return self._archive

    def check(self, cases: Sequence[Case]) -> dict[str, str]:
        """What is wrong with each case, by name; nothing for those that are right."""
        work = self.folder / f"batch_{cases[0].name}"
        sources = work / "sources"
        programs, found = {}, {}
        for case in cases:
            try:
                programs[case.name] = _generate(case, sources)
            except Exception:  # noqa: BLE001 (whatever it is: a legal graph has C)
                found[case.name] = traceback.format_exc(limit=-3)
        cases = [case for case in cases if case.name in programs]
        if not cases:
            return found
        binary = self._link(cases, sources, work)
        for case in cases:
            complaint = _complaint(binary, case, programs[case.name], work)
            if complaint:
                found[case.name] = complaint
        return found

    def _link(self, cases: Sequence[Case], sources: Path, work: Path) -> Path:
        units = [sources / f"{case.name}.c" for case in cases]
        table = work / "table.c"
        table.write_text(_table(cases))
        # the models hold data and calls: nothing to optimise, and the sanitizers see all of it
        objects = self._compile([*units, table], work / "objects", "-O0", "-DONEBIT_LAYERS=1", f"-I{sources}")
        binary = work / "models"
        self._call(*self._command, *objects, self.kernels(), "-o", binary)
        return binary


def _has_sanitizers(command: Sequence[str], folder: Path) -> bool:
    probe = folder / "probe.c"
    probe.write_text("int main(void) { return 0; }\n")
    done = subprocess.run([*command, str(probe), "-o", str(folder / "probe")], capture_output=True, check=False)
    return done.returncode == 0


def _generate(case: Case, sources: Path) -> Program:
    planned: list[Sequence[Block]] = []

    def plan(blocks: Sequence[Block]) -> Plan:
        planned.append(blocks)
        return with_guards(blocks)

    with pytest.MonkeyPatch.context() as patch:
        if case.guarded:
            patch.setattr(schedule, "plan_memory", plan)
        program = generate(
            case.model, "host", sources,
            name=case.name, optimize=case.choices.optimize, arena=case.choices.arena,
        ).program  # fmt: skip
    file = sources / f"{case.name}.c"
    text = file.read_text()
    if case.guarded:
        text += poison(case.name, planned[0], program.plan, case.choices.arena)
    file.write_text(text if case.edit is None else case.edit(text))
    return program


def _table(cases: Sequence[Case]) -> str:
    lines = ["#include <stddef.h>"]
    for case in cases:
        name, arena = case.name, ""
        lines += [f'#include "{name}.h"', f"static int {name}_call(const void *x, void *y);"]
        if case.choices.arena == "caller":
            lines.append(f"static uint32_t {name}_arena[{name.upper()}_ARENA_WORDS];")
            arena = f", {name}_arena"
        if case.guarded:
            lines.append(f"void {name}_poison(void *arena);")
        lines += [f"static int {name}_call(const void *x, void *y)", "{"]
        lines += [f"    {name}_poison({arena.removeprefix(', ') or 'NULL'});"] * case.guarded
        lines += [f"    return {name}_invoke(x, y{arena});", "}"]
    lines += [
        "typedef int onebit_call(const void *, void *);",
        "extern onebit_call *const onebit_calls[];",
        f"onebit_call *const onebit_calls[] = {{{', '.join(f'{case.name}_call' for case in cases)}}};",
    ]
    names = ", ".join(f'"{case.name}"' for case in cases)
    lines += ["extern const char *const onebit_names[];", f"const char *const onebit_names[] = {{{names}, NULL}};"]
    return "\n".join(lines) + "\n"


def _complaint(binary: Path, case: Case, program: Program, work: Path) -> str:
    """Run one case and compare every tensor that a step leaves in memory."""
    source, buffers = program.source, program.buffers()
    forced = [_held(program, buffer, case.expected) for buffer in buffers]
    request = work / f"{case.name}.in"
    answer = work / f"{case.name}.out"
    sizes = [len(case.x), source.input.nbytes, source.output.nbytes, len(buffers)]
    for buffer, value in zip(buffers, forced, strict=True):
        sizes += [buffer.nbytes, int(value is not None)]
    samples = np.ascontiguousarray(case.x).view(np.uint8).reshape(len(case.x), -1)
    with request.open("wb") as file:
        file.write(np.array(sizes, "<u4").tobytes())
        for i, sample in enumerate(samples):
            file.write(sample.tobytes())
            for buffer, value in zip(buffers, forced, strict=True):
                file.write(bytes(buffer.nbytes) if value is None else np.ascontiguousarray(value[i]).tobytes())
    try:
        done = subprocess.run(
            [str(binary), case.name, str(request), str(answer)],
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
            env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "print_stacktrace=1"},
        )
    except subprocess.TimeoutExpired:
        return f"no result within {SECONDS} s"
    if done.returncode != 0:
        return f"exit code {done.returncode}: {done.stderr[:3000]}"
    raw = np.frombuffer(answer.read_bytes(), np.uint8).reshape(len(case.x), -1)
    request.unlink()
    answer.unlink()
    ends = np.cumsum([buffer.nbytes for buffer in buffers])
    parts = np.split(raw, ends, axis=1)
    wrong = []
    exact, held = _exact(program), {**case.expected, source.input.name: case.x}
    for buffer, part in zip(buffers, parts, strict=False):
        name = buffer.tensor.name
        if name in source.tensors and name in case.expected:
            value = decode_buffer(part, replace(buffer, tensor=source.tensors[name]))
            inexact = name not in exact
            wrong.append(difference(source, name, case.expected[name], value, inexact=inexact, values=held))
    return "; ".join([text for text in wrong if text][:3])


def _held(program: Program, buffer: schedule.Buffer, expected: Mapping[str, Array]) -> Array | None:
    """What a buffer holds if all is right; None where no tensor of the source says so."""
    name = buffer.tensor.name
    if name not in program.source.tensors or buffer.layout is Layout.PIXEL_LANES:
        return None
    return expected.get(name)


def _exact(program: Program) -> frozenset[str]:
    """Tensors of which identity is owed, given that all tensors in memory hold the interpreter's values."""
    graph = program.source
    inexact: set[str] = set()
    for node in graph.nodes:
        if graph.tensors[node.output].dtype is not DType.FLOAT32:
            continue
        loose = {n for n in node.inputs if n in inexact and program.step_of(n) is None}
        if node.op.name in UNORDERED or loose or (node.op.alias and node.inputs[0] in inexact):
            inexact.add(node.output)
    return frozenset(set(graph.tensors) - inexact)
