"""What the demo shows: the JSON object, the one table, and the facts of its report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onebit.cli.demo_run import DEVICE, EMULATED_SAMPLES, HOST, Outcome
from onebit.cli.packages import installed_version
from onebit.simulate.report import Fact, Report, Witness, build_report, witnesses
from onebit.simulate.report.build import elements, verdict
from onebit.simulate.report.costs import layer_table
from onebit.simulate.report.figures import count, percent, size
from onebit.simulate.report.witnesses import target_name

if TYPE_CHECKING:
    from rich.table import Table

    from onebit.simulate import SimulationResult

_TRAINING_PACKAGES = ("torch", "lightning")
_PACKAGES = (*_TRAINING_PACKAGES, "larq-compute-engine", "unicorn", "ziglang")


def chain_of(outcome: Outcome) -> list[Witness]:
    """The witnesses, the trained model first."""
    return witnesses(outcome.results, outcome.source, outcome.source_link)


# ---------------------------------------------------------------------------------------------------------------- json


def payload(outcome: Outcome) -> dict[str, Any]:
    """The object of ``--json`` and of results.json."""
    options, data, trained = outcome.options, outcome.data, outcome.trained
    return {
        "demo": options.name,
        "ok": outcome.ok,
        "out": options.out,
        "model": options.model,
        "report": options.out / "report.html",
        "pretrained": options.pretrained,
        "data": {
            "name": data.name,
            "split": data.split,
            "samples": len(data),
            "sha256": data.sha256,
            "note": outcome.data_note,
        },
        "train": None
        if trained is None
        else {
            "recipe": trained.loaded.recipe.name,
            "run_dir": trained.result.run_dir,
            "checkpoint": trained.result.checkpoint,
            "accuracy": trained.result.accuracy,
            "epochs": trained.result.epochs,
            "seed": trained.loaded.seed,
            "seconds": trained.result.seconds,
        },
        "convert": outcome.converted,
        "generate": {
            target: {
                "files": generated.files,
                "arena_bytes": generated.arena_bytes,
                "arena_lower_bound_bytes": generated.arena_lower_bound_bytes,
                "weight_bytes": generated.weight_bytes,
                "kernels": generated.kernels,
            }
            for target, generated in outcome.generated.items()
        },
        "accuracy": [
            {
                "name": witness.name,
                "detail": witness.detail,
                "samples": witness.images,
                "correct": witness.correct,
                "accuracy": witness.accuracy,
                "link": witness.link,
            }
            for witness in chain_of(outcome)
        ],
        "simulate": {result.target: {**result.as_dict(), "steps": result.steps} for result in outcome.results},
        "seconds": outcome.seconds,
    }


# --------------------------------------------------------------------------------------------------------------- table


def table(outcome: Outcome) -> Table:
    """Accuracy, exactness, memory and cost in one table that fits 100 columns."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    options = outcome.options
    what = "pretrained model" if outcome.trained is None else "trained on this computer"
    whole = Table(box=box.ROUNDED, show_header=False, title=f"onebit demo {options.name}, {what}", title_style="bold")
    whole.add_column(max_width=96)
    whole.add_row(_accuracy_table(outcome))
    whole.add_row(Text(f"data: {outcome.data_note}", "dim"), end_section=True)
    whole.add_row(_figures_table(outcome), end_section=True)
    whole.add_row(_layers_table(outcome.results[-1]), end_section=True)
    judged = verdict(outcome.results)
    whole.add_row(Text(judged.summary, "bold green" if judged.ok else "bold red"))
    for line in judged.differences:
        whole.add_row(Text(line, "red"))
    return whole


def _plain_table(*headings: str, left: tuple[int, ...] = (0,)) -> Table:
    from rich.table import Table

    made = Table(box=None, pad_edge=False, show_edge=False, header_style="dim")
    for i, heading in enumerate(headings):
        made.add_column(heading, justify="left" if i in left else "right", no_wrap=i != len(headings) - 1)
    return made


def _accuracy_table(outcome: Outcome) -> Table:
    made = _plain_table("computed by", "images", "accuracy", "", left=(0, 3))
    for witness in chain_of(outcome):
        mark = "" if not witness.link else ("[green]✓[/] " if witness.link_holds else "[red]✗[/] ")
        link = witness.link or witness.detail
        made.add_row(witness.name, count(witness.images), percent(witness.accuracy), mark + link)
    return made


