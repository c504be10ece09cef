"""What computes a `.tflite` model for comparison, and onebit's own NumPy semantics as one of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from onebit.core.evaluate import evaluate
from onebit.core.flatbuffer import read_model
from onebit.core.graph import Array
from onebit.core.rounding import Rounding


class Oracle(Protocol):
    """Computes named tensors of a `.tflite` model (`onebit.simulate.oracle` finds the interpreters)."""

    @property
    def engine(self) -> str:
        """Name of what computes, for reports."""
        ...

    def run(self, model: bytes, x: Array, tensors: Sequence[str]) -> list[Array]:
        """Values ``[N, ...]`` in stored form of the named activations for inputs `x` ``[N, ...]``."""
        ...

    def run_fast(self, model: bytes, x: Array, tensors: Sequence[str]) -> list[Array]:
        """The same values as `run`, from the engine's fastest kernels where those compute the same."""
        return self.run(model, x, tensors)


class NumpyOracle(Oracle):
    """onebit's own semantics, which tests show to be equal to the interpreter that `rounding` names."""

    engine = "onebit-numpy"

    def __init__(self, rounding: Rounding = Rounding.LITERT) -> None:
        self._rounding = rounding

    def run(self, model: bytes, x: Array, tensors: Sequence[str]) -> list[Array]:
        """See `Oracle.run`."""
        values = evaluate(read_model(model, self._rounding), x, tensors)
        return [values[name] for name in tensors]
