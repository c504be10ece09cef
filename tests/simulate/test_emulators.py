"""A hand-written model runs through the harness on the host, unicorn and QEMU: results, stack, counts, failures."""

from __future__ import annotations

import _thread
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from onebit.codegen.targets import find_target
from onebit.core.errors import BadInputError, ToolMissingError, VerificationError
from onebit.simulate import harness
from onebit.simulate.emulators.common import RunResult
from onebit.simulate.emulators.elf import read_image
from onebit.simulate.emulators.qemu import QemuEmulator
from onebit.simulate.emulators.unicorn import UnicornEmulator
from onebit.simulate.harness import Build, EmulatorChoice
from onebit.simulate.toolchain import Preference, find_compiler

INPUTS = 64
OUTPUTS = 8

HEADER = """
#ifndef TINY_H
#define TINY_H
#include <stdint.h>
#define TINY_INPUT_SIZE 64
#define TINY_OUTPUT_SIZE 8
typedef int8_t tiny_input_t;
typedef @OUT@ tiny_output_t;
int tiny_invoke(const tiny_input_t input[TINY_INPUT_SIZE], tiny_output_t output[TINY_OUTPUT_SIZE]);
#endif
"""

# Layer 0 packs the signs of 64 values into two words; layer 1 is a clamped dot product with 8 sign vectors.
# The clamp and the branches on data compile to IT blocks, where emulators could disagree on what they count.
MODEL = """
#include "tiny.h"
#include "ob_dot.h"
#include <string.h>
#define OB_NOINLINE __attribute__((noinline))
#if defined(ONEBIT_LAYERS)
void onebit_layer(unsigned layer, const void *data, size_t bytes);
#endif
static const uint32_t weights[8][2] = {
    {0x01234567u, 0x89abcdefu}, {0xffffffffu, 0u}, {0u, 0u}, {0xaaaaaaaau, 0x55555555u},
    {0xdeadbeefu, 0xcafef00du}, {1u, 2u}, {0x0f0f0f0fu, 0xf0f0f0f0u}, {0x80000001u, 0x7ffffffeu}};
static uint32_t arena[2];

static OB_NOINLINE void tiny_layer_00(const int8_t *input, uint32_t *packed)
{
    memset(packed, 0, 8);
    for (unsigned i = 0; i < 64u; i++) {
        if (input[i] < 0) {
            packed[i / 32u] |= 1u << (i % 32u);
        }
    }
}

static OB_NOINLINE void tiny_layer_01(const uint32_t *packed, tiny_output_t *output)
{
    for (unsigned o = 0; o < 8u; o++) {
        output[o] = (tiny_output_t)ob_dot(packed, weights[o], 2)@SCALE@;
    }
}

int tiny_invoke(const tiny_input_t input[TINY_INPUT_SIZE], tiny_output_t output[TINY_OUTPUT_SIZE])
{
    @EXTRA@
    tiny_layer_00(input, arena);
#if defined(ONEBIT_LAYERS)
    onebit_layer(0, arena, sizeof arena);
#endif
    tiny_layer_01(arena, output);
#if defined(ONEBIT_LAYERS)
    onebit_layer(1, output, sizeof(tiny_output_t) * 8u);
#endif
    return 0;
}
"""

KERNEL_HEADER = """
#include <stdint.h>
int32_t ob_dot(const uint32_t *a, const uint32_t *b, unsigned words);
"""

KERNEL = """
#include "ob_dot.h"
#include <string.h>
int32_t ob_dot(const uint32_t *a, const uint32_t *b, unsigned words)
{
    volatile uint32_t copy[16]; /* a stack that shows */
    int32_t sum = 0;
    for (unsigned w = 0; w < words; w++) {
        copy[w] = a[w] ^ b[w];
        for (unsigned bit = 0; bit < 32u; bit++) {
            sum += (copy[w] >> bit & 1u) != 0u ? -1 : 1;
            if (sum > 50) {
                sum = 50;
            }
        }
    }
    return sum;
}
"""

TOOLS = {"gcc": "arm-none-eabi-gcc", "qemu": "qemu-system-arm"}

RequireTool = Callable[[str], str]
Words = npt.NDArray[np.uint32]