def _figures_table(outcome: Outcome) -> Table:
    results = outcome.results
    made = _plain_table("", *(target_name(result) for result in results), "", left=(0, len(results) + 1))
    compared, equal = zip(*(elements(result) for result in results), strict=True)
    host = next(result for result in results if result.target == HOST)
    gone = [layer for layer in host.layers or () if layer.eliminated_by is not None]
    listed = "; ".join(f"{layer.tensor} by {layer.eliminated_by}" for layer in gone)
    bounds = sorted({result.arena_lower_bound_bytes for result in results})
    rows = [
        ("elements compared", [count(n) for n in compared], "outputs and all intermediate tensors"),
        ("elements equal", [count(n) for n in equal], f"eliminated: {listed}" if gone else "none eliminated"),
        ("flash: weights", [size(result.weight_bytes) for result in results], ""),
        ("flash: code", [size(result.code_bytes) for result in results], ""),
        (
            "RAM: arena",
            [size(result.arena_bytes) for result in results],
            f"lower bound {' / '.join(map(size, bounds))}",
        ),
        ("RAM: stack", [size(result.stack_bytes) for result in results], "measured"),
        ("instructions", [count(result.instructions) for result in results], "per inference; no measure of time"),
    ]
    for name, values, note in rows:
        made.add_row(name, *values, f"[dim]{note}[/]")
    return made


def _layers_table(result: SimulationResult) -> Table:
    layers = layer_table(result)
    name = target_name(result)
    headings = ("", f"kernel on {name}", "binary MACs", "other MACs", "instructions", "share", "MAC/instr.")
    made = _plain_table(*headings, left=(1,))
    for row in (*layers.rows, layers.total):
        cells = (row.index, row.kernel, row.binary_macs, row.other_macs, row.instructions, row.share)
        style = "bold" if row is layers.total else ""
        made.add_row(*cells, row.macs_per_instruction, style=style)
    return made


# -------------------------------------------------------------------------------------------------------------- report


def report(outcome: Outcome) -> Report:
    """The page of the demo; nothing in it depends on where this computer keeps its files."""
    options = outcome.options
    how = "shipped with onebit" if outcome.trained is None else f"trained for {outcome.trained.result.epochs} epochs"
    facts = [Fact("images on the emulated core", f"chosen by seed {options.pick_seed} from all classes")]
    if outcome.trained is not None:
        trained = outcome.trained
        facts.append(Fact("training", f"recipe {trained.loaded.recipe.name}, seed {trained.loaded.seed}"))
    used = [name for name in _PACKAGES if outcome.trained is not None or name not in _TRAINING_PACKAGES]
    versions = [(name, installed_version(name)) for name in used]
    facts.append(Fact("packages", ", ".join(f"{name} {version}" for name, version in versions if version is not None)))
    return build_report(
        outcome.graph,
        outcome.runs,
        title=f"{options.name}: binary network on a {target_name(outcome.results[-1])}",
        subtitle=f"{options.model.name}, {options.model.stat().st_size:,} bytes, {how}",
        source=outcome.source,
        source_link=outcome.source_link,
        data_note=outcome.data_note,
        facts=facts,
        commands=_commands(outcome),
    )


def _commands(outcome: Outcome) -> list[str]:
    options, data, trained = outcome.options, outcome.data, outcome.trained
    folder, model = options.out.name, f"{options.out.name}/{options.model.name}"
    data_dir = " --data-dir DATA" if data.name != "mnist5k" else ""
    seed = "" if options.seed is None else f" --seed {options.seed}"
    epochs = "" if options.epochs is None else f" --epochs {options.epochs}"
    samples = "" if options.emulated_samples == EMULATED_SAMPLES else f" --emulated-samples {options.emulated_samples}"
    pretrained = " --pretrained" if options.pretrained else ""
    commands = [
        "# all of it",
        f"onebit demo {options.name}{pretrained}{data_dir}{epochs}{seed}{samples} --out {folder}",
        "# or step by step",
    ]
    if trained is not None:
        recipe = trained.loaded.recipe.name
        commands += [
            f"onebit train {recipe}{data_dir}{epochs}{seed} --out {folder}/run",
            f"onebit convert {folder}/run/model.pt --int8{data_dir} --out {model}",
        ]
    commands += [f"onebit generate {model} --target {target} --out {folder}/{target}" for target in (HOST, DEVICE)]
    source = f"--data {data.name}:{data.split}{data_dir}"
    commands.append(f"onebit simulate {model} --target {HOST} {source} --layers")
    first = f"--limit {options.emulated_samples}"
    commands.append(
        f"onebit simulate {model} --target {DEVICE} {source} {first} --layers  # the first, not chosen ones"
    )
    return commands
