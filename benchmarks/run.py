"""Instruction counts and sizes of the shipped models on emulated cores, compared with the recorded ones.

    python -m benchmarks.run             measure and print
    python -m benchmarks.run --check     fail if a figure is more than 2 % worse than recorded
    python -m benchmarks.run --update    record

Counts are executed instructions per inference, exact and repeatable for a given model, compiler, version and flags,
which therefore key every record in counts.json. They say nothing about milliseconds. A compiler that has no record is
measured and printed, but not judged.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from onebit.codegen import find_target
from onebit.codegen.options import OPTIMIZE_FLAGS
from onebit.core.errors import ToolMissingError
from onebit.core.files import atomic_write_text
from onebit.core.pretrained import pretrained_names, pretrained_path
from onebit.simulate import simulate
from onebit.simulate.toolchain import find_compiler

RECORDS = Path(__file__).with_name("counts.json")
ALLOWED = 1.02
TARGETS = ("cortex-m0plus", "cortex-m3", "cortex-m4")
#: samples of random input; convolutions run the same instructions for every input, but for a few saturations
SAMPLES = 1
FIGURES = ("instructions", "code_bytes", "weight_bytes", "arena_bytes", "stack_bytes")

Record = dict[str, Any]


def measure() -> Iterator[Record]:
    """One record per model, target, compiler and optimisation level that can be run here."""
    for model in pretrained_names():
        for target in TARGETS:
            for kind in ("gcc", "zig"):
                for optimize in ("speed", "size"):
                    try:
                        yield _measure_one(model, target, kind, optimize)
                    except ToolMissingError as e:
                        print(f"not measured: {target} with {kind}: {e}", file=sys.stderr)


def _measure_one(model: str, target: str, kind: Any, optimize: Any) -> Record:
    compiler = find_compiler(find_target(target), kind)
    result = simulate(
        pretrained_path(model), f"random:{SAMPLES}", target=target, compiler=kind, optimize=optimize, reference="numpy"
    )
    if not result.ok:
        raise SystemExit(f"{model} on {target} does not compute what the reference computes")
    name, flags = compiler.identity
    key = {
        "model": model,
        "model_sha256": result.model_sha256,
        "target": target,
        "compiler": name,
        "flags": f"{OPTIMIZE_FLAGS[optimize]} {flags}",
    }
    layers = [
        {"kernel": s.kernel, "binary_macs": s.binary_macs, "other_macs": s.other_macs, "instructions": s.instructions}
        for s in result.steps
    ]
    return {**key, **{figure: getattr(result, figure) for figure in FIGURES}, "layers": layers}


def key_of(record: Record) -> tuple[str, ...]:
    """What a record is compared by."""
    return tuple(record[k] for k in ("model", "model_sha256", "target", "compiler", "flags"))


def regressions(measured: list[Record], recorded: list[Record]) -> list[str]:
    """One line per figure that is more than 2 % worse than its record."""
    known = {key_of(record): record for record in recorded}
    found = []
    for record in measured:
        before = known.get(key_of(record))
        for figure in FIGURES if before is not None else ():
            assert before is not None
            if record[figure] > before[figure] * ALLOWED:
                where = f"{record['model']} on {record['target']}, {record['compiler']} {record['flags'].split()[0]}"
                found.append(f"{where}: {figure} {before[figure]:,} -> {record[figure]:,}")
    return found


def table(records: list[Record]) -> Table:
    """The records for people."""
    result = Table(title="per inference; emulated instructions are not time", box=None)
    for heading in ("model", "target", "compiler", "", *(figure.replace("_", " ") for figure in FIGURES)):
        result.add_column(heading, justify="left" if heading in ("model", "target", "compiler", "") else "right")
    for r in records:
        figures = (f"{r[figure]:,}" for figure in FIGURES)
        result.add_row(r["model"], r["target"], r["compiler"], r["flags"].split()[0], *figures)
    return result


def main() -> int:
    """Measure, then print, check or record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--update", action="store_true")
    options = parser.parse_args()
    measured = list(measure())
    Console(width=140).print(table(measured))
    recorded = json.loads(RECORDS.read_text("utf-8")) if RECORDS.exists() else []
    if options.update:
        fresh = {key_of(r): r for r in measured}
        models = {r["model"]: r["model_sha256"] for r in measured}
        # records of other compilers stay as long as the model is the same
        kept = [r for r in recorded if key_of(r) not in fresh and models.get(r["model"]) == r["model_sha256"]]
        records = sorted([*kept, *measured], key=key_of)
        atomic_write_text(RECORDS, json.dumps(records, indent=1) + "\n")
        return 0
    worse = regressions(measured, recorded)
    for line in worse:
        print(f"worse: {line}", file=sys.stderr)
    judged = {key_of(r) for r in recorded}
    known = sum(key_of(r) in judged for r in measured)
    print(f"{known} of {len(measured)} measurements have a record", file=sys.stderr)
    if options.check and known == 0:
        print("nothing could be compared: run with --update and commit counts.json", file=sys.stderr)
        return 1
    return 1 if options.check and worse else 0


if __name__ == "__main__":
    sys.exit(main())
