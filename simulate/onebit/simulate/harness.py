"""Building a generated model into a program that reads samples and writes outputs, and running it.

The same harness (native/harness.c) runs on the host as a process and on an emulated core as a bare-metal image.
"""

from __future__ import annotations

import logging
import re
import string
import tempfile
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from onebit.codegen.options import Optimize
from onebit.codegen.targets import Emulation, Target
from onebit.core.errors import BadInputError, ToolMissingError, VerificationError
from onebit.simulate.emulators.common import (
    Emulator,
    Job,
    Marker,
    Progress,
    RunResult,
    failure,
    make_result,
    run_process,
)
from onebit.simulate.emulators.counting import NATIVE
from onebit.simulate.emulators.elf import Image, is_elf, read_image, section_bytes
from onebit.simulate.emulators.qemu import QemuEmulator
from onebit.simulate.emulators.unicorn import UnicornEmulator
from onebit.simulate.stack import CALL_GRAPH_FLAG, StackBound
from onebit.simulate.toolchain import MODEL_FLAGS, WARNINGS, Compiler

logger = logging.getLogger(__name__)

EmulatorChoice = Literal["auto", "unicorn", "qemu"]

STACK_BYTES = 64 * 1024
"""The stack of an emulated core; an inference that needs more is an error."""

OUTSIDE_SLOT = 0
INVOKE_SLOT = 1
FIRST_LAYER_SLOT = 2

_EMULATORS: dict[str, type[UnicornEmulator | QemuEmulator]] = {"unicorn": UnicornEmulator, "qemu": QemuEmulator}

# Functions of the harness that call into the model or are called by it: there the model ends, for the counts.
_HARNESS_FUNCTIONS = ("invoke_measured", "onebit_layer")


@dataclass(frozen=True)
class Build:
    """A program made of one generated model.

    `program` is an executable of the host or an ELF image for the emulated core. `code_bytes` and `rodata_bytes` are
    those of the model's and the kernels' objects alone (None where objects are not ELF). `kernel_objects` are the
    objects of all sources but the model's own file: a layers build links the same files. No inference can need more
    stack than `stack`: known of emulated cores with GCC, unless the model needs functions of libgcc.
    """

    program: Path
    model_name: str
    target: Target
    compiler: Compiler
    layers: bool
    input_bytes: int
    output_bytes: int
    code_bytes: int | None
    rodata_bytes: int | None
    kernel_objects: tuple[Path, ...]
    stack: StackBound


@dataclass(frozen=True)
class LayerSymbol:
    """A function of the model that is one scheduled step: ``<model>_layer_<index>``, and where it lies."""

    name: str
    index: int
    address: int
    size: int


def build(
    sources: Path,
    model_name: str,
    compiler: Compiler,
    work: Path,
    *,
    input_bytes: int,
    output_bytes: int,
    layers: bool = False,
    release: Build | None = None,
    files: Collection[str] | None = None,
    optimize: Optimize = "speed",
) -> Build:
    """Compiles the generated folder `sources` and links it with the harness, for ``compiler.target``.

    `input_bytes` and `output_bytes` are one sample's; the compiler checks them against the model's header. With
    `layers` the model's own file is compiled with ONEBIT_LAYERS; give the `release` build, and its kernel objects are
    linked unchanged. With `files` only these of the folder are compiled. Everything is written below `work`. Raises
    VerificationError if the code does not compile without warnings, BadInputError if the folder holds no such model or
    the target cannot be simulated.
    """
    target = compiler.target
    model_source = sources / f"{model_name}.c"
    if not model_source.is_file():
        raise BadInputError(f"no generated model {model_name!r} here", where=str(sources))
    if not target.simulated:
        raise BadInputError(f"onebit cannot run {target.name} code on this computer", where="--target")
    folder = work / ("layers" if layers else "release")
    folder.mkdir(parents=True, exist_ok=True)
    _write_adapter(folder / "onebit_model.h", model_name, input_bytes, output_bytes)
    system = () if target.isa == "host" else (NATIVE / "include",)
    defines = ("ONEBIT_LAYERS=1",) if layers else ()
    call_graph = call_graph_flags(compiler)
    strict = (*MODEL_FLAGS, *WARNINGS, *call_graph)

    model = compiler.compile(
        [model_source], folder, include=(sources, *system), defines=defines, optimize=optimize, extra=strict
    )
    if release is None:
        # selftest_main.c belongs to project kinds that come with a program of their own
        skipped = {model_source.name, f"{model_name}_selftest.c", "selftest_main.c"}
        found = sorted(path for path in sources.glob("*.c") if files is None or path.name in files)
        kernels = [path for path in found if path.name not in skipped]
        kernel_folder = work / "kernels"
        kernel_objects = tuple(
            compiler.compile(kernels, kernel_folder, include=(sources, *system), optimize=optimize, extra=strict)
        )
    else:
        kernel_objects = release.kernel_objects
    harness = _compile_harness(compiler, folder, (folder, sources, NATIVE, *system), defines, call_graph)
    script = None if target.emulation is None else _write_linker_script(folder / "memory.ld", target.emulation)
    program = compiler.link([*harness, *model, *kernel_objects], folder / f"{model_name}.elf", script=script)
    counted = [*model, *kernel_objects]
    sizes = is_elf(counted[0])
    return Build(
        program=program,
        model_name=model_name,
        target=target,
        compiler=compiler,
        layers=layers,
        input_bytes=input_bytes,
        output_bytes=output_bytes,
        code_bytes=sum(section_bytes(path, ".text") for path in counted) if sizes else None,
        rodata_bytes=sum(section_bytes(path, ".rodata") for path in counted) if sizes else None,
        kernel_objects=kernel_objects,
        stack=StackBound.of([*harness, *counted], f"{model_name}_invoke") if call_graph else _untold(compiler),
    )


