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
    """The source model in float32, every step compared, every sign continued as the file decided it."""

    def __init__(self, imported: Imported, comparison: Comparison) -> None:
        super().__init__(imported.traced.graph_module)
        self._imported = imported
        self._comparison = comparison

    def run_node(self, n: fx.Node) -> Any:
        if n.op != "call_module":
            return super().run_node(n)
        inputs: list[torch.Tensor] = [self.env[source] for source in sources(n)]
        module: nn.Module = self._imported.traced.layer(n)
        if n in self._imported.signs:
            value = inputs[0].numpy()
            near = np.abs(value) <= TIE_TOLERANCE * np.abs(value).max()
            wanted = np.where(value < 0, np.float32(-1), np.float32(1))
            # the layer's own quantizer leaves +1/-1 as they are
            decided = self._comparison.decided(n, sources(n)[0], wanted, near)
            inputs = [torch.from_numpy(np.ascontiguousarray(decided))]
        y: torch.Tensor = module(*inputs)
        self._comparison.value(n, y.numpy(), FLOAT_TOLERANCE * float(y.abs().max()))
        return y
