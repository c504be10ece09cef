"""``onebit train``: a recipe to a run folder with checkpoint and metrics."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onebit.cli.console import JsonOption, emit_json, stdout_console
from onebit.cli.options import DataDirOption, DownloadOption
from onebit.core.errors import BadInputError, OnebitError

if TYPE_CHECKING:
    from onebit.train import Recipe

RUNS = Path("runs")
MEASURED_FIGURES = ("epoch_seconds", "gpu_epoch_seconds", "constant_bytes", "flash_bytes", "arena_bytes")


def train(
    recipe: Annotated[str | None, typer.Argument(metavar="RECIPE", help="What to train; --list shows all.")] = None,
    data_dir: DataDirOption = None,
    out: Annotated[Path | None, typer.Option(metavar="RUN", help="Run folder (default: runs/RECIPE).")] = None,
    epochs: Annotated[int | None, typer.Option(metavar="N", help="Instead of the recipe's epochs.")] = None,
    seed: Annotated[int | None, typer.Option(metavar="S", help="Instead of the recipe's seed.")] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METHOD", help="Instead of the recipe's methods; may be repeated. As NAME or NAME:OPTION=V."
        ),
    ] = None,
    devices: Annotated[
        int, typer.Option(metavar="N", help="GPUs (CPU processes without a GPU) that share every batch.")
    ] = 1,
    nodes: Annotated[int, typer.Option(metavar="N", help="Computers that do so.")] = 1,
    threads: Annotated[
        int | None,
        typer.Option(metavar="N", help="CPU threads of a process (default: 2; of a run to resume: its own)."),
    ] = None,
    compiled: Annotated[bool, typer.Option("--compile", help="Run training steps through torch.compile.")] = False,
    start: Annotated[
        Path | None, typer.Option(metavar="MODEL", help="Begin with the weights of this model.pt of the same recipe.")
    ] = None,
    fit: Annotated[
        str | None,
        typer.Option(
            metavar="BUDGET", help="Remove channels until the C fits: ram=16k,flash=64k, or a target for its example."
        ),
    ] = None,
    widen: Annotated[
        float, typer.Option(metavar="FACTOR", help="With --fit: train so many times as many channels first.")
    ] = 1.0,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in RUN after its last epoch.")] = False,
    download: DownloadOption = False,
    list_recipes: Annotated[
        bool, typer.Option("--list", help="Show the recipes, their size and cost, and the methods.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Train a binarized network. RUN gets model.pt, metrics.csv and last.ckpt, from which --resume continues.

    The same recipe, seed and number of threads give the same model to the bit. The accuracy is that of the last epoch
    on images that were never trained on.
    """
    if list_recipes:
        _list(data_dir, as_json=as_json)
        return
    wait_asleep()
    from onebit.train import get_recipe, recipe_names
    from onebit.train import train as run_training
    from onebit.train.methods import get_method

    if recipe is None:
        raise BadInputError("no recipe given", where="onebit train", fix=f"known: {', '.join(recipe_names())}")
    chosen = get_recipe(recipe)
    if method:
        chosen = replace(chosen, methods=tuple(get_method(text) for text in method))
    run_dir = out if out is not None else RUNS / chosen.name
    if fit is not None:
        _fit(
            chosen, fit, out=run_dir, start=start, widen=widen, epochs=epochs, resume=resume, devices=devices * nodes,
            settings={
                "seed": seed, "data_dir": data_dir, "compiled": compiled, "download": download, "threads": threads,
            },
            as_json=as_json,
        )  # fmt: skip
        return
    if widen != 1.0:
        raise BadInputError("--widen without --fit", fix="give the budget to squeeze the wider network to")
    result = run_training(
        chosen,
        out=run_dir,
        data_dir=data_dir,
        epochs=epochs,
        seed=seed,
        devices=devices,
        nodes=nodes,
        compiled=compiled,
        resume=resume,
        download=download,
        threads=threads,
        start=start,
    )
    if as_json:
        emit_json(
            {
                "recipe": chosen.name,
                "run_dir": result.run_dir,
                "checkpoint": result.checkpoint,
                "accuracy": result.accuracy,
                "epochs": result.epochs,
                "seconds": result.seconds,
            }
        )
        return
    from rich.text import Text

    stdout_console().print(
        Text(
            f"{result.checkpoint}: {100 * result.accuracy:.2f} % on {chosen.dataset}:test after "
            f"{result.epochs} epochs, {result.seconds:.0f} s"
        ),
        soft_wrap=True,
    )


def _fit(recipe: Recipe, budget: str, *, devices: int, **options: Any) -> None:
    from onebit.cli.fit import parse_fit, train_to_fit

    if devices != 1:
        raise BadInputError("--fit on several devices", fix="leave out --devices and --nodes")
    train_to_fit(recipe, parse_fit(budget), **options)


