"""What an inference costs on a target: instructions per kernel call, flash and RAM."""

from __future__ import annotations

from onebit.core.graph import Graph
from onebit.simulate.report.context import LayerRow, LayerTable, MemoryBar, MemoryCard, MemoryPart
from onebit.simulate.report.figures import count, length, size
from onebit.simulate.report.witnesses import target_name
from onebit.simulate.result import SimulationResult, StepCost

BETWEEN = "between the calls"
NO_TIME = " Instructions are no measure of time: how long one takes depends on the chip and its memory."


def layer_table(result: SimulationResult) -> LayerTable:
    """Kernel calls with their share of the instructions; on the host, where nothing counts them, of the MACs."""
    steps, total = result.steps, result.instructions
    binary, other = sum(step.binary_macs for step in steps), sum(step.other_macs for step in steps)
    weights = [float(step.instructions or 0) if total else float(step.binary_macs + step.other_macs) for step in steps]
    whole = float(total or sum(weights))
    longest = max(weights, default=0.0)
    rows = [_layer_row(step, weight, whole, longest) for step, weight in zip(steps, weights, strict=True)]
    rest = 0 if total is None else total - sum(step.instructions or 0 for step in steps)
    if total and rest > 0:
        share = _share(rest, whole)
        rows.append(LayerRow("", BETWEEN, "", "none", "–", "–", count(rest), share, length(rest, longest), "–"))
    unit = "instructions" if total else "multiply-accumulates"
    return LayerTable(
        note=f"One inference, {result.compiler} for {result.target}. Shares are of all {unit}, bars relative to the "
        f"largest.{NO_TIME if total else ''}",
        counted=total is not None,
        rows=tuple(rows),
        total=LayerRow(
            "", "sum", "", "none", count(binary), count(other), count(total), "100 %", "0", rate(binary + other, total)
        ),
    )


def _layer_row(step: StepCost, weight: float, whole: float, longest: float) -> LayerRow:
    macs = step.binary_macs + step.other_macs
    kind = "none" if macs == 0 else ("binary" if step.binary_macs else "other")
    return LayerRow(
        index=str(step.index),
        kernel=step.kernel,
        tensor=step.tensors[0],
        kind=kind,
        binary_macs=_macs(step.binary_macs),
        other_macs=_macs(step.other_macs),
        instructions=count(step.instructions),
        share=_share(weight, whole),
        bar=length(weight, longest),
        macs_per_instruction=rate(macs, step.instructions),
    )


def _macs(value: int) -> str:
    return count(value) if value else "–"


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "–"


def rate(macs: int, instructions: int | None) -> str:
    """Multiply-accumulates per instruction."""
    return f"{macs / instructions:.2f}" if macs and instructions else "–"


def memory_card(result: SimulationResult, graph: Graph) -> MemoryCard:
    """Flash and RAM of the generated code on one target."""
    code, stack = result.code_bytes or 0, result.stack_bytes or 0
    flash, ram = result.weight_bytes + code, result.arena_bytes + stack
    bound = result.arena_lower_bound_bytes
    if result.arena_bytes == bound:
        arena = "The arena is as small as any order of buffers allows: it equals the largest sum of live bytes."
    else:
        arena = f"Lower bound of the arena, the largest sum of live bytes: {size(bound)}."
    return MemoryCard(
        target=target_name(result),
        compiler=result.compiler,
        bars=(
            MemoryBar(
                "Flash",
                size(flash),
                (
                    MemoryPart("weights", size(result.weight_bytes), length(result.weight_bytes, flash), "a"),
                    MemoryPart("code", size(result.code_bytes), length(code, flash), "b"),
                ),
                "Constants and code of the model and its kernels.",
            ),
            MemoryBar(
                "RAM",
                size(ram),
                (
                    MemoryPart("arena", size(result.arena_bytes), length(result.arena_bytes, ram), "a"),
                    MemoryPart("stack", size(result.stack_bytes), length(stack, ram), "b"),
                ),
                f"{arena} Input and output ({size(graph.input.nbytes)} and {size(graph.output.nbytes)}) "
                "are the caller's.",
            ),
        ),
    )
