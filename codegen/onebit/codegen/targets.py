"""The processors that onebit generates code for, as data.

A target says what the instruction set offers (`extensions`), how to compile for it (`gcc`, `zig`) and which emulated
machine runs the result (`emulation`). Compiler, kernel selection and simulator ask these fields; none of them asks for
a target by name. This module is pure data on the standard library: ``onebit generate`` imports it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from onebit.core.errors import BadInputError

KIB = 1024
MIB = 1024 * KIB

Isa = Literal["host", "arm", "riscv", "xtensa"]


@dataclass(frozen=True)
class MemoryRegion:
    """A stretch of an emulated machine's address space: first address and size, both in bytes."""

    base: int
    size: int

    @property
    def end(self) -> int:
        """The first address behind the region."""
        return self.base + self.size


@dataclass(frozen=True)
class GccToolchain:
    """A GNU cross compiler: `prefix` + ``gcc`` is the program, `flags` choose core, ABI and FPU."""

    prefix: str
    flags: tuple[str, ...]


@dataclass(frozen=True)
class ZigToolchain:
    """The Clang inside the ``ziglang`` wheel: `triple` for ``-target``, `cpu` for ``-mcpu`` (core plus features).

    The FPU belongs into `cpu`: zig ignores ``-mfpu`` and ``-mfloat-abi``.
    """

    triple: str
    cpu: str


@dataclass(frozen=True)
class Emulation:
    """An emulated machine on which the target's code runs as a bare-metal image with ARM semihosting.

    `qemu_machine` is QEMU's ``-M``; `unicorn_cpu` names a ``UC_CPU_ARM_*`` constant of unicorn. Either is None where
    that emulator has no such core. The vector table stands at the start of `flash`.
    """

    qemu_machine: str | None
    unicorn_cpu: str | None
    flash: MemoryRegion
    ram: MemoryRegion


@dataclass(frozen=True)
class Target:
    """One processor.

    `word_bits` is the width of the words in which its kernels pack signs. `extensions` holds what kernels may rely on:
    ``fpu`` (float32 in hardware), ``fpu64``, ``dsp`` (packed 8/16-bit arithmetic), ``mve``, ``zbb``. `ram_bytes` and
    `flash_bytes` are those of `example`, a common chip with this core: a yardstick for "does it fit", not a limit;
    None where nothing is typical.
    """

    name: str
    description: str
    isa: Isa
    word_bits: int = 32
    extensions: frozenset[str] = frozenset()
    example: str | None = None
    ram_bytes: int | None = None
    flash_bytes: int | None = None
    gcc: GccToolchain | None = None
    zig: ZigToolchain | None = None
    emulation: Emulation | None = None

    @property
    def emulated(self) -> bool:
        """Whether ``onebit simulate`` can run this target's instruction set on the computer it is started on."""
        return self.emulation is not None

    @property
    def simulated(self) -> bool:
        """Whether ``onebit simulate`` accepts this target: it is the host, or its instruction set is emulated."""
        return self.isa == "host" or self.emulated

    @property
    def emulators(self) -> tuple[str, ...]:
        """The emulators that know this core, best first: a subset of ``unicorn``, ``qemu``."""
        if self.emulation is None:
            return ()
        known = (("unicorn", self.emulation.unicorn_cpu), ("qemu", self.emulation.qemu_machine))
        return tuple(name for name, model in known if model is not None)


def _arm_gcc(cpu: str, fpu: str | None = None) -> GccToolchain:
    abi = ("-mfloat-abi=hard", f"-mfpu={fpu}") if fpu else ("-mfloat-abi=soft",)
    return GccToolchain("arm-none-eabi-", (f"-mcpu={cpu}", "-mthumb", *abi))


def _arm_zig(cpu: str, *, hard_float: bool = False) -> ZigToolchain:
    return ZigToolchain("thumb-freestanding-eabihf" if hard_float else "thumb-freestanding-eabi", cpu)


def _mps2(machine: str, unicorn_cpu: str) -> Emulation:
    """Arm's MPS2 board: 4 MiB behind the code bus and 4 MiB of data RAM, so that any microcontroller's model fits."""
    return Emulation(machine, unicorn_cpu, MemoryRegion(0x0000_0000, 4 * MIB), MemoryRegion(0x2000_0000, 4 * MIB))


