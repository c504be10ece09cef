"""A finished `.tflite` in the oracle against onebit's semantics, operator by operator.

Every operator is evaluated on the values that the oracle holds for its inputs, so that a sign of a value that float
arithmetic leaves on the other side of 0 is no error behind it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onebit.convert.verified import Verified
from onebit.core import DType, Graph
from onebit.core.errors import VerificationError
from onebit.core.graph import Array
from onebit.core.ops import View
from onebit.core.oracle import Oracle

FLOAT_TOLERANCE = 1e-5
"""Allowed difference of a float tensor, relative to its range; at least 4 units in the last place of its largest."""

CHUNK = 64
"""Samples whose tensors are in memory together."""


def verify_file(graph: Graph, model: bytes, x: Array, oracle: Oracle) -> Verified:
    """Compare the file `model`, read as `graph`, on stored inputs `x`: float within `FLOAT_TOLERANCE`, all else equal.

    VerificationError names the first operator that differs.
    """
    names = [t.name for t in graph.activations()]
    worst, equal = 0.0, 0
    for start in range(0, len(x), CHUNK):
        part = x[start : start + CHUNK]
        found = {graph.input.name: part, **dict(zip(names, oracle.run(model, part, names), strict=True))}
        wanted = _compare(graph, found, oracle.engine)
        got = found[graph.output.name]
        worst = max(worst, float(np.abs(got.astype(np.float64) - wanted).max()))
        choices = [v.reshape(len(part), -1).argmax(axis=1) for v in (got, wanted)]
        equal += int((choices[0] == choices[1]).sum())
    return Verified(len(x), worst, equal, 0, oracle.engine)


def _compare(graph: Graph, found: Mapping[str, Array], engine: str) -> Array:
    """What onebit computes for the model's output, every operator before it compared."""
    output = found[graph.output.name]
    for node in graph.nodes:
        args = [None if n is None else graph.tensors[n].data if n not in found else found[n] for n in node.inputs]
        with np.errstate(over="ignore", invalid="ignore"):
            wanted = node.op.evaluate(View.of(graph, node), args)
        got = found[node.output]
        difference = float(np.abs(got.astype(np.float64) - wanted).max())
        if not difference <= _tolerance(graph.tensors[node.output].dtype, wanted):
            raise VerificationError(
                f"{engine} and onebit differ by {difference:g}", where=node.describe(), fix="report it"
            )
        if node.output == graph.output.name:
            output = wanted
    return output


def _tolerance(dtype: DType, wanted: Array) -> float:
    if dtype is not DType.FLOAT32:
        return 0.0
    return max(FLOAT_TOLERANCE * float(np.ptp(wanted)), 4 * float(np.spacing(np.abs(wanted).max())))
