"""A Keras source against the file made of it, before the file is kept.

All outputs on all samples: within `FLOAT_TOLERANCE` of the range of the source's outputs, with equal argmax. A sample
that differs may do so for one reason only: a value that is zero up to rounding got the other sign. That is put to the
test: the source's graph is run on that sample again, going on from the signs that the file decided; then every value
that both have must agree, every sign that differs must be of a value near zero, and so must the output.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from onebit.convert.keras.source import KerasImport
from onebit.convert.samples import real_values
from onebit.convert.verified import (
    FLOAT_TOLERANCE,
    TIE_TOLERANCE,
    Flips,
    Verified,
    disagreeing,
    judge,
    output_tolerance,
)
from onebit.core import DType, Graph, read_model
from onebit.core.bits import signs
from onebit.core.errors import VerificationError
from onebit.core.graph import Array
from onebit.core.oracle import Oracle

CHUNK = 32
"""Samples whose tensors are all kept in memory together."""


@dataclass(frozen=True)
class _Sample:
    """All tensors of the file for one sample, [1, ...] in stored form."""

    imported: KerasImport
    graph: Graph
    found: Mapping[str, Array]

    def bits(self) -> dict[str, str]:
        """Node of the source's graph -> the tensor of its packed signs; of several the last (behind a max pool)."""
        return {node: name for name, node in self._compared() if self.graph.tensors[name].dtype is DType.BITS}

    def floats(self) -> dict[str, str]:
        """Node of the source's graph -> the float tensor of its value."""
        return {node: name for name, node in self._compared() if self.graph.tensors[name].dtype is DType.FLOAT32}

    def _compared(self) -> list[tuple[str, str]]:
        # passes that take signs of the same values under another shape put "/map" behind the name
        named = ((t.name, self.imported.nodes.get(t.name.removesuffix("/map"))) for t in self.graph.activations())
        return [(name, node) for name, node in named if node is not None]

    def decided(self, tensor: str) -> Array:
        """The signs of a packed tensor as float32 +1/-1 in its logical shape."""
        channels = self.graph.tensors[tensor].shape[-1]
        return np.asarray(signs(self.found[tensor], channels), np.float32)


def verify_keras(imported: KerasImport, model: bytes, samples: Array, oracle: Oracle) -> Verified:
    """Compare the source with the float file `model` on checked samples; VerificationError names the wrong layer."""
    graph = read_model(model)
    x = real_values(samples, graph.metadata)
    wanted = imported.source.process.predict(x).reshape(len(x), -1)
    got = oracle.run(model, x, [graph.output.name])[0].reshape(len(x), -1)
    if got.shape != wanted.shape:
        raise VerificationError(
            f"the file gives {got.shape[1]} values, the source {wanted.shape[1]}",
            where=imported.source.description.name,
        )
    tolerance = output_tolerance(wanted)
    suspects = np.flatnonzero(disagreeing(got, wanted, tolerance))
    decided = flipped = 0
    explained = np.zeros(len(x), np.bool_)
    for start in range(0, len(suspects), CHUNK):
        part = x[suspects[start : start + CHUNK]]
        names = [t.name for t in graph.activations()]
        values = oracle.run(model, part, names)
        for i in range(len(part)):
            found = {name: value[i : i + 1] for name, value in zip(names, values, strict=True)}
            step = _step(_Sample(imported, graph, found), part[i : i + 1], tolerance)
            decided, flipped = decided + step.decided, flipped + step.flipped
            explained[suspects[start + i]] = step.samples.any()
    # the samples that agree have as many signs
    total = decided * len(x) // max(len(suspects), 1)
    flips = Flips(total, flipped, explained)
    return judge(got, wanted, tolerance, oracle.engine, flips, imported.source.description.name)


def _step(sample: _Sample, x: Array, tolerance: float) -> Flips:
    """Compare tensor by tensor, in the file's order, with the source going on from the file's signs."""
    bits, floats = sample.bits(), sample.floats()
    floats[sample.imported.output_node] = sample.graph.output.name
    imposed = {node: sample.decided(name) for node, name in bits.items()}
    signed, values = sample.imported.source.process.step(x, imposed, list(floats))
    flips: list[Flips] = []
    order = {t.name: i for i, t in enumerate(sample.graph.activations())}
    for node, name in sorted((*bits.items(), *floats.items()), key=lambda item: order[item[1]]):
        if node in signed and name == bits.get(node):
            flips.append(_compare_signs(sample, node, imposed[node], signed[node]))
        elif name == floats.get(node) and values[node].size == sample.found[name].size:
            want = values[node].reshape(-1)
            allowed = tolerance if name == sample.graph.output.name else FLOAT_TOLERANCE * float(np.abs(want).max())
            _compare(sample, node, sample.found[name].reshape(-1), want, allowed)
    found = np.array([any(f.samples.any() for f in flips)])
    return Flips(sum(f.decided for f in flips), sum(f.flipped for f in flips), found)


def _compare_signs(sample: _Sample, node: str, got: Array, signed: Array) -> Flips:
    signed = signed.reshape(got.shape)
    wanted = np.where(signed < 0, np.float32(-1), np.float32(1))
    near = np.abs(signed) <= TIE_TOLERANCE * np.abs(signed).max()
    _compare(sample, node, got, np.where(near, got, wanted), 0.0)
    other = got != wanted
    return Flips(wanted.size, int(other.sum()), np.array([other.any()]))


def _compare(sample: _Sample, node: str, got: Array, wanted: Array, tolerance: float) -> None:
    off = np.nan_to_num(np.abs(got.astype(np.float64) - wanted), nan=np.inf)
    if (off <= tolerance).all():
        return
    worst = tuple(int(i) for i in np.unravel_index(int(off.argmax()), off.shape))
    raise VerificationError(
        f"the file does not compute what the source computes: '{node}' differs in {(off > tolerance).mean():.2%} of "
        f"its elements, most at {list(worst)}: {got[worst]:g}, in the source {wanted[worst]:g}",
        where=sample.imported.layer(node),
        fix="nothing was written; please report this model",
    )
