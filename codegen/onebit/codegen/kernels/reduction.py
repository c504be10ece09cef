"""Kernels of MEAN and REDUCE_MAX: every reduction is one over the middle axis of [outer, count, inner]."""

from __future__ import annotations

from collections.abc import Callable

from onebit.codegen.kernel import Arg, Input, Kernel, Literal, Output, Struct, register_kernel
from onebit.codegen.kernels.common import stage_params
from onebit.core.graph import DType
from onebit.core.ops import Mean, Op, ReduceMax, View


def _shape(view: View) -> Struct:
    op = view.node.op
    assert isinstance(op, (Mean, ReduceMax))
    return Struct("ob_reduce_shape", dict(zip(("outer", "count", "inner"), op.extents(view), strict=True)))


def _reduce(view: View) -> tuple[Arg, ...]:
    return _shape(view), Input(), Output()


def _max_f32(view: View) -> tuple[Arg, ...]:
    op = view.node.op
    assert isinstance(op, ReduceMax)
    return _shape(view), Input(), Literal(float(op.lowest(view))), Literal(int(op.backwards(view))), Output()


def _mean_i8(view: View) -> tuple[Arg, ...]:
    op = view.node.op
    assert isinstance(op, Mean)
    form = op.integer_mean(view)
    stage = form.stage
    numbers = (form.start, int(stage.q[0]), int(stage.exponent[0]))
    return _shape(view), Input(), *(Literal(v) for v in numbers), stage_params(stage), Output()


def _register(name: str, op: type[Op], dtype: DType, lower: Callable[[View], tuple[Arg, ...]]) -> None:
    """A kernel that costs 5 instructions per element of its input and 20 per element of its output."""
    register_kernel(
        Kernel(
            name,
            "ob_reduce.h",
            (f"{name}.c",),
            op,
            lower,
            cost=lambda view: 5.0 * view.input(0).elements + 20.0 * view.output.elements,
            supports=lambda view: view.output.dtype is dtype,
            # element [o, i] of the output lies before all that is read for a later one
            in_place=lambda _: (0,),
        )
    )


_register("ob_mean_i8", Mean, DType.INT8, _mean_i8)
_register("ob_mean_f32", Mean, DType.FLOAT32, _reduce)
_register("ob_reduce_max_i8", ReduceMax, DType.INT8, _reduce)
_register("ob_reduce_max_f32", ReduceMax, DType.FLOAT32, _max_f32)
