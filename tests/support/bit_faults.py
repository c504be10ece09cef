"""Graphs in which an operator would take packed words of signs apart: one broken constraint each."""

from __future__ import annotations

from onebit.core import Graph
from onebit.core.ops import (
    Concatenation,
    ExpandDims,
    Pack,
    Pad,
    Reshape,
    Slice,
    Split,
    Squeeze,
    StridedSlice,
    Transpose,
)
from support.movement_nets import move
from support.nets import Net


def _signs(channels: int) -> Net:
    return Net((1, 4, 6, channels)).quantize()


def _joined() -> Graph:
    net = _signs(33)
    return move(net, Concatenation(3), net.now.name).graph()


FAULTS: dict[str, dict[str, list[Graph]]] = {
    "SLICE": {"whole_words": [move(_signs(40), Slice(), [0, 0, 0, 0], [-1, -1, -1, 1]).graph()]},
    "STRIDED_SLICE": {
        "whole_words": [
            move(_signs(40), StridedSlice(), [0, 0, 0, 0], [1, 4, 6, 1], [1, 1, 1, 1]).graph(),
            move(_signs(40), StridedSlice(0, 8), [0, 0, 0, 1], [1, 4, 6, 0], [1, 1, 1, -1]).graph(),
            move(_signs(32), StridedSlice(shrink_axis_mask=8), [0, 0, 0, 0], [1, 4, 6, 0], [1, 1, 1, 1]).graph(),
        ]
    },
    "SPLIT": {"whole_words": [move(_signs(40), Split(3, 2, 1)).graph()]},
    "TRANSPOSE": {"whole_words": [move(_signs(32), Transpose(), [0, 1, 3, 2]).graph()]},
    "PACK": {"whole_words": [move(_signs(32), Pack(4, 1)).graph(), move(_signs(32), Pack(-1, 1)).graph()]},
    "SQUEEZE": {"whole_words": [move(Net((1, 4, 1)).quantize(), Squeeze((2,))).graph()]},
    "EXPAND_DIMS": {"whole_words": [move(_signs(32), ExpandDims(), axis).graph() for axis in (4, -1)]},
    "CONCATENATION": {"whole_words": [_joined()]},
    "PAD": {"whole_words": [move(_signs(32), Pad(), [[0, 0], [0, 0], [0, 0], [0, 32]]).graph()]},
    "RESHAPE": {"whole_words": [move(_signs(40), Reshape((1, 4, 3, 4)), shape=(1, 4, 3, 80)).graph()]},
}
