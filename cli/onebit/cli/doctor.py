"""``onebit doctor``: what is installed, in which version, and how to get the rest.

The Python packages and their extras are read from onebit's own installed metadata, so the list cannot differ from what
pip knows.
"""

from __future__ import annotations

import importlib.util
import platform
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from onebit.cli.console import JsonOption, emit_json, stdout_console
from onebit.core.errors import OnebitError

_HIDDEN_EXTRAS = frozenset({"all", "demo", "lint", "test"})  # made of the others, or for work on onebit itself
_VERSION = re.compile(r"\d+\.\d+(?:\.\d+)*(?:[.-]\w+)?")
_REQUIREMENT = re.compile(
    r"\s*(?P<name>[A-Za-z0-9._-]+)\s*(?:\[[^]]*])?\s*\(?(?P<range>[^;()]*)\)?\s*(?:;(?P<marker>.*))?$"
)
_EXTRA = re.compile(r"extra\s*==\s*['\"]([^'\"]+)['\"]")
_TIMEOUT_SECONDS = 20


@dataclass(frozen=True)
class Package:
    """A Python package that onebit uses: with which extras (none: always), which versions fit, which is installed.

    The first of `extras` is the smallest one.
    """

    name: str
    extras: tuple[str, ...]
    required: str
    version: str | None

    @property
    def get(self) -> str:
        """The command that installs it; empty if it is installed."""
        if self.version is not None:
            return ""
        return f"pip install 'onebit[{self.extras[0]}]'" if self.extras else "pip install onebit"


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


def onebit_version() -> str:
    """The installed version of onebit; ``0+source`` when it runs from a source tree that was not installed."""
    return installed_version("onebit") or "0+source"


def installed_version(distribution: str) -> str | None:
    """The version of an installed Python package, without importing it."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def packages() -> list[Package]:
    """What onebit's metadata requires, core first, each once; empty if onebit runs without being installed."""
    try:
        requirements = metadata.requires("onebit") or []
    except metadata.PackageNotFoundError:
        return []
    extras: dict[str, list[str]] = {}
    ranges: dict[str, str] = {}
    for text in requirements:
        match = _REQUIREMENT.match(text)
        if match is None:
            continue
        name = match["name"]
        extra = _EXTRA.search(match["marker"] or "")
        if name == "onebit" or (extra is not None and extra[1] in _HIDDEN_EXTRAS):
            continue
        ranges.setdefault(name, match["range"].strip())
        extras.setdefault(name, []).append(extra[1] if extra is not None else "")
    size = Counter(extra for users in extras.values() for extra in users)
    # A package that core needs anyway is listed there only; of several extras the smallest is the one to advise.
    found = [
        Package(
            name,
            () if "" in users else tuple(sorted(users, key=lambda extra: (size[extra], extra))),
            ranges[name],
            installed_version(name),
        )
        for name, users in extras.items()
    ]
    return sorted(found, key=lambda package: (package.extras, package.name))


def extras_of(distribution: str) -> tuple[str, ...]:
    """The extras that install `distribution`; empty for a package that is in none, or always there."""
    return next((package.extras for package in packages() if package.name == distribution), ())


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
