"""What all ways of running a program share: the job, its result, and the harness's exit codes."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from onebit.codegen.targets import Target
from onebit.core.errors import VerificationError

Progress = Callable[[int, int], None]
"""Called with (samples done, samples in all), from the thread that called `run`."""

POLL_SECONDS = 0.05

_FAILURES = {
    96: "the model's invoke function returned an error",
    97: "the firmware could not read its input or write its results",
    98: "the firmware ran out of stack",
    99: "the firmware faulted",
}
FAULT_STATUS = 99


@dataclass(frozen=True)
class Marker:
    """The code at [start, start + size) counts for `slot`; code under no marker counts for the slot that called it."""

    start: int
    size: int
    slot: int


@dataclass(frozen=True)
class Job:
    """One run: the program, its samples and what to count.

    `inputs` holds whole samples of `sample_bytes` each, every sample yields `output_bytes`. With `layers` the program
    is a build with ONEBIT_LAYERS. With `markers`, instructions are counted in `slots` slots; slot 0 is everything
    outside the model. `timeout` is in seconds for the whole run.
    """

    program: Path
    target: Target
    inputs: bytes
    sample_bytes: int
    output_bytes: int
    layers: bool = False
    markers: Sequence[Marker] = ()
    slots: int = 1
    timeout: float = 600.0
    on_progress: Progress | None = None

    @property
    def samples(self) -> int:
        """How many samples `inputs` holds."""
        return len(self.inputs) // self.sample_bytes


@dataclass(frozen=True)
class RunResult:
    """What a run produced.

    `outputs`: samples * output_bytes; `layers`: each layer's bytes, sample by sample, or None; `stack_bytes`: the
    deepest stack of any inference, below the caller's frame; `counts`: executed instructions per slot over all samples,
    or None where nothing counts them; `pc_counts`: executions of each instruction address, likewise.
    """

    outputs: bytes
    layers: bytes | None
    stack_bytes: int
    samples: int
    emulator: str
    counts: list[int] | None = None
    pc_counts: dict[int, int] | None = field(default=None, repr=False)

    @property
    def instructions(self) -> int | None:
        """Instructions of the model over all samples: every slot but the outside."""
        return None if self.counts is None else sum(self.counts[1:])


class Emulator(Protocol):
    """A way to run a bare-metal image."""

    name: str

    def run(self, job: Job) -> RunResult:
        """Runs `job` to its end. Raises VerificationError for a fault, a failure or a timeout of the program."""


def make_result(
    job: Job,
    emulator: str,
    files: dict[str, bytes],
    counts: list[int] | None = None,
    pc_counts: dict[int, int] | None = None,
) -> RunResult:
    """The result of a program that ended well, from the files it wrote; checks that all samples came through."""
    outputs = files.get("output.bin", b"")
    if len(outputs) != job.samples * job.output_bytes:
        raise VerificationError(
            f"the program wrote {len(outputs)} bytes for {job.samples} samples of {job.output_bytes} bytes",
            where=f"{job.target.name} on {emulator}",
        )
    return RunResult(
        outputs=outputs,
        layers=files.get("layers.bin", b"") if job.layers else None,
        stack_bytes=int.from_bytes(files["stack.bin"], "little"),
        samples=job.samples,
        emulator=emulator,
        counts=counts,
        pc_counts=pc_counts,
    )


def failure(job: Job, emulator: str, status: int, place: str = "", detail: str = "") -> VerificationError:
    """The error for a program that ended with exit code `status`, in function `place` where that is known."""
    if status < 0:
        message = f"the program was killed by signal {-status}"
    else:
        message = _FAILURES.get(status, f"the program ended with exit code {status}")
    parts = [message, f"in {place}" if place else "", f"({detail})" if detail else ""]
    return VerificationError(" ".join(part for part in parts if part), where=f"{job.target.name} on {emulator}")


def timed_out(job: Job, emulator: str, done: int) -> VerificationError:
    """The error for a run that took too long, after `done` samples."""
    return VerificationError(
        f"no result within {job.timeout:g} s ({done} of {job.samples} samples done)",
        where=f"{job.target.name} on {emulator}",
        fix="simulate fewer samples (--limit), or look for an endless loop",
    )


def report_progress(job: Job, done: int, reported: int) -> int:
    """Tells the caller about `done` samples if that is news; returns what has been reported by now."""
    if job.on_progress is not None and done != reported:
        job.on_progress(done, job.samples)
    return done


def run_process(job: Job, emulator: str, command: Sequence[str], folder: Path) -> tuple[int, dict[str, bytes], str]:
    """Runs `command` in the private `folder`, which receives input.bin and yields the files the program wrote.

    Returns exit code (negative: a signal), files by name, and what it printed to stderr. The process does not outlive
    the call, whether it times out (VerificationError), Ctrl-C arrives or a progress callback raises.
    """
    (folder / "input.bin").write_bytes(job.inputs)
    output = folder / "output.bin"
    deadline = time.monotonic() + job.timeout
    reported = 0
    with tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr
        )
        try:
            while True:
                try:
                    status = process.wait(timeout=POLL_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    done = _size(output) // job.output_bytes
                    reported = report_progress(job, done, reported)
                    if time.monotonic() > deadline:
                        raise timed_out(job, emulator, done) from None
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        stderr.seek(0)
        printed = stderr.read().decode(errors="replace")
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix == ".bin"}
    if status == 0:
        report_progress(job, job.samples, reported)
    return status, files, printed


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
