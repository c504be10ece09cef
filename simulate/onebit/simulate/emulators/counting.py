"""The native code behind instruction counts: native/counter.c, built on demand into the user's cache.

Both hooks (unicorn's and QEMU's plugin) are compiled from the same counter, so that their counts can be compared.
"""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from onebit.codegen.targets import find_target
from onebit.simulate.emulators.common import Job
from onebit.simulate.emulators.elf import Image
from onebit.simulate.toolchain import find_compiler

logger = logging.getLogger(__name__)

NATIVE = Path(__file__).resolve().parent.parent / "native"
"""The C sources of harness, runtime and hooks."""


def hook_library(name: str) -> Path:
    """The shared library of counter.c with the hook ``native/<name>.c``, built if the cache does not hold it.

    Raises ToolMissingError if the host has no C compiler.
    """
    compiler = find_compiler(find_target("host"))
    sources = [NATIVE / "counter.c", NATIVE / f"{name}.c"]
    key = hashlib.sha256(repr((compiler.identity, sys.platform, platform.machine())).encode())
    for path in (NATIVE / "counter.h", *sources):
        key.update(path.read_bytes())
    folder = _cache_folder()
    library = folder / f"{name}-{key.hexdigest()[:16]}.so"
    if not library.is_file():
        # Built beside its final name and renamed: a reader, or another process, sees a whole library or none.
        with tempfile.TemporaryDirectory(dir=folder, prefix=f"{name}-") as temporary:
            built = compiler.link_shared(sources, Path(temporary) / library.name)
            built.replace(library)
        logger.debug("built %s with %s", library, compiler.identity)
    return library


def counted_range(image: Image, job: Job) -> tuple[int, int]:
    """(base, bytes) of the code to count address by address: all functions of the image and all markers."""
    starts = [function.address for function in image.functions] + [marker.start for marker in job.markers]
    ends = [function.address + function.size for function in image.functions]
    ends += [marker.start + marker.size for marker in job.markers]
    return min(starts), max(ends) - min(starts)


def nonzero(base: int, hits: Sequence[int]) -> dict[int, int]:
    """Executions by address, from the counter's table that starts at `base`."""
    return {base + offset: count for offset, count in enumerate(hits) if count}


def _cache_folder() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(root) / "onebit" / "native"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except OSError:
        logger.debug("%s cannot be created", folder)
    return Path(_private_folder().name)


@lru_cache(maxsize=1)
def _private_folder() -> tempfile.TemporaryDirectory[str]:
    """For a home that cannot be written: a folder of this process, gone when it ends."""
    return tempfile.TemporaryDirectory(prefix="onebit-native-")
