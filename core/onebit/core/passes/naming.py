"""Tensors that a pass adds, and their names."""

from __future__ import annotations

from collections.abc import Container

import numpy as np

from onebit.core.bits import pack
from onebit.core.graph import Array, DType, Graph, Tensor


def unique_name(taken: Container[str], wanted: str) -> str:
    """`wanted`, or the first of ``wanted_1``, ``wanted_2``, ... that is not taken."""
    name, count = wanted, 0
    while name in taken:
        count += 1
        name = f"{wanted}_{count}"
    return name


def fresh_name(graph: Graph, wanted: str) -> str:
    """A name that no tensor of `graph` has: a new value never goes under an old name."""
    return unique_name(graph.tensors, wanted)


def constant_tensor(taken: Container[str], wanted: str, data: Array) -> Tensor:
    """A constant under a name that is not taken: int32 or float32 as they are, bool as packed bits (True is -1)."""
    if data.dtype == np.bool_:
        return Tensor(unique_name(taken, wanted), data.shape, DType.BITS, None, pack(data))
    return Tensor(unique_name(taken, wanted), data.shape, DType(data.dtype.name), None, data)
