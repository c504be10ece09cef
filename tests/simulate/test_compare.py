"""Comparing a tensor under its class: what is equal, what is counted, what is located."""

from __future__ import annotations

import numpy as np
import pytest

from onebit.codegen.kernel import Layout
from onebit.codegen.schedule import Buffer
from onebit.codegen.sharing import Memory
from onebit.core import DType, Graph, Quantization, Tensor
from onebit.core.bits import pack
from onebit.core.graph import Array
from onebit.simulate.compare import (
    Comparison,
    compare_tensor,
    decode_buffer,
    first_unequal,
    flippable_signs,
    inexact_tensors,
)
from support.net_table import graph_of
from support.nets import Net

FLOAT = Tensor("y", (1, 2, 3), DType.FLOAT32)
INT8 = Tensor("y", (1, 2, 3), DType.INT8, Quantization.per_tensor(0.1, 0))
BITS = Tensor("y", (1, 2, 2, 33), DType.BITS)


def compare(tensor: Tensor, expected: Array, got: Array, *, inexact: bool = False) -> Comparison:
    return compare_tensor(tensor, "OP", expected, got, inexact=inexact)


# ---------------------------------------------------------------------------------------------------------------- int8


def test_equal_integers() -> None:
    x = np.arange(24, dtype=np.int8).reshape(4, 2, 3)
    c = compare(INT8, x, x.copy())
    assert (c.compared, c.equal, c.bit_identical, c.max_abs_diff, c.first) == (24, 24, 24, 0.0, None)
    assert c.unequal_samples.tolist() == []


@pytest.mark.parametrize("inexact", [False, True])
def test_an_integer_that_differs_is_counted_and_located(inexact: bool) -> None:
    x = np.zeros((4, 2, 3), np.int8)
    y = x.copy()
    y[1, 0, 2], y[3, 1, 1], y[3, 1, 2] = 1, -128, 127
    c = compare(INT8, x, y, inexact=inexact)
    assert (c.compared, c.equal, c.bit_identical, c.max_abs_diff) == (24, 21, 21, 128.0)
    assert c.first == ([1, 0, 2], 0, 1)
    assert c.unequal_samples.tolist() == [1, 3]


def test_differences_of_int8_do_not_wrap_around() -> None:
    c = compare(INT8, np.full((1, 2, 3), -128, np.int8), np.full((1, 2, 3), 127, np.int8))
    assert c.max_abs_diff == 255.0


# --------------------------------------------------------------------------------------------------------------- float


def test_floats_of_fixed_order_must_be_identical() -> None:
    x = np.linspace(-1, 1, 12, dtype=np.float32).reshape(2, 2, 3)
    y = x.copy()
    y[1, 1, 0] = np.nextafter(y[1, 1, 0], np.float32(2))
    c = compare(FLOAT, x, y)
    assert (c.equal, c.bit_identical) == (11, 11) and c.first is not None
    assert c.first[0] == [1, 1, 0] and isinstance(c.first[1], float)


def test_zero_and_minus_zero_are_not_identical() -> None:
    x, y = np.zeros((1, 2, 3), np.float32), np.full((1, 2, 3), -0.0, np.float32)
    assert compare(FLOAT, x, y).equal == 0
    assert compare(FLOAT, x, y, inexact=True).equal == 6


def test_floats_of_free_order_may_differ_by_a_part_of_the_range() -> None:
    x = np.linspace(-10, 10, 12, dtype=np.float32).reshape(2, 2, 3)  # the range is 20, allowed is 2e-4
    for error, equal in ((1.9e-4, 12), (2.2e-4, 11)):
        y = x.copy()
        y[0, 0, 1] += np.float32(error)
        c = compare(FLOAT, x, y, inexact=True)
        assert (c.equal, c.bit_identical) == (equal, 11)
        assert c.max_abs_diff == pytest.approx(error, rel=0.01)
        assert (c.first is None) == (equal == 12)
        assert c.unequal_samples.tolist() == [0] * (equal == 11)


