"""Generated code on an emulated core in which every object stands alone, and every access to memory is watched.

All inputs, weights, parameters, tables and the arena are sections of their own (-fdata-sections). The linker script
made here puts a gap around each, and symbols; in the arena every block has its own gap. An access that is not
inside one object ends the run: with the layer, the function, the address and the object next to it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile

from onebit.codegen import find_target, generate, schedule
from onebit.codegen.planner import Block, Plan
from onebit.codegen.templates_path import templates_root
from onebit.core import Graph, write_model
from onebit.core.graph import Array
from onebit.simulate import harness
from onebit.simulate.emulators.common import Job
from onebit.simulate.emulators.counting import NATIVE
from onebit.simulate.emulators.elf import Image, read_image
from onebit.simulate.emulators.unicorn import UnicornEmulator, _import_unicorn, _Machine
from onebit.simulate.toolchain import MODEL_FLAGS, WARNINGS, Compiler, find_compiler
from support.guards import with_guards

GAP_BYTES = 64
DATA = (".rodata", ".data", ".bss")


@dataclass(frozen=True)
class Span:
    """Bytes that may be accessed together."""

    name: str
    start: int
    end: int


class GuardedCore:
    """Builds and runs models for one target below `folder`; the kernels are compiled once."""

    def __init__(self, folder: Path, target: str = "cortex-m4") -> None:
        self._folder, self._target = folder, find_target(target)
        self._compiler: Compiler = find_compiler(self._target)
        self._include = (NATIVE / "include", templates_root() / "kernels")
        sources = sorted((templates_root() / "kernels").glob("*.c"))
        self._kernels = self._compile(sources, folder / "kernels")

    def _compile(self, sources: Sequence[Path], out: Path, *include: Path) -> list[Path]:
        flags = (*MODEL_FLAGS, *WARNINGS)
        return self._compiler.compile(sources, out, include=(*include, *self._include), extra=flags)

    def run(self, name: str, graph: Graph, x: Array, edit: Callable[[str], str] | None = None) -> tuple[str, Array]:
        """The first access outside all objects, as text (empty if there is none), and the outputs as bytes."""
        planned: list[Sequence[Block]] = []

        def plan(blocks: Sequence[Block]) -> Plan:
            planned.append(blocks)
            return with_guards(blocks)

        work = self._folder / name
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(schedule, "plan_memory", plan)
            program = generate(write_model(graph), self._target.name, work / "src", name=name).program
        source = work / "src" / f"{name}.c"
        if edit is not None:
            source.write_text(edit(source.read_text()))
        objects = self._compile([source], work, work / "src")
        sizes = graph.input.nbytes, graph.output.nbytes
        harness._write_adapter(work / "onebit_model.h", name, *sizes)
        objects += harness._compile_harness(self._compiler, work, (work, work / "src", NATIVE, *self._include), (), ())
        sections = _data_sections([*objects, *self._kernels])
        assert self._target.emulation is not None
        script = _with_gaps(harness._write_linker_script(work / "memory.ld", self._target.emulation), sections)
        elf = self._compiler.link([*objects, *self._kernels], work / f"{name}.elf", script=script)
        values = [(program.plan.offsets[m.value.name], m.value.size) for block in planned[0] for m in block.members]
        job = Job(elf, self._target, np.ascontiguousarray(x).tobytes(), *sizes, timeout=120)
        return _watch(job, name, sections, values)


def _data_sections(objects: Sequence[Path]) -> list[str]:
    """The names of all sections of data, each once, in order of appearance."""
    names: dict[str, None] = {}
    for path in objects:
        with path.open("rb") as file:
            for section in ELFFile(file).iter_sections():
                if section["sh_size"] and section.name.startswith(DATA):
                    names[section.name] = None
    return list(names)


def _with_gaps(script: Path, sections: Sequence[str]) -> Path:
    """The linker script with a gap behind every one of `sections`."""

    def spread(kind: str) -> str:
        return f". = . + {GAP_BYTES}; " + " ".join(
            f". = ALIGN(8); onebit_start_{i} = .; *({name}) onebit_end_{i} = .; . = . + {GAP_BYTES};"
            for i, name in enumerate(sections)
            if name.startswith(kind)
        )

    text = script.read_text()
    for kind in DATA:
        assert f"*({kind} {kind}.*)" in text
        # an empty section stays empty: a gap in .data would have to be loaded
        if any(name.startswith(kind) for name in sections):
            text = text.replace(f"*({kind} {kind}.*)", spread(kind))
    script.write_text(text)
    return script


def _spans(image: Image, sections: Sequence[str], values: Sequence[tuple[int, int]]) -> list[Span]:
    """All objects by address; the arena as its values."""
    spans = []
    for i, section in enumerate(sections):
        start, end = (image.symbols[f"onebit_{which}_{i}"] for which in ("start", "end"))
        if section == ".bss.arena":
            spans += [Span(f"arena[{o}:{o + size}]", start + o, start + o + size) for o, size in values]
        elif start < end:  # sections that nothing refers to are left out by the linker
            spans.append(Span(section.split(".", 2)[-1], start, end))
    return sorted(spans, key=lambda span: (span.start, -span.end))


def _watch(job: Job, name: str, sections: Sequence[str], values: Sequence[tuple[int, int]]) -> tuple[str, Array]:
    image = read_image(job.program)
    spans = _spans(image, sections, values)
    assert job.target.emulation is not None
    machine = _Machine(job.target.emulation, image, job)
    unicorn = _import_unicorn()
    layer, found = [""], [""]
    starts = [span.start for span in spans]

    def on_access(engine: Any, access: int, address: int, size: int, _: int, __: Any) -> None:
        if not layer[0]:
            return  # the start-up code clears gaps, too
        at = bisect_right(starts, address)
        # values of one block share their start: any of those before the address may hold it
        if any(span.start <= address and address + size <= span.end for span in spans[max(0, at - 8) : at]):
            return
        if not found[0]:
            kind = "write" if access == unicorn.UC_MEM_WRITE else "read"
            near = min(spans, key=lambda span: max(span.start - address, address - span.end + 1))
            place = image.function_at(machine.program_counter())
            where = f"{size} bytes at 0x{address:08x}, next to {near.name}"
            found[0] = f"{layer[0]}: {kind} of {where}, in {place}"
        engine.emu_stop()

    def on_layer(_: Any, address: int, __: int, ___: Any) -> None:
        layer[0] = image.function_at(address).split("+")[0]

    watched = unicorn.UC_HOOK_MEM_READ | unicorn.UC_HOOK_MEM_WRITE
    for base in (job.target.emulation.flash.base, job.target.emulation.ram.base):
        inside = [span for span in spans if base <= span.start < base + job.target.emulation.flash.size]
        low, high = min(s.start for s in inside) - GAP_BYTES, max(s.end for s in inside) + GAP_BYTES
        machine.engine.hook_add(watched, on_access, begin=low, end=high)
    for symbol in harness.layer_symbols(image, name):
        machine.engine.hook_add(unicorn.UC_HOOK_CODE, on_layer, begin=symbol.address, end=symbol.address)
    UnicornEmulator()._drive(machine, job)
    if not found[0] and (machine.fault or machine.status != 0):
        where = image.function_at(machine.program_counter())
        found[0] = f"{layer[0]}: {machine.fault or machine.status}, in {where}"
    return found[0], np.frombuffer(bytes(machine.files.get("output.bin", b"")), np.uint8)
