"""Signs of joined maps: taken part by part where the words stay whole, refused elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from onebit.codegen import compile_graph, find_target
from onebit.core import DType, Quantization
from onebit.core.ops import Abs, Concatenation
from onebit.core.passes.sign_before_join import sign_before_join
from support.nets import Net
from support.passes import names, run_pass

F32, I8 = DType.FLOAT32, DType.INT8


def joined(channels: Sequence[int], axis: int, dtype: DType = F32, rows: Sequence[int] = ()) -> Net:
    """Convolutions of one map with these channels (or heights), joined."""
    quant = Quantization.per_tensor(0.05, 3) if dtype is I8 else None
    net = Net((1, 4, 5, 3), dtype, quant)
    source, parts = net.now, []
    for i, outs in enumerate(channels):
        net.now = source
        net.conv(outs, (1, 1), stride=(rows[i] if rows else 1, 1), quant=quant)
        parts.append(net.now.name)
    net.now = net.tensors[parts[0]]
    return net.node(Concatenation(axis), *parts[1:], dtype=dtype, quant=quant)


@pytest.mark.parametrize("dtype", [F32, I8])
@pytest.mark.parametrize(
    ("channels", "axis", "rows"),
    [((32, 32), 3, ()), ((64, 32, 7), -1, ()), ((33, 33), 1, (1, 2)), ((5, 5), -3, (2, 4)), ((7, 7), 2, ())],
)
def test_the_sign_of_every_part(channels: Sequence[int], axis: int, rows: Sequence[int], dtype: DType) -> None:
    net = joined(channels, axis, dtype, rows).quantize()
    result = run_pass(sign_before_join, net.graph(), net.samples(4))
    assert names(result.graph)[len(channels) :] == ["LceQuantize"] * len(channels) + ["CONCATENATION"]
    assert set(result.eliminated) == {f"concatenation_{len(channels)}"}


def test_a_part_that_stands_twice_has_one_sign() -> None:
    net = Net((1, 4, 5, 3)).conv(32, (1, 1))
    net.node(Concatenation(3), net.now.name, dtype=F32).quantize()
    result = run_pass(sign_before_join, net.graph(), net.samples(4))
    assert names(result.graph) == ["CONV_2D", "LceQuantize", "CONCATENATION"]


def test_joins_of_joins() -> None:
    net = joined((32, 64), 3)
    inner = net.now.name
    net.now = net.tensors["input"]
    net.conv(9, (1, 1))
    last = net.now.name
    net.now = net.tensors[inner]
    net.node(Concatenation(3), last, dtype=F32).quantize()
    result = run_pass(sign_before_join, net.graph(), net.samples(4))
    assert names(result.graph).count("LceQuantize") == 3
    assert {"concatenation_2", "concatenation_4"} <= set(result.eliminated)


@pytest.mark.parametrize("case", ["words", "read twice", "a constant"])
def test_refused(case: str) -> None:
    if case == "words":
        graph = joined((33, 32), 3).quantize().graph()
    elif case == "read twice":
        net = joined((32, 32), 3)
        both = net.now
        net.node(Abs(), dtype=F32)
        net.now = both
        graph = net.quantize().graph()
    else:
        net = Net((1, 4, 5, 3)).conv(32, (1, 1))
        constant = net.constant("constant", np.ones((1, 4, 5, 32)), F32)
        graph = net.node(Concatenation(3), constant, dtype=F32).quantize().graph()
    assert sign_before_join(graph) is graph


def test_binary_convolutions_in_front_of_a_join_give_bits() -> None:
    """And rows of bits are computed where they are joined: no float map, no copy."""
    net = Net((1, 6, 6, 8)).quantize()
    signs, parts = net.now, []
    for _ in range(2):
        net.now = signs
        parts.append(net.bconv(33).now.name)
    net.now = net.tensors[parts[0]]
    net.node(Concatenation(1), parts[1], dtype=F32).quantize().bconv(4)
    program = compile_graph(net.graph(), find_target("cortex-m4"))
    assert [step.kernel.function for step in program.steps] == [
        "ob_quantize_f32", "ob_bconv2d_bits", "ob_bconv2d_bits", "ob_bconv2d_f32",
    ]  # fmt: skip
