"""The zero-padded sibling of `fold_sign_into_bconv`: thresholds on doubled popcounts."""

from __future__ import annotations

import numpy as np

from onebit.codegen.ops import BinaryConvSign
from onebit.codegen.passes.binary_pools import smallest_or_largest
from onebit.core.graph import Graph
from onebit.core.ops import LceBconv2d, View
from onebit.core.passes.fold_sign import BitsForm, fold_chains
from onebit.core.passes.sign_table import SignTable, solve_thresholds


def fold_sign_into_zero_padded_bconv(graph: Graph) -> Graph:
    """Zero-padded ``LceBconv2d - ... - LceQuantize`` to ``BinaryConvSign``, where enumeration proves it equal."""
    return fold_chains(graph, threshold_form, smallest_or_largest, lambda op: op.window.zero_padded, reshape=True)


def threshold_form(view: View, table: SignTable) -> BitsForm | None:
    """`BinaryConvSign`, where the sign of every channel is a single step."""
    solved = solve_thresholds(table)
    if solved is None:
        return None
    assert isinstance(view.node.op, LceBconv2d)
    thresholds = solved.doubled.astype(np.int32)
    return BitsForm(BinaryConvSign(view.node.op.window), solved.flip, {"threshold": thresholds})
