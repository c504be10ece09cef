"""Random legal graphs over the whole registry: the generated C, sanitized, against the interpreter in every tensor.

`make fuzz` runs 2,000 graphs, the other tests 100, the same number for every operator. Graphs are drawn first, compiled
and run in batches, and drawn once more to report: a graph that failed fails again there, and hypothesis shrinks it.
What is left of it is saved.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from onebit.codegen.options import ARENAS, OPTIMIZE_FLAGS
from onebit.core import DType, Graph, evaluate, read_model, write_model
from onebit.core.ops import OPS, Abs, Transpose
from support.fuzz.farm import Case, Choices, Farm
from support.fuzz.graphs import NAMES, graphs, samples
from support.fuzz.moves import MOVES
from support.fuzz.oracle import truth
from support.lce import LceRefusedError, LceSession
from support.nets import Net

GRAPHS = int(os.environ.get("ONEBIT_FUZZ_GRAPHS", "100"))
SEED = int(os.environ.get("ONEBIT_FUZZ_SEED", "1"))
FAILURES = Path(os.environ.get("ONEBIT_FUZZ_FAILURES", "runs/fuzz"))
BATCH = 50

logger = logging.getLogger(__name__)
Judge = Callable[[Graph], str]


def settings_for(count: int, *phases: Phase) -> settings:
    """Draws enough for `count` distinct models: hypothesis repeats itself."""
    checks = list(HealthCheck)
    return settings(
        max_examples=4 * count + 10,
        phases=phases,
        database=None,
        deadline=None,
        suppress_health_check=checks,
        report_multiple_bugs=False,
    )


def share(name: str) -> int:
    """How many of the graphs seek the operator `name`."""
    return GRAPHS // len(NAMES) + (NAMES.index(name) < GRAPHS % len(NAMES))


def draw_graphs(name: str) -> dict[bytes, Graph]:
    """The first distinct models that hypothesis draws with the operator `name`, by their bytes."""
    models: dict[bytes, Graph] = {}
    wanted = share(name)

    @seed(SEED)
    @settings_for(wanted, Phase.generate)
    @given(graphs(name))
    def draw(graph: Graph) -> None:
        if len(models) < wanted:
            models.setdefault(write_model(graph), graph)

    draw()
    return models


def report(name: str, known: dict[bytes, str], judge: Judge, folder: Path) -> None:
    """Draw the same graphs again; AssertionError with the smallest graph that `judge` complains about, saved."""
    failed = False

    @seed(SEED)
    @settings_for(share(name), Phase.generate, Phase.shrink)
    @given(graphs(name))
    def repeat(graph: Graph) -> None:
        nonlocal failed
        model = write_model(graph)
        if model not in known and not failed:
            return  # drawn beyond the number
        if model not in known:
            known[model] = judge(graph)
        failed = failed or known[model] != ""
        assert known[model] == "", f"{known[model]}\nreproduce: {save(graph, folder)}"

    repeat()


def save(graph: Graph, folder: Path) -> str:
    """Write model and inputs of a failure; returns the command that shows it again."""
    folder.mkdir(parents=True, exist_ok=True)
    model = write_model(graph)
    path = folder / f"{hashlib.sha256(model).hexdigest()[:12]}.tflite"
    path.write_bytes(model)
    np.savez(path.with_suffix(".npz"), x=samples(graph))
    choices = Choices.drawn_for(model).command
    return f"onebit simulate {path} --data {path.with_suffix('.npz')} --layers {choices}"


class Verdicts:
    """What is wrong with models, from the farm and the interpreter."""

    def __init__(self, farm: Farm, lce: LceSession) -> None:
        self._farm, self._lce = farm, lce

    def of_all(self, models: dict[bytes, Graph]) -> dict[bytes, str]:
        """The complaint about each model, empty where there is none; batches are compiled and run together."""
        verdicts, cases = {}, []
        for i, (model, graph) in enumerate(models.items()):
            x = samples(graph)
            try:
                expected = truth(self._lce, graph, x)
            except (LceRefusedError, AssertionError) as error:
                verdicts[model] = f"the interpreter does not run it: {error}"
                continue
            name = f"m{hashlib.sha256(model).hexdigest()[:12]}"
            cases.append(Case(name, model, x, expected, guarded=i % 2 == 0, choices=Choices.drawn_for(model)))
        for start in range(0, len(cases), BATCH):
            batch = cases[start : start + BATCH]
            wrong = self._farm.check(batch)
            verdicts |= {case.model: wrong.get(case.name, "") for case in batch}
        return verdicts

    def of(self, graph: Graph) -> str:
        """The complaint about one graph, empty if there is none."""
        return next(iter(self.of_all({write_model(graph): graph}).values()))


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Farm:
    return Farm(tmp_path_factory.mktemp("farm"))


def test_every_operator_can_be_drawn() -> None:
    """A new operator has a move, or nothing tests it here."""
    assert set(MOVES) == {name for name, op in OPS.items() if not op.internal}


def test_generated_code_equals_the_interpreter(farm: Farm, lce: LceSession) -> None:
    verdicts = Verdicts(farm, lce)
    drawn = {name: draw_graphs(name) for name in NAMES}
    assert {name: len(models) for name, models in drawn.items()} == {name: share(name) for name in NAMES}
    if GRAPHS >= 100:
        computed = {node.op.name for models in drawn.values() for graph in models.values() for node in graph.nodes}
        assert computed == set(NAMES)
    known = verdicts.of_all({model: graph for models in drawn.values() for model, graph in models.items()})
    wrong = [complaint for complaint in known.values() if complaint]
    logger.info("%d of %d graphs are wrong: %s", len(wrong), len(known), "\n".join(wrong))
    for name, models in drawn.items():
        report(name, {model: known[model] for model in models}, verdicts.of, FAILURES)


def test_a_wrong_graph_is_shrunk_and_saved(lce: LceSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With ABS one too high for negative values, in onebit's semantics (no C: shrinking takes hundreds of graphs)."""
    right = Abs.quantized
    monkeypatch.setattr(
        Abs, "quantized", lambda self, view, x: right(self, view, x) + (x < view.input(0).quant.zero_point)
    )

    def judge(graph: Graph) -> str:
        int8_abs = [n.output for n in graph.nodes if isinstance(n.op, Abs) and graph.tensors[n.output].quantization]
        if not int8_abs:
            return ""
        x = samples(graph)
        want, got = truth(lce, graph, x), evaluate(graph, x, int8_abs)
        return " ".join(name for name in int8_abs if (want[name].reshape(got[name].shape) != got[name]).any())

    drawn = draw_graphs("ABS")
    known = {model: judge(graph) for model, graph in drawn.items()}
    with pytest.raises(AssertionError, match="reproduce: onebit simulate"):
        report("ABS", known, judge, tmp_path)
    smallest = min((read_model(path) for path in tmp_path.glob("*.tflite")), key=lambda graph: len(graph.nodes))
    assert [node.op for node in smallest.nodes] == [Abs()]