def call_graph_flags(compiler: Compiler) -> tuple[str, ...]:
    """What makes the compiler write call graphs, if it can.

    Not on the host, whose functions may use memory below their frames (x86-64's red zone).
    """
    return (CALL_GRAPH_FLAG,) if compiler.writes_call_graphs and compiler.target.isa != "host" else ()


def _untold(compiler: Compiler) -> StackBound:
    return StackBound(None, f"known of GCC for cores only, compiled by {compiler.name} for {compiler.target.name}")


def stack_bound(
    sources: Path, files: Collection[str], model_name: str, compiler: Compiler, work: Path, optimize: Optimize = "speed"
) -> StackBound:
    """The bound of a generated folder of which `files` are the model's, compiled below `work` and not linked.

    memcpy and memset count as onebit's own (`native/runtime.c`), as in a simulation.
    """
    flags = call_graph_flags(compiler)
    if not flags:
        return _untold(compiler)
    skipped = {f"{model_name}_selftest.c", "selftest_main.c"}
    units = [sources / file for file in sorted(files) if file.endswith(".c") and file not in skipped]
    include = (sources, NATIVE / "include")
    objects = compiler.compile(units, work, include=include, optimize=optimize, extra=(*MODEL_FLAGS, *flags))
    objects += _compile_runtime(compiler, work, include, (), flags)
    return StackBound.of(objects, f"{model_name}_invoke")


def run(
    program: Build,
    inputs: bytes,
    *,
    emulator: EmulatorChoice = "auto",
    count: bool = True,
    timeout: float = 600.0,
    on_progress: Progress | None = None,
) -> RunResult:
    """Runs `program` on `inputs`, whole samples one after the other.

    On an emulated core `emulator` chooses who runs it (``auto``: unicorn if installed, else QEMU), and with `count`
    instructions are counted in the slots outside, invoke, layer 0, layer 1, ... The host counts nothing. Raises
    VerificationError if the program fails, faults or takes more than `timeout` seconds, ToolMissingError without
    emulator.
    """
    if not inputs or len(inputs) % program.input_bytes:
        raise BadInputError(
            f"{len(inputs)} bytes of input are no whole number of samples of {program.input_bytes} bytes",
            where=program.model_name,
        )
    markers: list[Marker] = []
    slots = 1
    if count and program.target.emulated:
        markers, slots = _markers(read_image(program.program), program.model_name)
    job = Job(
        program=program.program,
        target=program.target,
        inputs=inputs,
        sample_bytes=program.input_bytes,
        output_bytes=program.output_bytes,
        layers=program.layers,
        markers=markers,
        slots=slots,
        timeout=timeout,
        on_progress=on_progress,
    )
    if not program.target.emulated:
        return _run_on_host(job)
    return choose_emulator(program.target, emulator).run(job)


def choose_emulator(target: Target, choice: EmulatorChoice = "auto") -> Emulator:
    """The emulator for `target`: the chosen one, or for ``auto`` the first that knows the core and is installed.

    Raises BadInputError for a choice that does not know the core, ToolMissingError if nothing usable is installed.
    """
    if choice != "auto":
        if choice not in target.emulators:
            raise BadInputError(
                f"{choice} has no {target.name}",
                where="--emulator",
                fix=f"choose one of: {', '.join(target.emulators)}",
            )
        return _EMULATORS[choice]()
    for name in target.emulators:
        if _EMULATORS[name].available():
            return _EMULATORS[name]()
    ways = {"unicorn": 'pip install "onebit[emulate]"', "qemu": "apt install qemu-system-arm"}
    raise ToolMissingError(
        f"no emulator for {target.name} is installed", fix=" or ".join(ways[name] for name in target.emulators)
    )


