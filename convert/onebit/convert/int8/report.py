"""What quantization costs: accuracy before and after, and the layers that lose most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from onebit.convert.int8.calibration import has_lowest_border
from onebit.convert.int8.fake_quant import FakeQuantized
from onebit.convert.int8.quantizer import KeptFloat
from onebit.convert.samples import spread
from onebit.core import DType, Node, evaluate
from onebit.core.bits import unpack
from onebit.core.graph import Array
from onebit.core.ops import LceQuantize

LOSS_SAMPLES = 64
"""How many samples the losses of the layers are measured on, fewer where the tensors are large."""


@dataclass(frozen=True)
class LayerLoss:
    """One tensor of the int8 model against the float model, on the same samples.

    int8: `own_db` is the signal-to-noise ratio with the noise that this operator adds (its weights, its rounding, its
    saturation; None where it adds none), `total_db` the one with all noise that arrived. Bits: `flips` is the share of
    the signs that differ. A tensor that only signs read has no row: its values saturate, and its signs have theirs.
    """

    op: str
    tensor: str
    own_db: float | None = None
    total_db: float | None = None
    flips: float | None = None


@dataclass(frozen=True)
class Int8Report:
    """How the int8 model was made and what it lost.

    Accuracies are over `samples` (None without labels); `same_class` counts those in which float and int8 model choose
    the same class. Every layer was compared on `layer_samples` of them. `layers` in execution order; `kept_float` are
    the operators that compute in float.
    """

    calibration_samples: int
    range: str
    samples: int
    layer_samples: int
    accuracy_float: float | None
    accuracy_int8: float | None
    same_class: int
    layers: tuple[LayerLoss, ...]
    kept_float: tuple[KeptFloat, ...]

    def worst_layers(self, count: int = 5) -> list[LayerLoss]:
        """The int8 layers that add most noise, the worst first."""
        found = [(loss.own_db, loss) for loss in self.layers if loss.own_db is not None]
        return [loss for _, loss in sorted(found, key=lambda pair: pair[0])[:count]]

    def worst_signs(self, count: int = 5) -> list[LayerLoss]:
        """The packed signs of which most differ, the worst first; none that all agree."""
        found = [(loss.flips, loss) for loss in self.layers if loss.flips]
        return [loss for _, loss in sorted(found, key=lambda pair: -pair[0])[:count]]


def measure_losses(fake: FakeQuantized, real: Array, values: Mapping[str, Array]) -> tuple[LayerLoss, ...]:
    """The loss of every operator: `real` inputs of the float graph, and what the file computes for the same samples."""
    source = fake.source
    found = {name: spread(value, LOSS_SAMPLES) for name, value in values.items()}
    wanted = evaluate(source, spread(real, LOSS_SAMPLES), [t.name for t in source.activations()])
    losses = (_loss(fake, node, found, wanted[node.output]) for node in source.nodes)
    return tuple(loss for loss in losses if loss is not None)


def _loss(fake: FakeQuantized, node: Node, found: Mapping[str, Array], wanted: Array) -> LayerLoss | None:
    tensor, name = fake.file.tensors[node.output], node.output
    if tensor.dtype is DType.BITS:
        channels = tensor.shape[-1]
        flips = float((unpack(found[name], channels) != unpack(wanted, channels)).mean())
        return LayerLoss(node.op.name, name, flips=flips)
    readers = fake.source.consumers(name)
    only_signed = bool(readers) and all(isinstance(reader.op, LceQuantize) for reader in readers)
    if tensor.dtype is not DType.INT8 or (only_signed and name not in fake.source.outputs):
        return None
    if has_lowest_border(fake.source, node):
        return None  # of which no value matters
    got = fake.real(name, found[name])
    own = _decibels(wanted, got - fake.exact_step(node, found))
    return LayerLoss(node.op.name, name, own_db=own, total_db=_decibels(wanted, got - wanted))


def _decibels(signal: Array, noise: Array) -> float | None:
    """Signal-to-noise ratio, the signal taken around its mean; None without signal or noise beyond float32's own."""
    power = float(np.square(noise.astype(np.float64)).mean())
    variance = float(signal.astype(np.float64).var())
    return 10 * float(np.log10(variance / power)) if variance and power > 1e-12 * variance else None
