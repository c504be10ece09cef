"""Packed signs, in the layout of Larq Compute Engine (LCE).

Bit 1 means -1 and bit 0 means +1. Channel ``c`` of the last axis sits in word ``c // 32``, bit ``c % 32`` (least
significant first); words are int32, and the unused bits of the last word are 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

WORD_BITS = 32

#: the +1/-1 values of the 8 bits of every byte, least significant first
_SIGNS_OF_BYTE = (1 - 2 * (np.arange(256)[:, None] >> np.arange(8) & 1)).astype(np.float32)


def words_for(channels: int) -> int:
    """Number of 32-bit words that hold `channels` packed signs."""
    return -(-channels // WORD_BITS)


def channels_in(words: int, channels: int) -> int:
    """Channels of a tensor of `words` words per pixel, made of the words of one with `channels`.

    As many words have as many channels; any other number comes of full words.
    """
    return channels if words == words_for(channels) else WORD_BITS * words


def pack(negative: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Pack a bool array ``[..., C]`` (True means -1) into int32 words ``[..., ceil(C/32)]``."""
    channels = negative.shape[-1]
    words = words_for(channels)
    padded = np.zeros((*negative.shape[:-1], words * WORD_BITS), np.uint8)
    padded[..., :channels] = negative
    packed = np.packbits(padded, axis=-1, bitorder="little")
    return packed.view("<i4").reshape(*negative.shape[:-1], words).astype(np.int32)


def unpack(words: NDArray[np.int32], channels: int) -> NDArray[np.bool_]:
    """Undo `pack`: int32 words ``[..., ceil(C/32)]`` to a bool array ``[..., C]`` (True means -1)."""
    as_bytes = np.ascontiguousarray(words, dtype="<i4").view(np.uint8)
    return np.unpackbits(as_bytes, axis=-1, bitorder="little")[..., :channels].astype(np.bool_)


def signs(words: NDArray[np.int32], channels: int) -> NDArray[np.float32]:
    """The +1/-1 values of packed words, as float32 ``[..., C]``."""
    as_bytes = np.ascontiguousarray(words, dtype="<i4").view(np.uint8)
    wide: NDArray[np.float32] = _SIGNS_OF_BYTE.take(as_bytes, axis=0)
    return wide.reshape(*words.shape[:-1], -1)[..., :channels]
