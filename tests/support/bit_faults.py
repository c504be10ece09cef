"""Graphs in which an operator would take packed words of signs apart: one broken constraint each."""

from __future__ import annotations

from onebit.core import Graph
from onebit.core.ops import Concatenation, Pad, Reshape, Slice
from support.movement_nets import move
from support.nets import Net


def _signs(channels: int) -> Net:
    return Net((1, 4, 6, channels)).quantize()


def _joined() -> Graph:
    net = _signs(33)
    return move(net, Concatenation(3), net.now.name).graph()


FAULTS: dict[str, dict[str, list[Graph]]] = {
    "SLICE": {"whole_words": [move(_signs(64), Slice(), [0, 0, 0, 0], [-1, -1, -1, 1]).graph()]},
    "CONCATENATION": {"whole_words": [_joined()]},
    "PAD": {"whole_words": [move(_signs(32), Pad(), [[0, 0], [0, 0], [0, 0], [0, 32]]).graph()]},
    "RESHAPE": {"whole_words": [move(_signs(64), Reshape((1, 4, 12, 1)), shape=(1, 4, 12, 32)).graph()]},
}
