"""Channels of one tensor brought to one magnitude before they share one int8 scale.

A sign does not see how large a channel is, so training with binary layers leaves channels of very different magnitudes
side by side; under the scale of the largest, the signs of the small ones are lost. Sums, pools and rectifiers pass a
positive factor per channel through, and the layers at both ends take it into their weights. The factors here are powers
of two: every float32 value is exactly the old one times its channel's factor, and the model's outputs are the old ones.

Source: cross-layer equalization, Nagel, van Baalen, Blankevoort, Welling, "Data-Free Quantization Through Weight
Equalization and Bias Correction", 2019 (arXiv 1906.04721). There the two layers' ranges are balanced; here the channels
of all tensors that sums tie together are, a whole residual stream at a time.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from onebit.convert.samples import spread
from onebit.core import DType, Graph, Node, Tensor, evaluate
from onebit.core.graph import Array
from onebit.core.ops import (
    Activation,
    Add,
    AveragePool2d,
    Concatenation,
    Conv2d,
    DepthwiseConv2d,
    ExpandDims,
    FullyConnected,
    LceBconv2d,
    LceQuantize,
    LeakyRelu,
    Maximum,
    MaxPool2d,
    Mean,
    Minimum,
    Mul,
    Pad,
    Prelu,
    Relu,
    Reshape,
    Squeeze,
    Sub,
)
from onebit.core.passes.naming import fresh_name

SAMPLES = 128
"""How many calibration samples the magnitudes are taken from."""

QUANTILE = 0.999
"""Which magnitude of a channel counts: the largest ones of a residual stream are outliers."""

LARGEST_EXPONENT = 10
"""A channel that is smaller still is left below the others: it is all but dead."""

Ids = npt.NDArray[np.int64]

_LAYERS = (Conv2d, DepthwiseConv2d, FullyConnected, LceBconv2d)
_PASSING = (Prelu, Relu, LeakyRelu, MaxPool2d, AveragePool2d, Mean, Pad, Add, Sub, Maximum, Minimum)
_SHAPES = (Reshape, Squeeze, ExpandDims)


def equalize(graph: Graph, calibration: Array) -> Graph:
    """The float graph with every channel's magnitude within a factor of two of that of the largest, where it can be.

    `calibration` are real inputs float32 [N, ...]. The names stay, and each value is the old one times a power of two;
    inputs and outputs of the model, and all that an operator reads which passes no factor on, are as they were.
    """
    factors = _factors(graph, spread(calibration, SAMPLES))
    for node in graph.nodes:
        changed = _scaled_constants(graph, node, factors)
        if changed:
            inputs = tuple(changed[name].name if name in changed else name for name in node.inputs)
            graph = graph.rewrite([node], [Node(node.op, inputs, node.outputs)], changed.values())
    return graph


class _Ties:
    """Which channels must have equal factors; union-find over their numbers. Number 0 is the factor 1."""

    def __init__(self, graph: Graph) -> None:
        self.ids: dict[str, Ids] = {}
        count = 1
        for tensor in (graph.input, *(t for t in graph.activations() if t.dtype is DType.FLOAT32)):
            channels = tensor.shape[-1] if tensor.shape else 1
            self.ids[tensor.name] = np.arange(count, count + channels)
            count += channels
        self.parent = list(range(count))

    def root(self, i: int) -> int:
        """The number that stands for all that are tied to `i`."""
        while self.parent[i] != i:
            self.parent[i] = i = self.parent[self.parent[i]]
        return i

    def roots(self) -> dict[str, Ids]:
        """Of every channel of every tensor."""
        return {name: np.array([self.root(i) for i in ids.tolist()], np.int64) for name, ids in self.ids.items()}

    def tie(self, a: Ids, b: Ids) -> None:
        """a[i] and b[i] are equal for every i."""
        for one, other in zip(a.tolist(), b.tolist(), strict=True):
            low, high = sorted((self.root(one), self.root(other)))
            self.parent[high] = low

    def pin(self, name: str) -> None:
        """The tensor's factors are 1; a tensor that has none stays out."""
        if name in self.ids:
            self.tie(self.ids[name], np.zeros_like(self.ids[name]))


def _factors(graph: Graph, x: Array) -> dict[str, Array]:
    """The factor of every channel of the input and of every float32 activation, float32 [C]."""
    ties = _Ties(graph)
    for name in (graph.input.name, *graph.outputs):
        ties.pin(name)
    for node in graph.nodes:
        if not _relate(graph, node, ties):
            for touched in (*node.inputs, *node.outputs):
                ties.pin(touched or "")
    roots = ties.roots()
    values = {graph.input.name: x, **evaluate(graph, x, [name for name in roots if name != graph.input.name])}
    # number 0 gathers channels of unlike tensors, and gets the factor 1 in any case
    largest, reference = np.zeros(len(ties.parent)), np.zeros(len(ties.parent))
    for name, ids in roots.items():
        found = _magnitudes(values[name].reshape(-1, len(ids)))
        np.maximum.at(largest, ids, found)
        np.maximum.at(reference, ids, found.max())
    # tensors that have a tied channel in common share one reference, that of the largest channel among them
    changed = True
    while changed:
        changed = False
        for ids in roots.values():
            free = ids[ids > 0]
            if len(free) and (reference[free] < reference[free].max()).any():
                reference[free] = reference[free].max()
                changed = True
    live = largest > 0
    live[0] = False
    exponent = np.zeros(len(largest))
    exponent[live] = np.clip(np.floor(np.log2(reference[live] / largest[live])), 0, LARGEST_EXPONENT)
    return {name: np.exp2(exponent[ids]).astype(np.float32) for name, ids in roots.items()}


