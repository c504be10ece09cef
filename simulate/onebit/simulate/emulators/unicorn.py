"""The unicorn engine, from pip: a bare core with memory; semihosting is served here, from files in memory."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

from onebit.codegen.targets import Emulation, MemoryRegion
from onebit.core.errors import BadInputError, ToolMissingError, VerificationError
from onebit.simulate.emulators.common import (
    FAULT_STATUS,
    POLL_SECONDS,
    Job,
    RunResult,
    failure,
    make_result,
    report_progress,
    timed_out,
)
from onebit.simulate.emulators.counting import counted_range, hook_library, nonzero
from onebit.simulate.emulators.elf import Image, read_image

_PAGE = 4096
_SYSTEM_REGISTERS = MemoryRegion(0xE000_E000, _PAGE)  # holds CPACR, which the start-up code writes
_BREAKPOINT = 7  # the exception number that reports BKPT to the interrupt hook
_SEMIHOSTING_BKPT = b"\xab\xbe"
_APPLICATION_EXIT = 0x20026
_FAILED = 0xFFFF_FFFF
_BELOW_STACK_BYTES = 1 << 20


class UnicornEmulator:
    """Runs a job on unicorn.

    Only what the image occupies is mapped, in pages of 4 KiB, and its flash is read-only: a stray access faults, and
    the error names the function. The firmware has no access to files of the host.
    """

    name = "unicorn"

    @staticmethod
    def available() -> bool:
        """Whether the Python package is installed."""
        return importlib.util.find_spec("unicorn") is not None

    def run(self, job: Job) -> RunResult:
        """See `Emulator.run`. ToolMissingError without unicorn, BadInputError for a core that it does not have."""
        if not self.available():
            raise ToolMissingError("unicorn is not installed", fix='pip install "onebit[emulate]"')
        emulation = job.target.emulation
        if emulation is None or emulation.unicorn_cpu is None:
            raise BadInputError(f"unicorn has no {job.target.name}", where="--emulator", fix="use qemu")
        image = read_image(job.program)
        machine = _Machine(emulation, image, job)
        counter = _Counter(machine.engine, job, image) if job.markers else None
        try:
            self._drive(machine, job)
            if machine.fault:
                raise failure(job, self.name, FAULT_STATUS, image.function_at(machine.program_counter()), machine.fault)
            if machine.status != 0:
                raise failure(job, self.name, machine.status)
            files = {name: bytes(data) for name, data in machine.files.items()}
            if counter is None:
                return make_result(job, self.name, files)
            return make_result(job, self.name, files, counter.slots(), counter.hits())
        finally:
            if counter is not None and machine.finished.is_set():
                counter.close()

    def _drive(self, machine: _Machine, job: Job) -> None:
        """Emulates in a second thread while this one watches the clock, reports progress and hears Ctrl-C.

        The emulation is never interrupted and resumed: unicorn would count the instruction it stopped at twice.
        """
        deadline = time.monotonic() + job.timeout
        reported = 0
        worker = threading.Thread(target=machine.emulate, name="onebit-unicorn", daemon=True)
        worker.start()
        try:
            # Not Thread.join: interrupted by Ctrl-C, it takes the running thread for finished (CPython 3.11).
            while not machine.finished.wait(POLL_SECONDS):
                reported = report_progress(job, machine.samples_done(), reported)
                if time.monotonic() > deadline:
                    raise timed_out(job, self.name, machine.samples_done())
            report_progress(job, machine.samples_done(), reported)
        finally:
            # The engine's memory and the counter are freed next: the emulation must have ended by then.
            while not machine.finished.is_set():
                machine.engine.emu_stop()
                machine.finished.wait(POLL_SECONDS)
            worker.join()
        if machine.error is not None:
            raise machine.error


class _Machine:
    """A core with the image loaded, and the files it sees."""

    def __init__(self, emulation: Emulation, image: Image, job: Job) -> None:
        unicorn = _import_unicorn()
        arm_const = unicorn.arm_const
        self._job = job
        self._arm: Any = arm_const
        self._access_names = {
            **dict.fromkeys((unicorn.UC_MEM_READ_UNMAPPED, unicorn.UC_MEM_READ_PROT), "read"),
            **dict.fromkeys((unicorn.UC_MEM_WRITE_UNMAPPED, unicorn.UC_MEM_WRITE_PROT), "write"),
            **dict.fromkeys((unicorn.UC_MEM_FETCH_UNMAPPED, unicorn.UC_MEM_FETCH_PROT), "instruction fetch"),
        }
        self._engine_error: Any = unicorn.UcError
        self.engine: Any = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS)
        self.engine.ctl_set_cpu_model(getattr(arm_const, str(emulation.unicorn_cpu)))
        self.files: dict[str, bytearray] = {"input.bin": bytearray(job.inputs)}
        self._handles: dict[int, _Handle] = {}
        self._fault_handler = image.symbols["Fault_Handler"]
        self.status = -1
        self.fault = ""
        self._access = ""
        self._below_stack = range(emulation.ram.base - _BELOW_STACK_BYTES, emulation.ram.base)
        self.error: BaseException | None = None
        self.finished = threading.Event()
        self._map(emulation, image, unicorn)
        for address, data in image.segments:
            self.engine.mem_write(address, data)
        self.engine.hook_add(unicorn.UC_HOOK_INTR, self._on_interrupt)
        self.engine.hook_add(unicorn.UC_HOOK_MEM_INVALID, self._on_invalid_access)
        stack, self._reset = struct.unpack("<II", self.engine.mem_read(emulation.flash.base, 8))
        self.engine.reg_write(arm_const.UC_ARM_REG_SP, stack)

    def _map(self, emulation: Emulation, image: Image, unicorn: Any) -> None:
        flash_end = max(
            a + len(data) for a, data in image.segments if a < emulation.flash.end and a >= emulation.flash.base
        )
        ram_end = image.symbols["_bss_end"]
        regions = (
            (emulation.flash.base, flash_end, unicorn.UC_PROT_READ | unicorn.UC_PROT_EXEC),
            (emulation.ram.base, ram_end, unicorn.UC_PROT_READ | unicorn.UC_PROT_WRITE),
            (_SYSTEM_REGISTERS.base, _SYSTEM_REGISTERS.end, unicorn.UC_PROT_READ | unicorn.UC_PROT_WRITE),
        )
        for start, end, access in regions:
            self.engine.mem_map(start, -(-(end - start) // _PAGE) * _PAGE, access)

    def emulate(self) -> None:
        """Runs from reset to the firmware's exit; leaves `status`, or `fault`, or `error`, and sets `finished`."""
        try:
            self.engine.emu_start(self._reset | 1, _FAILED)
        except self._engine_error as error:
            self.fault = self._access or str(error)
        except Exception as error:  # noqa: BLE001 -- raised again in the thread that called run
            self.error = error
        finally:
            self.finished.set()

    def samples_done(self) -> int:
        """Samples whose output has been written."""
        return len(self.files.get("output.bin", b"")) // self._job.output_bytes

    def program_counter(self) -> int:
        """The address at which the core stands."""
        return int(self.engine.reg_read(self._arm.UC_ARM_REG_PC)) & ~1

    def _on_interrupt(self, engine: Any, number: int, _: Any) -> None:
        address = self.program_counter()
        if number != _BREAKPOINT or bytes(engine.mem_read(address, 2)) != _SEMIHOSTING_BKPT:
            self.fault = f"exception {number}"
            engine.emu_stop()
            return
        operation = int(engine.reg_read(self._arm.UC_ARM_REG_R0))
        arguments = int(engine.reg_read(self._arm.UC_ARM_REG_R1))
        if operation == 0x20:  # SYS_EXIT_EXTENDED
            reason, code = self._words(arguments, 2)
            self.status = code if reason == _APPLICATION_EXIT else FAULT_STATUS
            engine.emu_stop()
            return
        service = self._services().get(operation)
        if service is None:
            self.error = VerificationError(f"the firmware made the unknown semihosting call 0x{operation:x}")
            engine.emu_stop()
            return
        engine.reg_write(self._arm.UC_ARM_REG_R0, service(arguments) & _FAILED)
        engine.reg_write(self._arm.UC_ARM_REG_PC, (address + 2) | 1)

    def _on_invalid_access(self, _: Any, kind: int, address: int, size: int, *__: Any) -> bool:
        place = ", below the stack: it overflowed" if address in self._below_stack else ""
        self._access = f"{self._access_names.get(kind, 'access')} of {size} bytes at 0x{address:08x}{place}"
        return False  # not mended: emu_start ends with an error

    def _services(self) -> dict[int, Callable[[int], int]]:
        return {0x01: self._open, 0x02: self._close, 0x05: self._write, 0x06: self._read, 0x0C: self._length}

    def _words(self, address: int, count: int) -> tuple[int, ...]:
        return struct.unpack(f"<{count}I", self.engine.mem_read(address, 4 * count))

    def _open(self, arguments: int) -> int:
        name_address, mode, length = self._words(arguments, 3)
        name = bytes(self.engine.mem_read(name_address, length)).decode(errors="replace")
        writing = mode >= 4
        if writing:
            self.files[name] = bytearray()
        elif name not in self.files:
            return -1
        handle = len(self._handles) + 1
        self._handles[handle] = _Handle(self.files[name], writing)
        return handle

    def _close(self, arguments: int) -> int:
        return 0 if self._words(arguments, 1)[0] in self._handles else -1

    def _length(self, arguments: int) -> int:
        handle = self._handles.get(self._words(arguments, 1)[0])
        return -1 if handle is None else len(handle.data)

    def _read(self, arguments: int) -> int:
        """Returns the number of bytes not read, as semihosting wants it."""
        number, address, count = self._words(arguments, 3)
        handle = self._handles.get(number)
        if handle is None or handle.writing:
            return count
        data = bytes(handle.data[handle.position : handle.position + count])
        handle.position += len(data)
        if data:
            self.engine.mem_write(address, data)
        return count - len(data)

    def _write(self, arguments: int) -> int:
        """Returns the number of bytes not written, as semihosting wants it."""
        number, address, count = self._words(arguments, 3)
        handle = self._handles.get(number)
        if handle is None or not handle.writing:
            return count
        handle.data += self.engine.mem_read(address, count)
        return 0