def wait_asleep() -> None:
    """Lets OpenMP's threads sleep while they wait for each other; counts if called before torch is loaded.

    Threads that spin, as they do by default, make training several times slower as soon as another process has work.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


# ---------------------------------------------------------------------------------------------------------------- list


def _list(data_dir: Path | None, *, as_json: bool) -> None:
    from onebit.train import list_recipes
    from onebit.train.methods import METHODS, measured_costs

    recipes = list_recipes()
    images = {name: _train_images(name, data_dir) for name in dict.fromkeys(recipe.dataset for recipe in recipes)}
    rows = [_row(recipe, images[recipe.dataset]) for recipe in recipes]
    costs = measured_costs()
    if as_json:
        methods = [{"name": name, "summary": kind.summary, **costs[name]} for name, kind in METHODS.items()]
        emit_json({"recipes": rows, "methods": methods})
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_edge=False)
    numbers = ("epochs", "s/epoch", "GPU", "weights", "binary", "flash", "RAM", "accuracy")
    table.add_column("recipe", no_wrap=True, min_width=max(len(row["name"]) for row in rows))
    for heading in ("data set", *numbers):
        table.add_column(heading, justify="right" if heading in numbers else "left", overflow="fold")
    for row in rows:
        here = "-" if row["train_images"] is None else f"{row['train_images']:,}"
        accuracy = row["expected_accuracy"]
        cells = (
            row["name"],
            f"{row['dataset']} ({here})",
            str(row["epochs"]),
            _or_dash(row["epoch_seconds"], "{:.0f}"),
            _or_dash(row["gpu_epoch_seconds"], "{:.0f}"),
            f"{row['weights']:,}",
            f"{100 * row['binary_macs'] / row['macs']:.0f} %",
            _or_dash(row["flash_bytes"], "{:,}"),
            _or_dash(row["arena_bytes"], "{:,}"),
            "-"
            if accuracy is None
            else f"{100 * accuracy:.1f} %" + ("" if row["expected_source"] == "measured" else "*"),
        )
        table.add_row(*(Text(cell) for cell in cells))
    stdout_console().print(table)
    stdout_console().print(
        "(-): data that is not here; s/epoch: on two cores, and on a GPU; -: not measured (no GPU was at hand); "
        "binary: share of the MACs; flash and RAM: code with constants, and arena, in bytes on a Cortex-M4; "
        "*: of a publication, not measured here; --json says in what the recipe differs",
        style="dim",
    )
    descriptions = [(row["name"], row["description"]) for row in rows]
    methods_rows = [
        (
            name,
            f"{costs[name]['step']:.2f}",
            *(_or_dash(costs[name][f"{net}_bytes"], "{:+,}") for net in ("chain", "residual")),
            kind.summary,
        )
        for name, kind in METHODS.items()
    ]
    _words(("recipe", ""), descriptions)
    _words(("method", "step", "chain", "residual", ""), methods_rows)
    stdout_console().print(
        "step: time of a training step relative to ste's; chain, residual: bytes that the file of such a net grows by",
        style="dim",
    )


def _words(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_edge=False)
    for heading in head:
        table.add_column(heading, justify="right" if heading in ("step", "chain", "residual") else "left")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    stdout_console().print("")
    stdout_console().print(table)


def _or_dash(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def _row(recipe: Recipe, train_images: int | None) -> dict[str, Any]:
    """Size and cost of a recipe, whose data set has `train_images` (None: is not here): an epoch goes once through
    those that the recipe takes; `macs` are those of one image.
    """
    from onebit.train.cost import model_cost
    from onebit.train.recipes import measured_figures

    cost = model_cost(recipe)
    measured = measured_figures().get(recipe.name, {})
    return {
        "name": recipe.name,
        "description": recipe.description,
        "dataset": recipe.dataset,
        "train_images": None if train_images is None else min(train_images, recipe.train_images or train_images),
        "epochs": recipe.epochs,
        "batch_size": recipe.batch_size,
        "seed": recipe.seed,
        **asdict(cost),
        "expected_accuracy": recipe.expected_accuracy,
        "expected_source": recipe.expected_source,
        **{name: measured.get(name) for name in MEASURED_FIGURES},
        "methods": [repr(method) for method in recipe.methods],
    }


def _train_images(dataset: str, data_dir: Path | None) -> int | None:
    """How many images the training split has; None where the data set is not on this computer."""
    from onebit.core.datasets import load_dataset

    try:
        return len(load_dataset(f"{dataset}:train", data_dir=data_dir))
    except OnebitError:
        return None
