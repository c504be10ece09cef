"""Stages of a long verb on stderr: a spinner or a bar while one runs, one line with its time when it is done."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text


class Stage:
    """One running stage: `progress` moves its bar, `result` is what its line will say."""

    def __init__(self, bar: Progress | None, task: TaskID | None) -> None:
        self.result = ""
        self._bar = bar
        self._task = task

    def progress(self, done: int, total: int) -> None:
        """`done` of `total` samples (or whatever the stage counts) are finished."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, total=total)


class Stages:
    """Stages in order, `total` of them. `seconds` maps each finished one to its wall time."""

    def __init__(self, console: Console, total: int) -> None:
        self.seconds: dict[str, float] = {}
        self._console = console
        self._total = total

    @contextlib.contextmanager
    def stage(self, name: str, doing: str, *, draws: bool = True) -> Iterator[Stage]:
        """A stage called `name`; `doing` stands beside its spinner. Not `draws`: the stage draws on its own."""
        number = f"{len(self.seconds) + 1}/{self._total}"
        start = time.monotonic()
        with contextlib.ExitStack() as stack:
            bar = None
            if draws and self._console.is_terminal:
                columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(24), TimeElapsedColumn()
                bar = stack.enter_context(Progress(*columns, console=self._console, transient=True))
            else:
                self._console.print(Text(f"{number} {name}: {doing} ..."), soft_wrap=True)
            stage = Stage(bar, None if bar is None else bar.add_task(f"{number} {name}: {doing}", total=None))
            yield stage
        self.seconds[name] = time.monotonic() - start
        line = f"{number} {name}: {stage.result} ({self.seconds[name]:.1f} s)"
        self._console.print(Text(line), soft_wrap=True)
