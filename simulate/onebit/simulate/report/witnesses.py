"""The chain of computations of one model, each tied to the one before it: what the report and the demo's table show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from onebit.simulate.result import SimulationResult

_ENGINES = {"larq-compute-engine": "LCE interpreter", "onebit-numpy": "NumPy semantics"}


@dataclass(frozen=True)
class Witness:
    """One computation of the model on `images` images, of which it classified `correct` as labelled (None: no labels).

    `link` says in words what ties it to the witness before it, `link_holds` whether that tie holds.
    """

    name: str
    detail: str
    images: int
    correct: int | None
    link: str = ""
    link_holds: bool = True

    @property
    def accuracy(self) -> float | None:
        """Share of correct images, 0 to 1."""
        return None if self.correct is None else self.correct / self.images


def witnesses(
    results: Sequence[SimulationResult], source: Witness | None = None, source_link: str = ""
) -> list[Witness]:
    """`source` (the trained model) if given, the interpreter, and the generated C of every result, in this order.

    The interpreter stands for the first result's samples; `source_link` ties it to `source`. Every generated program is
    tied to the interpreter's outputs on its own samples.
    """
    first = results[0]
    reference = Witness(
        engine_name(first.engine), "reference kernels on the .tflite" if first.engine in _ENGINES else first.engine,
        first.samples, _correct(first.reference_accuracy, first.samples), source_link if source is not None else "",
    )  # fmt: skip
    generated = [
        Witness(
            target_name(result), _how(result), result.samples, _correct(result.generated_accuracy, result.samples),
            _link(result, first), result.ok,
        )
        for result in results
    ]  # fmt: skip
    return [*([source] if source is not None else []), reference, *generated]


def _link(result: SimulationResult, first: SimulationResult) -> str:
    link = f"{result.outputs_equal:,} of {result.outputs_compared:,} outputs equal"
    if result.samples != first.samples and result.reference_accuracy is not None:
        link += f" (interpreter on these {result.samples:,}: {100 * result.reference_accuracy:.1f} %)"
    return link


def engine_name(engine: str) -> str:
    """How people call the reference."""
    return _ENGINES.get(engine, engine)


def target_name(result: SimulationResult) -> str:
    """How people call generated C on a target: ``host C``, ``Cortex-M4``."""
    if result.target == "host":
        return "host C"
    return result.target.replace("cortex-m", "Cortex-M") if result.target.startswith("cortex-m") else result.target


def _how(result: SimulationResult) -> str:
    return f"{result.compiler}, on {result.emulator}" if result.emulator else result.compiler


def _correct(accuracy: float | None, images: int) -> int | None:
    return None if accuracy is None else round(accuracy * images)
