"""The deepest stack that a function can need, from what GCC writes about frames and calls (``-fcallgraph-info=su``)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

#: makes GCC, from version 10 on, write ``<object>.ci`` beside each object
CALL_GRAPH_FLAG: Final = "-fcallgraph-info=su"
GCC_WITH_CALL_GRAPH: Final = 10

_NODE: Final = re.compile(r'^node: \{ title: "([^"]+)" label: "(?:[^"]*\\n)?(\d+) bytes \(([^)]*)\)', re.MULTILINE)
_EDGE: Final = re.compile(r'^edge: \{ sourcename: "([^"]+)" targetname: "([^"]+)"', re.MULTILINE)


@dataclass(frozen=True)
class CallGraph:
    """Frames in bytes by function, without those whose size is only known at run time, and who calls whom."""

    frames: Mapping[str, int]
    calls: Mapping[str, frozenset[str]]

    def bound(self, entry: str) -> int | None:
        """Bytes of the deepest chain of frames from `entry` on, its own included.

        None where nobody can tell: a function without a known frame (of a library), a call by pointer, recursion;
        `unknown` names them.
        """
        depths: dict[str, int | None] = {}

        def depth(function: str) -> int | None:
            if function not in depths:
                # an entry that is met again before it has its depth calls itself
                depths[function] = None
                below = [depth(callee) for callee in sorted(self.calls.get(function, ()))]
                if function in self.frames and None not in below:
                    depths[function] = self.frames[function] + max((b for b in below if b is not None), default=0)
            return depths[function]

        return depth(entry)

    def unknown(self, entry: str) -> tuple[str, ...]:
        """The functions that `entry` may reach and whose depth nobody can tell, sorted."""
        reached = {entry} | self._reached(entry)
        return tuple(sorted(f for f in reached if f not in self.frames or f in self._reached(f)))

    def _reached(self, function: str) -> set[str]:
        """What a function calls, itself or by others."""
        reached: set[str] = set()
        pending = [function]
        while pending:
            called = self.calls.get(pending.pop(), frozenset()) - reached
            reached |= called
            pending += called
        return reached


@dataclass(frozen=True)
class StackBound:
    """The stack that no inference can exceed, below the frame of the caller: `bytes`, or None and why in `unknown`."""

    bytes: int | None
    unknown: str | None = None

    @classmethod
    def of(cls, objects: Iterable[Path], entry: str) -> StackBound:
        """From objects that GCC compiled with `CALL_GRAPH_FLAG`."""
        graph = read_call_graph(objects)
        found = graph.bound(entry)
        if found is not None:
            return cls(found)
        names = graph.unknown(entry)
        shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        return cls(None, f"no frame is known of {shown} (of a library, recursive, or called by pointer)")


def read_call_graph(objects: Iterable[Path]) -> CallGraph:
    """The call graph of objects that GCC compiled with `CALL_GRAPH_FLAG`; functions of other objects are unknown."""
    frames: dict[str, int] = {}
    calls: dict[str, set[str]] = {}
    for path in objects:
        info = path.with_suffix(".ci")
        text = info.read_text("utf-8", "replace") if info.is_file() else ""
        frames.update({title: int(size) for title, size, kind in _NODE.findall(text) if kind == "static"})
        for caller, callee in _EDGE.findall(text):
            calls.setdefault(caller, set()).add(callee)
    return CallGraph(frames, {caller: frozenset(callees) for caller, callees in calls.items()})
