"""Packed bits, which the file holds as int32 words, through operators that move elements; and into bool."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from onebit.core import DType, read_model, write_model
from onebit.core.ops import (
    Concatenation,
    ExpandDims,
    LceDequantize,
    Pack,
    Pad,
    Reshape,
    Slice,
    Split,
    Squeeze,
    StridedSlice,
    Transpose,
)
from support.lce import Agrees
from support.movement_nets import back_to, move
from support.nets import Net


def signs(channels: int) -> Net:
    return Net((1, 4, 6, channels)).quantize()


def sliced(net: Net) -> Net:
    """Rows and columns; the box counts words, -1 is all of them."""
    words = -(-net.now.shape[3] // 32)
    move(net, Slice(), [0, 1, 0, 0], [1, 3, -1, words])
    return move(net, Slice(), [0, 0, 2, 0], [-1, -1, 3, -1])


def joined(axis: int) -> Callable[[Net], Net]:
    def make(net: Net) -> Net:
        first = net.now.name
        move(net, Slice(), [0, 0, 0, 0], [-1, -1, -1, -1])
        return move(back_to(net, first), Concatenation(axis), net.nodes[-1].output, first)

    return make


def reshaped(net: Net) -> Net:
    words = -(-net.now.shape[3] // 32)
    channels = net.now.shape[3]
    move(net, Reshape((1, 24, 1, words)), shape=(1, 24, 1, channels))
    return move(net, Reshape(), np.array([-1, 3, 8, words]), shape=(1, 3, 8, channels))


def padded(net: Net) -> Net:
    return move(net, Pad(), [[0, 0], [1, 0], [2, 3], [0, 0]])


def halves(net: Net) -> Net:
    """Both halves of the columns, the second in front."""
    whole = net.now.name
    first = move(net, Split(-2, 2, 0)).now.name
    return move(move(back_to(net, whole), Split(-2, 2, 1)), Concatenation(2), first)


def strided(net: Net) -> Net:
    """Rows backwards, every second column; the row axis removed and put back."""
    move(net, StridedSlice(0, 10), [0, -1, 0, 0], [1, 0, 6, 0], [1, -1, 2, 1])
    return move(net, StridedSlice(1, 9, new_axis_mask=2, shrink_axis_mask=4), [0, 0, 1, 0], [0] * 4, [1] * 4)


def packed(net: Net) -> Net:
    """Two maps stacked in front of the columns, under another shape again."""
    words = -(-net.now.shape[3] // 32)
    move(net, Pack(2, 2), net.now.name)
    return move(net, Reshape((1, 8, 6, words)), shape=(1, 8, 6, net.now.shape[4]))


MOVES: dict[str, Callable[[Net], Net]] = {
    "SLICE": sliced,
    "CONCATENATION of rows": joined(1),
    "CONCATENATION of columns": joined(-2),
    "RESHAPE": reshaped,
    "PAD": padded,
    "TRANSPOSE": lambda net: move(net, Transpose(), [0, 2, 1, 3]),
    "SPLIT": halves,
    "STRIDED_SLICE": strided,
    "PACK": packed,
    "EXPAND_DIMS and SQUEEZE": lambda net: move(move(net, ExpandDims(), 1), Squeeze((-4,))),
}


@pytest.mark.parametrize("channels", [1, 31, 32, 33, 64, 70])
@pytest.mark.parametrize("name", MOVES)
def test_words_are_moved_and_read_back(name: str, channels: int, agrees: Agrees) -> None:
    net = MOVES[name](signs(channels)).bconv(5)
    graph = read_model(write_model(net.graph()))
    assert {n: (t.shape, t.dtype) for n, t in graph.tensors.items()} == {
        n: (t.shape, t.dtype) for n, t in net.tensors.items()
    }
    agrees(graph, net.samples(3))


@pytest.mark.parametrize("channels", [32, 64])
def test_full_words_are_joined_along_the_channels(channels: int, agrees: Agrees) -> None:
    net = joined(3)(signs(channels)).bconv(5)
    assert net.tensors["concatenation_2"].shape == (1, 4, 6, 3 * channels)
    agrees(read_model(write_model(net.graph())), net.samples(3))


FULL_WORDS: dict[str, Callable[[Net], Net]] = {
    "SLICE": lambda net: move(net, Slice(), [0, 0, 0, 1], [-1, -1, -1, 2]),
    "STRIDED_SLICE": lambda net: move(net, StridedSlice(7, 15), [0, 0, 0, -1], [0] * 4, [1, 1, 1, -2]),
    "SPLIT": lambda net: move(net, Split(3, 4, 2)),
    "RESHAPE": lambda net: move(net, Reshape((1, 2, 3, 16)), shape=(1, 2, 3, 512)),
}


@pytest.mark.parametrize("name", FULL_WORDS)
def test_full_words_are_taken_from_the_channels(name: str, agrees: Agrees) -> None:
    net = FULL_WORDS[name](signs(128)).bconv(5, (1, 1))
    graph = read_model(write_model(net.graph()))
    assert {n: graph.tensors[n].shape for n in net.tensors} == {n: t.shape for n, t in net.tensors.items()}
    agrees(graph, net.samples(3))


@pytest.mark.parametrize("channels", [1, 31, 32, 33])
def test_bits_to_bool_and_back(channels: int, agrees: Agrees) -> None:
    net = signs(channels).node(LceDequantize(), dtype=DType.BOOL)
    agrees(net.graph(), net.samples(3))
    again = net.quantize().bconv(3)
    agrees(again.graph(), again.samples(3))
