"""STRIDED_SLICE with random positions; the named cases are in test_movement.py."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from onebit.core import DType, Rounding, spec
from onebit.core.errors import SpecError
from onebit.core.ops import StridedSlice
from support.lce import Agrees
from support.movement_nets import move, start
from support.nets import Net

TRIES = 200


def random_net(rng: np.random.Generator) -> Net:
    """Ranges, removed axes, new axes and at most one ellipsis, with begins and ends around the axes' limits."""
    rank = int(rng.integers(2, 6))
    shape = (1, *(int(d) for d in rng.integers(1, 5, rank - 1)))
    count = int(rng.integers(1, min(rank + 2, 6)))
    kinds = ["range", *(str(k) for k in rng.choice(["range", "range", "range", "removed", "new"], count - 1))]
    if rng.random() < 0.3:
        kinds[int(rng.integers(count))] = "ellipsis"
    begin, end = rng.integers(-5, 6, count), rng.integers(-5, 6, count)
    strides = rng.choice([-2, -1, 1, 1, 1, 2, 3], count)

    def mask(kind: str) -> int:
        return sum(1 << i for i, k in enumerate(kinds) if k == kind)

    strides[[k == "removed" for k in kinds]] = 1
    masks = {name: int(rng.integers(32)) | 1 for name in ("begin_mask", "end_mask")}
    masks["begin_mask"] &= ~mask("removed")
    masks.update(ellipsis_mask=mask("ellipsis"), new_axis_mask=mask("new"), shrink_axis_mask=mask("removed"))
    return move(start(DType.INT8, shape), StridedSlice(**masks), begin, end, strides)  # type: ignore[arg-type]


def test_random_positions_as_the_interpreter_or_refused(
    rng: np.random.Generator, agrees: Agrees, rounding: Rounding
) -> None:
    accepted = 0
    for _ in range(TRIES):
        try:
            net = random_net(rng)
        except IndexError:  # an index that does not exist has no shape to infer
            continue
        try:
            spec.verify(replace(net.graph(), rounding=rounding), "test")
        except SpecError:
            continue
        agrees(net.graph(), net.samples(2))
        accepted += 1
    assert accepted > TRIES / 4


def test_an_ellipsis_without_an_axis_is_refused() -> None:
    """The interpreter then takes the wrong axes: found by the test above."""
    net = start(DType.FLOAT32, (1, 4))
    net = move(net, StridedSlice(ellipsis_mask=2), [0, 0, 1], [1, 0, 3], [1, 1, 1])
    with pytest.raises(SpecError, match="one is left for an ellipsis"):
        spec.verify(net.graph(), "test")
