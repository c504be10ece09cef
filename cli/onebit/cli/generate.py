"""``onebit generate``: the firmware source of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onebit.cli.console import JsonOption, emit_json, stdout_console
from onebit.cli.options import ArenaOption, ModelArgument, OptimizeOption, RoundingOption


def generate(
    model: ModelArgument,
    target: Annotated[str, typer.Option(help="Processor, see `onebit targets`.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for the sources.", show_default=False)],
    name: Annotated[str | None, typer.Option(help="C prefix; default: from the file name.", show_default=False)] = None,
    project: Annotated[str, typer.Option(help="Build files to add: c (none) or cmake.")] = "c",
    optimize: OptimizeOption = "speed",
    arena: ArenaOption = "static",
    rounding: RoundingOption = "litert",
    as_json: JsonOption = False,
) -> None:
    """Write the C sources of a .tflite model for a target."""
    from onebit.codegen import generate as write_sources
    from onebit.core import Rounding

    result = write_sources(
        model, target, out, name=name, project=project, optimize=optimize, arena=arena, rounding=Rounding(rounding)
    )
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
    for function, calls in result.kernels.items():
        console.print(f"  {function} x{calls}")
