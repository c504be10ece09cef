"""Pictures and numbers as text: PNG without a library, data URIs, thousands separators, per cent."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np

from onebit.core.graph import Array

_COLOUR_TYPES = {1: 0, 3: 2}  # channels -> PNG colour type: grey, RGB


def is_picture(pixels: Array | None) -> bool:
    """Whether samples [N, H, W, C] can be shown: uint8, one channel or three, of a size that a page can hold."""
    return (
        pixels is not None
        and pixels.dtype == np.uint8
        and pixels.ndim == 4
        and pixels.shape[3] in _COLOUR_TYPES
        and max(pixels.shape[1:3]) <= 512
    )


def png(image: Array) -> bytes:
    """An uint8 picture [H, W, 1] (grey) or [H, W, 3] (RGB) as PNG, one file pixel per pixel."""
    height, width, channels = image.shape
    header = struct.pack(">2I5B", width, height, 8, _COLOUR_TYPES[channels], 0, 0, 0)
    # every line starts with its filter; 0 is none
    lines = np.zeros((height, 1 + width * channels), np.uint8)
    lines[:, 1:] = image.reshape(height, -1)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def data_uri(image: Array) -> str:
    """`png` of the picture as a data URI."""
    return "data:image/png;base64," + base64.b64encode(png(image)).decode("ascii")


def length(part: float, whole: float) -> str:
    """Per cent of a bar's box, as CSS takes it: ``42.3``; 0 of 0 is 0."""
    return f"{100 * part / whole:.1f}" if whole else "0"


def percent(share: float | None, digits: int = 1) -> str:
    """A share of 0 to 1 as ``98.1 %``; an en dash where there is none."""
    return "–" if share is None else f"{100 * share:.{digits}f} %"


def count(value: float | None) -> str:
    """An integer with thousands separators; an en dash where there is none."""
    return "–" if value is None else f"{value:,.0f}"


def size(value: int | None) -> str:
    """Bytes, exactly: ``3,920 B``."""
    return "–" if value is None else f"{value:,} B"
