"""What zero padding changes at the border of a binary convolution, as a small table.

Kernels gather pixels outside the image as +1. With zero padding every outside tap then has to add to x = K - dot what
it has added to the dot product: the sum of its signs. That depends on the filter and on which taps are outside, and few
sets of taps occur: nine with 3x3 and stride 1, one of them empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from onebit.core.bits import signs
from onebit.core.errors import UnsupportedError
from onebit.core.graph import Array, Tensor
from onebit.core.ops import Axis, BinaryWindow

_INT16 = np.iinfo(np.int16)


@dataclass(frozen=True, eq=False)
class Border:
    """`table` int16 as ob_bconv2d.h describes it, and the fields of the parameters that go with it."""

    table: Array
    fields: Mapping[str, int]


def corrections(window: BinaryWindow, x: Tensor, filters: Tensor) -> Border:
    """The table of a zero-padded convolution; empty where no zero meets a tap."""
    none = Border(np.zeros(0, np.int16), {"border_cols": 0, "border_skip": 0})
    if not window.zero_padded:
        return none
    (rows, inside_rows), (cols, inside_cols) = (_classes(axis) for axis in window.axes(x, filters))
    taps = signs(filters.constant(), filters.shape[3]).sum(axis=3, dtype=np.int64)
    inside = inside_rows[:, np.newaxis, :, np.newaxis] & inside_cols[np.newaxis, :, np.newaxis, :]
    outside = (~inside).reshape(-1, taps[0].size)
    skip = 0 if outside[0].any() else 1
    values = outside[skip:].astype(np.int64) @ taps.reshape(len(taps), -1).T
    if not values.size:
        return none
    table = np.concatenate([rows, cols, values.reshape(-1)])
    if (np.abs(table) > _INT16.max).any():
        raise UnsupportedError(
            "the signs of filter taps outside the image sum up to more than 16 bits", where=filters.describe(),
            fix="pad with +1 (pad_values=1), or use fewer input channels",
        )  # fmt: skip
    return Border(table.astype(np.int16), {"border_cols": len(inside_cols), "border_skip": skip})


def _classes(axis: Axis) -> tuple[Array, Array]:
    """The class of every output position [out], and for every class which taps are inside, bool [classes, kernel].

    The first class is the one with all taps inside, if it occurs.
    """
    first = np.arange(axis.out)[:, np.newaxis] * axis.stride - axis.before
    pixel = first + np.arange(axis.kernel) * axis.dilation
    inside = (pixel >= 0) & (pixel < axis.size)
    # sorted: taps that are inside last
    classes, numbers = np.unique(~inside, axis=0, return_inverse=True)
    return numbers.reshape(-1), ~classes