def layer_symbols(image: Image, model_name: str) -> list[LayerSymbol]:
    """The functions of the model's steps, by index; a step that the compiler split has several.

    Raises VerificationError if an index between the first and the last has none: the compiler inlined or merged it.
    """
    # gcc appends .constprop.0, .isra.0, .part.0 or .cold to copies and pieces that it makes of a function.
    pattern = re.compile(rf"{re.escape(model_name)}_layer_(\d+)(?:\..+)?")
    found = [(pattern.fullmatch(function.name), function) for function in image.functions]
    symbols = [LayerSymbol(f.name, int(match.group(1)), f.address, f.size) for match, f in found if match is not None]
    symbols.sort(key=lambda symbol: (symbol.index, symbol.address))
    present = {symbol.index for symbol in symbols}
    missing = set(range(max(present, default=-1) + 1)) - present
    if missing or not symbols:
        names = ", ".join(f"{model_name}_layer_{index:02d}" for index in sorted(missing)) or f"{model_name}_layer_00"
        raise VerificationError(f"the program has no function {names}", where=model_name)
    return symbols


def _markers(image: Image, model_name: str) -> tuple[list[Marker], int]:
    """The slots' code ranges and the number of slots."""
    layers = layer_symbols(image, model_name)
    markers = [Marker(layer.address, layer.size, FIRST_LAYER_SLOT + layer.index) for layer in layers]
    for function in image.functions:
        if function.name.split(".")[0] in _HARNESS_FUNCTIONS:
            markers.append(Marker(function.address, function.size, OUTSIDE_SLOT))
        elif function.name == f"{model_name}_invoke":
            markers.append(Marker(function.address, function.size, INVOKE_SLOT))
    return markers, FIRST_LAYER_SLOT + layers[-1].index + 1


def _run_on_host(job: Job) -> RunResult:
    with tempfile.TemporaryDirectory(prefix="onebit-host-") as temporary:
        status, files, _ = run_process(job, "host", [str(job.program.resolve())], Path(temporary))
    if status != 0:
        raise failure(job, "host", status)
    return make_result(job, "host", files)


def _compile_harness(
    compiler: Compiler, folder: Path, include: tuple[Path, ...], defines: tuple[str, ...], call_graph: tuple[str, ...]
) -> list[Path]:
    compile_all: Callable[..., list[Path]] = compiler.compile
    if compiler.target.isa == "host":
        sources = [NATIVE / "harness.c", NATIVE / "io_host.c"]
        return compile_all(sources, folder, include=include, defines=(*defines, "_POSIX_C_SOURCE=200809L"))
    common = {"include": include, "defines": defines}
    objects = compile_all(
        [NATIVE / "harness.c", NATIVE / "io_semihosting.c", NATIVE / "startup_cortex_m.S"],
        folder,
        extra=("-ffreestanding",),
        **common,
    )
    return objects + _compile_runtime(compiler, folder, include, defines, call_graph)


def _compile_runtime(
    compiler: Compiler, folder: Path, include: tuple[Path, ...], defines: tuple[str, ...], call_graph: tuple[str, ...]
) -> list[Path]:
    loops = ("-fno-tree-loop-distribute-patterns",) if compiler.kind == "gcc" else ()
    extra = ("-ffreestanding", "-fno-builtin", *loops, *call_graph)
    return compiler.compile([NATIVE / "runtime.c"], folder, include=include, defines=defines, extra=extra)


def _write_adapter(path: Path, model_name: str, input_bytes: int, output_bytes: int) -> None:
    """The header that tells harness.c which model it runs."""
    macro = model_name.upper()
    path.write_text(
        f'#include "{model_name}.h"\n'
        f"#if {macro}_CALLERS_ARENA\n"
        f"static uint32_t onebit_arena[{macro}_ARENA_WORDS];\n"
        f"#define ONEBIT_MODEL_INVOKE(input, output) {model_name}_invoke((input), (output), onebit_arena)\n"
        f"#else\n"
        f"#define ONEBIT_MODEL_INVOKE(input, output) {model_name}_invoke((input), (output))\n"
        f"#endif\n"
        f"#define ONEBIT_MODEL_INPUT_SIZE {macro}_INPUT_SIZE\n"
        f"#define ONEBIT_MODEL_OUTPUT_SIZE {macro}_OUTPUT_SIZE\n"
        f"#define ONEBIT_MODEL_INPUT_BYTES {input_bytes}u\n"
        f"#define ONEBIT_MODEL_OUTPUT_BYTES {output_bytes}u\n"
        f"typedef {model_name}_input_t onebit_model_input_t;\n"
        f"typedef {model_name}_output_t onebit_model_output_t;\n",
        encoding="ascii",
    )


def _write_linker_script(path: Path, emulation: Emulation) -> Path:
    template = string.Template((NATIVE / "cortex_m.ld.in").read_text(encoding="ascii"))
    numbers = {
        "flash_base": hex(emulation.flash.base),
        "flash_size": hex(emulation.flash.size),
        "ram_base": hex(emulation.ram.base),
        "ram_size": hex(emulation.ram.size),
        "stack_size": hex(STACK_BYTES),
    }
    path.write_text(template.substitute(numbers), encoding="ascii")
    return path