def write_model(folder: Path, *, output: str = "int8_t", scale: str = "", extra: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tiny.h").write_text(HEADER.replace("@OUT@", output))
    (folder / "tiny.c").write_text(MODEL.replace("@SCALE@", scale).replace("@EXTRA@", extra))
    (folder / "ob_dot.h").write_text(KERNEL_HEADER)
    (folder / "ob_dot.c").write_text(KERNEL)
    (folder / "tiny_selftest.c").write_text("#error not part of a simulation\n")
    return folder


def build(
    folder: Path, target: str, compiler: Preference = "auto", *, output_bytes: int = OUTPUTS, **options: object
) -> Build:
    found = find_compiler(find_target(target), compiler)
    return harness.build(
        folder / "src",
        "tiny",
        found,
        folder,
        input_bytes=INPUTS,
        output_bytes=output_bytes,
        **options,  # type: ignore[arg-type]
    )


def samples(count: int = 5) -> bytes:
    return np.random.default_rng(7).integers(-128, 128, (count, INPUTS), dtype=np.int8).tobytes()


def packed_words(inputs: bytes) -> Words:
    signs = np.frombuffer(inputs, np.int8).reshape(-1, 2, 32) < 0
    words: Words = (signs.astype(np.uint32) << np.arange(32, dtype=np.uint32)).sum(axis=2, dtype=np.uint32)
    return words


def expected(inputs: bytes) -> npt.NDArray[np.int64]:
    weights = [
        *[(0x01234567, 0x89ABCDEF), (0xFFFFFFFF, 0), (0, 0), (0xAAAAAAAA, 0x55555555)],
        *[(0xDEADBEEF, 0xCAFEF00D), (1, 2), (0x0F0F0F0F, 0xF0F0F0F0), (0x80000001, 0x7FFFFFFE)],
    ]
    rows = []
    for sample in packed_words(inputs):
        row = []
        for weight in weights:
            total = 0
            for have, want in zip(sample, weight, strict=True):
                for bit in range(32):
                    total = min(50, total + (-1 if (int(have) ^ want) >> bit & 1 else 1))
            row.append(total)
        rows.append(row)
    return np.array(rows, np.int64)


def check(result: RunResult, inputs: bytes) -> None:
    outputs = np.frombuffer(result.outputs, np.int8).reshape(-1, OUTPUTS)
    np.testing.assert_array_equal(outputs, expected(inputs))
    # copy[16] alone is 64 bytes.
    assert 64 <= result.stack_bytes < 1024


def layer_bytes(inputs: bytes) -> bytes:
    outputs = expected(inputs).astype(np.int8)
    return b"".join(w.astype("<u4").tobytes() + o.tobytes() for w, o in zip(packed_words(inputs), outputs, strict=True))


@pytest.mark.parametrize("compiler", ["auto", "zig"])
def test_host_computes_outputs_layers_and_stack(tmp_path: Path, compiler: Preference) -> None:
    write_model(tmp_path / "src")
    inputs = samples(300)
    release = build(tmp_path, "host", compiler)
    seen: list[tuple[int, int]] = []
    result = harness.run(release, inputs, on_progress=lambda done, total: seen.append((done, total)))
    check(result, inputs)
    assert result.counts is None and result.layers is None
    assert seen[-1] == (300, 300)
    assert harness.run(release, inputs).stack_bytes == result.stack_bytes
    if sys.platform.startswith("linux"):
        assert release.code_bytes is not None and 100 < release.code_bytes < 5000
        assert release.rodata_bytes is not None and 64 <= release.rodata_bytes < 1000
    layers = build(tmp_path, "host", compiler, layers=True, release=release)
    assert layers.kernel_objects == release.kernel_objects
    assert harness.run(layers, inputs).layers == layer_bytes(inputs)


def need(tool: str, requires_tool: RequireTool) -> None:
    """Skips the test where an emulator or compiler from a Debian package is missing; those from pip are required."""
    if tool in TOOLS:
        requires_tool(TOOLS[tool])


def place(emulator: str, requires_tool: RequireTool) -> tuple[str, EmulatorChoice]:
    need(emulator, requires_tool)
    if emulator == "host":
        return "host", "auto"
    return "cortex-m4", "qemu" if emulator == "qemu" else "unicorn"


def compilers(target: str) -> list[Preference]:
    found: list[Preference] = []
    for name in ("gcc", "zig"):
        try:
            find_compiler(find_target(target), name)
            found.append(name)
        except ToolMissingError:
            continue
    return found


@pytest.mark.parametrize("target", ["cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m4f", "cortex-m7", "cortex-m33"])
def test_unicorn_computes_the_same_with_every_compiler(tmp_path: Path, target: str) -> None:
    inputs = samples()
    for compiler in compilers(target):
        write_model(tmp_path / compiler / "src")
        release = build(tmp_path / compiler, target, compiler)
        result = harness.run(release, inputs, emulator="unicorn")
        check(result, inputs)
        assert result.counts is not None and len(result.counts) == 4
        assert all(count > 0 for count in result.counts)
        assert result.pc_counts is not None and sum(result.pc_counts.values()) == sum(result.counts)
        again = harness.run(release, inputs, emulator="unicorn")
        assert (again.counts, again.stack_bytes) == (result.counts, result.stack_bytes)


@pytest.mark.parametrize("compiler", ["gcc", "zig"])
@pytest.mark.parametrize("target", ["cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m4f", "cortex-m7", "cortex-m33"])
def test_qemu_counts_every_instruction_as_unicorn_does(
    tmp_path: Path, target: str, compiler: Preference, requires_tool: RequireTool
) -> None:
    need("qemu", requires_tool)
    need(compiler, requires_tool)
    write_model(tmp_path / "src")
    inputs = samples(20)
    release = build(tmp_path, target, compiler)
    ours = harness.run(release, inputs, emulator="unicorn")
    theirs = harness.run(release, inputs, emulator="qemu")
    check(theirs, inputs)
    assert theirs.pc_counts == ours.pc_counts
    assert theirs.counts == ours.counts
    assert theirs.stack_bytes == ours.stack_bytes
    layers = build(tmp_path, target, compiler, layers=True, release=release)
    for emulator in ("unicorn", "qemu"):
        result = harness.run(layers, inputs, emulator=emulator, count=False)
        assert result.layers == layer_bytes(inputs), emulator


# IT blocks of every length with both outcomes, wide and narrow instructions, a conditional branch that ends one; then
# code longer than any translation block and than a page.
CONDITIONAL = """
#include "ob_conditional.h"
int ob_conditional(int x)
{
    __asm__ volatile(
        "cmp %0, #0\\n it lt\\n addlt %0, %0, #1\\n"
        "cmp %0, #1\\n ite ge\\n addge.w %0, %0, #5\\n sublt %0, #2\\n"
        "cmp %0, #6\\n itee eq\\n moveq %0, #1\\n movne.w %0, #2\\n addne %0, #3\\n"
        "cmp %0, #1\\n itete eq\\n addeq %0, #1\\n addne.w %0, #2\\n addeq %0, #3\\n addne.w %0, #4\\n"
        "cmp %0, #5\\n itt eq\\n moveq %0, #7\\n beq 1f\\n adds %0, #1\\n"
        "1: cmp %0, #7\\n it ne\\n bne 2f\\n adds %0, #1\\n"
        "2: .rept 3000\\n adds %0, #1\\n .endr\\n"
        : "+l"(x) : : "cc");
    return x;
}
"""


@pytest.mark.parametrize("target", ["cortex-m3", "cortex-m4f", "cortex-m7", "cortex-m33"])
def test_instructions_of_an_it_block_count_whether_or_not_they_act(
    tmp_path: Path, target: str, requires_tool: RequireTool
) -> None:
    need("qemu", requires_tool)
    write_model(
        tmp_path / "src",
        extra="extern int ob_conditional(int); for (int i = -3; i < 3; i++) { (void)ob_conditional(i); }",
    )
    (tmp_path / "src" / "ob_conditional.h").write_text("int ob_conditional(int x);\n")
    (tmp_path / "src" / "ob_conditional.c").write_text(CONDITIONAL)
    program = build(tmp_path, target)
    ours = harness.run(program, samples(2), emulator="unicorn")
    theirs = harness.run(program, samples(2), emulator="qemu")
    assert (ours.counts, ours.pc_counts) == (theirs.counts, theirs.pc_counts)
    image = read_image(program.program)
    (code,) = [function for function in image.functions if function.name == "ob_conditional"]
    assert ours.pc_counts is not None
    runs = [n for pc, n in ours.pc_counts.items() if code.address <= pc < code.address + code.size]
    assert runs.count(2 * 6) > 3020 and len(runs) - runs.count(2 * 6) <= 3  # all but what a branch passed over


def test_qemu_runs_the_cortex_m55(tmp_path: Path, requires_tool: RequireTool) -> None:
    need("qemu", requires_tool)
    write_model(tmp_path / "src")
    inputs = samples(3)
    release = build(tmp_path, "cortex-m55")
    result = harness.run(release, inputs)
    assert result.emulator == "qemu"
    check(result, inputs)


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m4f"])
@pytest.mark.parametrize("compiler", ["gcc", "zig"])
def test_float_runs_with_and_without_fpu(
    tmp_path: Path, target: str, compiler: Preference, requires_tool: RequireTool
) -> None:
    need(compiler, requires_tool)
    write_model(tmp_path / "src", output="float", scale=" * 0.1f + 0.3f")
    inputs = samples()
    release = build(tmp_path, target, compiler, output_bytes=4 * OUTPUTS)
    outputs = np.frombuffer(harness.run(release, inputs).outputs, np.float32).reshape(-1, OUTPUTS)
    np.testing.assert_array_equal(outputs, expected(inputs).astype(np.float32) * np.float32(0.1) + np.float32(0.3))
    helpers = {f.name for f in read_image(release.program).functions} & {"__aeabi_fmul", "__mulsf3"}
    assert bool(helpers) == (target == "cortex-m4")


def test_the_counts_belong_to_the_model_alone(tmp_path: Path) -> None:
    """Slot sums per layer do not depend on the other layers, and invoke's own slot is a handful of instructions."""
    write_model(tmp_path / "src")
    release = build(tmp_path, "cortex-m4")
    one = harness.run(release, samples(1)).counts
    three = harness.run(release, samples(1) * 3).counts
    assert one is not None and three is not None
    assert [3 * count for count in one[1:]] == three[1:]
    assert one[harness.INVOKE_SLOT] < 40 < one[harness.FIRST_LAYER_SLOT] < one[harness.FIRST_LAYER_SLOT + 1]


def test_a_stray_write_names_the_function(tmp_path: Path) -> None:
    write_model(tmp_path / "src", extra="*(volatile int *)0x60000000 = input[0];")
    with pytest.raises(VerificationError, match=r"cortex-m4 on unicorn: .*faulted in tiny_invoke\+0x") as caught:
        harness.run(build(tmp_path, "cortex-m4"), samples(1), emulator="unicorn")
    assert caught.value.exit_code == 1


def test_a_write_behind_the_data_or_into_flash_faults(tmp_path: Path) -> None:
    for name, extra in {
        "behind": "extern char _bss_end[]; _bss_end[8192 + input[0] * 0] = 1;",
        "flash": "volatile uintptr_t where = 8; *(volatile int *)where = 1;",
    }.items():
        write_model(tmp_path / name / "src", extra=extra)
        with pytest.raises(VerificationError, match="faulted in tiny_invoke"):
            harness.run(build(tmp_path / name, "cortex-m4"), samples(1), emulator="unicorn")


def test_a_fault_on_qemu_names_the_function(tmp_path: Path, requires_tool: RequireTool) -> None:
    need("qemu", requires_tool)
    write_model(tmp_path / "src", extra="*(volatile int *)0x70000000 = input[0];")
    with pytest.raises(VerificationError, match=r"faulted in tiny_invoke\+0x"):
        harness.run(build(tmp_path, "cortex-m4"), samples(1), emulator="qemu")


def test_a_crash_on_the_host_is_reported(tmp_path: Path) -> None:
    write_model(tmp_path / "src", extra="volatile uintptr_t where = 8; *(volatile int *)where = 1;")
    with pytest.raises(VerificationError, match="host on host|signal 11"):
        harness.run(build(tmp_path, "host"), samples(1))


@pytest.mark.parametrize("emulator", ["host", "unicorn", "qemu"])
def test_an_endless_loop_times_out(tmp_path: Path, emulator: str, requires_tool: RequireTool) -> None:
    target, choice = place(emulator, requires_tool)
    write_model(tmp_path / "src", extra="for (volatile int i = 0; i < 1; i = 0) { }")
    program = build(tmp_path, target)
    started = time.monotonic()
    with pytest.raises(VerificationError, match=r"no result within 0.5 s \(0 of 2 samples done\)"):
        harness.run(program, samples(2), emulator=choice, timeout=0.5)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("emulator", ["host", "unicorn", "qemu"])
def test_ctrl_c_ends_a_run(
    tmp_path: Path, emulator: str, requires_tool: RequireTool, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, choice = place(emulator, requires_tool)
    write_model(tmp_path / "src", extra="for (volatile int i = 0; i < 1; i = 0) { }")
    program = build(tmp_path, target)
    running = threading.Event()

    class Watched(subprocess.Popen[bytes]):
        """Says when the process runs: unlike a terminal's Ctrl-C, the test's reaches this process only."""

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            running.set()

    def interrupt() -> None:
        # unicorn starts no process
        running.wait(None if choice != "unicorn" else 0.1)
        time.sleep(0.3)
        _thread.interrupt_main()

    monkeypatch.setattr(subprocess, "Popen", Watched)
    threads = threading.active_count()
    threading.Thread(target=interrupt, daemon=True).start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        harness.run(program, samples(1), emulator=choice)
    assert time.monotonic() - started < 5
    assert threading.active_count() == threads


@pytest.mark.parametrize("emulator", ["host", "unicorn", "qemu"])
def test_an_error_of_invoke_and_a_full_stack_are_reported(
    tmp_path: Path, emulator: str, requires_tool: RequireTool
) -> None:
    target, choice = place(emulator, requires_tool)
    write_model(tmp_path / "error" / "src", extra="if (output != 0) { return 3; }")
    with pytest.raises(VerificationError, match="invoke function returned an error"):
        harness.run(build(tmp_path / "error", target), samples(1), emulator=choice)
    size = 128 * 1024 if emulator == "host" else harness.STACK_BYTES - 64
    deep = f"volatile char deep[{size}]; for (unsigned i = 0; i < sizeof deep; i++) {{ deep[i] = 1; }}"
    write_model(tmp_path / "deep" / "src", extra=deep)
    with pytest.raises(VerificationError, match="ran out of stack|the stack: it overflowed|faulted in"):
        harness.run(build(tmp_path / "deep", target), samples(1), emulator=choice)


def test_the_stack_is_measured_to_the_word(tmp_path: Path) -> None:
    measured = []
    for name, size in {"small": 256, "large": 256 + 4096}.items():
        extra = f"volatile char deep[{size}]; for (unsigned i = 0; i < sizeof deep; i++) {{ deep[i] = 1; }}"
        write_model(tmp_path / name / "src", extra=extra)
        measured.append(harness.run(build(tmp_path / name, "cortex-m4"), samples(2)).stack_bytes)
    assert measured[1] - measured[0] == pytest.approx(4096, abs=16)


def test_bad_calls_are_refused(tmp_path: Path) -> None:
    write_model(tmp_path / "src")
    compiler = find_compiler(find_target("host"))
    with pytest.raises(BadInputError, match="no generated model 'other'"):
        harness.build(tmp_path / "src", "other", compiler, tmp_path, input_bytes=1, output_bytes=1)
    program = build(tmp_path, "host")
    with pytest.raises(BadInputError, match="63 bytes of input are no whole number of samples of 64 bytes"):
        harness.run(program, bytes(63))
    with pytest.raises(BadInputError, match="unicorn has no cortex-m55"):
        harness.choose_emulator(find_target("cortex-m55"), "unicorn")
    with pytest.raises(VerificationError, match="input_bytes_match|negative"):
        harness.build(tmp_path / "src", "tiny", program.compiler, tmp_path / "b", input_bytes=9, output_bytes=8)


def test_a_missing_emulator_says_how_to_install_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(UnicornEmulator, "available", staticmethod(lambda: False))
    monkeypatch.setattr(QemuEmulator, "available", staticmethod(lambda: False))
    with pytest.raises(ToolMissingError, match="pip install .* or apt install qemu-system-arm") as caught:
        harness.choose_emulator(find_target("cortex-m4"))
    assert caught.value.exit_code == 3


def test_a_model_without_layer_functions_is_reported(tmp_path: Path) -> None:
    write_model(tmp_path / "src")
    source = tmp_path / "src" / "tiny.c"
    source.write_text(source.read_text().replace("tiny_layer_01", "tiny_last"))
    release = build(tmp_path, "cortex-m4")
    image = read_image(release.program)
    assert [symbol.index for symbol in harness.layer_symbols(image, "tiny")] == [0]
    odd = replace(image, functions=tuple(f for f in image.functions if "layer" not in f.name))
    with pytest.raises(VerificationError, match="no function tiny_layer_00"):
        harness.layer_symbols(odd, "tiny")


def test_the_stack_file_is_what_the_harness_wrote(tmp_path: Path) -> None:
    """More than one file is written through semihosting, and each keeps its own bytes."""
    write_model(tmp_path / "src")
    result = harness.run(build(tmp_path, "cortex-m4"), samples(2), count=False)
    assert result.counts is None
    assert struct.pack("<I", result.stack_bytes) != result.outputs[:4]
