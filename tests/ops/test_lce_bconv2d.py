"""LceBconv2d against the LCE interpreter, and against plain loops where that refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onebit.core import DType, Graph, Quantization, evaluate
from onebit.core.bits import unpack
from onebit.core.graph import Array
from onebit.core.ops import Activation, LceBconv2d, Padding
from support.lce import Agrees, LceRefusedError, LceSession
from support.nets import Net

DTYPES = (DType.FLOAT32, DType.INT8, DType.BITS)
#: padding and value of the padding pixels
PADDINGS = {"VALID": (Padding.VALID, 0), "one": (Padding.SAME, 1), "zero": (Padding.SAME, 0)}
INT32 = np.iinfo(np.int32)


def net_of(shape: tuple[int, ...], out: int = 7, padding: str = "one", seed: int = 0, **options: Any) -> Net:
    rule, value = PADDINGS[padding]
    return Net(shape, seed=seed).quantize().bconv(out, padding=rule, pad_value=value, **options)


def paddings_of(to: DType, channels: int) -> list[str]:
    """The paddings that the interpreter has for the output dtype and channel count."""
    return ["VALID", "one"] + ["zero"] * (to is not DType.BITS and channels % 2 == 0)


@pytest.mark.parametrize("to", DTYPES)
@pytest.mark.parametrize("channels", [1, 31, 32, 33, 64, 65])
def test_channel_counts_around_the_word(channels: int, to: DType, agrees: Agrees) -> None:
    for padding in paddings_of(to, channels):
        for out in (1, 33):
            net = net_of((1, 4, 5, channels), out, padding, to=to)
            agrees(net.graph(), net.samples(2))


@pytest.mark.parametrize("to", DTYPES)
@pytest.mark.parametrize("kernel", [(1, 1), (2, 2), (3, 3), (3, 2), (1, 4)], ids=str)
@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (2, 1), (3, 3)], ids=str)
@pytest.mark.parametrize("dilation", [(1, 1), (2, 2), (2, 1)], ids=str)
def test_geometry(
    dilation: tuple[int, int], stride: tuple[int, int], kernel: tuple[int, int], to: DType, agrees: Agrees
) -> None:
    for padding in paddings_of(to, 34):
        net = net_of((1, 7, 8, 34), 5, padding, to=to, kernel=kernel, stride=stride, dilation=dilation)
        agrees(net.graph(), net.samples(2))


@pytest.mark.parametrize("to", DTYPES)
def test_a_single_pixel(to: DType, agrees: Agrees) -> None:
    for padding in paddings_of(to, 40):
        for kernel in ((1, 1), (3, 3)):
            if padding != "VALID" or kernel == (1, 1):
                net = net_of((1, 1, 1, 40), 5, padding, to=to, kernel=kernel)
                agrees(net.graph(), net.samples(3))


@pytest.mark.parametrize("to", DTYPES)
@pytest.mark.parametrize(("channels", "groups", "out"), [(64, 2, 8), (96, 3, 9), (128, 2, 34), (128, 4, 4)])
def test_groups(channels: int, groups: int, out: int, to: DType, agrees: Agrees) -> None:
    for padding in paddings_of(to, channels):
        net = net_of((1, 4, 4, channels), out, padding, to=to, groups=groups)
        agrees(net.graph(), net.samples(2))


@pytest.mark.parametrize("to", DTYPES)
@pytest.mark.parametrize("activation", list(Activation), ids=lambda a: a.name)
def test_fused_activations_act_on_the_integer_dot_product(activation: Activation, to: DType, agrees: Agrees) -> None:
    for padding in paddings_of(to, 34):
        net = net_of((1, 4, 4, 34), 9, padding, to=to, activation=activation, multiplier=np.linspace(-1, 1, 9))
        agrees(net.graph(), net.samples(3))


@pytest.mark.parametrize("activation", list(Activation), ids=lambda a: a.name)
def test_few_taps_narrow_the_clamp(activation: Activation, agrees: Agrees) -> None:
    # K = 2 and 4: the range of the dot product is narrower than that of ReLU6
    for channels, kernel in ((2, (1, 1)), (2, (1, 2))):
        net = net_of((1, 3, 3, channels), 4, "VALID", activation=activation, kernel=kernel)
        agrees(net.graph(), net.samples(4))


def test_thresholds_at_the_ends_of_their_range(agrees: Agrees) -> None:
    taps = 9 * 34
    values = [INT32.min, INT32.min + 1, -1, 0, 1, taps // 2, taps - 1, taps, taps + 1, INT32.max - 1, INT32.max]
    net = net_of((1, 4, 4, 34), len(values), "one", to=DType.BITS, threshold=np.array(values))
    x = net.samples(3)
    agrees(net.graph(), x)
    graph = net.graph()
    negative = unpack(evaluate(graph, x)[graph.outputs[0]], len(values))
    assert negative[..., :3].all()  # below 0: always -1
    assert not negative[..., -4:].any()  # K or more: never


def test_negative_zero_and_no_multiplier(agrees: Agrees) -> None:
    multiplier = np.array([-1.0, -2.5, 0.0, -0.0, 0.0, 1.0])
    bias = np.array([0.0, 0.0, -1.0, -0.0, 0.0, -0.0])
    for padding in PADDINGS:
        net = net_of((1, 4, 4, 34), 6, padding, multiplier=multiplier, bias=bias)
        agrees(net.graph(), net.samples(3))


def test_a_zero_dot_product_without_bias_stays_exactly_zero() -> None:
    net = net_of((1, 4, 4, 34), 64, "zero", bias=np.zeros(64))
    graph = net.graph()
    x = net.samples(4)
    dots = 34 * 9 - accumulators(graph, x)
    y = evaluate(graph, x)[graph.outputs[0]]
    assert (dots == 0).any()
    np.testing.assert_array_equal(y == 0, dots == 0)


@pytest.mark.parametrize("scale", [1e-3, 1 / 64, 0.3, 1.0, 1e3, 1e20, 3e38])
@pytest.mark.parametrize("zero_point", [-128, 0, 127])
def test_int8_scales_that_saturate_or_vanish(scale: float, zero_point: int, agrees: Agrees) -> None:
    net = net_of((1, 4, 4, 34), 9, "one", to=DType.INT8, quant=Quantization.per_tensor(scale, zero_point))
    agrees(net.graph(), net.samples(2))


def test_int8_saturates_far_beyond_64_bits(agrees: Agrees) -> None:
    net = net_of((1, 4, 4, 34), 9, "one", to=DType.INT8, quant=Quantization.per_tensor(1e-20, 0))
    agrees(net.graph(), net.samples(2))


@pytest.mark.parametrize("zero_point", [-3, 0, 5])
def test_int8_rounds_ties_away_from_zero(zero_point: int, agrees: Agrees) -> None:
    multiplier = np.array([0.5, -0.5, 0.25, 1.5, -0.25, 0.125])
    bias = np.array([0.0, 0.5, -0.25, 0.5, 0.0, 0.0625])
    quant = Quantization.per_tensor(1.0, zero_point)
    for padding in PADDINGS:
        net = net_of((1, 4, 4, 10), 6, padding, to=DType.INT8, quant=quant, multiplier=multiplier, bias=bias)
        x = net.samples(8)
        agrees(net.graph(), x)
    graph = net.graph()
    y = graph.nodes[1].op.output_transform(view_of(graph))  # type: ignore[attr-defined]
    real = np.float32(accumulators(graph, x)) * y.multiplier + y.bias
    assert (real % 1 == 0.5).any(), "the case has no ties"


def test_int8_just_below_a_tie(agrees: Agrees) -> None:
    # 0.49999997 + 0.5 is 1 in float32: rounding must not be done by adding a half in float32
    below = float(np.nextafter(np.float32(0.5), np.float32(0)))
    quant = Quantization.per_tensor(1.0, 0)
    net = net_of((1, 2, 2, 4), 3, "VALID", kernel=(1, 1), to=DType.INT8, quant=quant, multiplier=np.zeros(3),
                 bias=np.array([below, -below, 0.5]))  # fmt: skip
    agrees(net.graph(), net.samples(2))
    graph = net.graph()
    assert evaluate(graph, net.samples(1))[graph.outputs[0]][0, 0, 0].tolist() == [0, 0, 1]


@pytest.mark.parametrize("seed", range(8))
def test_chains_from_end_to_end(seed: int, agrees: Agrees) -> None:
    net = Net((1, 8, 8, 3), seed=seed).quantize()
    net.bconv(33, to=DType.BITS).bpool().bconv(40, stride=(2, 2)).quantize()
    net.bconv(20, (1, 1), to=DType.INT8, padding=Padding.VALID, activation=Activation.RELU).quantize().bconv(10, (2, 2))
    agrees(net.graph(), net.samples(3))


# ------------------------------------------------------------------------ zero padding with an odd number of channels


def view_of(graph: Graph) -> Any:
    from onebit.core.ops import View

    return View.of(graph, graph.nodes[1])


def accumulators(graph: Graph, x: Array) -> Array:
    """The doubled popcounts of the graph's binary convolution."""
    view = view_of(graph)
    words = evaluate(graph, x, [graph.nodes[0].output])[graph.nodes[0].output]
    return view.node.op.window.accumulate(view.input(0), view.input(1), words, view.input(1).constant())


