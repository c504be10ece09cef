"""`build_report`: results and samples to everything the page shows."""

from __future__ import annotations

import inspect
import platform
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onebit.codegen.generate import tool_version
from onebit.codegen.passes import PIPELINE
from onebit.core.graph import Array, Graph
from onebit.simulate.inputs import Samples
from onebit.simulate.report.context import Fact, Headline, Report, TensorRow, TensorTable, Verdict, WitnessCard
from onebit.simulate.report.costs import layer_table, memory_card
from onebit.simulate.report.figures import count, percent, size
from onebit.simulate.report.predictions import confusion, prediction_groups
from onebit.simulate.report.witnesses import Witness, engine_name, target_name, witnesses
from onebit.simulate.result import LayerResult, SimulationResult

ALIAS_OF_INPUT = "alias_of_input"
_ALIAS_MEANS = "The tensor is the model's input under another shape."


@dataclass(frozen=True, eq=False)
class Run:
    """One simulation and the samples that it ran on."""

    result: SimulationResult
    samples: Samples


def build_report(
    graph: Graph,
    runs: Sequence[Run],
    *,
    title: str,
    subtitle: str = "",
    source: Witness | None = None,
    source_link: str = "",
    data_note: str = "",
    facts: Sequence[Fact] = (),
    commands: Sequence[str] = (),
) -> Report:
    """The page for one or more simulations of the model `graph`.

    The first run gives predictions and confusion matrix, the last one with counted instructions the costs per layer.
    `source` is the trained model, the first link of the chain, tied to the interpreter by `source_link`. `data_note`
    says what a reader of the accuracy must know about the data. `facts` and `commands` end up in the provenance; they
    should hold no path of this machine.
    """
    results = [run.result for run in runs]
    main = runs[0]
    device = next((result for result in reversed(results) if result.instructions is not None), results[0])
    outputs = _outputs(main.result)
    names = class_names(graph)
    return Report(
        title=title,
        subtitle=subtitle,
        verdict=verdict(results),
        headlines=_headlines(results, device),
        chain=tuple(_card(witness) for witness in witnesses(results, source, source_link)),
        data_note=data_note,
        prediction_groups=prediction_groups(main.samples, outputs, names),
        confusion=confusion(main.samples.y, outputs, names),
        layers=layer_table(device),
        memory=tuple(memory_card(result, graph) for result in results),
        tensors=_tensor_table(results),
        facts=(*_facts(results), *facts),
        commands=tuple(commands),
        generator=f"onebit {tool_version()}",
    )


def class_names(graph: Graph) -> tuple[str, ...]:
    """Names of the outputs: the model's class labels where they fit, else numbers."""
    classes = graph.metadata.classes if graph.metadata is not None else ()
    elements = graph.output.elements
    return classes if len(classes) == elements else tuple(str(i) for i in range(elements))


def _outputs(result: SimulationResult) -> Array:
    assert result.generated_outputs is not None, "a result that was just measured holds its outputs"
    return np.asarray(result.generated_outputs)


def elements(result: SimulationResult) -> tuple[int, int]:
    """(compared, equal) elements over all tensors of a result, or over its outputs where only those were compared."""
    layers = [layer for layer in result.layers or () if layer.eliminated_by is None]
    if not layers:
        return result.outputs_compared, result.outputs_equal
    return sum(layer.outputs_compared for layer in layers), sum(layer.outputs_equal for layer in layers)


def verdict(results: Sequence[SimulationResult]) -> Verdict:
    """Whether all results agree with the interpreter, in words."""
    differences = []
    for result in results:
        found = result.first_mismatch
        if not result.ok and found is not None:
            differences.append(
                f"{target_name(result)}: {found.layer} ({found.op}) differs first, at {found.index}: "
                f"expected {found.expected:g}, got {found.got:g}"
            )
    ok = all(result.ok for result in results)
    pairs = [elements(result) for result in results]
    if not ok:
        failed = ", ".join(target_name(result) for result in results if not result.ok)
        summary = f"The generated C does not compute what the model computes: {failed}."
    elif all(compared == equal for compared, equal in pairs):
        where = " and ".join(
            f"{compared:,} on {_place(result)}" for result, (compared, _) in zip(results, pairs, strict=True)
        )
        summary = f"Every compared element equals the {engine_name(results[0].engine)}'s: {where}."
    else:
        flips = sum(result.sign_flips for result in results)
        summary = f"Elements differ only in samples with one of the {flips:,} signs next to 0 that a float sum decides."
    return Verdict(ok, summary, tuple(differences))


