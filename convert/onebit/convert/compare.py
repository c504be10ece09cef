"""Tensor by tensor: what the source computes against what the file computed for the same samples.

A sign of a value that is zero up to rounding may legally be decided either way, and everything behind it then differs.
Both interpreters of the source therefore ask `Comparison.decided` for the signs to go on with: the file's, after
checking that they differ from the source's only where the source's value is near zero.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import fx, nn

from onebit.convert.torch_source import Imported, sources
from onebit.core import DType, Graph
from onebit.core.bits import signs
from onebit.core.errors import VerificationError
from onebit.core.graph import Array


class Comparison:
    """The file's tensors `found` (name -> [N, ...] in stored form); each is compared once, in the source's order.

    `signs` counts those that were compared, `flips` the ones (all near 0) that the file decided otherwise than the
    source, and `flipped` (bool [N]) tells in which samples.
    """

    def __init__(self, imported: Imported, graph: Graph, found: Mapping[str, Array]) -> None:
        self._imported = imported
        self._graph = graph
        self._found = found
        self._compared: set[str] = set()
        self.signs = 0
        self.flips = 0
        self.flipped = np.zeros(len(next(iter(found.values()))), np.bool_)

    def value(self, node: fx.Node, wanted: Array, tolerance: float) -> float | None:
        """How much the file's tensor for the value of `node` differs from `wanted`; VerificationError if by more.

        None where there is nothing to compare.
        """
        at = self._imported.values[node]
        name = at.tensor
        tensor = self._graph.tensors.get(name)
        if node in self._imported.sign_only:
            return None
        if tensor is None or tensor.dtype is DType.BITS or name not in self._found or name in self._compared:
            return None
        self._compared.add(name)
        got = at.as_source(self._found[name], wanted.shape)
        found = float(np.abs(got.astype(np.float64) - wanted).max())
        if not found <= tolerance:
            raise difference(self._imported, node, name, got, wanted, tolerance)
        return found

    def decided(self, layer: fx.Node, source: fx.Node, wanted: Array, near: Array) -> Array:
        """The file's signs (+1/-1) that binary `layer` reads; VerificationError if any differs that is not `near` 0.

        `source` is the node whose value is signed, `near` (bool) tells where it is zero up to rounding.
        """
        at = self._imported.signs[layer]
        name = at.tensor
        if name not in self._found:
            return wanted
        got = at.as_source(signs(self._found[name], self._graph.tensors[name].shape[-1]), wanted.shape)
        if not ((got == wanted) | near).all():
            raise difference(self._imported, source, name, got, np.where(near, got, wanted), 0.0)
        if name not in self._compared:
            self._compared.add(name)
            self.signs += wanted.size
            other = (got != wanted).reshape(len(got), -1)
            self.flips += int(other.sum())
            self.flipped |= other.any(axis=1)
        return got.astype(wanted.dtype)


def difference(
    imported: Imported, node: fx.Node, tensor: str, got: Array, wanted: Array, tolerance: float
) -> VerificationError:
    """The error that names the layer behind `node`, the last one with weights, and what differs most."""
    off = np.nan_to_num(np.abs(got.astype(np.float64) - wanted), nan=np.inf)
    worst = tuple(int(i) for i in np.unravel_index(int(off.argmax()), off.shape))
    return VerificationError(
        f"the file does not compute what the source computes: '{tensor}' differs in {(off > tolerance).mean():.2%} of "
        f"its elements, most at {list(worst)}: {got[worst]:g}, in the source {wanted[worst]:g}",
        where=f"layer '{_layer_behind(imported, node)}'",
        fix="nothing was written; please report this model",
    )


def _layer_behind(imported: Imported, node: fx.Node) -> str:
    """The layer with weights that was computed last, of those that `node` depends on; `node` itself if it is one."""
    order = {n: i for i, n in enumerate(imported.traced.calls())}
    reached = {node} & order.keys()
    while reached:
        at = max(reached, key=order.__getitem__)
        module = imported.traced.layer(at)
        if isinstance(module, nn.Conv2d | nn.Linear) or getattr(module, "onebit_kind", None) is not None:
            return str(at.target)
        reached = (reached - {at}) | (set(sources(at)) & order.keys())
    return str(node.target)
