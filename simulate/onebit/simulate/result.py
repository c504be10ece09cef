"""The result of a simulation: the object behind ``onebit simulate --json``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from onebit.core.graph import Array


@dataclass(frozen=True)
class Mismatch:
    """The first unequal element: tensor, operator, index (sample first), both values."""

    layer: str
    op: str
    index: list[int]
    expected: float | int
    got: float | int


@dataclass(frozen=True)
class LayerResult:
    """One tensor of the source graph: compared, or eliminated by a named pass."""

    index: int
    op: str
    tensor: str
    kernel: str | None = None
    outputs_compared: int = 0
    outputs_equal: int = 0
    instructions: int | None = None
    eliminated_by: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The entry of the `layers` list."""
        head = {"index": self.index, "op": self.op, "tensor": self.tensor}
        if self.eliminated_by is not None:
            return {**head, "eliminated_by": self.eliminated_by}
        return {
            **head,
            "kernel": self.kernel,
            "outputs_compared": self.outputs_compared,
            "outputs_equal": self.outputs_equal,
            "instructions": self.instructions,
        }


@dataclass(frozen=True)
class StepCost:
    """One scheduled step: its kernel, the tensors it computes, multiply-accumulates and instructions per inference."""

    index: int
    kernel: str
    op: str
    tensors: tuple[str, ...]
    binary_macs: int
    other_macs: int
    instructions: int | None


@dataclass(frozen=True)
class SimulationResult:
    """What was compared and what was measured. `ok` is the verdict; all else is in `as_dict`."""

    model: str
    model_sha256: str
    dataset: str
    dataset_sha256: str
    samples: int
    target: str
    rounding: str
    compiler: str
    emulator: str | None
    engine: str
    reference_accuracy: float | None
    generated_accuracy: float | None
    outputs_compared: int
    outputs_equal: int
    outputs_bit_identical: int
    sign_flips: int
    max_abs_diff: float
    first_mismatch: Mismatch | None
    arena_bytes: int
    arena_lower_bound_bytes: int
    stack_bytes: int | None
    stack_bound_bytes: int | None
    weight_bytes: int
    code_bytes: int | None
    instructions: int | None
    ok: bool
    steps: tuple[StepCost, ...]
    layers: tuple[LayerResult, ...] | None = None
    stack_bound_unknown: str | None = None
    reference_outputs: Array | None = field(default=None, repr=False, compare=False)
    generated_outputs: Array | None = field(default=None, repr=False, compare=False)

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of the command line contract."""
        mismatch = self.first_mismatch
        result: dict[str, Any] = {
            "model": self.model,
            "model_sha256": self.model_sha256,
            "dataset": self.dataset,
            "dataset_sha256": self.dataset_sha256,
            "samples": self.samples,
            "target": self.target,
            "rounding": self.rounding,
            "compiler": self.compiler,
            "emulator": self.emulator,
            "reference": {"engine": self.engine, "accuracy": self.reference_accuracy},
            "generated": {"accuracy": self.generated_accuracy},
            "outputs_compared": self.outputs_compared,
            "outputs_equal": self.outputs_equal,
            "outputs_bit_identical": self.outputs_bit_identical,
            "sign_flips": self.sign_flips,
            "max_abs_diff": self.max_abs_diff,
            "first_mismatch": None if mismatch is None else vars(mismatch),
            "arena_bytes": self.arena_bytes,
            "arena_lower_bound_bytes": self.arena_lower_bound_bytes,
            "stack_bytes": self.stack_bytes,
            "stack_bound_bytes": self.stack_bound_bytes,
            "stack_bound_unknown": self.stack_bound_unknown,
            "weight_bytes": self.weight_bytes,
            "code_bytes": self.code_bytes,
            "instructions": self.instructions,
            "cycles": None,
            "cycle_model": None,
        }
        if self.layers is not None:
            result["layers"] = [layer.as_dict() for layer in self.layers]
        return result
