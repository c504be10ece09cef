"""LceDequantize: +1 and -1 as float32, and as the int8 values that stand for them."""

from __future__ import annotations

import numpy as np
import pytest

from onebit.core import DType, Quantization
from onebit.core.ops.lce_quantize import dequantized_levels
from support.lce import Agrees
from support.nets import Net


@pytest.mark.parametrize("channels", [1, 31, 32, 33, 64, 65])
def test_float_channel_counts(channels: int, agrees: Agrees) -> None:
    net = Net((1, 2, 3, channels)).quantize().dequantize()
    agrees(net.graph(), net.samples(2))


@pytest.mark.parametrize("shape", [(1, 7), (1, 2, 3), (1, 1, 1, 1), (1, 2, 2, 2, 5)])
def test_any_rank(shape: tuple[int, ...], agrees: Agrees) -> None:
    net = Net(shape).quantize().dequantize()
    agrees(net.graph(), net.samples(2))


LEVELS = {
    "one step is one": (1.0, 0, (1, -1)),
    "saturates below": (0.01, -128, (-28, -128)),
    "saturates above": (0.4, 127, (127, 124)),  # 1 / 0.4 is 2.5 in float32: half away from zero
    "saturates both": (0.001, 5, (127, -128)),
    "tie of two thirds": (2 / 3, 5, (7, 3)),
    "half a step": (2.0, 0, (1, -1)),
    "no step at all": (1000.0, 3, (3, 3)),
    "scale below 1/128": (1 / 200, 0, (127, -128)),
    "least scale": (2.0**-30, 2, (127, -128)),
}


@pytest.mark.parametrize("case", LEVELS)
def test_int8_levels(case: str, agrees: Agrees) -> None:
    scale, zero_point, levels = LEVELS[case]
    quant = Quantization.per_tensor(scale, zero_point)
    assert dequantized_levels(quant) == levels
    net = Net((1, 2, 3, 33)).quantize().dequantize(DType.INT8, quant)
    agrees(net.graph(), net.samples(2))


def test_every_scale_near_a_tie(agrees: Agrees) -> None:
    # 1 / scale just below, at and just above k + 1/2
    for k in (1, 3, 10, 60):
        for scale in (
            1 / np.float32(k + 0.5),
            np.nextafter(np.float32(1 / (k + 0.5)), np.float32(0)),
            1 / (k + 0.4999),
        ):
            net = Net((1, 1, 1, 5)).quantize().dequantize(DType.INT8, Quantization.per_tensor(float(scale), -7))
            agrees(net.graph(), net.samples(3))
