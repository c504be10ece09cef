"""Pools on packed bits for `onebit.core.passes.fold_sign`."""

from __future__ import annotations

from onebit.codegen.ops import BinaryPool
from onebit.core.graph import Array
from onebit.core.ops import LceBMaxPool2d, Op, PoolWindow
from onebit.core.passes.fold_sign import Constants


def smallest_or_largest(window: PoolWindow, minima: Array) -> tuple[Op, Constants]:
    """LCE's max pool, or `BinaryPool` where the channels in `minima` bool [O] take the smallest sign."""
    return (BinaryPool(window), {"minima": minima}) if minima.any() else (LceBMaxPool2d(window), {})