def plain_dots(x: Array, weights: Array, net_op: LceBconv2d, out: tuple[int, int], before: tuple[int, int]) -> Array:
    """Dot products [OH, OW, O] of one image [H, W, C] and filters [O, KH, KW, C/groups] of +-1, by plain loops."""
    window = net_op.window
    height, width, channels = x.shape
    outs, kernel_height, kernel_width, per_group = weights.shape
    groups = channels // per_group
    result = np.zeros((*out, outs), np.int64)
    for oy, ox, o in np.ndindex(*result.shape):
        first = o // (outs // groups) * per_group
        total = 0
        for ky, kx in np.ndindex(kernel_height, kernel_width):
            iy = oy * window.stride[0] - before[0] + ky * window.dilation[0]
            ix = ox * window.stride[1] - before[1] + kx * window.dilation[1]
            inside = 0 <= iy < height and 0 <= ix < width
            for c in range(per_group):
                value = x[iy, ix, first + c] if inside else window.pad_value
                total += int(value) * int(weights[o, ky, kx, c])
        result[oy, ox, o] = total
    return result


PLAIN = {
    "1 channel": ((1, 3, 4, 1), {}),
    "31 channels": ((1, 3, 3, 31), {}),
    "33 channels, stride 2": ((1, 5, 4, 33), {"stride": (2, 2)}),
    "3 channels, stride (2, 1), 5x2": ((1, 6, 5, 3), {"stride": (2, 1), "kernel": (5, 2)}),
    "5 channels, dilation (2, 1)": ((1, 5, 4, 5), {"dilation": (2, 1)}),
    "1x1 map": ((1, 1, 1, 7), {}),
    "even channels": ((1, 4, 3, 34), {"stride": (1, 2)}),
    "even kernel": ((1, 4, 4, 3), {"kernel": (2, 2)}),
    "two groups": ((1, 3, 3, 64), {"groups": 2}),
}
#: padding before the image, by hand from TensorFlow's rule: smaller half of (out-1)*stride + effective kernel - in
BEFORE = {
    "1 channel": (1, 1),
    "31 channels": (1, 1),
    "33 channels, stride 2": (1, 0),
    "3 channels, stride (2, 1), 5x2": (1, 0),
    "5 channels, dilation (2, 1)": (2, 1),
    "1x1 map": (1, 1),
    "even channels": (1, 1),
    "even kernel": (0, 0),
    "two groups": (1, 1),
}


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("case", PLAIN)
def test_the_accumulator_against_plain_loops(case: str, padding: str) -> None:
    shape, options = PLAIN[case]
    if padding == "VALID" and shape[1] < 3:
        options = {**options, "kernel": (1, 1)}
    net = net_of(shape, 4, padding, **options)
    graph, x = net.graph(), net.samples(1)
    op = graph.nodes[1].op
    assert isinstance(op, LceBconv2d)
    filters = graph.tensors["filter_1"]
    weights = np.where(unpack(filters.constant(), filters.shape[3]), -1, 1)
    before = BEFORE[case] if padding != "VALID" else (0, 0)
    out = graph.output.shape[1:3]
    dots = plain_dots(np.where(x[0] < 0, -1, 1), weights, op, (out[0], out[1]), before)
    taps = int(np.prod(filters.shape[1:]))
    np.testing.assert_array_equal(accumulators(graph, x)[0], taps - dots)


