"""``onebit targets``: the processors that C can be generated for, from codegen's registry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onebit.cli.console import JsonOption, emit_json, stdout_console

if TYPE_CHECKING:
    from onebit.codegen.targets import Target

KIB = 1024


def targets(as_json: JsonOption = False) -> None:
    """List the supported targets: what each core offers, and whether `onebit simulate` can run its code here.

    RAM and flash are those of the example chip: a yardstick for what fits, not a limit.
    """
    from onebit.codegen.targets import TARGETS

    rows = [_row(target) for target in TARGETS.values()]
    if as_json:
        emit_json({"targets": rows})
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_edge=False)
    table.add_column("target")
    table.add_column("core", overflow="fold")
    table.add_column("example")
    table.add_column("RAM", justify="right")
    table.add_column("flash", justify="right")
    table.add_column("simulated with")
    for row in rows:
        where = ", ".join(row["emulators"]) or ("this computer" if row["simulated"] else "-")
        cells = (
            row["name"],
            row["description"],
            row["example"] or "-",
            _kib(row["ram_bytes"]),
            _kib(row["flash_bytes"]),
            where,
        )
        table.add_row(*(Text(cell) for cell in cells))
    stdout_console().print(table)


def _row(target: Target) -> dict[str, Any]:
    return {
        "name": target.name,
        "description": target.description,
        "isa": target.isa,
        "word_bits": target.word_bits,
        "extensions": sorted(target.extensions),
        "example": target.example,
        "ram_bytes": target.ram_bytes,
        "flash_bytes": target.flash_bytes,
        "simulated": target.simulated,
        "emulators": target.emulators,
    }


def _kib(size_bytes: int | None) -> str:
    return "-" if size_bytes is None else f"{size_bytes // KIB} KiB"
