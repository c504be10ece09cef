"""RESHAPE: the same bytes under another shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from onebit.core.graph import Array, DType
from onebit.core.ops.base import BuiltinOp, Options, Shape, View, constraint, register


@register
@dataclass(frozen=True)
class Reshape(BuiltinOp):
    """The declared output shape counts; an optional second input only repeats it."""

    name = "RESHAPE"
    arity = (1, 2)
    code = 22
    options_table = "ReshapeOptions"

    #: the target shape; empty where the second input gives it
    new_shape: tuple[int, ...] = ()

    @constraint
    def dtype(self, view: View) -> bool:
        """input and output have the same dtype, float32 or int8, and the same quantization"""
        x, y = view.input(0), view.output
        return x.dtype is y.dtype and x.dtype in (DType.FLOAT32, DType.INT8) and x.quant == y.quant

    @constraint
    def same_size(self, view: View) -> bool:
        """input and output hold the same number of elements, and the batch stays 1"""
        return view.input(0).elements == view.output.elements and view.output.shape[0] == 1

    @constraint
    def target_shape(self, view: View) -> bool:
        """the target shape, in the options or as a constant second input, is the output's (one size may be -1)"""
        given = view.optional(1)
        if given is None:
            target = self.new_shape
        elif given.data is not None and given.dtype is DType.INT32:
            target = tuple(int(size) for size in given.data.reshape(-1))
        else:
            return False
        matches = [t in (-1, size) for t, size in zip(target, view.output.shape, strict=False)]
        return len(target) == len(view.output.shape) and all(matches) and target.count(-1) <= 1

    def infer(self, view: View) -> tuple[Shape, DType]:
        return view.output.shape, view.input(0).dtype

    def evaluate(self, view: View, args: Sequence[Array | None]) -> Array:
        x = args[0]
        assert x is not None
        return x.reshape(x.shape[0], *view.output.shape[1:])

    @classmethod
    def from_options(cls, options: Options) -> Reshape:
        shape = options["new_shape"]
        return cls(() if shape is None else tuple(int(d) for d in shape))

    def to_options(self) -> dict[str, Any]:
        return {"new_shape": list(self.new_shape)}
