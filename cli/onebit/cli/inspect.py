"""``onebit inspect``: what a model is made of, and what is binary, what is not, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from onebit.cli.console import JsonOption, emit_json, stdout_console
from onebit.cli.options import ModelArgument

if TYPE_CHECKING:
    from rich.table import Table

    from onebit.codegen.findings import Finding
    from onebit.codegen.inspection import Inspection
    from onebit.codegen.targets import Target

STYLES = {"bits": "green", "float32": "yellow"}
"""What is binary, and what computes in float, stands out."""

LONGEST_NAME = 40


def inspect(
    model: ModelArgument,
    target: Annotated[str, typer.Option(help="Processor, see `onebit targets`.")] = "cortex-m4",
    as_json: JsonOption = False,
) -> None:
    """Explain a model: every operator, its dtype, its cost, why it is or is not binary, and what to change.

    Instructions are estimates of the code generator for the target; `onebit simulate --target` counts them.
    """
    from onebit.codegen import find_target
    from onebit.codegen.inspection import inspect_graph
    from onebit.core import read_model

    chosen = find_target(target)
    found = inspect_graph(read_model(model), chosen)
    if as_json:
        emit_json({"model": model, **found.as_dict()})
        return
    _show(found, chosen)


def _show(found: Inspection, target: Target) -> None:
    from rich.text import Text

    console = stdout_console()
    console.print(_operators(found))
    total = found.binary_macs + found.other_macs
    share = 100 * found.binary_macs / total if total else 0.0
    console.print(Text(f"\n{total:,} MACs, {share:.1f} % binary"))
    console.print(
        Text(
            f"{target.name}: constants {found.weight_bytes:,} bytes, arena {found.arena_bytes:,} bytes "
            f"(lower bound {found.arena_lower_bound_bytes:,}), about "
            f"{sum(row.instructions for row in found.ops):,} instructions"
        )
    )
    if target.ram_bytes is not None and target.flash_bytes is not None:
        fits = "fits" if found.fits_ram and found.fits_flash else "does not fit"
        console.print(
            Text(
                f"{fits} a {target.example} ({target.ram_bytes // 1024} KiB RAM, {target.flash_bytes // 1024} KiB "
                "flash), code and stack not counted"
            )
        )
    _show_findings(found.findings)


def _show_findings(findings: Sequence[Finding]) -> None:
    """What costs, with those of one operator that say the same as one entry."""
    from rich.padding import Padding
    from rich.text import Text

    if not findings:
        return
    alike: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in findings:
        alike.setdefault((finding.op, finding.what, finding.fix), []).append(finding)
    console = stdout_console()
    console.print(Text("\nWhat costs, and what to change in training", style="bold"))
    for (op, what, fix), found in alike.items():
        where = ", ".join(str(finding.index) for finding in found)
        name = f" '{_short(found[0].tensor)}'" if len(found) == 1 else ""
        console.print(Text(f"{where} {op}{name}: {what}"))
        cost = _cost(found)
        for line in (f"costs {cost}" if cost else "", f"change: {fix}"):
            if line:
                console.print(Padding(Text(line), (0, 0, 0, 4)))


def _operators(found: Inspection) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    numbers = ("", "MACs", "instr.", "bytes")
    for heading in ("", "operator", "output", "MACs", "instr.", "bytes", "what becomes of it"):
        table.add_column(heading, justify="right" if heading in numbers else "left", overflow="fold")
    for row in found.ops:
        counts = (f"{n:,}" if n else "" for n in (row.macs, row.instructions, row.weight_bytes))
        cells = (str(row.index), row.op, ", ".join(row.outputs), *counts, row.why)
        table.add_row(*(Text(cell) for cell in cells), style=STYLES.get("bits" if row.binary else row.form))
    return table


def _cost(found: Sequence[Finding]) -> str:
    """Instructions and flash add up; maps do not lie in RAM at the same time."""
    counts = (
        (sum(f.instructions for f in found), "instructions"),
        (sum(f.flash_bytes for f in found), "bytes of flash"),
        (max(f.ram_bytes for f in found), "bytes of RAM"),
    )
    return ", ".join(f"{n:,} {unit}" for n, unit in counts if n)


def _short(name: str) -> str:
    """A converter may have joined many names to one."""
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
