"""What follows a binary convolution or an int8 value per channel, as a table over its accumulators or its 256 values.

The doubled popcount of a binary convolution takes at most 2K + 1 values, so whatever arithmetic follows it channel by
channel is a finite function. `find_chain` collects that arithmetic, `enumerate_chain` tabulates it with the very
operators that it consists of. Passes replace it by integer forms that agree with the table everywhere, or refuse.
`tabulate` does the same for any start.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import gcd

import numpy as np

from onebit.core.bits import unpack
from onebit.core.graph import Array, DType, Graph, Node, Tensor
from onebit.core.ops import Dequantize, LceBconv2d, LceQuantize, MaxPool2d, Prelu, Quantize, Unary, View
from onebit.core.ops.operands import Binary

#: LiteRT's vector code may treat what is left behind whole blocks of 8 or 16 elements differently
BLOCK = 16


@dataclass(frozen=True)
class Chain:
    """A float or int8 LceBconv2d and the operators behind it, each the only reader of the one before.

    `behind` holds operators that work channel by channel, max pools, reshapes that keep the channels, and as its last
    node perhaps the LceQuantize that everything is for.
    """

    bconv: Node
    behind: tuple[Node, ...]

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes of the chain, in order."""
        return (self.bconv, *self.behind)

    @property
    def output(self) -> str:
        """The tensor that the chain computes."""
        return self.nodes[-1].output

    @property
    def is_sign(self) -> bool:
        """Whether the chain ends in packed bits."""
        return isinstance(self.nodes[-1].op, LceQuantize)

    @property
    def pools(self) -> tuple[Node, ...]:
        """The max pools of the chain, in order."""
        return tuple(node for node in self.behind if isinstance(node.op, MaxPool2d))

    def until(self, node: Node) -> Chain:
        """The chain up to and with `node`."""
        return Chain(self.bconv, self.behind[: self.nodes.index(node)])


@dataclass(frozen=True)
class Refusal:
    """Why a chain has no equal integer form."""

    reason: str


@dataclass(frozen=True, eq=False)
class Table:
    """A chain's function: `x` are the accumulators int64 [X], ascending; every node maps them to values [X, O].

    `values` has one array per node of the chain, in order; packed bits are bool (True is -1).
    """

    x: Array
    values: tuple[Array, ...]

    def entering(self, chain: Chain, node: Node) -> Array:
        """The values that enter one of the nodes behind the convolution."""
        return self.values[chain.nodes.index(node) - 1]


def find_chain(graph: Graph, bconv: Node) -> Chain | None:
    """The longest chain behind this node; None if it is no float or int8 LceBconv2d."""
    if not isinstance(bconv.op, LceBconv2d) or graph.tensors[bconv.output].dtype is DType.BITS:
        return None
    behind: list[Node] = []
    while True:
        last = behind[-1] if behind else bconv
        reader = graph.sole_consumer(last.output)
        if reader is None or not _is_enumerable(graph, reader, last.output):
            return Chain(bconv, tuple(behind))
        behind.append(reader)
        if isinstance(reader.op, LceQuantize):
            return Chain(bconv, tuple(behind))


def sign_chains(graph: Graph) -> Iterator[Chain]:
    """The chains of the graph that end in packed bits, in execution order."""
    found = (find_chain(graph, node) for node in graph.nodes)
    return (chain for chain in found if chain is not None and chain.is_sign)


def _is_enumerable(graph: Graph, node: Node, name: str) -> bool:
    """Whether the node maps the tensor `name` channel by channel, or takes maxima of its pixels."""
    x, y = graph.tensors[name], graph.tensors[node.output]
    if node.inputs.count(name) != 1:
        return False
    if node.op.alias:
        return x.shape[-1] == y.shape[-1]
    return isinstance(node.op, MaxPool2d | LceQuantize) or maps_channels(graph, node)