@pytest.mark.parametrize("activation", [Activation.NONE, Activation.RELU], ids=lambda a: a.name)
@pytest.mark.parametrize("to", [DType.FLOAT32, DType.INT8])
@pytest.mark.parametrize("channels", [1, 3, 31, 33, 65])
def test_odd_channels_with_zero_padding(channels: int, to: DType, activation: Activation, lce: LceSession) -> None:
    """The same signs twice, with half the multiplier: the same function, bit for bit, of an even number of channels."""
    multiplier, bias = np.linspace(-0.5, 0.5, 6) / channels**0.5, np.linspace(-1, 1, 6)
    odd = net_of((1, 4, 5, channels), 6, "zero", to=to, activation=activation, multiplier=multiplier, bias=bias)
    x = odd.samples(3)
    with pytest.raises(LceRefusedError, match="even number of input channels"):
        lce.run(odd.graph(), x)
    even = net_of((1, 4, 5, 2 * channels), 6, "zero", to=to, activation=activation, bias=bias,
                  multiplier=multiplier.astype(np.float32) / 2)  # fmt: skip
    # the twin takes the odd net's weights, twice
    weights = unpack(odd.tensors["filter_1"].constant(), channels)
    even.constant("filter_1", np.concatenate([weights, weights], -1), DType.BITS)
    graph = even.graph()
    want = lce.run(graph, np.concatenate([x, x], -1))[graph.outputs[0]]
    np.testing.assert_array_equal(evaluate(odd.graph(), x)[odd.graph().outputs[0]], want)
