"""``onebit demo``: the whole chain on real images, from training to an emulated Cortex-M4."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onebit.cli.console import VERIFICATION_FAILED, JsonOption, emit_json, plain, stderr_console, stdout_console
from onebit.cli.demo_run import (
    EMULATED_SAMPLES,
    CompilerChoice,
    EmulatorChoice,
    Options,
    Outcome,
    ReferenceChoice,
    run_chain,
)
from onebit.cli.options import DataDirOption, DownloadOption
from onebit.cli.progress import Stages
from onebit.core.files import atomic_write_text

if TYPE_CHECKING:
    from onebit.simulate.report import Report


def demo(
    name: Annotated[str, typer.Argument(metavar="DEMO", help="Which one: digits, fashion or cifar10.")] = "digits",
    pretrained: Annotated[bool, typer.Option("--pretrained", help="Use the shipped model, train nothing.")] = False,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Output folder (default: demo-DEMO).")] = None,
    data_dir: DataDirOption = None,
    epochs: Annotated[int | None, typer.Option(metavar="N", help="Instead of the recipe's epochs.")] = None,
    seed: Annotated[int | None, typer.Option(metavar="S", help="Of the training and of the chosen images.")] = None,
    emulated_samples: Annotated[
        int, typer.Option(metavar="N", min=50, help="Images on the emulated core, from all classes.")
    ] = EMULATED_SAMPLES,
    compiler: Annotated[CompilerChoice, typer.Option(help="The C compiler, for host and Cortex-M4.")] = "auto",
    emulator: Annotated[EmulatorChoice, typer.Option(help="What runs the Cortex-M4 code.")] = "auto",
    reference: Annotated[ReferenceChoice, typer.Option(help="LCE's interpreter or onebit's own semantics.")] = "lce",
    resume: Annotated[bool, typer.Option("--resume", help="Reuse or continue the training run in DIR/run.")] = False,
    download: DownloadOption = False,
    as_json: JsonOption = False,
) -> int | None:
    """Run the whole chain: train, convert to int8, generate C, run it on the host and on an emulated Cortex-M4.

    Every stage is checked against the one before it on images that were held out. Writes DIR/report.html and
    DIR/results.json; exit code 1 if any compared element differs.
    """
    options = Options(
        name=name,
        out=out if out is not None else Path(f"demo-{name}"),
        pretrained=pretrained,
        data_dir=data_dir,
        epochs=epochs,
        seed=seed,
        emulated_samples=emulated_samples,
        compiler=compiler,
        emulator=emulator,
        reference=reference,
        resume=resume,
        download=download,
    )
    outcome = run_chain(options, Stages(stderr_console(), total=4 if pretrained else 5))
    _show(outcome, as_json=as_json)
    return None if outcome.ok else VERIFICATION_FAILED


def _show(outcome: Outcome, *, as_json: bool) -> None:
    from onebit.cli.demo_show import payload, report, table
    from onebit.simulate.report import write_report

    out = outcome.options.out
    results, page = payload(outcome), report(outcome)
    write_report(out / "report.html", page)
    atomic_write_text(out / "results.json", json.dumps(plain(results), indent=2) + "\n")
    if as_json:
        emit_json(results)
    else:
        console = stdout_console()
        console.print(table(outcome))
        console.print(f"report: {out / 'report.html'}   figures: {out / 'results.json'}", soft_wrap=True, markup=False)
    if not outcome.ok:
        _complain(page)


def _complain(page: Report) -> None:
    for line in page.verdict.differences:
        stderr_console().print(f"error: {line}", soft_wrap=True, markup=False)
