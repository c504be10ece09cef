"""Comparing what generated code computed with what the reference computed, tensor by tensor.

int8, int32 and packed bits must be identical. A float tensor must be identical too where the operator fixes the order
of its float operations and its inputs are identical; behind the operators in `UNORDERED`, whose summation order is
nobody's promise, it may differ by 1e-5 of the reference tensor's range.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from onebit.codegen.kernel import Layout
from onebit.codegen.schedule import Buffer
from onebit.core.bits import WORD_BITS, pack, unpack
from onebit.core.graph import Array, DType, Graph, Tensor

#: builtin operators whose float result depends on the order of summation
UNORDERED = frozenset(
    {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "HARD_SWISH", "LOGISTIC", "MEAN", "SOFTMAX", "TANH"}
)
#: allowed difference of such a tensor, as a part of its range
TOLERANCE = 1e-5
#: and at least this many units in the last place of its largest value
TOLERANCE_ULP = 4
#: step functions of a float: next to a step, a difference within the tolerance becomes a whole step
STEPS = frozenset({"LceQuantize", "GREATER", "GREATER_EQUAL", "QUANTIZE", "ROUND", "SIGN"})


def inexact_tensors(graph: Graph) -> frozenset[str]:
    """Float tensors that may differ within the tolerance: unordered sums and whatever float follows from them."""
    inexact: set[str] = set()
    for node in graph.nodes:
        if graph.tensors[node.output].dtype is DType.FLOAT32 and (
            node.op.name in UNORDERED or any(name in inexact for name in node.inputs)
        ):
            inexact.add(node.output)
    return frozenset(inexact)


def flippable_signs(graph: Graph) -> frozenset[str]:
    """Outputs of step functions that read an inexact float tensor: a sign next to 0, above all, may flip."""
    inexact = inexact_tensors(graph)
    return frozenset(n.output for n in graph.nodes if n.op.name in STEPS and not inexact.isdisjoint(n.inputs))


@dataclass(frozen=True, eq=False)
class Comparison:
    """One tensor over N samples. Counts are scalar elements (signs for packed bits)."""

    tensor: Tensor
    op: str
    compared: int
    equal: int
    bit_identical: int
    max_abs_diff: float
    #: indices, ascending, of the samples in which some element is not equal under the tensor's class
    unequal_samples: Array
    #: (index with the sample first, expected, got) of the first unequal element
    first: tuple[list[int], float | int, float | int] | None

    def renumbered(self, samples: Array) -> Comparison:
        """The same comparison with sample i called ``samples[i]``."""
        first = self.first
        if first is not None:
            index, expected, got = first
            first = ([int(samples[index[0]]), *index[1:]], expected, got)
        return replace(self, unequal_samples=np.asarray(samples)[self.unequal_samples], first=first)

    def merged(self, later: Comparison) -> Comparison:
        """One comparison made of this one and that of later samples of the same tensor."""
        return replace(
            self,
            compared=self.compared + later.compared,
            equal=self.equal + later.equal,
            bit_identical=self.bit_identical + later.bit_identical,
            max_abs_diff=max(self.max_abs_diff, later.max_abs_diff),
            unequal_samples=np.concatenate([self.unequal_samples, later.unequal_samples]),
            first=self.first or later.first,
        )


def compare_tensor(tensor: Tensor, op: str, expected: Array, got: Array, *, inexact: bool) -> Comparison:
    """Compare values in stored form ``[N, ...]`` under the tensor's class.

    Unused bits of packed signs count as errors too: they must be 0, or the next popcount is wrong. Their index lies
    behind the last channel.
    """
    if tensor.dtype is DType.BITS:
        identical = expected == got
        if not identical.all():
            # the words differ: count and locate single signs
            bits = WORD_BITS * expected.shape[-1]
            expected = unpack(expected, bits).astype(np.int8) * -2 + 1
            got = unpack(got, bits).astype(np.int8) * -2 + 1
            identical = expected == got
    else:
        identical = _same_bits(expected, got)
    count = len(expected) * tensor.elements
    if identical.all():
        return Comparison(tensor, op, count, count, count, 0.0, np.zeros(0, np.int64), None)
    with np.errstate(invalid="ignore"):
        diff = np.abs(expected.astype(np.float64) - got.astype(np.float64))
    equal = identical
    if inexact:
        finite = expected[np.isfinite(expected)]
        allowed = _allowed(finite) if finite.size else 0.0
        equal = identical | (diff <= allowed)
    unequal = ~equal
    first = None
    if unequal.any():
        index = np.unravel_index(int(np.argmax(unequal)), unequal.shape)
        first = ([int(i) for i in index], _scalar(expected[index]), _scalar(got[index]))
    return Comparison(
        tensor, op, count, _rest(count, unequal), _rest(count, ~identical), _largest(diff),
        np.flatnonzero(unequal.reshape(len(unequal), -1).any(axis=1)), first,
    )  # fmt: skip


def _allowed(values: Array) -> float:
    """Absolute tolerance: part of the range, but at least what float32 can resolve of values that are nearly equal."""
    # in double: the range of float32 values need not be one
    span = float(np.ptp(values.astype(np.float64)))
    return max(TOLERANCE * span, TOLERANCE_ULP * float(np.spacing(np.abs(values).max())))


def _largest(diff: Array) -> float:
    """The largest difference; NaN only where every one is (NaN against a number)."""
    numbers = diff[~np.isnan(diff)]
    return float(numbers.max()) if numbers.size else float("nan")


def _rest(count: int, wrong: Array) -> int:
    return max(0, count - int(np.count_nonzero(wrong)))


def _same_bits(a: Array, b: Array) -> Array:
    return np.asarray(a.view(np.uint32) == b.view(np.uint32)) if a.dtype == np.float32 else np.asarray(a == b)


def _scalar(value: Any) -> float | int:
    return float(value) if isinstance(value, np.floating) else int(value)


def split_values(reported: Array, buffers: Sequence[Buffer]) -> dict[str, Array]:
    """What the layer-by-layer build reported, uint8 ``[N, bytes]``, by tensor."""
    ends = np.cumsum([buffer.nbytes for buffer in buffers])
    parts = np.split(reported, ends[:-1], axis=1)
    return {buffer.tensor.name: part for buffer, part in zip(buffers, parts, strict=True)}


def decode_buffer(raw: Array, buffer: Buffer) -> Array:
    """Bytes uint8 ``[N, buffer.nbytes]`` of a buffer to the tensor's stored form ``[N, ...]``."""
    tensor = buffer.tensor
    if buffer.layout is Layout.PIXEL_LANES:
        channels = tensor.shape[-1]
        pixels = tensor.elements // channels
        lanes = np.ascontiguousarray(raw).view("<i4").reshape(len(raw), channels, -1)
        return pack(unpack(lanes, pixels).transpose(0, 2, 1)).reshape(len(raw), *tensor.stored_shape[1:])
    dtype = tensor.dtype.numpy.newbyteorder("<")
    return np.ascontiguousarray(raw).view(dtype).reshape(len(raw), *tensor.stored_shape[1:]).astype(tensor.dtype.numpy)


def first_unequal(comparisons: Sequence[Comparison]) -> Comparison | None:
    """The first tensor, in execution order, that is not equal."""
    return next((c for c in comparisons if c.first is not None), None)
