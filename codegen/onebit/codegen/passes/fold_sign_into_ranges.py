"""Signs that no single threshold expresses: ranges of the accumulator, or a table of bits over it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onebit.codegen.ops import BinaryConvBitTable, BinaryConvRange
from onebit.codegen.passes.binary_pools import smallest_or_largest
from onebit.codegen.passes.fold_sign_into_zero_padded_bconv import threshold_form
from onebit.core.bits import words_for
from onebit.core.graph import Array, Graph
from onebit.core.ops import LceBconv2d, View
from onebit.core.passes.fold_sign import BitsForm, fold_chains
from onebit.core.passes.sign_table import SignTable

#: bytes of a table of bits above which the chain stays in float
MAX_TABLE_BYTES = 16384


def fold_sign_into_ranges(graph: Graph) -> Graph:
    """What is left of ``LceBconv2d - ... - LceQuantize``: non-monotone signs, pools that take minima, reshapes.

    Negative slopes of a PRELU, a HARD_SWISH or an ABS make the sign rise and fall. Per channel it is then negative
    inside one range of the accumulator, or outside it (`BinaryConvRange`), or anything (`BinaryConvBitTable`). The
    cheaper one in bytes that is equal on every accumulator is taken; both need about as many instructions.
    """
    return fold_chains(graph, _cheapest_form, smallest_or_largest, lambda _: True, reshape=True)


def _cheapest_form(view: View, table: SignTable) -> BitsForm | None:
    steps = threshold_form(view, table)
    if steps is not None:
        return steps
    assert isinstance(view.node.op, LceBconv2d)
    window, channels = view.node.op.window, table.negative.shape[1]
    unchanged = np.zeros(channels, np.bool_)
    ranges = solve_ranges(table)
    table_bytes = 4 * channels * words_for(len(table.x))
    if ranges is not None and ranges.nbytes <= table_bytes:
        constants = {"below": ranges.below, "end": ranges.end, "outside": ranges.outside}
        return BitsForm(BinaryConvRange(window), unchanged, constants)
    if table_bytes <= MAX_TABLE_BYTES:
        return BitsForm(BinaryConvBitTable(window), unchanged, {"table": np.ascontiguousarray(table.negative.T)})
    return None


@dataclass(frozen=True, eq=False)
class Ranges:
    """Negative where below < x < end, or where not in the channels of `outside`: int32 [O] twice, and bool [O]."""

    below: Array
    end: Array
    outside: Array

    @property
    def nbytes(self) -> int:
        """Bytes of the constants in generated code."""
        return self.below.nbytes + self.end.nbytes + 4 * words_for(len(self.outside))


def solve_ranges(table: SignTable) -> Ranges | None:
    """The ranges that equal the signs on every accumulator of every channel; None where one needs more than one."""
    negative, x = table.negative, table.x
    # a range at one end of the accumulators is a range; at both ends it is what lies outside one
    outside = negative[0] & negative[-1] & ~negative.all(axis=0)
    inside = negative ^ outside
    some, step = inside.any(axis=0), int(x[1] - x[0])
    first = x[inside.argmax(axis=0)]
    last = x[len(x) - 1 - inside[::-1].argmax(axis=0)]
    below = np.where(some, first - step, 0)
    end = np.where(some, last + step, 0)
    if (((x[:, None] > below) & (x[:, None] < end)) != inside).any():
        return None
    return Ranges(below.astype(np.int32), end.astype(np.int32), outside)
