"""What every verb shares: where output goes, the ``--json`` form, and how errors become exit codes.

The contract (docs and scripts rely on it): stdout carries the result only, logs and progress go to stderr. With
``--json`` stdout carries exactly one JSON object, whatever libraries or child processes print: file descriptor 1 points
to stderr while a verb runs, and only `emit_json` writes to the real stdout.

Exit codes: 0 ok, 1 verification failed, 2 bad input or usage, 3 a needed tool is missing, 130 interrupted,
141 the reader of stdout went away (128 + SIGPIPE, what a shell reports for any other tool).
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import logging
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePath
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from onebit.core.errors import OnebitError, ToolMissingError

if TYPE_CHECKING:
    from rich.console import Console

OK = 0
VERIFICATION_FAILED = 1
BAD_INPUT = 2
TOOL_MISSING = 3
INTERRUPTED = 130
OUTPUT_CLOSED = 141

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout instead of text.")]
"""The type of every verb's ``as_json`` parameter."""

# The machine's state, not a bug of ours: no traceback for these.
_MACHINE_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG}

# Python modules whose distribution has another name.
_DISTRIBUTIONS = {"elftools": "pyelftools"}


class _Session:
    """Where the result of the running verb goes, and whether it has been printed already."""

    def __init__(self, *, as_json: bool, stdout: IO[str]) -> None:
        self.as_json = as_json
        self.stdout = stdout
        self.emitted = False


_session: _Session | None = None


@contextlib.contextmanager
def session(*, as_json: bool) -> Iterator[None]:
    """One run of the command line; with `as_json` everything but `emit_json` is sent to stderr until it ends."""
    global _session  # noqa: PLW0603 - one process runs one verb; nested runs restore what they found
    before = _session
    with contextlib.ExitStack() as stack:
        stdout: IO[str] = stack.enter_context(_stdout_kept_for_json()) if as_json else sys.stdout
        _session = _Session(as_json=as_json, stdout=stdout)
        try:
            yield
        finally:
            _session = before


@contextlib.contextmanager
def _stdout_kept_for_json() -> Iterator[IO[str]]:
    """Yields the real stdout; until the block ends, `sys.stdout` and file descriptor 1 lead to stderr."""
    real = sys.stdout
    real.flush()
    try:
        is_process_stdout = real.fileno() == 1
    except (OSError, ValueError):  # captured by a test or by an application that runs us in-process
        is_process_stdout = False
    if not is_process_stdout:
        with contextlib.redirect_stdout(sys.stderr):
            yield real
        return
    saved = os.dup(1)
    try:
        os.dup2(2, 1)
        with contextlib.redirect_stdout(sys.stderr), os.fdopen(saved, "w", encoding="utf-8", closefd=False) as kept:
            yield kept
    finally:
        os.dup2(saved, 1)
        os.close(saved)


def emit_json(payload: Mapping[str, Any]) -> None:
    """Prints the verb's one JSON object on the real stdout. A second call in the same run is a bug and raises.

    NumPy scalars and arrays, paths, dataclasses and tuples become their JSON form; NaN and infinities, which JSON does
    not have, become null.
    """
    if _session is not None:
        if _session.emitted:
            raise RuntimeError("a verb printed a second JSON object")
        _session.emitted = True
    stream = _session.stdout if _session is not None else sys.stdout
    stream.write(json.dumps(plain(payload), indent=2, allow_nan=False) + "\n")
    stream.flush()


def plain(value: Any) -> Any:
    """`value` with everything that `json` cannot print replaced; raises TypeError for what has no JSON form."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in (sorted(value) if isinstance(value, set | frozenset) else value)]
    if isinstance(value, PurePath):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if hasattr(value, "tolist"):  # NumPy, without importing it for the verbs that do without
        return plain(value.tolist())
    raise TypeError(f"no JSON form for {type(value).__name__}")


def stdout_console() -> Console:
    """A rich console for the result on stdout. Piped output is 120 columns wide, so that tables keep their columns."""
    from rich.console import Console

    class ResultConsole(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # rich would end the process with exit code 1, which means something else here

    return ResultConsole(width=None if sys.stdout.isatty() else 120, highlight=False)


def stderr_console() -> Console:
    """A rich console for progress, on stderr."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def setup_logging(verbosity: int) -> None:
    """Sends the log of the onebit packages to stderr: warnings, from 1 also what is done, from 2 every detail."""
    logger = logging.getLogger("onebit")
    for handler in [handler for handler in logger.handlers if handler.get_name() == "onebit.cli"]:
        logger.removeHandler(handler)
    handler = logging.StreamHandler(sys.stderr)
    handler.set_name("onebit.cli")
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s" if verbosity else "%(message)s"))
    logger.addHandler(handler)
    logger.setLevel({0: logging.WARNING, 1: logging.INFO}.get(verbosity, logging.DEBUG))


def guarded(action: Callable[[], int | None]) -> int:
    """Runs `action` and returns the exit code: its own (None is 0), or the one of the error that it raised.

    Errors print one line ``error: ...`` on stderr, or with ``--json`` the object ``{"error": ...}`` on stdout
    unless the verb had printed its object before. What is none of the errors below is a bug and propagates with its
    traceback.
    """
    try:
        code = action() or OK
        sys.stdout.flush()
        return code
    except typer.Exit as request:
        return request.exit_code
    except OnebitError as error:
        return _fail(error)
    except typer.TyperException as error:
        return _fail(_usage_error(error))
    except (KeyboardInterrupt, typer.Abort):
        _say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # The interpreter flushes stdout once more when it ends; with nowhere to go that would print a traceback.
        with contextlib.suppress(OSError, ValueError):
            devnull = os.open(os.devnull, os.O_WRONLY)
            os.dup2(devnull, sys.stdout.fileno())
            os.close(devnull)
        return OUTPUT_CLOSED
    except ModuleNotFoundError as error:
        missing = _missing_package(error)
        if missing is None:
            raise
        return _fail(missing)
    except MemoryError:
        return _fail(OnebitError("out of memory", fix="use a smaller model, fewer samples or a larger machine"))
    except OSError as error:
        if error.errno not in _MACHINE_ERRORS:
            raise
        where = str(error.filename or "")
        return _fail(OnebitError((error.strerror or str(error)).lower(), where=where))


def _fail(error: OnebitError) -> int:
    if _session is not None and _session.as_json:
        if not _session.emitted:
            emit_json({"error": error.as_dict()})
    else:
        _say(f"error: {error}")
    return error.exit_code


def _say(text: str) -> None:
    with contextlib.suppress(BrokenPipeError):
        print(" ".join(text.split()), file=sys.stderr, flush=True)


class _UsageError(OnebitError):
    kind = "usage"


def _usage_error(error: typer.TyperException) -> OnebitError:
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "onebit"
    message = error.format_message().strip().rstrip(".")
    return _UsageError(message[:1].lower() + message[1:], where=command, fix=f"see '{command} --help'")


def _missing_package(error: ModuleNotFoundError) -> OnebitError | None:
    """The user's view of a failed import: which extra brings the package. None if the module is in no extra."""
    from onebit.cli.packages import extras_of

    module = (error.name or "").partition(".")[0]
    distribution = _DISTRIBUTIONS.get(module, module.replace("_", "-"))
    extras = extras_of(distribution)
    if not extras:
        return None
    return ToolMissingError(
        f"the Python package {distribution} is not installed", fix=f"pip install 'onebit[{extras[0]}]'"
    )
