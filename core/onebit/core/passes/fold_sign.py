"""Batch norm, pooling and sign behind a binary convolution become integer thresholds on packed bits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from onebit.core.bits import pack, unpack
from onebit.core.graph import Array, DType, Graph, Node, Tensor
from onebit.core.ops import Activation, BinaryWindow, LceBconv2d, LceBMaxPool2d, MaxPool2d, Op
from onebit.core.passes.enumeration import SignChain, Thresholds, find_sign_chain, solve_threshold
from onebit.core.passes.naming import fresh_name
from onebit.core.passes.pipeline import rewrite_all

#: operator with bits out, its thresholds made from doubled ones, and the absent inputs in front of them
BitsForm = tuple[Op, Array, tuple[None, ...]]


def fold_sign_into_bconv(graph: Graph) -> Graph:
    """``LceBconv2d (float32 or int8) - MUL/ADD/MAX_POOL_2D - LceQuantize`` to ``LceBconv2d (bits) [- LceBMaxPool2d]``.

    Applied where enumeration proves it equal on every accumulator value; SAME-zero padding has no bits form in LCE
    and is left to codegen.
    """
    return fold_chains(graph, lambda window: not window.zero_padded, _lce_form)


def _lce_form(op: LceBconv2d, doubled: Array) -> BitsForm:
    # p > floor(t / 2) is 2p > t
    return replace(op, activation=Activation.NONE), doubled // 2, (None, None)


def fold_chains(
    graph: Graph, handles: Callable[[BinaryWindow], bool], bits_form: Callable[[LceBconv2d, Array], BitsForm]
) -> Graph:
    """Rewrite every sign chain whose window `handles` accepts and whose thresholds are proven to its `bits_form`."""

    def fold_one(graph: Graph) -> Graph | None:
        for node in graph.nodes:
            chain = find_sign_chain(graph, node)
            if chain is None:
                continue
            assert isinstance(chain.bconv.op, LceBconv2d)
            solved = solve_threshold(graph, chain) if handles(chain.bconv.op.window) else None
            if isinstance(solved, Thresholds):
                return _rewrite(graph, chain, solved, bits_form(chain.bconv.op, solved.doubled))
        return None

    return rewrite_all(graph, fold_one)


def _rewrite(graph: Graph, chain: SignChain, solved: Thresholds, form: BitsForm) -> Graph:
    op, thresholds, absent = form
    threshold = constant_tensor(graph, f"{chain.sign.output}/threshold", thresholds.astype(np.int32))
    filters = flipped_filters(graph, chain, solved.flip)
    name = sign_before_pool_name(graph, chain)
    bconv = Node(op, (chain.bconv.inputs[0], filters.name, *absent, threshold.name), (name,))
    bits = Tensor(name, graph.tensors[chain.bconv.output].shape, DType.BITS)
    return graph.rewrite(chain.nodes, [bconv, *pool_nodes(graph, chain)], [bits, filters, threshold])


def sign_before_pool_name(graph: Graph, chain: SignChain) -> str:
    """Name of the tensor that the convolution writes: the chain's output, or a new one in front of the pool."""
    return chain.sign.output if chain.pool is None else fresh_name(graph, f"{chain.sign.output}/before_pool")


def pool_nodes(graph: Graph, chain: SignChain) -> list[Node]:
    """The pool of the chain on packed bits, if it has one."""
    if chain.pool is None:
        return []
    assert isinstance(chain.pool.op, MaxPool2d)
    return [Node(LceBMaxPool2d(chain.pool.op.window), (sign_before_pool_name(graph, chain),), (chain.sign.output,))]


def flipped_filters(graph: Graph, chain: SignChain, flip: Array) -> Tensor:
    """The filter tensor with the channels in `flip` negated; the same tensor where there are none."""
    filters = graph.tensors[chain.bconv.inputs[1] or ""]
    if not flip.any():
        return filters
    negative = unpack(filters.constant(), filters.shape[3]) ^ flip[:, None, None, None]
    return replace(filters, name=fresh_name(graph, f"{chain.sign.output}/filter"), data=pack(negative))


def constant_tensor(graph: Graph, name: str, data: Array) -> Tensor:
    """A constant int32 tensor under a name that `graph` does not use yet, `name` where it is free."""
    return Tensor(fresh_name(graph, name), data.shape, DType.INT32, None, data)
