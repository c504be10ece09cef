"""TensorFlow's SAME padding rule in PyTorch."""

from __future__ import annotations

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


def pad_same(x: Tensor, conv: nn.Conv2d, value: float) -> Tensor:
    """`x` [N, C, H, W] padded with `value` for the kernel, stride and dilation of `conv`."""
    top, bottom = same_padding(x.shape[2], conv.kernel_size[0], conv.stride[0], conv.dilation[0])
    left, right = same_padding(x.shape[3], conv.kernel_size[1], conv.stride[1], conv.dilation[1])
    return F.pad(x, (left, right, top, bottom), value=value) if top + bottom + left + right else x


def checked_pad_mode(pad_mode: str) -> str:
    """`pad_mode` if there is such a mode, else BadInputError."""
    if pad_mode not in PAD_MODES:
        raise BadInputError(f"unknown padding {pad_mode!r}", fix=f"use one of: {', '.join(PAD_MODES)}")
    return pad_mode