_TARGETS = (
    Target(name="host", description="the computer onebit runs on", isa="host"),
    Target(
        name="cortex-m0plus",
        description="Arm Cortex-M0+ (Armv6-M), no FPU",
        isa="arm",
        example="RP2040",
        ram_bytes=264 * KIB,
        flash_bytes=2 * MIB,
        gcc=_arm_gcc("cortex-m0plus"),
        zig=_arm_zig("cortex_m0plus"),
        # QEMU's only Armv6-M board has 16 KiB of RAM. Armv6-M is a subset of Armv7-M and executes the same instructions
        # there, so the M3 board serves; unicorn runs the image on a true Armv6-M core.
        emulation=_mps2("mps2-an385", "UC_CPU_ARM_CORTEX_M0"),
    ),
    Target(
        name="cortex-m3",
        description="Arm Cortex-M3 (Armv7-M), no FPU",
        isa="arm",
        example="STM32F103RC",
        ram_bytes=48 * KIB,
        flash_bytes=256 * KIB,
        gcc=_arm_gcc("cortex-m3"),
        zig=_arm_zig("cortex_m3"),
        emulation=_mps2("mps2-an385", "UC_CPU_ARM_CORTEX_M3"),
    ),
    Target(
        name="cortex-m4",
        description="Arm Cortex-M4 (Armv7E-M) with DSP instructions, soft float",
        isa="arm",
        extensions=frozenset({"dsp"}),
        example="ATSAM4SD16",
        ram_bytes=160 * KIB,
        flash_bytes=1 * MIB,
        gcc=_arm_gcc("cortex-m4"),
        zig=_arm_zig("cortex_m4"),
        emulation=_mps2("mps2-an386", "UC_CPU_ARM_CORTEX_M4"),
    ),
    Target(
        name="cortex-m4f",
        description="Arm Cortex-M4 (Armv7E-M) with DSP instructions and single-precision FPU",
        isa="arm",
        extensions=frozenset({"dsp", "fpu"}),
        example="nRF52840",
        ram_bytes=256 * KIB,
        flash_bytes=1 * MIB,
        gcc=_arm_gcc("cortex-m4", "fpv4-sp-d16"),
        zig=_arm_zig("cortex_m4+vfp4d16sp", hard_float=True),
        emulation=_mps2("mps2-an386", "UC_CPU_ARM_CORTEX_M4"),
    ),
    Target(
        name="cortex-m7",
        description="Arm Cortex-M7 (Armv7E-M) with DSP instructions and double-precision FPU",
        isa="arm",
        extensions=frozenset({"dsp", "fpu", "fpu64"}),
        example="STM32H743",
        ram_bytes=512 * KIB,
        flash_bytes=2 * MIB,
        gcc=_arm_gcc("cortex-m7", "fpv5-d16"),
        zig=_arm_zig("cortex_m7+fp_armv8d16", hard_float=True),
        emulation=_mps2("mps2-an500", "UC_CPU_ARM_CORTEX_M7"),
    ),
    Target(
        name="cortex-m33",
        description="Arm Cortex-M33 (Armv8-M) with DSP instructions and single-precision FPU",
        isa="arm",
        extensions=frozenset({"dsp", "fpu"}),
        example="nRF5340",
        ram_bytes=512 * KIB,
        flash_bytes=1 * MIB,
        gcc=_arm_gcc("cortex-m33", "fpv5-sp-d16"),
        zig=_arm_zig("cortex_m33+dsp+fp_armv8d16sp", hard_float=True),
        # The secure aliases of the board's memories: the core starts in secure state.
        emulation=Emulation(
            "mps2-an505",
            "UC_CPU_ARM_CORTEX_M33",
            MemoryRegion(0x1000_0000, 4 * MIB),
            MemoryRegion(0x3800_0000, 2 * MIB),
        ),
    ),
    Target(
        name="cortex-m55",
        description="Arm Cortex-M55 (Armv8.1-M) with Helium (MVE) and FPU",
        isa="arm",
        extensions=frozenset({"dsp", "fpu", "fpu64", "mve"}),
        gcc=GccToolchain("arm-none-eabi-", ("-mcpu=cortex-m55", "-mthumb", "-mfloat-abi=hard", "-mfpu=auto")),
        zig=_arm_zig("cortex_m55+fp_armv8d16+mve_fp", hard_float=True),
        emulation=Emulation(
            "mps3-an547", None, MemoryRegion(0x0000_0000, 512 * KIB), MemoryRegion(0x2000_0000, 512 * KIB)
        ),
    ),
    Target(
        name="esp32",
        description="Espressif ESP32, Xtensa LX6 with single-precision FPU",
        isa="xtensa",
        extensions=frozenset({"fpu"}),
        example="ESP32-WROOM-32",
        ram_bytes=520 * KIB,
        flash_bytes=4 * MIB,
        gcc=GccToolchain("xtensa-esp32-elf-", ("-mlongcalls",)),
    ),
    Target(
        name="esp32s3",
        description="Espressif ESP32-S3, Xtensa LX7 with single-precision FPU",
        isa="xtensa",
        extensions=frozenset({"fpu"}),
        example="ESP32-S3-WROOM-1",
        ram_bytes=512 * KIB,
        flash_bytes=8 * MIB,
        gcc=GccToolchain("xtensa-esp32s3-elf-", ("-mlongcalls",)),
    ),
    Target(
        name="esp32c3",
        description="Espressif ESP32-C3, RISC-V RV32IMC, no FPU",
        isa="riscv",
        example="ESP32-C3-MINI-1",
        ram_bytes=400 * KIB,
        flash_bytes=4 * MIB,
        gcc=GccToolchain("riscv32-esp-elf-", ("-march=rv32imc", "-mabi=ilp32")),
        zig=ZigToolchain("riscv32-freestanding-none", "generic_rv32+m+c"),
    ),
    Target(
        name="rv32imc_zbb",
        description="RISC-V RV32IMC with the Zbb bit-manipulation extension (population count), no FPU",
        isa="riscv",
        extensions=frozenset({"zbb"}),
        gcc=GccToolchain("riscv64-unknown-elf-", ("-march=rv32imc_zbb", "-mabi=ilp32")),
        zig=ZigToolchain("riscv32-freestanding-none", "generic_rv32+m+c+zbb"),
    ),
)

TARGETS: dict[str, Target] = {target.name: target for target in _TARGETS}
"""Every target by its name, in the order in which ``onebit targets`` lists them."""


def find_target(name: str) -> Target:
    """The target called `name`. Raises BadInputError, which lists the known names, if there is none."""
    target = TARGETS.get(name)
    if target is None:
        raise BadInputError(f"unknown target {name!r}", where="--target", fix=f"choose one of: {', '.join(TARGETS)}")
    return target