def test_a_wrong_kernel_call_is_found(farm: Farm, lce: LceSession) -> None:
    """The farm itself: a transposition with one stride too small, and one that reads beyond its input."""
    net = Net((1, 3, 5, 7))
    order = net.constant("order", [0, 3, 1, 2], DType.INT32)
    net.node(Transpose(), order, dtype=DType.FLOAT32).node(Transpose(), order, dtype=DType.FLOAT32)
    graph = net.graph()
    x, model = samples(graph), write_model(graph)
    expected = lce.run(graph, x)

    def edit(old: str, new: str) -> Callable[[str], str]:
        def change(text: str) -> str:
            assert old in text
            return text.replace(old, new, 1)

        return change

    cases = [
        Case("right", model, x, expected),
        Case("stride", model, x, expected, edit=edit(".in_step = 28,", ".in_step = 24,")),
        Case("beyond", model, x, expected, edit=edit(".in_start = 0,", ".in_start = 4,")),
        Case("arena", model, x, expected, guarded=True, edit=edit(".out_start = 0,", ".out_start = 4,")),
        Case("callers", model, x, expected, guarded=True, choices=Choices("ram", "caller")),
        Case(
            "callers_arena", model, x, expected,
            guarded=True, edit=edit(".out_start = 0,", ".out_start = 4,"), choices=Choices("size", "caller"),
        ),
    ]  # fmt: skip
    found = farm.check(cases)
    assert found.keys() == {"stride", "beyond", "arena", "callers_arena"}
    assert found["stride"].startswith("Transpose() 'transpose_0' float32 [1, 7, 3, 5]")
    assert "AddressSanitizer: heap-buffer-overflow" in found["beyond"]
    for name in ("arena", "callers_arena"):
        assert "AddressSanitizer: use-after-poison" in found[name]


def test_every_choice_is_drawn() -> None:
    drawn = {Choices.drawn_for(bytes([i])) for i in range(100)}
    assert len(drawn) == len(OPTIMIZE_FLAGS) * len(ARENAS)
