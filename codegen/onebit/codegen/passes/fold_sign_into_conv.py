"""An int8 CONV_2D that only feeds a sign compares its accumulators with integers and writes packed bits."""

from __future__ import annotations

import numpy as np

from onebit.codegen.ops import ConvSign
from onebit.core.graph import Array, DType, Graph, Node, Tensor
from onebit.core.ops import Conv2d, LceQuantize, Requantization, View
from onebit.core.passes import rewrite_all
from onebit.core.passes.naming import constant_tensor


def fold_sign_into_conv(graph: Graph) -> Graph:
    """``CONV_2D (int8) - LceQuantize`` to ``ConvSign``.

    Requantization (multiply by a positive number, add, shift, clamp) never falls as the accumulator rises, so
    q < zero point is acc < threshold with one threshold per channel, found by bisection over the accumulators the
    channel's weights can reach and checked on both sides of the step.
    """
    return rewrite_all(graph, _fold_one)


def _fold_one(graph: Graph) -> Graph | None:
    for sign in graph.nodes:
        conv = graph.producer(sign.inputs[0])
        if not isinstance(sign.op, LceQuantize) or conv is None or graph.sole_consumer(conv.output) is None:
            continue
        if not isinstance(conv.op, Conv2d) or graph.tensors[conv.output].dtype is not DType.INT8:
            continue
        solved = solve_conv_thresholds(View.of(graph, conv))
        if solved is None:
            continue
        threshold = constant_tensor(graph.tensors, f"{sign.output}/threshold", solved)
        node = Node(ConvSign(conv.op), (conv.inputs[0], conv.inputs[1], threshold.name), (sign.output,))
        bits = Tensor(sign.output, graph.tensors[sign.output].shape, DType.BITS)
        return graph.rewrite([conv, sign], [node], [bits, threshold])
    return None


def accumulator_range(view: View) -> tuple[Array, Array]:
    """Least and largest accumulator (without bias) that each channel's weights can reach, int64 [O]."""
    weights = view.input(1).constant().reshape(view.input(1).shape[0], -1).astype(np.int64)
    zero_point = view.input(0).quant.zero_point
    low, high = weights * (-128 - zero_point), weights * (127 - zero_point)
    return np.minimum(low, high).sum(axis=1), np.maximum(low, high).sum(axis=1)


def solve_conv_thresholds(view: View) -> Array | None:
    """int32 thresholds [O] with (requantized accumulator < zero point) == (acc < threshold), or None."""
    assert isinstance(view.node.op, Conv2d)
    stage = view.node.op.requantization(view)
    bias_tensor = view.optional(2)
    bias = np.int64(0) if bias_tensor is None else bias_tensor.constant().astype(np.int64)
    low, high = accumulator_range(view)
    if _overflows(stage, low + bias, high + bias):
        return None

    def negative(acc: Array) -> Array:
        return np.asarray(stage(acc + bias) < view.output.quant.zero_point)

    # least accumulator in [low, high + 1] that is not negative; high + 1 if all are
    first, last = low.copy(), high + 1
    while (first < last).any():
        active, middle = first < last, (first + last) // 2
        below = negative(middle)
        first = np.where(active & below, middle + 1, first)
        last = np.where(active & ~below, middle, last)
    threshold = first
    proven = (negative(threshold - 1) | (threshold == low)) & (~negative(threshold) | (threshold > high))
    return threshold.astype(np.int32) if proven.all() else None


def _overflows(stage: Requantization, low: Array, high: Array) -> bool:
    """Whether a left shift could leave int32, where requantization would wrap and no longer be monotone.

    2**30 also leaves the kernels room to subtract a threshold from an accumulator.
    """
    largest = np.maximum(np.abs(low), np.abs(high))
    return bool((largest >= 2**30).any() or (largest << np.maximum(stage.exponent, 0) >= 2**31).any())