def maps_channels(graph: Graph, node: Node) -> bool:
    """Whether every element of the output is a function of its channel and of one element of the one computed input."""
    computed = [t for t in (graph.tensor(name) for name in node.inputs) if t is not None and not t.is_constant]
    if len(computed) != 1:
        return False
    x, y = computed[0], graph.tensors[node.output]
    if isinstance(node.op, Binary | Prelu):
        others = [t for t in (graph.tensor(name) for name in node.inputs) if t is not None and t.is_constant]
        return y.shape == x.shape and all(t.elements in (1, x.shape[-1]) for t in others)
    return isinstance(node.op, Unary | Quantize | Dequantize)


def accumulator_values(view: View) -> Array:
    """All doubled popcounts that this LceBconv2d can produce, int64, ascending.

    They are even, unless zero padding meets an odd channel count. Padding makes some of them unreachable; a rewrite
    that holds on the superset holds.
    """
    assert isinstance(view.node.op, LceBconv2d)
    window, filters = view.node.op.window, view.input(1)
    odd = window.zero_padded and filters.shape[3] % 2 == 1
    return np.arange(0, 2 * window.taps(filters) + 1, 1 if odd else 2, dtype=np.int64)


@np.errstate(over="ignore", invalid="ignore")  # as in `evaluate`: infinities and NaN are values like others
def enumerate_chain(graph: Graph, chain: Chain) -> Table | Refusal:
    """Every operator of the chain on every accumulator, see `tabulate`."""
    view = View.of(graph, chain.bconv)
    assert isinstance(chain.bconv.op, LceBconv2d)
    x = accumulator_values(view)
    transform = chain.bconv.op.output_transform(view)
    first = transform(np.broadcast_to(x[:, None], (len(x), view.input(1).shape[0])))
    values = tabulate(graph, chain.behind, first)
    return values if isinstance(values, Refusal) else Table(x, (first, *values))


@np.errstate(over="ignore", invalid="ignore")
def tabulate(graph: Graph, nodes: Sequence[Node], first: Array) -> tuple[Array, ...] | Refusal:
    """What each of the nodes makes of `first`, values [X, O] that the first of them reads; packed bits as bool.

    By the operators' own `evaluate`; a pool is its fused activation. Refused where an operator treats pixels
    differently: QUANTIZE, DEQUANTIZE and int8 ADD round what is left behind whole blocks of elements in another way.
    """
    values = [first]
    for node in nodes:
        y = _apply(graph, node, values[-1])
        if (y != y[:, :1]).any() and not np.array_equal(y, np.broadcast_to(y[:, :1], y.shape), equal_nan=True):
            return Refusal(f"{node.op.name} rounds some of the last pixels differently from the others")
        values.append(y[:, 0])
    return tuple(values[1:])


def _apply(graph: Graph, node: Node, value: Array) -> Array:
    """The operator on values [X, O], at each of some pixels that stand for all, as [X, pixels, O]."""
    computed = next(n for n in node.inputs if n is not None and not graph.tensors[n].is_constant)
    pixels = _pixels(graph.tensors[computed])
    spread = np.repeat(value[:, None], pixels, axis=1)
    if node.op.alias:
        return spread
    shape = (1, pixels, value.shape[1])
    tensors: list[Tensor] = []
    args: list[Array] = []
    for name in node.inputs:
        assert name is not None
        tensor = graph.tensors[name]
        if tensor.is_constant:
            constant = tensor.constant().reshape(-1)
            tensors.append(replace(tensor, shape=constant.shape, data=constant))
            args.append(constant)
        else:
            tensors.append(replace(tensor, shape=shape))
            args.append(spread)
    outputs = (replace(graph.tensors[node.output], shape=shape),)
    view = View(node, tuple(tensors), outputs, graph.rounding)
    if isinstance(node.op, MaxPool2d):
        return node.op.clamp(view, spread)
    y = node.op.evaluate(view, args)
    return unpack(y, value.shape[1]) if isinstance(node.op, LceQuantize) else y


def _pixels(tensor: Tensor) -> int:
    """Number of pixels whose elements lie in blocks of `BLOCK`, and behind the last, as those of the tensor do."""
    channels = tensor.shape[-1]
    pixels, period = tensor.elements // channels, BLOCK // gcd(BLOCK, channels)
    return pixels if pixels < 2 * period else period + pixels % period