def _import_unicorn() -> Any:
    """The package with its constants for Arm. It declares types but has none for most of what is used here."""
    importlib.import_module("unicorn.arm_const")
    return importlib.import_module("unicorn")


class _Handle:
    """An open file: its bytes, the read position, and whether it was opened for writing."""

    def __init__(self, data: bytearray, writing: bool) -> None:
        self.data = data
        self.writing = writing
        self.position = 0


class _Counter:
    """native/counter.c, called by unicorn before every instruction without Python in between."""

    def __init__(self, engine: Any, job: Job, image: Image) -> None:
        self._library = ctypes.CDLL(str(hook_library("unicorn_hook")))
        self._base, self._bytes = counted_range(image, job)
        self._slots = job.slots
        u32, u64, pointer = ctypes.c_uint32, ctypes.c_uint64, ctypes.c_void_p
        for name, result, arguments in (
            ("onebit_counter_new", pointer, (u64, u64, u32)),
            ("onebit_counter_free", None, (pointer,)),
            ("onebit_counter_mark", ctypes.c_int, (pointer, u64, u64, u32)),
            ("onebit_counter_slots", ctypes.POINTER(u64), (pointer,)),
            ("onebit_counter_hits", ctypes.POINTER(u64), (pointer,)),
            ("onebit_hook_new", pointer, (pointer, ctypes.c_char_p, u64, u64)),
            ("onebit_hook_free", None, (pointer,)),
        ):
            function = getattr(self._library, name)
            function.restype, function.argtypes = result, arguments
        # The hook reads the instructions here: this object keeps them alive.
        self._code = bytes(engine.mem_read(self._base, self._bytes))
        self._counter = self._library.onebit_counter_new(self._base, self._bytes, self._slots)
        self._hook = self._library.onebit_hook_new(self._counter, self._code, self._base, self._bytes)
        if not self._counter or not self._hook:
            raise MemoryError("no memory for the instruction counter")
        for marker in job.markers:
            if self._library.onebit_counter_mark(self._counter, marker.start, marker.size, marker.slot) != 0:
                raise ValueError(f"{marker} does not fit {self._slots} slots")
        self._install(engine)

    def _install(self, engine: Any) -> None:
        unicorn = _import_unicorn()
        # The binding wraps hooks in Python callbacks; a native one needs the library below it, which has no public
        # name.
        try:
            uclib = importlib.import_module("unicorn.unicorn_py3.unicorn").uclib
            handle = engine._uch  # noqa: SLF001
        except (ImportError, AttributeError):
            version = getattr(unicorn, "__version__", "of this version")
            raise ToolMissingError(
                f"unicorn {version} does not give access to native hooks", fix="pip install unicorn==2.1.4"
            ) from None
        self._registration = ctypes.c_size_t(0)
        status = uclib.uc_hook_add(
            handle,
            ctypes.byref(self._registration),
            ctypes.c_int(unicorn.UC_HOOK_CODE),
            ctypes.cast(self._library.onebit_on_code, ctypes.c_void_p),
            ctypes.c_void_p(self._hook),
            ctypes.c_uint64(1),  # begin > end: every address
            ctypes.c_uint64(0),
        )
        if status != 0:
            raise ToolMissingError(
                f"unicorn refuses the native hook (error {status})", fix="pip install unicorn==2.1.4"
            )

    def slots(self) -> list[int]:
        """Instructions per slot."""
        return list(self._library.onebit_counter_slots(self._counter)[: self._slots])

    def hits(self) -> dict[int, int]:
        """Executions per address."""
        return nonzero(self._base, self._library.onebit_counter_hits(self._counter)[: self._bytes])

    def close(self) -> None:
        """Frees the counter; the engine must not run any more."""
        self._library.onebit_hook_free(self._hook)
        self._library.onebit_counter_free(self._counter)
