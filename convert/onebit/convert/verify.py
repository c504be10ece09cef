"""Source model against its float file, before the file is kept.

Two comparisons, on the same samples. End to end: outputs within `FLOAT_TOLERANCE` of the logits' range and equal
argmax. Tensor by tensor (`onebit.convert.compare`): every tensor that the file shares with the source, which also finds
what no output showed, and names the first layer that differs. An int8 file is compared with this float one in
`onebit.convert.int8.verify`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from onebit.convert.compare import Comparison, difference
from onebit.convert.operations import Elementwise
from onebit.convert.samples import channels_first, real_values
from onebit.convert.torch_source import Imported, sources
from onebit.convert.verified import (
    FLOAT_TOLERANCE,
    TIE_TOLERANCE,
    Flips,
    Verified,
    disagreeing,
    judge,
    output_tolerance,
)
from onebit.core import Graph, read_model
from onebit.core.errors import BadInputError
from onebit.core.graph import Array
from onebit.core.oracle import Oracle

CHUNK_ELEMENTS = 2**25
"""Elements of all tensors of the file that are compared together (128 MiB of float32), at least one sample."""

ALONE = 3
"""Samples that the source also computes one by one, as the device does; signs of zeros may flip in one or two."""


def verify(imported: Imported, model: bytes, samples: Array, oracle: Oracle) -> Verified:
    """Compare the source with the float file `model` on checked samples; VerificationError names the wrong layer."""
    graph = read_model(model)
    return _verify_float(imported, graph, model, real_values(samples, graph.metadata), oracle)


def _found(graph: Graph, model: bytes, x: Array, oracle: Oracle) -> Iterator[tuple[Array, dict[str, Array]]]:
    """The inputs in chunks, each with all tensors that the file computes for it."""
    names = [t.name for t in graph.activations()]
    chunk = max(1, CHUNK_ELEMENTS // sum(t.elements for t in graph.activations()))
    for start in range(0, len(x), chunk):
        part = x[start : start + chunk]
        yield part, dict(zip(names, oracle.run(model, part, names), strict=True))


# --------------------------------------------------------------------------------------------------------------- float


def _verify_float(imported: Imported, graph: Graph, model: bytes, x: Array, oracle: Oracle) -> Verified:
    outputs, sources, stepped, flipped = [], [], [], []
    signs = flips = 0
    with torch.no_grad():
        for part, found in _found(graph, model, x, oracle):
            given = torch.from_numpy(channels_first(part))
            comparison = Comparison(imported, graph, found)
            stepped.append(_Stepped(imported, comparison).run(given).numpy())
            sources.append(imported.traced.module(given).numpy())
            flipped.append(comparison.flipped)
            outputs.append(found[graph.output.name])
            signs, flips = signs + comparison.signs, flips + comparison.flips
        alone = np.concatenate(
            [imported.traced.module(given[i : i + 1]).numpy() for i in range(min(ALONE, len(given)))]
        )
    got, wanted, forced = (np.concatenate(parts) for parts in (outputs, sources, stepped))
    tolerance = output_tolerance(wanted)
    # from the file's sign decisions on, and with those of the source
    if not np.abs(got - forced).max() <= tolerance:
        raise difference(imported, imported.traced.output, graph.output.name, got, forced, tolerance)
    verified = judge(got, wanted, tolerance, oracle.engine, Flips(signs, flips, np.concatenate(flipped)), "convert")
    if disagreeing(alone, sources[-1][:ALONE], tolerance).all():
        raise BadInputError(
            "the model computes something else for one sample than for several",
            where=type(imported.traced.module).__name__,
            fix="forward() must not depend on the number of samples",
        )
    return verified


class _Stepped(fx.Interpreter):
    """The source model in float32, every step compared, every sign continued as the file decided it.

    Large values that cancel or are clipped leave an error that is not small beside what remains of them. A step may
    therefore be off by its own rounding and by what its inputs were off (`_off`), and how near to zero a sign may flip
    (`_ties`) follows from the largest value that went into sums and clips.
    """

    def __init__(self, imported: Imported, comparison: Comparison) -> None:
        super().__init__(imported.traced.graph_module)
        self._imported = imported
        self._comparison = comparison
        self._off: dict[fx.Node, float] = {}
        self._ties: dict[fx.Node, float] = {}

    def run_node(self, n: fx.Node) -> Any:
        if n.op != "call_module":
            return super().run_node(n)
        read = sources(n)
        inputs: list[torch.Tensor] = [self.env[source] for source in read]
        module: nn.Module = self._imported.traced.layer(n)
        signed = n in self._imported.signs
        if signed:
            value = inputs[0].numpy()
            wanted = np.where(value < 0, np.float32(-1), np.float32(1))
            # the layer's own quantizer leaves +1/-1 as they are
            decided = self._comparison.decided(n, read[0], wanted, np.abs(value) <= self._tie(read[0]))
            inputs = [torch.from_numpy(np.ascontiguousarray(decided))]
        y: torch.Tensor = module(*inputs)
        # the outputs for two inputs lie no further apart than these
        rigid = isinstance(module, nn.ReLU | nn.Hardtanh) or (isinstance(module, Elementwise) and module.name != "mul")
        off = {source: self._off[source] for source in read if self._off.get(source) and not signed}
        relative = max((error / _size(self.env[source]) for source, error in off.items()), default=0.0)
        passed_on = sum(off.get(source, 0.0) for source in read) if rigid else relative * _size(y)
        found = self._comparison.value(n, y.numpy(), FLOAT_TOLERANCE * _size(y) + passed_on)
        self._off[n] = passed_on if found is None else found
        self._ties[n] = max(TIE_TOLERANCE * _size(y), sum(map(self._tie, read)) if rigid else 0.0)
        return y

    def _tie(self, node: fx.Node) -> float:
        return self._ties.get(node, TIE_TOLERANCE * _size(self.env[node]))


def _size(values: torch.Tensor) -> float:
    """The largest magnitude; not 0, so that it can be divided by."""
    return max(float(values.abs().max()), float(np.finfo(np.float32).tiny))
