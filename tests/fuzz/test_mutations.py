"""Corrupted flatbuffers: a clean error or a correct model, whatever the bytes are.

`make fuzz` runs 10,000 cases, the other tests 500. A child process with limits on memory and time reads each one and
generates C from what it accepts. If the interpreter accepts that too, both must agree: all that is accepted in onebit's
semantics, a sample of it in generated and sanitized C.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onebit.core import Graph, read_model
from onebit.core.flatbuffer.excerpt import with_outputs
from onebit.core.pretrained import pretrained_path
from support.files import all_small_files
from support.fuzz import reading
from support.fuzz.farm import Case, Choices, Farm
from support.fuzz.graphs import samples
from support.fuzz.mutants import mutated
from support.fuzz.oracle import first_difference
from support.lce import LceRefusedError, LceSession

CASES = int(os.environ.get("ONEBIT_FUZZ_MUTATIONS", "500"))
SEED = int(os.environ.get("ONEBIT_FUZZ_SEED", "1"))
FAILURES = Path(os.environ.get("ONEBIT_FUZZ_FAILURES", "runs/fuzz"))
#: of the accepted models, how many are compiled
COMPILED = CASES // 20
BATCH = 50


@dataclass(frozen=True)
class Mutant:
    """A corrupted model and what the reading process said about it."""

    model: bytes
    said: dict[str, Any]

    @property
    def name(self) -> str:
        return f"m{hashlib.sha256(self.model).hexdigest()[:12]}"


def originals() -> list[bytes]:
    """The models that are corrupted: small ones with every operator between them, and the shipped one."""
    return [*all_small_files().values(), pretrained_path("digits").read_bytes()]


def draw_mutants() -> list[bytes]:
    """`CASES` seeded corruptions."""
    rng = np.random.default_rng(SEED)
    files = originals()
    chosen = rng.integers(0, len(files), (CASES, 2))
    return [mutated(rng, files[i], files[j]) for i, j in chosen]


def read_all(models: list[bytes], folder: Path) -> list[Mutant]:
    """Each model with what the child process said; a model at which the process ended has its last words."""
    files = folder / "models.bin"
    reading.write_models(files, models)
    found: list[Mutant] = []
    while len(found) < len(models):
        command = [sys.executable, reading.__file__, str(files), str(len(found)), str(folder / "out")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        said = [json.loads(line) for line in done.stdout.splitlines()]
        if len(found) + len(said) < len(models):
            said.append({"ended": f"exit code {done.returncode}: {done.stderr[-1500:]}"})
        found += [Mutant(model, each) for model, each in zip(models[len(found) :], said, strict=False)]
    return found


def complaint_about(said: dict[str, Any]) -> str:
    """What is wrong with an answer of the reading process."""
    if "ended" in said:
        return f"the process ended: {said['ended']}"
    if said["accepted"]:
        return "" if said["written"] else "accepted, but nothing written"
    text = said["text"]
    clean = said["code"] == 2 and said["where"] and "\n" not in text and text.isprintable() and len(text) < 3000
    return "" if clean else f"no clean error: {said}"


def fail_with(wrong: dict[str, tuple[bytes, str]]) -> None:
    """AssertionError with the first of `wrong` (name: model, complaint), all saved."""
    FAILURES.mkdir(parents=True, exist_ok=True)
    for name, (model, _) in wrong.items():
        (FAILURES / f"{name}.tflite").write_bytes(model)
    lines = [
        f"{complaint}\nreproduce: onebit simulate {FAILURES / name}.tflite --data random:4 --layers "
        f"{Choices.drawn_for(model).command}"
        for name, (model, complaint) in wrong.items()
    ]
    assert not wrong, f"{len(wrong)} of {CASES}: " + "\n".join(lines[:5])


@pytest.fixture(scope="module")
def mutants(tmp_path_factory: pytest.TempPathFactory) -> list[Mutant]:
    return read_all(draw_mutants(), tmp_path_factory.mktemp("reading"))


def test_every_corruption_is_refused_cleanly_or_generated(mutants: list[Mutant]) -> None:
    complaints = {each.name: (each.model, complaint_about(each.said)) for each in mutants}
    fail_with({name: (model, text) for name, (model, text) in complaints.items() if text})
    accepted = sum(each.said["accepted"] for each in mutants)
    assert CASES * 0.1 < accepted < CASES * 0.9


def interpreted(lce: LceSession, model: bytes, graph: Graph, x: np.ndarray[Any, Any]) -> dict[str, Any] | None:
    """Every activation as the interpreter computes it from this very file; None where it refuses the file, or dies."""
    names = [tensor.name for tensor in graph.activations()]
    try:
        values = dict(zip(names, lce.run_model(with_outputs(model, names), x), strict=True))
        (output,) = lce.run_model(model, x)
    except (LceRefusedError, AssertionError):
        return None
    np.testing.assert_array_equal(output, values[graph.outputs[0]])
    return values


def test_what_is_accepted_computes_what_the_interpreter_computes(
    mutants: list[Mutant], lce: LceSession, tmp_path: Path
) -> None:
    wrong: dict[str, tuple[bytes, str]] = {}
    cases: dict[str, Case] = {}
    for each in mutants:
        if each.said.get("accepted") and each.name not in cases:
            graph = read_model(each.model)
            x = samples(graph, 2)
            values = interpreted(lce, each.model, graph, x)
            if values is None:
                continue
            cases[each.name] = Case(
                each.name, each.model, x, values,
                guarded=len(cases) % 2 == 0, choices=Choices.drawn_for(each.model),
            )  # fmt: skip
            complaint = first_difference(graph, x, values)
            if complaint:
                wrong[each.name] = (each.model, f"semantics: {complaint}")
    assert len(cases) > CASES * 0.05
    farm = Farm(tmp_path)
    chosen = list(cases.values())[:: max(1, len(cases) // COMPILED)]
    for start in range(0, len(chosen), BATCH):
        found = farm.check(chosen[start : start + BATCH])
        wrong |= {name: (cases[name].model, text) for name, text in found.items()}
    fail_with(wrong)
