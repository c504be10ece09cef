"""int8 outputs of binary convolutions without float at run time."""

from __future__ import annotations

import numpy as np

from onebit.codegen.ops import BinaryConvScale, BinaryConvTable
from onebit.core.graph import Array, DType, Graph, Node, Tensor
from onebit.core.ops import LceBconv2d, View
from onebit.core.passes import rewrite_all
from onebit.core.passes.enumeration import accumulator_values
from onebit.core.passes.naming import constant_tensor, fresh_name

#: bytes of a lookup table above which the float output stage stays
MAX_TABLE_BYTES = 8192
#: distances from the nearest multiplier, in the order in which they are tried
_NEIGHBOURS = (0, 1, -1, 2, -2)


def integer_output_stage(graph: Graph) -> Graph:
    """``LceBconv2d (int8)`` to `BinaryConvScale`, or to `BinaryConvTable` where no multiplier is exact.

    LCE computes round(f32(f32(x) * m) + b) in float32. For every channel a fixed-point multiplier is derived and the
    offsets that reproduce *all* accumulator values are solved for; if some channel has none, a table of the values
    themselves takes over while it stays below `MAX_TABLE_BYTES`; else the operator keeps its float output stage.
    """
    return rewrite_all(graph, _rewrite_one)


def _rewrite_one(graph: Graph) -> Graph | None:
    for node in graph.nodes:
        if not isinstance(node.op, LceBconv2d) or graph.tensors[node.output].dtype is not DType.INT8:
            continue
        view = View.of(graph, node)
        x = accumulator_values(view)
        outs = view.input(1).shape[0]
        wanted = node.op.output_transform(view)(np.broadcast_to(x[:, None], (len(x), outs)))
        scaled = solve_scale(x, wanted, node.op.output_transform(view).multiplier)
        if scaled is not None:
            shift, multiplier, offset = scaled
            constants = [
                constant_tensor(graph.tensors, f"{node.output}/multiplier", multiplier),
                constant_tensor(graph.tensors, f"{node.output}/offset", offset),
            ]
            op: BinaryConvScale | BinaryConvTable = BinaryConvScale(node.op.window, shift)
        elif wanted.size <= MAX_TABLE_BYTES:
            table = np.ascontiguousarray(wanted.T)
            constants = [
                Tensor(
                    fresh_name(graph, f"{node.output}/table"), table.shape, DType.INT8, view.output.quantization, table
                )
            ]
            op = BinaryConvTable(node.op.window)
        else:
            continue
        rewritten = Node(op, (*node.inputs[:2], *(t.name for t in constants)), node.outputs)
        return graph.rewrite([node], [rewritten], constants)
    return None


def solve_scale(x: Array, wanted: Array, slope: Array) -> tuple[int, Array, Array] | None:
    """(shift, multiplier int32 [O], offset int32 [O]) with clamp((x*multiplier + offset) >> shift) == wanted, or None.

    `x` int64 [X], `wanted` int8 [X, O], `slope` the real multiplier [O]. For a multiplier M and shift S a value q
    inside the int8 range demands q*2^S <= x*M + offset < (q+1)*2^S; the saturated values demand one side only. The
    offset is the middle of the intersection over all x, so that every x is proven by construction. Where the nearest
    M leaves no offset, its neighbours are tried: the tilt of one rounding may cross a step that another does not.
    """
    largest = float(np.abs(slope * x[-1]).max()) + 256.0
    shift = min(24, 30 - int(np.ceil(np.log2(largest))))
    if shift < 1:
        return None
    nearest = np.rint(slope.astype(np.float64) * 2.0**shift).astype(np.int64)
    q = wanted.astype(np.int64)
    multiplier, offset = np.zeros_like(nearest), np.zeros_like(nearest)
    open_channels = np.ones(len(nearest), np.bool_)
    for step in _NEIGHBOURS:
        found, candidate = _solve_offset(x, q, nearest + step, shift)
        chosen = open_channels & found
        multiplier, offset = np.where(chosen, nearest + step, multiplier), np.where(chosen, candidate, offset)
        open_channels &= ~found
        if not open_channels.any():
            break
    product = x[:, None] * multiplier
    total = product + offset
    if open_channels.any() or max(np.abs(v).max() for v in (product, total, offset)) >= 2**31:
        return None
    exact = np.clip(total >> shift, -128, 127) == q
    return (shift, multiplier.astype(np.int32), offset.astype(np.int32)) if exact.all() else None


def _solve_offset(x: Array, q: Array, multiplier: Array, shift: int) -> tuple[Array, Array]:
    """(whether there is an offset, the offset) per channel for the given multipliers."""
    product = x[:, None] * multiplier
    unbounded = np.int64(2) ** 40
    lower = np.where(q == -128, -unbounded, (q << shift) - product).max(axis=0)
    upper = np.where(q == 127, unbounded, ((q + 1) << shift) - 1 - product).min(axis=0)
    # one-sided where every value saturates: stay next to the finite side
    offset = np.where(lower <= -unbounded, upper, np.where(upper >= unbounded, lower, (lower + upper) // 2))
    return lower <= upper, offset
