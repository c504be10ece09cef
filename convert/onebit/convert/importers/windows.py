"""Sliding windows: what PyTorch pads, said in TFLite's terms.

PyTorch pads symmetrically, TensorFlow's SAME rule may pad one pixel less in front. Where both are the same, SAME is
used; else the border that the windows reach is added in front of the operator, which then is VALID. That is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from onebit.core.ops import Axis, Padding


@dataclass(frozen=True)
class Windows:
    """The windows along height and width: SAME, or VALID behind an explicit `border` of (before, after) pixels."""

    padding: Padding
    border: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))

    @property
    def has_border(self) -> bool:
        """Whether pixels must be added in front of the operator."""
        return any(map(any, self.border))


def reach(
    size: Sequence[int],
    out: Sequence[int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    before: tuple[int, int],
) -> tuple[tuple[int, int], tuple[int, int]]:
    """(before, after) of height and width: how many pixels outside the map the windows reach."""
    border = []
    for s, o, k, step, spread, first in zip(size, out, kernel, stride, dilation, before, strict=True):
        last = (o - 1) * step + (k - 1) * spread + 1
        border.append((first, max(last - s - first, 0)))
    return border[0], border[1]


def windows(
    size: Sequence[int],
    out: Sequence[int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    before: tuple[int, int],
) -> Windows:
    """The windows of an operator with `out` results over `size` pixels that starts `before` pixels outside the map.

    Windows at the end may reach outside too; pixels that no window reaches are left out.
    """
    border = reach(size, out, kernel, stride, dilation, before)
    same = [Axis(*axis, Padding.SAME) for axis in zip(size, kernel, stride, dilation, strict=True)]
    if border == ((0, 0), (0, 0)):
        return Windows(Padding.VALID)
    padding = tuple((axis.before, axis.total_padding - axis.before) for axis in same)
    if border == padding and list(out) == [axis.out for axis in same]:
        return Windows(Padding.SAME)
    return Windows(Padding.VALID, border)


def same_windows(
    size: Sequence[int], kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
) -> Windows:
    """Those of TensorFlow's SAME rule: VALID where it pads nothing, which more kernels know."""
    axes = [Axis(*axis, Padding.SAME) for axis in zip(size, kernel, stride, dilation, strict=True)]
    return Windows(Padding.SAME if any(axis.total_padding for axis in axes) else Padding.VALID)