def test_the_range_is_that_of_the_reference() -> None:
    x, y = np.zeros((1, 2, 3), np.float32), np.full((1, 2, 3), 1e-5, np.float32)
    y[0, 0, 0] = 1e6
    assert compare(FLOAT, x, y, inexact=True).equal == 0


def test_nan_equals_itself_and_nothing_else() -> None:
    x = np.array([[[np.nan, np.inf, 1], [2, 3, 4]]], np.float32)
    assert compare(FLOAT, x, x.copy()).equal == 6
    y = x.copy()
    y[0, 0, 0], y[0, 0, 1] = 0.0, -np.inf
    for inexact in (False, True):
        c = compare(FLOAT, x, y, inexact=inexact)
        assert c.equal == 4
        assert (c.first is not None) and c.max_abs_diff == np.inf
        c = compare(FLOAT, y, x, inexact=inexact)
        assert c.equal == 4
    nothing = compare(FLOAT, np.full((1, 2, 3), np.nan, np.float32), np.zeros((1, 2, 3), np.float32))
    assert nothing.equal == 0 and np.isnan(nothing.max_abs_diff)


# ---------------------------------------------------------------------------------------------------------------- bits


def test_signs_are_counted_and_not_words() -> None:
    rng = np.random.default_rng(0)
    negative = rng.random((3, 2, 2, 33)) < 0.5
    assert compare(BITS, pack(negative), pack(negative)).compared == 3 * 4 * 33
    changed = negative.copy()
    changed[1, 0, 1, 32] ^= True
    changed[1, 1, 1, 5] ^= True
    c = compare(BITS, pack(negative), pack(changed))
    assert (c.compared, c.equal, c.bit_identical) == (396, 394, 394)
    assert c.first is not None
    assert c.first[0] == [1, 0, 1, 32]
    assert {c.first[1], c.first[2]} == {1, -1}
    assert c.first[1] == (-1 if negative[1, 0, 1, 32] else 1)
    assert c.unequal_samples.tolist() == [1]
    assert c.max_abs_diff == 2


def test_a_bit_behind_the_last_channel_must_be_zero() -> None:
    """A kernel that leaves garbage there breaks the popcount of the next layer."""
    words = np.zeros((1, 2, 2, 2), np.int32)
    dirty = words.copy()
    dirty[0, 0, 1, 1] = 1 << 7
    c = compare(BITS, words, dirty)
    assert (c.compared, c.equal, c.bit_identical) == (132, 131, 131)
    assert c.first == ([0, 0, 1, 39], 1, -1)  # of 33 channels
    assert c.unequal_samples.tolist() == [0]
    everything_wrong = compare(BITS, words, ~words)
    assert (everything_wrong.equal, everything_wrong.bit_identical) == (0, 0)


# ------------------------------------------------------------------------------------------------------------- merging


def test_chunks_are_merged_with_the_numbers_of_their_samples() -> None:
    x = np.zeros((4, 2, 3), np.int8)
    y = x.copy()
    y[2, 1, 0] = 5
    first = compare(INT8, x, x).renumbered(np.arange(4))
    second = compare(INT8, x, y).renumbered(np.arange(4, 8))
    third = compare(INT8, x, y).renumbered(np.array([11, 13, 17, 19]))
    merged = first.merged(second).merged(third)
    assert (merged.compared, merged.equal, merged.bit_identical) == (72, 70, 70)
    assert merged.first == ([6, 1, 0], 0, 5)
    assert merged.unequal_samples.tolist() == [6, 17]
    assert merged.max_abs_diff == 5


def test_the_first_tensor_that_differs() -> None:
    x, y = np.zeros((1, 2, 3), np.int8), np.ones((1, 2, 3), np.int8)
    same, other = compare(INT8, x, x), compare(INT8, x, y)
    assert first_unequal([same, other, other]) is other
    assert first_unequal([same, same]) is None
    assert first_unequal([]) is None


# ------------------------------------------------------------------------------------------------- classes of tensors


