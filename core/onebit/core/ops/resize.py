"""RESIZE_NEAREST_NEIGHBOR: every pixel of the output is a pixel of the input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onebit.core.graph import Array, DType
from onebit.core.ops.base import BuiltinOp, Options, Shape, View, constraint, register
from onebit.core.ops.movement import constant_values, known_values


@register
@dataclass(frozen=True)
class ResizeNearestNeighbor(BuiltinOp):
    """The second input holds height and width of the output.

    In float32, as LiteRT computes it: scale = in / out, or (in - 1) / (out - 1) with aligned corners and out > 1;
    position = (i, or i + 0.5 with half-pixel centers) * scale; rounded half away with aligned corners, else down; at
    most in - 1.
    """

    name = "RESIZE_NEAREST_NEIGHBOR"
    arity = (2, 2)
    code = 97
    options_table = "ResizeNearestNeighborOptions"

    align_corners: bool = False
    half_pixel_centers: bool = False

    @constraint
    def image(self, view: View) -> bool:
        """the input is [1, H, W, C], float32 or int8, and the output has its dtype and quantization"""
        x, y = view.input(0), view.output
        elements = x.dtype is y.dtype and x.dtype in (DType.FLOAT32, DType.INT8) and x.quant == y.quant
        return elements and len(x.shape) == 4 and not x.is_constant

    @constraint
    def size(self, view: View) -> bool:
        """the second input is an int32 constant of two values from 1"""
        values = constant_values(view, 1)
        return values is not None and len(values) == 2 and min(values) >= 1

    def infer(self, view: View) -> tuple[Shape, DType]:
        x = view.input(0)
        return (x.shape[0], *known_values(view, 1), x.shape[3]), x.dtype

    def sources(self, size: int, out: int) -> Array:
        """Which row (or column) of `size` each of the `out` rows of the output is, int32."""
        aligned = self.align_corners and out > 1
        scale = np.float32(size - 1) / np.float32(out - 1) if aligned else np.float32(size) / np.float32(out)
        position = (np.arange(out, dtype=np.float32) + np.float32(0.5 * self.half_pixel_centers)) * scale
        if self.align_corners:
            # positions are not negative, and 0.5 more than an even float32 below 2**23 is exact in double
            position = position.astype(np.float64) + 0.5
        return np.asarray(np.minimum(np.floor(position).astype(np.int32), np.int32(size - 1)))

    def tables(self, view: View) -> tuple[Array, Array]:
        """`sources` of rows and of columns."""
        x, y = view.input(0), view.output
        return self.sources(x.shape[1], y.shape[1]), self.sources(x.shape[2], y.shape[2])

    def evaluate(self, view: View, args: Sequence[Array | None]) -> Array:
        x = args[0]
        assert x is not None
        rows, cols = self.tables(view)
        return np.ascontiguousarray(x[:, rows][:, :, cols])

    @classmethod
    def from_options(cls, options: Options) -> ResizeNearestNeighbor:
        return cls(bool(options["align_corners"]), bool(options["half_pixel_centers"]))

    def to_options(self) -> dict[str, Any]:
        return {"align_corners": self.align_corners, "half_pixel_centers": self.half_pixel_centers}
