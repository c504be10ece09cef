"""The zero-padded sibling of `fold_sign_into_bconv`: thresholds on doubled popcounts."""

from __future__ import annotations

from onebit.codegen.ops import BinaryConvSign
from onebit.core.graph import Array, Graph
from onebit.core.ops import LceBconv2d
from onebit.core.passes.fold_sign import BitsForm, fold_chains


def fold_sign_into_zero_padded_bconv(graph: Graph) -> Graph:
    """Zero-padded ``LceBconv2d - ... - LceQuantize`` to ``BinaryConvSign``, where enumeration proves it equal."""
    return fold_chains(graph, lambda window: window.zero_padded, _onebit_form)


def _onebit_form(op: LceBconv2d, doubled: Array) -> BitsForm:
    return BinaryConvSign(op.window), doubled, ()
