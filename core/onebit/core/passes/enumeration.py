"""Rewrites behind a binary convolution, proven by enumeration.

The doubled popcount of a binary convolution takes at most 2K + 1 values, so whatever float arithmetic follows it per
channel is a finite function. `enumerate_chain` tabulates that function with the very operators it replaces, and
`solve_threshold` turns its sign into an integer comparison, or says why none is equal to it on every value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from onebit.core.bits import unpack
from onebit.core.graph import Array, DType, Graph, Node
from onebit.core.ops import Add, LceBconv2d, LceQuantize, MaxPool2d, Mul, View


@dataclass(frozen=True)
class SignChain:
    """A float or int8 LceBconv2d, the operators behind it (each the only reader of the one before), and the sign."""

    bconv: Node
    middle: tuple[Node, ...]
    sign: Node

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes of the chain, in order."""
        return (self.bconv, *self.middle, self.sign)

    @property
    def pool(self) -> Node | None:
        """The max pool of the chain, if there is one."""
        return next((node for node in self.middle if isinstance(node.op, MaxPool2d)), None)


@dataclass(frozen=True, eq=False)
class Thresholds:
    """bit = (x > threshold) on doubled popcounts x, after the filters of the channels in `flip` are negated."""

    doubled: Array
    flip: Array


@dataclass(frozen=True)
class Refusal:
    """Why a chain has no equal integer form."""

    reason: str


def find_sign_chain(graph: Graph, sign: Node) -> SignChain | None:
    """The chain that ends in this LceQuantize: LceBconv2d, then MUL, ADD by constants and at most one MAX_POOL_2D."""
    if not isinstance(sign.op, LceQuantize):
        return None
    middle: list[Node] = []
    node = graph.producer(sign.inputs[0])
    while node is not None and graph.sole_consumer(node.output) is not None:
        if isinstance(node.op, LceBconv2d):
            return SignChain(node, tuple(reversed(middle)), sign)
        if not _is_enumerable(graph, node) or sum(isinstance(n.op, MaxPool2d) for n in (node, *middle)) > 1:
            return None
        middle.append(node)
        node = graph.producer(node.inputs[0])
    return None


def _is_enumerable(graph: Graph, node: Node) -> bool:
    if isinstance(node.op, MaxPool2d):
        return True
    if not isinstance(node.op, (Add, Mul)):
        return False
    x, other, y = (graph.tensor(name) for name in (*node.inputs, node.output))
    assert x is not None and other is not None and y is not None
    # int8 ADD rounds by position, see `onebit.core.ops.elementwise`
    per_channel = y.dtype is DType.FLOAT32 and y.shape == x.shape and other.elements in (1, x.shape[-1])
    return per_channel and other.is_constant


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
def enumerate_chain(graph: Graph, chain: SignChain) -> tuple[Array, Array, Array]:
    """(x, v, negative): accumulators [X], the values that enter the pool (or the sign) [X, O], and the signs [X, O].

    Every operator is evaluated by its own float32 semantics, the pool as the identity with its fused activation.
    """
    view = View.of(graph, chain.bconv)
    assert isinstance(chain.bconv.op, LceBconv2d)
    x = accumulator_values(view)
    transform = chain.bconv.op.output_transform(view)
    value = transform(np.broadcast_to(x[:, None], (len(x), view.input(1).shape[0])))
    pooled = value
    for node in chain.middle:
        if isinstance(node.op, MaxPool2d):
            pooled = value
            value = _after_pool(graph, node, value)
        else:
            value = _elementwise(graph, node, value)
    if chain.pool is None:
        pooled = value
    words = chain.sign.op.evaluate(View.of(graph, chain.sign), (value,))
    return x, pooled, unpack(words, value.shape[1])


def _after_pool(graph: Graph, node: Node, value: Array) -> Array:
    """The pool on windows of one pixel: its fused activation."""
    assert isinstance(node.op, MaxPool2d)
    y = graph.tensors[node.output]
    if y.dtype is DType.FLOAT32:
        return node.op.activation.apply(value)
    return np.clip(value, *node.op.activation.quantized_bounds(y.quant)).astype(np.int8)


def _elementwise(graph: Graph, node: Node, value: Array) -> Array:
    x, other, y = (graph.tensors[name or ""] for name in (*node.inputs, node.output))
    constant = np.broadcast_to(other.constant().reshape(-1), value.shape[1:])
    operands = replace(x, shape=value.shape), replace(other, shape=constant.shape, data=constant)
    return node.op.evaluate(View(node, operands, (replace(y, shape=value.shape),)), (value, constant))


def solve_threshold(graph: Graph, chain: SignChain) -> Thresholds | Refusal:
    """The integer thresholds that equal the chain's sign on every accumulator value of every channel, or a refusal.

    Behind a max pool the sign must not fall as the pooled value rises, so that the sign of the largest value is the
    AND of the sign bits; otherwise, and where the sign is no step function of the accumulator, the chain is refused.
    """
    x, pooled, negative = enumerate_chain(graph, chain)
    if chain.pool is not None:
        reason = _falling_channel(pooled, negative)
        if reason is not None:
            return Refusal(f"channel {reason}: its sign falls as the pooled value rises (negative scale behind a pool)")
    flip = negative[0] & ~negative[-1]
    # in terms of the negated filter the accumulator is 2K - x, so a falling step becomes a rising one
    rising = np.where(flip, negative[::-1], negative)
    count = rising.sum(axis=0)
    steps = np.arange(len(x))[:, None] >= len(x) - count
    broken = np.flatnonzero((steps != rising).any(axis=0))
    if len(broken):
        return Refusal(f"channel {broken[0]}: the sign is not a single step over the {len(x)} accumulator values")
    step = int(x[1] - x[0])
    # negative for the last `count` values: x > the value before them
    doubled = x[-1] - step * count
    return Thresholds(doubled.astype(np.int64), flip)


def _falling_channel(pooled: Array, negative: Array) -> int | None:
    wide = pooled.astype(np.float64)
    highest_negative = np.where(negative, wide, -np.inf).max(axis=0)
    lowest_positive = np.where(negative, np.inf, wide).min(axis=0)
    falling = np.flatnonzero(highest_negative >= lowest_positive)
    return int(falling[0]) if len(falling) else None


def refusals(graph: Graph) -> Sequence[tuple[SignChain, Refusal]]:
    """The chains of the graph that no integer form equals, with the reasons (for reports)."""
    found = []
    for node in graph.nodes:
        chain = find_sign_chain(graph, node)
        if chain is not None:
            result = solve_threshold(graph, chain)
            if isinstance(result, Refusal):
                found.append((chain, result))
    return found
