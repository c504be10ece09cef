"""The entry point ``onebit``: the list of verbs, and the options that stand before a verb.

A verb is a module of this package with a function of the verb's name, written as a typer command: typed parameters,
a docstring that becomes its help, ``as_json: JsonOption = False``, and an exit code as its result (None is 0). Only the
module of the verb that runs is imported, so that ``onebit generate`` starts without torch and ``onebit --help`` without
anything; within a verb's module, what is heavy is imported inside the function.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer
import typer.main

from onebit.cli import console

PROGRAM = "onebit"


@dataclass(frozen=True)
class Verb:
    """`function` in the module ``onebit.cli.<module>`` is the command `name`; `summary` is its line in ``--help``."""

    name: str
    module: str
    summary: str

    def load(self) -> Callable[..., int | None]:
        """The verb's function; imports its module."""
        function: Callable[..., int | None] = getattr(importlib.import_module(f"onebit.cli.{self.module}"), self.name)
        return function


VERBS = (
    Verb("train", "train", "Train a binarized network."),
    Verb("convert", "convert", "Turn a trained model into a verified .tflite."),
    Verb("inspect", "inspect", "Show what a .tflite holds, and what is binary."),
    Verb("generate", "generate", "Write the C source of a .tflite for a target."),
    Verb("simulate", "simulate", "Compare the generated C with the reference."),
    Verb("demo", "demo", "Run the whole chain, training to emulated core."),
    Verb("targets", "targets_verb", "List the supported targets."),
    Verb("doctor", "doctor", "Tell what is installed, and how to get more."),
)

_VERBOSE_HELP = "Log what is done, on stderr; twice for every detail."
_VERBOSE = inspect.Parameter(
    "verbose",
    inspect.Parameter.KEYWORD_ONLY,
    default=0,
    annotation=Annotated[int, typer.Option("--verbose", "-v", count=True, show_default=False, help=_VERBOSE_HELP)],
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line on `argv` (by default the process's arguments) and returns the exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    # Decided on the raw arguments, because a usage error in them must come out as JSON, too.
    as_json = "--json" in args and "--help" not in args
    with console.session(as_json=as_json):
        return console.guarded(functools.partial(_run, args or ["--help"]))


def _run(args: list[str]) -> int | None:
    console.setup_logging(0)
    wanted = next((arg for arg in args if not arg.startswith("-")), None)
    command = typer.main.get_command(build_app(wanted))
    # Not command.main(): it turns interrupts and closed pipes into exit codes of its own.
    with command.make_context(PROGRAM, args) as context:
        code: int | None = command.invoke(context)
        return code


def build_app(wanted: str | None) -> typer.Typer:
    """The application with all verbs in their order; only the verb `wanted` is imported, the others are names.

    Help is plain text: brackets in it (``DATASET[:split]``) must not be read as markup.
    """
    app = typer.Typer(
        name=PROGRAM,
        add_completion=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 120},
    )
    app.callback()(_before_the_verb)
    for verb in VERBS:
        if verb.name == wanted:
            app.command(verb.name, short_help=verb.summary)(_with_verbose(verb.load()))
        else:
            app.command(verb.name, help=verb.summary)(_not_loaded)
    return app


def _not_loaded() -> None:
    raise AssertionError("only the verb on the command line is run")


def _with_verbose(function: Callable[..., int | None]) -> Callable[..., int | None]:
    """`function` with the option ``--verbose``, so that it may stand after the verb as well as before it."""

    @functools.wraps(function)
    def run(*, verbose: int, **options: Any) -> int | None:
        if verbose:
            console.setup_logging(verbose)
        return function(**options)

    signature = inspect.signature(function, eval_str=True)
    run.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*signature.parameters.values(), _VERBOSE]
    )
    return run


def _print_version(wanted: bool) -> None:
    if wanted:
        from onebit.cli.packages import onebit_version

        print(f"{PROGRAM} {onebit_version()}")
        raise typer.Exit


def _before_the_verb(
    *,
    verbose: Annotated[int, typer.Option("--verbose", "-v", count=True, show_default=False, help=_VERBOSE_HELP)] = 0,
    version: Annotated[  # noqa: ARG001 - its callback does the work
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Binarized neural networks on microcontrollers: train, convert, generate C, and prove that it computes the same.

    Start with `onebit demo digits`. Results go to stdout (`--json`: one JSON object), logs and progress to stderr.
    Exit codes: 0 ok, 1 verification failed, 2 bad input or usage, 3 a tool is missing, 130 interrupted.
    """
    console.setup_logging(verbose)


if __name__ == "__main__":
    sys.exit(main())
