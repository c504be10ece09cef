"""``onebit inspect``: what a model is made of, and what is binary, what is not, and why."""

from __future__ import annotations

from typing import Annotated

import typer

from onebit.cli.console import JsonOption, emit_json, stdout_console
from onebit.cli.options import ModelArgument


def inspect(
    model: ModelArgument,
    target: Annotated[str, typer.Option(help="Processor, see `onebit targets`.")] = "cortex-m4",
    as_json: JsonOption = False,
) -> None:
    """Explain a model: every operator, its dtype, its cost, and why it is or is not binary."""
    from onebit.codegen import find_target
    from onebit.codegen.inspection import inspect_graph
    from onebit.core import read_model

    chosen = find_target(target)
    found = inspect_graph(read_model(model), chosen)
    if as_json:
        emit_json({"model": model, **found.as_dict()})
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for heading in ("", "operator", "output", "MACs", "what becomes of it"):
        table.add_column(heading, justify="right" if heading in ("", "MACs") else "left", overflow="fold")
    for row in found.ops:
        cells = (str(row.index), row.op, ", ".join(row.outputs), f"{row.macs:,}" if row.macs else "", row.why)
        table.add_row(*(Text(cell) for cell in cells), style="green" if row.binary else None)
    console = stdout_console()
    console.print(table)
    total = found.binary_macs + found.other_macs
    share = 100 * found.binary_macs / total if total else 0.0
    console.print(f"\n{total:,} MACs, {share:.1f} % binary")
    console.print(
        f"{chosen.name}: constants {found.weight_bytes:,} bytes, arena {found.arena_bytes:,} bytes "
        f"(lower bound {found.arena_lower_bound_bytes:,})"
    )
    if chosen.ram_bytes is not None and chosen.flash_bytes is not None:
        fits = "fits" if found.fits_ram and found.fits_flash else "does not fit"
        console.print(
            f"{fits} a {chosen.example} ({chosen.ram_bytes // 1024} KiB RAM, {chosen.flash_bytes // 1024} KiB flash), "
            "code and stack not counted"
        )
