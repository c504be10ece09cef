"""TensorFlow's SAME padding rule in PyTorch."""

from __future__ import annotations

from typing import cast

import torch.nn.functional as F  # noqa: N812 - the name PyTorch's own documentation uses
from torch import Tensor, nn

from onebit.core.errors import BadInputError

PAD_MODES = ("same", "valid")


def same_padding(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """(before, after) of TensorFlow's SAME rule along one axis of `size` elements.

    The output has ceil(size / stride) elements; of an odd total the larger half goes behind the data. At stride 2 this
    differs from PyTorch's symmetric ``padding=k//2``, which is why that one is not used.
    """
    output = -(-size // stride)
    total = max((output - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


def pad_around(x: Tensor, conv: nn.Conv2d, value: float) -> Tensor:
    """`x` [N, C, H, W] padded with `value` as `conv`, a layer with ``pad_mode``, wants it."""
    if conv.pad_mode == "same":
        sizes = zip(x.shape[2:], conv.kernel_size, conv.stride, conv.dilation, strict=True)
        (top, bottom), (left, right) = (same_padding(*axis) for axis in sizes)
    else:
        top, left = bottom, right = cast("tuple[int, int]", conv.padding)
    return F.pad(x, (left, right, top, bottom), value=value) if top + bottom + left + right else x


def pad_mode_of(padding: str | int | tuple[int, int]) -> tuple[str, tuple[int, int]]:
    """The pad mode, and the (rows, columns) on either side of "symmetric" padding, which numbers stand for.

    BadInputError for an unknown mode or negative numbers.
    """
    if isinstance(padding, str):
        if padding not in PAD_MODES:
            raise BadInputError(f"unknown padding {padding!r}", fix=f"use one of: {', '.join(PAD_MODES)}, or a number")
        return padding, (0, 0)
    rows, columns = (padding, padding) if isinstance(padding, int) else padding
    if min(rows, columns) < 0:
        raise BadInputError(f"padding {padding}", fix="use numbers from 0")
    return "symmetric", (rows, columns)
