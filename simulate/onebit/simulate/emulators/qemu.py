"""QEMU's system emulator, with a plugin that counts instructions."""

from __future__ import annotations

import shutil
import struct
import tempfile
from pathlib import Path

from onebit.core.errors import BadInputError, ToolMissingError
from onebit.simulate.emulators.common import FAULT_STATUS, Job, RunResult, failure, make_result, run_process
from onebit.simulate.emulators.counting import counted_range, hook_library, nonzero
from onebit.simulate.emulators.elf import Image, read_image

_PROGRAM = "qemu-system-arm"


class QemuEmulator:
    """Runs a job on ``qemu-system-arm``. The firmware's files live in a temporary folder of their own."""

    name = "qemu"

    @staticmethod
    def available() -> bool:
        """Whether the program is on the PATH."""
        return shutil.which(_PROGRAM) is not None

    def run(self, job: Job) -> RunResult:
        """See `Emulator.run`. ToolMissingError without QEMU, BadInputError for a core that it does not have."""
        program = shutil.which(_PROGRAM)
        if program is None:
            raise ToolMissingError(f"{_PROGRAM} is not on the PATH", fix="apt install qemu-system-arm, or use unicorn")
        emulation = job.target.emulation
        if emulation is None or emulation.qemu_machine is None:
            raise BadInputError(f"QEMU has no machine for {job.target.name}", where="--emulator")
        image = read_image(job.program)
        with tempfile.TemporaryDirectory(prefix="onebit-qemu-") as temporary:
            folder = Path(temporary)
            work = folder / "files"  # the firmware's working folder: it does not see the plugin's files
            work.mkdir()
            # The timer's clock is not tied to instructions (no -icount): QEMU would then execute again, and count
            # twice, an instruction that touches a device.
            command = [
                *(program, "-M", emulation.qemu_machine, "-kernel", str(job.program.resolve())),
                *("-display", "none", "-monitor", "none", "-serial", "none", "-nic", "none"),
                *("-semihosting-config", "enable=on,target=native"),
            ]
            if job.markers:
                command += ["-plugin", _plugin(job, image, folder)]
            status, files, printed = run_process(job, self.name, command, work)
            if status != 0:
                stopped_at = files.get("fault.bin") if status == FAULT_STATUS else None
                place = image.function_at(int.from_bytes(stopped_at, "little")) if stopped_at else ""
                raise failure(job, self.name, status, place, _complaint(printed))
            if not job.markers:
                return make_result(job, self.name, files)
            raw = (folder / "counts.bin").read_bytes()
        values = struct.unpack(f"={len(raw) // 8}Q", raw)
        base, _ = counted_range(image, job)
        return make_result(job, self.name, files, list(values[: job.slots]), nonzero(base, values[job.slots :]))


def _plugin(job: Job, image: Image, folder: Path) -> str:
    """Writes the plugin's markers file and returns the argument of ``-plugin``."""
    base, size = counted_range(image, job)
    lines = [f"{base} {size} {job.slots}", *(f"{m.start} {m.size} {m.slot}" for m in job.markers)]
    markers = folder / "markers.txt"
    markers.write_text("\n".join(lines) + "\n", encoding="ascii")
    # QEMU splits the argument at commas and reads a doubled one as itself.
    names = {"file": hook_library("qemu_plugin"), "markers": markers, "counts": folder / "counts.bin"}
    return ",".join(f"{key}={str(path).replace(',', ',,')}" for key, path in names.items())


def _complaint(printed: str) -> str:
    """QEMU's own message, if it has one beyond warnings about the board."""
    if "Lockup" in printed:
        return "the core locked up, as when the stack overflows the lower end of the RAM"
    lines = [line.strip() for line in printed.splitlines() if line.strip() and "warning:" not in line]
    return lines[0] if lines else ""