def _magnitudes(values: Array) -> Array:
    """What all but the largest `1 - QUANTILE` of each column's magnitudes stay below."""
    count = len(values)
    kept = max(0, int(np.ceil(QUANTILE * count)) - 1)
    found: Array = np.partition(np.abs(values), kept, axis=0)[kept]
    return found


def _relate(graph: Graph, node: Node, ties: _Ties) -> bool:
    """Tie what the node ties; False if it passes no factors on."""
    op, y = node.op, graph.tensors[node.output]
    if isinstance(op, LceQuantize):
        return True
    if y.name not in ties.ids or getattr(op, "activation", Activation.NONE) not in _activations(op):
        return False
    computed = [name for name in node.inputs if name in ties.ids]
    if isinstance(op, LceBconv2d):
        return True
    if not computed:  # LceDequantize: -1 and +1 as they are
        return False
    if isinstance(op, Concatenation) and len(computed) < len(node.inputs):
        return False
    if isinstance(op, Concatenation) and op.axis % len(y.shape) == len(y.shape) - 1:
        ties.tie(np.concatenate([ties.ids[name] for name in node.inputs if name is not None]), ties.ids[y.name])
        return True
    x = graph.tensors[computed[0]]
    if isinstance(op, _LAYERS):
        return graph.tensors[node.inputs[1] or ""].is_constant and _reads_channels(graph, node, x)
    if isinstance(op, Mul):
        return len(computed) == 1 and x.shape == y.shape
    if isinstance(op, _SHAPES):
        times, rest = divmod(y.shape[-1] if y.shape else 0, x.shape[-1] if x.shape else 1)
        if rest or not times:
            return False
        ties.tie(np.tile(ties.ids[x.name], times), ties.ids[y.name])
        return True
    if not isinstance(op, (*_PASSING, Concatenation)) or any(
        graph.tensors[n].shape[-1:] != y.shape[-1:] for n in computed
    ):
        return False
    if isinstance(op, Add | Sub | Maximum | Minimum) and any(graph.tensors[n].shape != y.shape for n in computed):
        return False
    if isinstance(op, Maximum | Minimum) and len(computed) < len(node.inputs):
        return False
    if isinstance(op, Mean) and _reduces_channels(graph, node, x):
        return False
    for name in computed:
        ties.tie(ties.ids[name], ties.ids[y.name])
    return True


def _activations(op: object) -> tuple[Activation, ...]:
    """The fused activations behind which a factor may stand; LCE applies a binary convolution's in front of it."""
    return tuple(Activation) if isinstance(op, LceBconv2d) else (Activation.NONE, Activation.RELU)


def _reads_channels(graph: Graph, node: Node, x: Tensor) -> bool:
    """Whether the layer has a weight of its own for every channel of `x`."""
    weights = graph.tensors[node.inputs[1] or ""]
    if isinstance(node.op, DepthwiseConv2d):
        return weights.shape[-1] % x.shape[-1] == 0
    return weights.shape[-1] == x.shape[-1]


def _reduces_channels(graph: Graph, node: Node, x: Tensor) -> bool:
    axes = graph.tensors[node.inputs[1] or ""].constant().reshape(-1)
    return bool((axes % len(x.shape) == len(x.shape) - 1).any())


def _scaled_constants(graph: Graph, node: Node, factors: Mapping[str, Array]) -> dict[str | None, Tensor]:
    """The node's constants with the factors of its output taken in and those of its input taken out, by old name."""
    op = node.op
    after = factors.get(node.output)
    before = next((factors[name] for name in node.inputs if name and name in factors), np.ones(1, np.float32))
    if after is None or not ((after != 1).any() or (before != 1).any()):
        return {}
    by_input: dict[int, Array] = {}
    if isinstance(op, LceBconv2d):
        by_input = {2: after, 3: after}
    elif isinstance(op, Conv2d):
        by_input = {1: after[:, np.newaxis, np.newaxis, np.newaxis] / before, 2: after}
    elif isinstance(op, DepthwiseConv2d):
        by_input = {1: after / np.repeat(before, len(after) // len(before)), 2: after}
    elif isinstance(op, FullyConnected):
        by_input = {1: after[:, np.newaxis] / before, 2: after}
    elif isinstance(op, Mul | Add | Sub):
        by_input = dict.fromkeys((0, 1), after / before if isinstance(op, Mul) else after)
    changed: dict[str | None, Tensor] = {}
    for i, factor in by_input.items():
        old = graph.tensor(node.inputs[i]) if i < len(node.inputs) else None
        if old is not None and old.is_constant:
            data = (old.constant() * factor).astype(np.float32)
            changed[old.name] = Tensor(
                fresh_name(graph, f"{old.name}/equalized"), data.shape, DType.FLOAT32, None, data
            )
    return changed