def test_only_real_valued_sums_and_what_follows_from_them_are_inexact() -> None:
    graph = graph_of("float_head_relu")
    assert inexact_tensors(graph) == {node.output for node in graph.nodes}
    assert inexact_tensors(graph_of("int8_head_relu")) == frozenset()
    assert inexact_tensors(graph_of("batch_norm")) == frozenset()
    net = Net((1, 5, 5, 8)).mul(np.ones(8)).conv(4).pool().quantize().bconv(4).mul(np.ones(4))
    assert inexact_tensors(net.graph()) == {"conv_2d_1", "max_pool_2d_2"}


def test_signs_of_inexact_values_may_flip() -> None:
    net = Net((1, 5, 5, 8)).quantize().bconv(4).quantize().dequantize().conv(4).add(np.ones(4)).quantize()
    graph = net.bconv(3).quantize().graph()
    assert flippable_signs(graph) == {"lcequantize_6"}
    assert flippable_signs(graph_of("int8_33")) == frozenset()


def test_two_operands_are_inexact_if_one_is() -> None:
    graph = graph_of("residual")
    assert {node.output for node in graph.nodes if node.op.name in ("MUL", "ADD")} <= inexact_tensors(graph)


# ------------------------------------------------------------------------------------------------------------- buffers


@pytest.mark.parametrize("channels", [1, 31, 32, 33, 64])
@pytest.mark.parametrize("layout", [Layout.CHANNEL_PACKED, Layout.PIXEL_LANES])
def test_bits_are_decoded_from_both_layouts(layout: Layout, channels: int) -> None:
    negative = np.random.default_rng(channels).random((3, 5, 7, channels)) < 0.5
    tensor = Tensor("x", (1, 5, 7, channels), DType.BITS)
    if layout is Layout.PIXEL_LANES:
        stored = pack(negative.reshape(3, 35, channels).transpose(0, 2, 1))
    else:
        stored = pack(negative)
    raw = stored.astype("<i4").reshape(3, -1).view(np.uint8)
    buffer = Buffer(tensor, layout, Memory.ARENA, 0)
    assert raw.shape == (3, buffer.nbytes)
    np.testing.assert_array_equal(decode_buffer(raw, buffer), pack(negative))


@pytest.mark.parametrize("tensor", [FLOAT, INT8], ids=["float32", "int8"])
def test_dense_values_are_decoded(tensor: Tensor) -> None:
    values = np.random.default_rng(0).integers(-100, 100, (5, 2, 3)).astype(tensor.dtype.numpy)
    raw = values.reshape(5, -1).view(np.uint8)
    decoded = decode_buffer(raw, Buffer(tensor, Layout.DENSE, Memory.ARENA, 0))
    np.testing.assert_array_equal(decoded, values)
    assert decoded.dtype == tensor.dtype.numpy


def test_a_column_slice_of_a_larger_record_is_decoded() -> None:
    """Layers of one sample follow each other: the bytes of one layer are not contiguous over samples."""
    record = np.random.default_rng(0).integers(0, 256, (4, 40), dtype=np.uint8)
    tensor = Tensor("x", (1, 6), DType.INT32)
    part = record[:, 8:32]
    buffer = Buffer(tensor, Layout.DENSE, Memory.ARENA, 0)
    np.testing.assert_array_equal(decode_buffer(part, buffer), part.copy().view("<i4"))


def test_every_graph_of_the_table_has_a_class_for_each_tensor() -> None:
    graph = graph_of("two_readers")
    assert isinstance(graph, Graph)
    assert inexact_tensors(graph) <= {tensor.name for tensor in graph.activations()}


def test_a_range_beyond_float32_is_compared_without_a_warning() -> None:
    expected = np.full((1, *FLOAT.shape[1:]), 3e38, np.float32)
    expected.flat[0] = -3e38
    got = np.nextafter(expected, np.float32(0))
    found = compare_tensor(FLOAT, "CONV_2D", expected, got, inexact=True)
    assert (found.equal, found.bit_identical) == (found.compared, 0)
