"""C compilers: finding one for a target, compiling and linking with it.

The pair (compiler name and version, flags) identifies what instruction counts were measured with: `Compiler.identity`.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from onebit.codegen.options import OPTIMIZE_FLAGS, Optimize
from onebit.codegen.targets import Target
from onebit.core.errors import BadInputError, ToolMissingError, VerificationError
from onebit.simulate.stack import GCC_WITH_CALL_GRAPH

logger = logging.getLogger(__name__)

Preference = Literal["auto", "gcc", "zig", "clang"]
Kind = Literal["gcc", "clang", "zig"]

BASE_FLAGS = ("-std=c99", "-ffunction-sections", "-fdata-sections", "-ffp-contract=off")
"""No fused multiply-add: the reference rounds after every float operation."""

# -fbuiltin after -ffreestanding: no C library is required, but memcpy of a constant size may still become a move, as in
# the hosted builds that ESP-IDF, Arduino and Zephyr make of the same files.
MODEL_FLAGS = ("-ffreestanding", "-fbuiltin")

WARNINGS = (
    *("-Wall", "-Wextra", "-Werror", "-pedantic", "-Wconversion", "-Wsign-conversion"),
    *("-Wshadow", "-Wundef", "-Wmissing-prototypes"),
)
"""What generated C and kernels must be clean of, with gcc and clang."""

# gcc merges identical functions; two equal layers would be one symbol, and their instructions could not be told apart.
_GCC_FLAGS = ("-fno-ipa-icf",)
# zig keeps a frame pointer, checks for undefined behaviour and emits unwind tables unless told otherwise.
_ZIG_FLAGS = (
    *("-fomit-frame-pointer", "-fno-sanitize=undefined", "-fno-stack-protector"),
    *("-fno-unwind-tables", "-fno-asynchronous-unwind-tables", "-Wno-unused-command-line-argument"),
)

_SHOWN_ERROR_LINES = 12


@dataclass(frozen=True)
class Compiler:
    """One C compiler set up for one target.

    `command` starts it, `flags` are those of the target and the compiler's own quirks; `name` and `version` are for
    people and for keys of golden counts.
    """

    name: str
    version: str
    kind: Kind
    command: tuple[str, ...]
    flags: tuple[str, ...]
    target: Target

    @property
    def identity(self) -> tuple[str, str]:
        """(name and version, flags): what golden instruction counts are keyed by, next to the optimisation level."""
        return f"{self.name} {self.version}", " ".join((*BASE_FLAGS, *self.flags))

    @property
    def writes_call_graphs(self) -> bool:
        """Whether `onebit.simulate.stack` can read from this compiler what a function calls, and its frame."""
        return self.kind == "gcc" and int(self.version.split(".")[0]) >= GCC_WITH_CALL_GRAPH

    def compile(
        self,
        sources: Sequence[Path],
        out: Path,
        *,
        include: Sequence[Path] = (),
        defines: Sequence[str] = (),
        optimize: Optimize = "speed",
        extra: Sequence[str] = (),
    ) -> list[Path]:
        """Compiles each of `sources` (.c or .S) into `out`/<stem>.o, two at a time, and returns the objects in order.

        `extra` follows all other flags. Raises VerificationError with the first lines the compiler printed.
        """
        out.mkdir(parents=True, exist_ok=True)
        common = (
            *self.command,
            *BASE_FLAGS,
            *(OPTIMIZE_FLAGS[optimize],),
            *self.flags,
            *(f"-I{folder}" for folder in include),
            *(f"-D{define}" for define in defines),
            *extra,
        )

        def compile_one(source: Path) -> Path:
            language = ("-x", "assembler-with-cpp") if source.suffix == ".S" else ("-x", "c")
            target = out / f"{source.stem}.o"
            self._call((*common, *language, "-c", str(source), "-o", str(target)), f"compiling {source.name}")
            return target

        with ThreadPoolExecutor(max_workers=min(2, os.cpu_count() or 1)) as pool:
            return list(pool.map(compile_one, sources))

    def link(self, objects: Sequence[Path], out: Path, *, script: Path | None = None) -> Path:
        """Links `objects` to the program `out`: with the linker `script` for a bare core, without it for the host.

        Raises VerificationError with the first lines the linker printed.
        """
        inputs = [str(path) for path in objects]
        if script is None:
            self._call((*self.command, *self.flags, *inputs, *_host_link_flags(), "-o", str(out)), "linking")
            return out
        bare = ("-nostdlib", f"-Wl,-T,{script}", "-Wl,--gc-sections")
        if self.kind == "zig":
            if not self._link_without_helpers(inputs, script, out):
                self._call((*self.command, *self.flags, *inputs, *bare, "-o", str(out)), "linking")
        else:
            self._call((*self.command, *self.flags, *inputs, *bare, "-lgcc", "-o", str(out)), "linking")
        return out

    def link_shared(self, sources: Sequence[Path], out: Path) -> Path:
        """Compiles `sources` for the host into the shared library `out`; VerificationError if that fails."""
        shared = ("-O2", "-shared", "-fPIC", *(("-Wl,-undefined,dynamic_lookup",) if sys.platform == "darwin" else ()))
        inputs = [str(path) for path in sources]
        self._call((*self.command, *BASE_FLAGS, *self.flags, *shared, *inputs, "-o", str(out)), f"building {out.name}")
        return out

    def _link_without_helpers(self, inputs: Sequence[str], script: Path, out: Path) -> bool:
        """zig's lld alone: a moment, where ``zig cc`` first builds compiler-rt (half a minute, once per core).

        Code that calls helpers of compiler-rt (soft float, division on Armv6-M) does not link this way: False.
        """
        command = (self.command[0], "ld.lld", *inputs, "-T", str(script), "--gc-sections", "-o", str(out))
        result = _run(command)
        if result.returncode == 0:
            return True
        undefined = re.findall(r"undefined symbol: (\S+)", result.stderr)
        if not undefined or any(not name.startswith("__") for name in undefined):
            raise _failed("linking", command, result)
        logger.info(
            "the model needs %s: linking with compiler-rt (slow the first time)", ", ".join(sorted(set(undefined)))
        )
        return False

    def _call(self, command: Sequence[str], what: str) -> None:
        result = _run(command)
        if result.returncode != 0:
            raise _failed(what, command, result)


def find_compiler(target: Target, prefer: Preference = "auto") -> Compiler:
    """The compiler for `target`.

    ``auto``: for the host $CC, cc, gcc, clang or zig; for a core its GNU cross compiler on the PATH, else zig. A name
    insists on that compiler. Raises ToolMissingError, which says what to install, and BadInputError for a compiler that
    onebit does not use for this target.
    """
    if target.isa == "host":
        return _find_host(target, prefer)
    offered: list[str] = []
    if target.gcc is not None:
        offered.append("gcc")
        program = shutil.which(f"{target.gcc.prefix}gcc")
        if program is not None and prefer in ("auto", "gcc"):
            flags = (*target.gcc.flags, *_GCC_FLAGS)
            return Compiler(f"{target.gcc.prefix}gcc", _version((program,), "gcc"), "gcc", (program,), flags, target)
    if target.zig is not None:
        offered.append("zig")
        zig = _zig_program()
        if zig is not None and prefer in ("auto", "zig"):
            flags = ("-target", target.zig.triple, f"-mcpu={target.zig.cpu}", *_ZIG_FLAGS)
            return Compiler("zig", _version((zig,), "zig"), "zig", (zig, "cc"), flags, target)
    if prefer != "auto" and prefer not in offered:
        raise BadInputError(
            f"onebit does not compile for {target.name} with {prefer}", fix=f"choose one of: auto, {', '.join(offered)}"
        )
    raise ToolMissingError(
        f"no C compiler for {target.name}", fix=_advice(target, offered if prefer == "auto" else [prefer])
    )


def _find_host(target: Target, prefer: Preference) -> Compiler:
    """$CC, cc, gcc, clang, zig in this order, or only those that `prefer` names."""
    chosen = os.environ.get("CC", "").strip()
    if chosen and prefer == "auto":
        program, *arguments = shlex.split(chosen)
        path = shutil.which(program)
        if path is None:
            raise ToolMissingError(f"$CC names {program!r}, which is not on the PATH", fix="correct or unset CC")
        return _host_compiler(target, (path, *arguments))
    candidates = {"auto": ("cc", "gcc", "clang"), "gcc": ("gcc",), "clang": ("clang",), "zig": ()}[prefer]
    for program in candidates:
        path = shutil.which(program)
        if path is not None:
            return _host_compiler(target, (path,))
    zig = _zig_program()
    if zig is not None and prefer in ("auto", "zig"):
        return Compiler("zig", _version((zig,), "zig"), "zig", (zig, "cc"), _ZIG_FLAGS, target)
    wanted = ["gcc or clang", "zig"] if prefer == "auto" else [prefer]
    raise ToolMissingError("no C compiler for the host", fix=_advice(target, wanted))


def _host_compiler(target: Target, command: tuple[str, ...]) -> Compiler:
    # The banner tells the kind: cc, and a $CC of any name, may be either.
    banner = _run((*command, "--version")).stdout
    kind: Kind = "clang" if "clang" in banner.lower() else "gcc"
    flags = _GCC_FLAGS if kind == "gcc" else ()
    return Compiler(kind, _version(command, kind), kind, command, flags, target)


def _host_link_flags() -> tuple[str, ...]:
    # -z now: binding memcpy lazily, inside the first inference, would run the dynamic linker on the measured stack.
    return ("-pthread", "-lm", *(("-Wl,-z,now",) if sys.platform.startswith("linux") else ()))


def _advice(target: Target, wanted: Sequence[str]) -> str:
    ways = []
    for name in wanted:
        if name == "zig":
            ways.append('pip install "onebit[emulate]" (brings ziglang)')
        elif name == "gcc" and target.gcc is not None:
            package = "apt install gcc-arm-none-eabi" if target.isa == "arm" else "from the chip maker's tools"
            ways.append(f"put {target.gcc.prefix}gcc on the PATH ({package})")
        else:
            ways.append(f"install {name}")
    return " or ".join(ways)


def _zig_program() -> str | None:
    """The zig executable inside the ziglang wheel; starting it directly saves a Python start per call."""
    spec = importlib.util.find_spec("ziglang")
    if spec is None or not spec.submodule_search_locations:
        return None
    program = Path(spec.submodule_search_locations[0]) / ("zig.exe" if sys.platform == "win32" else "zig")
    return str(program) if program.is_file() else None


@lru_cache(maxsize=32)
def _version(command: tuple[str, ...], kind: Kind) -> str:
    if kind == "zig":
        return _run((*command, "version")).stdout.strip()
    if kind == "gcc":
        return _run((*command, "-dumpfullversion", "-dumpversion")).stdout.strip()
    match = re.search(r"version (\S+)", _run((*command, "--version")).stdout)
    return match.group(1) if match else "unknown"


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL, check=False
    )


def _failed(what: str, command: Sequence[str], result: subprocess.CompletedProcess[str]) -> VerificationError:
    lines = [line for line in (result.stderr or result.stdout).splitlines() if line.strip()]
    logger.debug("failed command: %s", shlex.join(command))
    shown = lines[:_SHOWN_ERROR_LINES] or [f"{command[0]} exited with {result.returncode} and no message"]
    more = [f"... and {len(lines) - len(shown)} more lines"] if len(lines) > len(shown) else []
    return VerificationError(f"{what} failed:\n" + "\n".join((*shown, *more)), where=Path(command[0]).name)
