"""A border in front of a convolution: folded where the same numbers come out, refused where they would not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onebit.codegen import compile_graph, find_target
from onebit.codegen.passes.fold_pad import fold_pad
from onebit.core import DType, Graph, Quantization
from onebit.core.ops import DepthwiseConv2d, Pad, Padding, PadV2, Relu
from support.nets import Net
from support.passes import names, run_pass

F32, I8, VALID = DType.FLOAT32, DType.INT8, Padding.VALID
#: as PyTorch pads, uneven, one side only, wider than the kernel, nothing
BORDERS = {
    "torch": [[1, 1], [1, 1]], "uneven": [[0, 2], [1, 0]], "rows": [[3, 0], [0, 0]], "wide": [[4, 5], [3, 4]],
    "none": [[0, 0], [0, 0]],
}  # fmt: skip
QUANTS = {zero_point: Quantization.per_tensor(0.05, zero_point) for zero_point in (-128, 3, 127)}


def padded(net: Net, border: Any, channels: tuple[int, int] = (0, 0), value: float | None = None) -> Net:
    widths = net.constant(f"widths_{len(net.nodes)}", [[0, 0], *border, list(channels)], DType.INT32)
    now = net.now
    if value is None:
        return net.node(Pad(), widths, dtype=now.dtype, quant=now.quantization)
    fill = net.constant(f"fill_{len(net.nodes)}", [value], now.dtype, quant=now.quantization)
    return net.node(PadV2(), widths, fill, dtype=now.dtype, quant=now.quantization)


def start(zero_point: int | None) -> Net:
    quant = None if zero_point is None else QUANTS[zero_point]
    return Net((1, 5, 6, 4), F32 if quant is None else I8, quant)


@pytest.mark.parametrize("stride", [(1, 1), (2, 2)])
@pytest.mark.parametrize("zero_point", [None, *QUANTS])
@pytest.mark.parametrize("border", BORDERS)
def test_in_front_of_a_convolution(border: str, zero_point: int | None, stride: tuple[int, int]) -> None:
    net = padded(start(zero_point), BORDERS[border]).conv(7, stride=stride, padding=VALID)
    result = run_pass(fold_pad, net.graph(), net.samples(4))
    assert names(result.graph) == ["CONV_2D"]
    assert dict(result.eliminated) == {"pad_0": "fold_pad"}


@pytest.mark.parametrize("zero_point", [None, 3])
def test_in_front_of_a_depthwise_convolution(zero_point: int | None) -> None:
    net = padded(start(zero_point), BORDERS["torch"])
    dtype, quant = net.now.dtype, net.now.quantization
    scale = None if quant is None else Quantization.per_tensor(0.01, 0)
    weights = net.rng.integers(-100, 100, (1, 3, 3, 4)) if dtype is I8 else net.rng.normal(size=(1, 3, 3, 4))
    filters = net.constant("filters", weights, dtype, quant=scale)
    bias = net.constant("bias", np.arange(4), F32 if dtype is F32 else DType.INT32)
    net.node(DepthwiseConv2d(stride=(2, 2), padding=VALID), filters, bias, dtype=dtype, quant=quant)
    assert names(run_pass(fold_pad, net.graph(), net.samples(4)).graph) == ["DEPTHWISE_CONV_2D"]


@pytest.mark.parametrize("to", [F32, I8, DType.BITS])
@pytest.mark.parametrize("zero_point", [None, *QUANTS])
@pytest.mark.parametrize("border", BORDERS)
def test_in_front_of_a_binary_convolution(border: str, zero_point: int | None, to: DType) -> None:
    """Zeros have the sign +: the border counts as +1."""
    net = padded(start(zero_point), BORDERS[border]).quantize().bconv(9, stride=(2, 1), padding=VALID, to=to)
    result = run_pass(fold_pad, net.graph(), net.samples(4))
    assert names(result.graph) == ["LceQuantize", "LceBconv2d"]
    assert set(result.eliminated) == {"pad_0", "lcequantize_1"}


@pytest.mark.parametrize("border", BORDERS)
def test_packed_bits_in_front_of_a_binary_convolution(border: str) -> None:
    net = padded(start(None).quantize(), BORDERS[border]).bconv(9, padding=VALID)
    result = run_pass(fold_pad, net.graph(), net.samples(4))
    assert names(result.graph) == ["LceQuantize", "LceBconv2d"]
    assert set(result.eliminated) == {"pad_1"}


@pytest.mark.parametrize(("value", "folds"), [(0.0, True), (-0.0, True), (1.5, True), (-1e-40, True), (-0.5, False)])
def test_the_sign_of_another_value_decides(value: float, folds: bool) -> None:
    net = padded(start(None), BORDERS["torch"], value=value).quantize().bconv(9, padding=VALID)
    result = run_pass(fold_pad, net.graph(), net.samples(4))
    assert len(result.graph.nodes) == (2 if folds else 3)


def _read_twice() -> Net:
    net = padded(start(None), BORDERS["torch"])
    border = net.now
    net.node(Relu(), dtype=F32)
    net.now = border
    return net.conv(4, padding=VALID)


REFUSED = {
    "channels": lambda: padded(start(None), BORDERS["torch"], (1, 0)).conv(4, padding=VALID),
    "another value": lambda: padded(start(None), BORDERS["torch"], value=1.0).conv(4, padding=VALID),
    "another int8 value": lambda: padded(start(3), BORDERS["torch"], value=0).conv(4, padding=VALID),
    "SAME": lambda: padded(start(None), BORDERS["torch"]).conv(4),
    "binary SAME": lambda: padded(start(None), BORDERS["torch"]).quantize().bconv(4),
    "a pool": lambda: padded(start(None), BORDERS["torch"]).pool(2),
    "read twice": _read_twice,
    "the output": lambda: padded(start(None), BORDERS["torch"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    graph = REFUSED[case]().graph()
    assert fold_pad(graph) is graph


def test_signs_that_something_else_reads_stay() -> None:
    net = padded(start(None), BORDERS["torch"]).quantize()
    signs = net.now
    net.dequantize()
    net.now = signs
    graph = net.bconv(4, padding=VALID).graph()
    assert fold_pad(graph) is graph


def torch_net() -> Graph:
    net = padded(Net((1, 9, 9, 3), I8, QUANTS[3]), BORDERS["torch"]).conv(8, stride=(2, 2), padding=VALID)
    return padded(net, BORDERS["torch"]).quantize().bconv(5, padding=VALID, stride=(2, 2), to=I8).graph()


def test_no_padded_map_is_stored() -> None:
    program = compile_graph(torch_net(), find_target("cortex-m4"))
    assert [step.node.op.name for step in program.steps] == ["onebit.ConvSign", "onebit.BinaryConvScale"]
