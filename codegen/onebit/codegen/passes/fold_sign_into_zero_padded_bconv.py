"""The zero-padded sibling of `fold_sign_into_bconv`: thresholds on doubled popcounts."""

from __future__ import annotations

import numpy as np

from onebit.codegen.ops import BinaryConvSign
from onebit.core.graph import DType, Graph, Node, Tensor
from onebit.core.ops import LceBconv2d
from onebit.core.passes import rewrite_all
from onebit.core.passes.enumeration import Thresholds, find_sign_chain, solve_threshold
from onebit.core.passes.fold_sign import constant_tensor, flipped_filters, pool_nodes, sign_before_pool_name


def fold_sign_into_zero_padded_bconv(graph: Graph) -> Graph:
    """Zero-padded ``LceBconv2d - ... - LceQuantize`` to ``BinaryConvSign``, where enumeration proves it equal."""
    return rewrite_all(graph, _fold_one)


def _fold_one(graph: Graph) -> Graph | None:
    for node in graph.nodes:
        chain = find_sign_chain(graph, node)
        if chain is None:
            continue
        solved = solve_threshold(graph, chain)
        if not isinstance(solved, Thresholds):
            continue
        assert isinstance(chain.bconv.op, LceBconv2d)
        threshold = constant_tensor(graph, f"{chain.sign.output}/threshold", solved.doubled.astype(np.int32))
        filters = flipped_filters(graph, chain, solved.flip)
        name = sign_before_pool_name(graph, chain)
        inputs = (chain.bconv.inputs[0], filters.name, threshold.name)
        bconv = Node(BinaryConvSign(chain.bconv.op.window), inputs, (name,))
        bits = Tensor(name, graph.tensors[chain.bconv.output].shape, DType.BITS)
        return graph.rewrite(chain.nodes, [bconv, *pool_nodes(graph, chain)], [bits, filters, threshold])
    return None
