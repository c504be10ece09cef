"""``onebit generate``: the firmware source of a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Final

import typer

from onebit.cli.console import JsonOption, emit_json, stdout_console
from onebit.cli.options import ArenaOption, ModelArgument, OptimizeOption, RoundingOption

if TYPE_CHECKING:
    from onebit.codegen.options import Optimize

#: bytes, or None and the reason
Bound = tuple[int | None, str | None]
_NOT_ASKED: Final[Bound] = (None, "not asked for: give --stack")


def generate(
    model: ModelArgument,
    target: Annotated[str, typer.Option(help="Processor, see `onebit targets`.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for the sources.", show_default=False)],
    name: Annotated[str | None, typer.Option(help="C prefix; default: from the file name.", show_default=False)] = None,
    project: Annotated[str, typer.Option(help="Build files to add: c (none) or cmake.")] = "c",
    optimize: OptimizeOption = "speed",
    arena: ArenaOption = "static",
    rounding: RoundingOption = "litert",
    stack: Annotated[
        bool, typer.Option("--stack", help="Compile for the stack that no input exceeds (GCC of the target).")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write the C sources of a .tflite model for a target."""
    from onebit.codegen import generate as write_sources
    from onebit.core import Rounding

    measure = _stack_of(target) if stack else None
    result = write_sources(
        model, target, out, name=name, project=project, optimize=optimize, arena=arena, rounding=Rounding(rounding)
    )
    bound = measure(result.out, result.files, result.name, optimize) if measure else _NOT_ASKED
    if as_json:
        emit_json(
            {
                "out": result.out,
                "name": result.name,
                "rounding": rounding,
                "files": list(result.files),
                "arena_bytes": result.arena_bytes,
                "arena_lower_bound_bytes": result.arena_lower_bound_bytes,
                "weight_bytes": result.weight_bytes,
                "stack_bound_bytes": bound[0],
                "stack_bound_unknown": bound[1],
                "kernels": result.kernels,
            }
        )
        return
    console = stdout_console()
    console.print(f"{len(result.files)} files in {result.out}: start with {result.name}.h")
    console.print(
        f"RAM {result.arena_bytes} bytes (arena, lower bound {result.arena_lower_bound_bytes}), "
        f"flash {result.weight_bytes} bytes (constants)"
    )
    if measure:
        console.print(f"stack at most {bound[0]} bytes" if bound[1] is None else f"stack unknown: {bound[1]}")
    for function, calls in result.kernels.items():
        console.print(f"  {function} x{calls}")


def _stack_of(target: str) -> Callable[[Path, Sequence[str], str, Optimize], Bound]:
    """A function that compiles what was generated; ToolMissingError now where there is no compiler for it."""
    from onebit.codegen import find_target
    from onebit.simulate.harness import stack_bound
    from onebit.simulate.toolchain import find_compiler

    compiler = find_compiler(find_target(target))

    def measure(out: Path, files: Sequence[str], name: str, optimize: Optimize) -> Bound:
        with TemporaryDirectory() as work:
            bound = stack_bound(out, files, name, compiler, Path(work), optimize)
        return bound.bytes, bound.unknown

    return measure
