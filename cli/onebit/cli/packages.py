"""onebit's own packages: what its installed metadata requires, by which extra, and what of it is there.

Read from the metadata that pip reads, so the list cannot differ from what pip knows.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from importlib import metadata

_HIDDEN_EXTRAS = frozenset({"all", "demo", "lint", "test"})  # made of the others, or for work on onebit itself
_REQUIREMENT = re.compile(
    r"\s*(?P<name>[A-Za-z0-9._-]+)\s*(?:\[[^]]*])?\s*\(?(?P<range>[^;()]*)\)?\s*(?:;(?P<marker>.*))?$"
)
_EXTRA = re.compile(r"extra\s*==\s*['\"]([^'\"]+)['\"]")


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
