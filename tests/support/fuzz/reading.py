"""Child process of the mutation fuzzer: ``python reading.py FILES FIRST OUT``, limited in memory and time.

FILES holds models, each behind its length (8 bytes, little endian). Each one from number FIRST on is read, and what is
accepted is generated into OUT. One line of JSON per model on stdout; the limits end the process in its middle.
"""

from __future__ import annotations

import json
import resource
import shutil
import signal
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from onebit.codegen import generate
from onebit.core.errors import OnebitError

#: CPU seconds and memory beyond what the imports take, of any one model
CPU_SECONDS = 4.0
MEMORY_BYTES = 600 * 2**20


def models(path: Path) -> list[bytes]:
    """The models of a file that `write_models` wrote."""
    data, found = path.read_bytes(), []
    while data:
        size = int.from_bytes(data[:8], "little")
        found.append(data[8 : 8 + size])
        data = data[8 + size :]
    return found


def write_models(path: Path, found: list[bytes]) -> None:
    """What `models` reads."""
    path.write_bytes(b"".join(len(model).to_bytes(8, "little") + model for model in found))


def outcome(model: bytes, out: Path) -> dict[str, Any]:
    """``{"accepted": true}``, or the error's fields."""
    try:
        generate(model, "host", out, name="mutant")
    except OnebitError as error:
        return {"accepted": False, "code": error.exit_code, "where": error.where, "text": str(error)}
    finally:
        written = out.exists()
        shutil.rmtree(out, ignore_errors=True)
    return {"accepted": True, "written": written}


def _virtual_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def main(files: str, first: str, out: str) -> None:
    """See the module."""
    warnings.simplefilter("error")
    limit = _virtual_bytes() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for model in models(Path(files))[int(first) :]:
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)  # SIGPROF ends the process
        start = time.process_time()
        result = outcome(model, Path(out))
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps({**result, "cpu_seconds": time.process_time() - start}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
