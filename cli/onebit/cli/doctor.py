"""``onebit doctor``: what is installed, in which version, and how to get the rest."""

from __future__ import annotations

import importlib.util
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from onebit.cli.console import JsonOption, emit_json, stdout_console
from onebit.cli.packages import installed_version, onebit_version, packages
from onebit.core.errors import OnebitError

_VERSION = re.compile(r"\d+\.\d+(?:\.\d+)*(?:[.-]\w+)?")
_TIMEOUT_SECONDS = 20


@dataclass(frozen=True)
class Tool:
    """A compiler or emulator: `command` on PATH, or the Python package `module`; `get` is the command to install it."""

    name: str
    kind: str
    use: str
    get: str
    module: str = ""

    def find(self) -> tuple[str | None, str | None]:
        """(path, version): path is None where the tool is missing, version where it does not tell."""
        if self.module:
            found = importlib.util.find_spec(self.module)
            return (found.origin, installed_version(self.name)) if found is not None else (None, None)
        path = shutil.which(self.name)
        return (path, _version_of(path)) if path else (None, None)


TOOLS = (
    Tool("cc", "compiler", "builds generated C for the host", "apt-get install gcc"),
    Tool("clang", "compiler", "second compiler for the host", "apt-get install clang"),
    Tool(
        "arm-none-eabi-gcc",
        "compiler",
        "builds for Cortex-M",
        "apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi",
    ),
    Tool(
        "ziglang", "compiler", "builds for Cortex-M from pip alone", "pip install 'onebit[emulate]'", module="ziglang"
    ),
    Tool("unicorn", "emulator", "runs Cortex-M code from pip alone", "pip install 'onebit[emulate]'", module="unicorn"),
    Tool("qemu-system-arm", "emulator", "runs Cortex-M code, second opinion", "apt-get install qemu-system-arm"),
)


def doctor(as_json: JsonOption = False) -> None:
    """Tell which Python packages, compilers, emulators and data sets onebit finds, and how to get the missing ones.

    Nothing here is needed to generate C. Verbs that need a missing tool exit with code 3 and name it.
    """
    report = _report()
    if as_json:
        emit_json(report)
    else:
        _print(report)


def _report() -> dict[str, Any]:
    tools = []
    for tool in TOOLS:
        path, version = tool.find()
        tools.append(
            {
                "name": tool.name,
                "kind": tool.kind,
                "use": tool.use,
                "path": path,
                "version": version,
                "get": "" if path else tool.get,
            }
        )
    return {
        "onebit": onebit_version(),
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(terse=True),
        "packages": [
            {
                "name": package.name,
                "extras": package.extras,
                "required": package.required,
                "version": package.version,
                "get": package.get,
            }
            for package in packages()
        ],
        "tools": tools,
        "data_sets": _data_sets(),
    }


def _data_sets() -> list[dict[str, Any]]:
    """Reads the test split of every data set: one that is there but damaged is reported, too."""
    from onebit.core.datasets import dataset_names, load_dataset

    found: list[dict[str, Any]] = []
    for name in dataset_names():
        try:
            data = load_dataset(name)
        except OnebitError as error:
            found.append({"name": name, "test_samples": None, "note": error.message, "get": error.fix})
        else:
            found.append({"name": name, "test_samples": len(data), "note": data.note, "get": ""})
    return found


def _print(report: dict[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    console = stdout_console()
    console.print(f"onebit {report['onebit']}, Python {report['python']}, {report['platform']}")
    if not report["packages"]:
        console.print("onebit runs from a source tree without being installed: pip install -e .")
    table = Table(box=None, pad_edge=False, show_edge=False)
    for heading in ("", "found", "for", "to get it"):
        table.add_column(heading, overflow="fold")
    rows: list[tuple[str, str, str, str]] = [
        *((p["name"], p["version"] or "", ", ".join(p["extras"]) or "core", p["get"]) for p in report["packages"]),
        *((t["name"], t["version"] or "yes", t["use"], t["get"]) for t in report["tools"]),
        *((d["name"], f"{d['test_samples']} images", "data set", d["get"]) for d in report["data_sets"]),
    ]
    for name, found, use, get in rows:
        # Text, not markup: `onebit[train]` holds brackets.
        table.add_row(Text(name), Text("missing", "yellow") if get else Text(found), Text(use), Text(get))
    console.print(table)


def _version_of(path: str) -> str | None:
    """The first version number that ``path --version`` prints; None if it prints none."""
    try:
        done = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False, errors="replace"
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    first_line = next(iter((done.stdout or done.stderr).splitlines()), "")
    # The compilers close the line with their own version, after the packager's in brackets.
    numbers = _VERSION.findall(re.sub(r"\([^)]*\)", "", first_line))
    return numbers[0] if numbers else None
