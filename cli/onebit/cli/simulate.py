"""``onebit simulate``: accuracy and exactness of the generated C against the Python reference."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from onebit.cli.console import (
    OK,
    VERIFICATION_FAILED,
    JsonOption,
    emit_json,
    stderr_console,
    stdout_console,
)
from onebit.cli.options import (
    ArenaOption,
    DataDirOption,
    DownloadOption,
    MeanOption,
    ModelArgument,
    OptimizeOption,
    RangeOption,
    RoundingOption,
    StdOption,
)


def simulate(
    model: ModelArgument,
    data: Annotated[str, typer.Option(help="Data set NAME[:split], random:N, or an .npz file.", show_default=False)],
    data_dir: DataDirOption = None,
    limit: Annotated[int | None, typer.Option(help="Use the first N samples only.", show_default=False)] = None,
    target: Annotated[str, typer.Option(help="host, or an emulated core (`onebit targets`).")] = "host",
    layers: Annotated[bool, typer.Option("--layers", help="Compare every tensor, not only the output.")] = False,
    dump: Annotated[
        Path | None, typer.Option(help="Write x, reference, generated as .npz.", show_default=False)
    ] = None,
    sources: Annotated[
        Path | None, typer.Option(help="Use this generated folder instead of fresh sources.", show_default=False)
    ] = None,
    compiler: Annotated[Literal["auto", "gcc", "zig", "clang"], typer.Option(help="C compiler.")] = "auto",
    emulator: Annotated[Literal["auto", "unicorn", "qemu"], typer.Option(help="Emulator for cores.")] = "auto",
    optimize: OptimizeOption = "speed",
    arena: ArenaOption = "static",
    rounding: RoundingOption = "litert",
    reference: Annotated[
        Literal["auto", "lce", "tflm", "numpy"],
        typer.Option(help="Reference engine; auto is the interpreter that rounds so, where it is installed."),
    ] = "auto",
    mean: MeanOption = None,
    std: StdOption = None,
    input_range: RangeOption = None,
    download: DownloadOption = False,
    as_json: JsonOption = False,
) -> int:
    """Generate, compile and run a model, and compare every output with the reference, element by element.

    Exit code 1 if an element differs; the first layer that differs is named.
    """
    from rich.progress import Progress

    from onebit.cli.preprocessing import parse_preprocessing
    from onebit.core import Rounding
    from onebit.simulate import simulate as run

    console = stderr_console()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"{target}", total=None)
        result = run(
            model,
            data,
            target=target,
            data_dir=data_dir,
            limit=limit,
            layers=layers,
            dump=dump,
            sources=sources,
            compiler=compiler,
            emulator=emulator,
            optimize=optimize,
            arena=arena,
            reference=reference,
            rounding=Rounding(rounding),
            download=download,
            preprocessing=parse_preprocessing(mean, std, input_range),
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if as_json:
        emit_json(result.as_dict())
    else:
        _print(result)
    return OK if result.ok else VERIFICATION_FAILED


def _print(result: object) -> None:
    from rich.table import Table
    from rich.text import Text

    from onebit.simulate import SimulationResult

    assert isinstance(result, SimulationResult)
    console = stdout_console()
    equal = f"{result.outputs_equal:,} of {result.outputs_compared:,} outputs equal"
    arena = f"{result.arena_bytes:,} bytes arena (lower bound {result.arena_lower_bound_bytes:,})"
    rows = [
        ("samples", f"{result.samples} of {result.dataset}"),
        ("target", f"{result.target}, {result.compiler}" + (f", {result.emulator}" if result.emulator else "")),
        ("reference", f"{result.engine}, rounding {result.rounding}{_percent(result.reference_accuracy)}"),
        ("generated C", f"{equal}{_percent(result.generated_accuracy)}"),
        ("flash", f"{result.weight_bytes:,} bytes constants, {_bytes(result.code_bytes)} code"),
        ("RAM", f"{arena}, {_bytes(result.stack_bytes)} stack{_at_most(result.stack_bound_bytes)}"),
    ]
    if result.instructions is not None:
        rows.append(("instructions", f"{result.instructions:,} per inference"))
    if result.sign_flips:
        rows.append(("sign flips", f"{result.sign_flips} next to 0 behind float sums"))
    table = Table(box=None, show_header=False, pad_edge=False)
    for key, value in rows:
        table.add_row(Text(key, style="bold"), Text(value))
    console.print(table)
    for layer in result.layers or ():
        what = (
            f"eliminated by {layer.eliminated_by}"
            if layer.eliminated_by
            else f"{layer.outputs_equal:,} of {layer.outputs_compared:,} equal, {layer.kernel}"
        )
        count = "" if layer.instructions is None else f", {layer.instructions:,} instructions"
        console.print(Text(f"  {layer.index:3} {layer.op:18} {what}{count}"))
    mismatch = result.first_mismatch
    if mismatch is not None:
        style = "bold red" if not result.ok else "yellow"
        console.print(
            Text(
                f"first difference: {mismatch.op} '{mismatch.layer}' at {mismatch.index}: "
                f"expected {mismatch.expected}, got {mismatch.got}",
                style=style,
            )
        )


def _percent(accuracy: float | None) -> str:
    return "" if accuracy is None else f", accuracy {100 * accuracy:.2f} %"


def _at_most(count: int | None) -> str:
    return "" if count is None else f" (no input needs more than {count:,})"


def _bytes(count: int | None) -> str:
    return "unknown" if count is None else f"{count:,} bytes"