def _place(result: SimulationResult) -> str:
    return "the host" if result.target == "host" else f"the {target_name(result)}"


def _headlines(results: Sequence[SimulationResult], device: SimulationResult) -> tuple[Headline, ...]:
    main = results[0]
    compared = sum(elements(result)[0] for result in results)
    equal = sum(elements(result)[1] for result in results)
    code, stack = device.code_bytes or 0, device.stack_bytes or 0
    binary = sum(step.binary_macs for step in device.steps)
    macs = binary + sum(step.other_macs for step in device.steps)
    accuracy = main.generated_accuracy
    return (
        Headline(percent(accuracy), "accuracy", f"generated C on {main.samples:,} samples"),
        Headline(_exact_percent(equal, compared), "elements equal", f"of {compared:,} compared"),
        Headline(size(device.weight_bytes + code), "flash", f"{size(device.weight_bytes)} of it weights"),
        Headline(size(device.arena_bytes + stack), "RAM", f"arena {size(device.arena_bytes)}, stack {size(stack)}"),
        Headline(count(device.instructions), "instructions", f"per inference on {target_name(device)}")
        if device.instructions is not None
        else Headline(count(macs), "multiply-accumulates", "per inference"),
        Headline(percent(binary / macs if macs else None), "binary", f"of {macs:,} multiply-accumulates"),
    )


def _exact_percent(part: int, whole: int) -> str:
    """Never rounded up to 100 %."""
    return percent(1.0, 0) if part == whole else f"{int(1e6 * part / whole) / 1e4:.4f} %"


def _card(witness: Witness) -> WitnessCard:
    counted = f"{witness.images:,} samples"
    if witness.correct is not None:
        counted = f"{witness.correct:,} of {witness.images:,} right"
    return WitnessCard(
        witness.name, witness.detail, percent(witness.accuracy), counted, witness.link, witness.link_holds
    )


# ------------------------------------------------------------------------------------------------------------- tensors


def _tensor_table(results: Sequence[SimulationResult]) -> TensorTable | None:
    listed = [result.layers for result in results if result.layers]
    if not listed:
        return None
    rows = [_tensor_row([layers[i] for layers in listed]) for i in range(len(listed[0]))]
    passes = {row.eliminated_by for row in rows if row.eliminated_by is not None}
    return TensorTable(
        columns=tuple(target_name(result) for result in results if result.layers),
        rows=tuple(rows),
        eliminations=tuple((name, _pass_means(name)) for name in sorted(passes)),
    )


def _tensor_row(entries: Sequence[LayerResult]) -> TensorRow:
    first = entries[0]
    return TensorRow(
        index=str(first.index),
        op=first.op,
        tensor=first.tensor,
        compared=tuple(_compared(entry) for entry in entries),
        all_equal=all(entry.outputs_compared == entry.outputs_equal for entry in entries),
        eliminated_by=first.eliminated_by,
    )


def _compared(entry: LayerResult) -> str:
    if entry.outputs_compared == entry.outputs_equal:
        return count(entry.outputs_compared)
    return f"{entry.outputs_equal:,} of {entry.outputs_compared:,}"


def _pass_means(name: str) -> str:
    """The first paragraph of the pass's own docstring."""
    if name == ALIAS_OF_INPUT:
        return _ALIAS_MEANS
    document = next((inspect.getdoc(step) for step in PIPELINE if step.__name__ == name), None) or ""
    return " ".join(document.partition("\n\n")[0].split()).replace("`", "")


# ---------------------------------------------------------------------------------------------------------- provenance


def _facts(results: Sequence[SimulationResult]) -> list[Fact]:
    main = results[0]
    facts = [Fact("model sha256", main.model_sha256, code=True), Fact("reference", main.engine)]
    for result in results:
        what = f"{result.dataset}, {result.samples:,} samples, sha256 {result.dataset_sha256}"
        facts.append(Fact(f"data, {target_name(result)}", what, code=True))
    for result in results:
        facts.append(Fact(f"compiler, {target_name(result)}", result.compiler))
        if result.emulator is not None:
            facts.append(Fact(f"emulator, {target_name(result)}", result.emulator))
    facts.append(Fact("onebit", f"{tool_version()}, Python {platform.python_version()}, NumPy {np.__version__}"))
    return facts
