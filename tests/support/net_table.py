"""One table of small nets around the corner cases of every kernel; several tests build it in different ways."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from onebit.core import DType, Graph, Node, Quantization, Rounding, Tensor
from onebit.core.ops import (
    Abs,
    Activation,
    Add,
    Concatenation,
    ExpandDims,
    FullyConnected,
    Greater,
    GreaterEqual,
    LceBMaxPool2d,
    LceDequantize,
    Maximum,
    MaxPool2d,
    Minimum,
    Mul,
    Op,
    Pack,
    Pad,
    Padding,
    PoolWindow,
    Prelu,
    Quantize,
    Relu,
    Relu6,
    Reshape,
    Slice,
    Split,
    Squeeze,
    StridedSlice,
    Sub,
    Transpose,
)
from support.chains import binary_dense_layer, minima, prelu, random_chain, ranges, several_ranges
from support.elementwise_nets import CHAINS
from support.movement_nets import back_to, every_movement, move
from support.nets import INT8_INPUT, Net
from support.window_nets import averages, depthwise, reductions

F32, I8, BITS = DType.FLOAT32, DType.INT8, DType.BITS
VALID, SAME = Padding.VALID, Padding.SAME
ZERO_POINTS = (-128, -3, 127)


def _quant(scale: float, zero_point: int) -> Quantization:
    return Quantization.per_tensor(scale, zero_point)


def _word_edges(channels: int) -> dict[str, Callable[[], Any]]:
    """Channel counts around the word in every binary form: all paddings, bits, float and int8 outputs."""
    return {
        f"bits_{channels}": lambda: (
            Net((1, 5, 6, channels))
            .quantize()
            .bconv(channels, to=BITS)
            .bconv(33, (2, 2), to=BITS, padding=VALID)
            .bconv(channels)
        ),
        f"int8_{channels}": lambda: (
            Net((1, 5, 6, channels), I8, INT8_INPUT).quantize().bconv(channels, to=I8).quantize().bconv(channels, to=I8)
        ),
        f"zeros_{channels}": lambda: (
            Net((1, 5, 6, channels), I8, INT8_INPUT)
            .quantize()
            .bconv(channels, to=I8, pad_value=0)
            .quantize()
            .bconv(channels, pad_value=0, stride=(2, 2))
            .mul(np.linspace(-1, 1, channels))
            .quantize()
            .bconv(channels, pad_value=0)
        ),
        f"signs_{channels}": lambda: (
            Net((1, 3, 4, channels))
            .quantize()
            .dequantize()
            .mul(np.linspace(-1, 1, channels))
            .quantize()
            .dequantize(I8, _quant(0.03, 5))
        ),
    }


def _geometry() -> dict[str, Callable[[], Any]]:
    cases: dict[str, dict[str, Any]] = {
        "stride": {"stride": (2, 2)},
        "strides": {"stride": (3, 1), "kernel": (2, 3)},
        "dilated": {"dilation": (2, 2)},
        "dilated_stride": {"dilation": (1, 2), "stride": (2, 1), "kernel": (2, 2)},
        "wide": {"kernel": (1, 5)},
        "tall": {"kernel": (5, 1), "stride": (2, 2)},
        "point": {"kernel": (1, 1), "stride": (2, 2)},
        "larger_than_the_map": {"kernel": (7, 7)},
    }
    nets: dict[str, Callable[[], Any]] = {}
    for name, options in cases.items():
        # the defaults bind the loop's values
        def binary(o: dict[str, Any] = options) -> Net:
            net = Net((1, 8, 7, 34)).quantize().bconv(40, to=BITS, **o).bconv(31, pad_value=0, **o).quantize()
            return net.bconv(9, to=I8, **o)

        def linear(o: dict[str, Any] = options) -> Net:
            net = Net((1, 8, 7, 3), I8, INT8_INPUT).conv(5, **o).conv(7, **o, activation=Activation.RELU)
            return net.conv(6, (1, 1), padding=VALID).quantize().bconv(4, (1, 1))

        nets[f"binary_{name}"], nets[f"linear_{name}"] = binary, linear
    return nets


def bent_stage(channels: int, outs: int, **options: Any) -> Net:
    """int8 outputs with a ReLU that bends the line inside their range, so that no multiplier and offset equals them."""
    multiplier = np.where(np.arange(outs) % 2, 0.25, -0.25)
    net = Net((1, 4, 5, channels), seed=4).quantize()
    return net.bconv(outs, to=I8, quant=_quant(1.0, 0), multiplier=multiplier, activation=Activation.RELU, **options)


def _softmax_rows(dtype: DType, beta: float) -> Net:
    net = Net((1, 3, 5, 7), dtype, _quant(0.05, 3) if dtype is I8 else None)
    return net.reshape(1, 15, 7).softmax(beta) if dtype is I8 else net.mul([8.0]).reshape(1, 15, 7).softmax(beta)


def padded_bits() -> Net:
    """A border of +1 around packed signs."""
    net = Net((1, 5, 6, 40)).quantize()
    widths = net.constant("widths", [[0, 0], [1, 2], [0, 1], [0, 0]], DType.INT32)
    return net.node(Pad(), widths, dtype=BITS).bconv(7, padding=VALID)


def residual() -> Graph:
    """relu6(b * a + a): both operands are activations, one of them is read twice and outlives the other."""
    net = Net((1, 4, 5, 6)).conv(8)
    a = net.now.name
    net.conv(8, (1, 1))
    b = net.now.name
    net.node(Mul(), a, dtype=F32)
    net.node(Add(Activation.RELU6), a, dtype=F32)
    assert {a, b} <= {name for node in net.nodes for name in node.inputs}
    return net.quantize().bconv(5).graph()


def broadcast() -> Graph:
    """An activation [1, 1, 1, C] that multiplies a map [1, H, W, C]: the period of an operand that is computed."""
    net = Net((1, 4, 4, 6))
    net.pool(4)
    vector = net.now.name
    net.now = net.tensors["input"]
    net.node(Mul(), vector, dtype=F32)
    return net.add(np.linspace(-1, 1, 6), Activation.RELU_N1_TO_1).graph()


def two_readers() -> Graph:
    """Bits that a convolution, a pool and a LceDequantize read."""
    net = Net((1, 6, 6, 40)).quantize()
    signs = net.now.name
    net.bconv(40, to=BITS).dequantize()
    for name, shape, dtype in (("pooled", (1, 6, 6, 40), BITS), ("right", (1, 6, 6, 40), F32)):
        net.tensors[name] = Tensor(name, shape, dtype)
    net.nodes.append(Node(LceBMaxPool2d(PoolWindow((3, 3), (1, 1), SAME)), (signs,), ("pooled",)))
    net.nodes.append(Node(LceDequantize(), ("pooled",), ("right",)))
    return net.node(Add(), "right", dtype=F32).graph()


def reshaped_input() -> Graph:
    """The model's input under another shape, read by two operators."""
    net = Net((1, 4, 6, 2)).reshape(1, 2, 2, 12)
    view = net.now.name
    net.pool(1).node(Add(), view, dtype=F32)
    return net.graph()


def joined_rows(dtype: DType) -> Graph:
    """Two branches and a piece of one of them, joined along the rows: two parts are computed where the join lies."""
    net = Net((1, 5, 4, 6), dtype, INT8_INPUT if dtype is I8 else None)
    net.conv(7, quant=_quant(0.05, 3))
    a, quant = net.now.name, net.now.quantization
    net.conv(7, (1, 1), quant=quant).node(Relu(), dtype=dtype, quant=quant)
    b = net.now.name
    rows = net.constant("rows", [0, 1, 0, 0], DType.INT32)
    net.node(Slice(), rows, net.constant("size", [1, 3, 4, 7], DType.INT32), dtype=dtype, quant=quant)
    net.node(Concatenation(1), a, b, dtype=dtype, quant=quant)
    return net.node(Relu6(), dtype=dtype, quant=quant).quantize().bconv(3).graph()


def joined_twice(dtype: DType) -> Graph:
    """As in a dense net: every join is a part of the next, along the rows; the last is the model's output."""
    net = Net((1, 3, 4, 5), dtype, INT8_INPUT if dtype is I8 else None).conv(5, quant=_quant(0.05, 3))
    quant = net.now.quantization
    for _ in range(3):
        joined = net.now.name
        net.conv(5, quant=quant)
        net.node(Concatenation(1), joined, dtype=dtype, quant=quant)
    return net.graph()


def joined_again(dtype: DType) -> Graph:
    """A value three times in a row, two of them from a join in the same memory: the copy overlaps what it copies."""
    quant = _quant(0.05, 3) if dtype is I8 else None
    net = Net((1, 5), dtype, INT8_INPUT if dtype is I8 else None)
    one = net.node(Prelu(), net.constant("slope", [-1], dtype, quant=quant), dtype=dtype, quant=quant).now.name
    net.node(Concatenation(1), one, dtype=dtype, quant=quant)
    two = net.now.name
    return back_to(net, one).node(Concatenation(1), two, dtype=dtype, quant=quant).graph()


def residual_chain(dtype: DType) -> Graph:
    """Residual blocks as in binary ResNets: a sign, a binary convolution, batch norm, and the stream added."""
    quant = _quant(0.05, 3) if dtype is I8 else None
    net = Net((1, 6, 6, 3), dtype, INT8_INPUT if dtype is I8 else None).conv(32, quant=quant)
    for _ in range(3):
        stream = net.now.name
        net.quantize().bconv(32, to=dtype, quant=quant)
        if dtype is F32:
            net.mul(np.linspace(0.5, 1.5, 32)).node(Prelu(), net.constant(f"slope_{stream}", np.full(32, 0.25), F32),
                                                    dtype=F32)  # fmt: skip
        net.node(Add(), stream, dtype=dtype, quant=quant)
    return net.pool(6).graph()


def signs_of_streams(dtype: DType) -> Graph:
    """Values that the next layers read as numbers and as signs: sums, one of them of a constant, and a PRELU.

    Zero points at both ends, a channel count that fills no word, a sum of more than one word that lies over an operand.
    """
    int8 = dtype is I8
    net = Net((1, 5, 6, 3), dtype, INT8_INPUT if int8 else None).conv(35, quant=_quant(0.05, 3))
    slopes, shifts = np.linspace(-100, 127, 35), np.linspace(-90, 120, 35)
    slope, shift = (
        net.constant(name, values if int8 else values / 100, dtype, quant=_quant(0.0093, 4) if int8 else None)
        for name, values in (("slope", slopes), ("shift", shifts))
    )
    for i, zero_point in enumerate((-128, 127, 11)):
        stream, quant = net.now.name, _quant(0.061 + 0.01 * i, zero_point) if int8 else None
        net.quantize().bconv(35, to=dtype, quant=_quant(0.047, -3) if int8 else None)
        net.node(Add(), stream, dtype=dtype, quant=quant)
        if i == 1:
            net.node(Sub() if int8 else Add(), shift, dtype=dtype, quant=_quant(0.083, -5) if int8 else None)
        if i == 2:
            net.node(Prelu(), slope, dtype=dtype, quant=_quant(0.073, -2) if int8 else None)
    stream, quant = net.now.name, _quant(0.09, 7) if int8 else None
    net.quantize().bconv(35, to=dtype, quant=quant)
    return net.node(Add(), stream, dtype=dtype, quant=quant).graph()


def int8_thresholds() -> Graph:
    """Arithmetic per channel in front of signs of int8 values, which others read too: rising, falling, constant."""
    net = Net((1, 5, 6, 3), I8, INT8_INPUT).conv(40, quant=_quant(0.05, 3))
    for i, (op, channels) in enumerate(((Sub(), 40), (Mul(), 40), (Add(), 35))):
        stream = net.now.name
        values = net.constant(f"values_{i}", net.rng.integers(-128, 128, channels), I8, quant=_quant(0.04, -7))
        net.node(op, values, dtype=I8, quant=_quant(0.06, 11)).quantize()
        if i < 2:
            net.bconv(40, to=I8, quant=_quant(0.05, 3)).node(Add(), stream, dtype=I8, quant=_quant(0.05, 3))
        if i == 1:
            net.conv(35, (1, 1), quant=_quant(0.05, 3))
    return net.bconv(5).graph()


def dense_block(dtype: DType) -> Graph:
    """As in binary dense nets: every block reads the channels of all before it, joined along the channels."""
    quant = _quant(0.05, 3) if dtype is I8 else None
    net = Net((1, 6, 6, 3), dtype, INT8_INPUT if dtype is I8 else None).conv(32, quant=quant)
    for _ in range(3):
        stream = net.now.name
        net.quantize().bconv(16, to=dtype, quant=quant)
        net.node(Concatenation(3), stream, dtype=dtype, quant=quant)
    return net.pool(2).quantize().bconv(10, padding=VALID).graph()


def inception(dtype: DType) -> Graph:
    """Branches of different depth from one value, joined along the channels, and a shortcut around them."""
    quant = _quant(0.05, 3) if dtype is I8 else None
    net = Net((1, 6, 6, 3), dtype, INT8_INPUT if dtype is I8 else None).conv(12, quant=quant)
    stem, branches = net.now.name, []
    for kernels in ((1,), (1, 3), (1, 3, 3), ()):
        net.now = net.tensors[stem]
        for kernel in kernels:
            net.conv(4, (kernel, kernel), quant=quant).node(Relu(), dtype=dtype, quant=quant)
        if not kernels:
            net.node(MaxPool2d(PoolWindow((3, 3), (1, 1), SAME)), dtype=dtype, quant=quant)
        branches.append(net.now.name)
    net.now = net.tensors[branches[0]]
    net.node(Concatenation(3), *branches[1:3], dtype=dtype, quant=quant).node(Add(), stem, dtype=dtype, quant=quant)
    return net.node(Concatenation(3), branches[3], dtype=dtype, quant=quant).pool(6).graph()


def joined_channels(dtype: DType) -> Graph:
    """Every kind of operator that can compute some channels of a map; one part stands twice, one is read elsewhere."""
    quant = _quant(0.05, 3) if dtype is I8 else None
    net = Net((1, 5, 6, 4), dtype, INT8_INPUT if dtype is I8 else None).conv(8, quant=quant)
    stem, parts = net.now.name, []
    for make in (
        lambda: net.conv(5, (1, 1), quant=quant),
        lambda: net.depthwise(quant=quant),
        lambda: net.node(MaxPool2d(PoolWindow((3, 3), (1, 1), SAME)), dtype=dtype, quant=quant),
        lambda: net.average((3, 3), (1, 1), SAME),
        lambda: net.quantize().bconv(7, to=dtype, quant=quant),
    ):
        back_to(net, stem)
        parts.append(make().now.name)
    back_to(net, parts[0]).node(Concatenation(3), *parts[1:], parts[2], stem, dtype=dtype, quant=quant)
    return net.quantize().bconv(10).graph()


def read_in_joins(dtype: DType) -> Graph:
    """Channels of a join in a join, which every operator reads there that can: signs, operands, tables, slices."""
    quant, int8 = _quant(0.05, 3) if dtype is I8 else None, dtype is I8
    net = Net((1, 4, 5, 3), dtype, INT8_INPUT if int8 else None).conv(8, quant=quant)
    stem, signs = net.now.name, net.quantize().now.name

    def numbers(*shape: int) -> str:
        data = net.rng.integers(-90, 90, shape) if int8 else net.rng.normal(size=shape)
        return net.constant(f"numbers_{len(net.tensors)}", data, dtype, quant=quant)

    def reads(op: Op, *inputs: str, to: DType = dtype) -> str:
        return back_to(net, stem).node(op, *inputs, dtype=to, quant=quant if to is I8 else None).now.name

    other = back_to(net, signs).bconv(8, to=dtype, quant=quant).now.name
    sums = [reads(Mul(), numbers(8)), reads(Maximum(), other), reads(Minimum(), numbers(1, 4, 5, 8))]
    sums += [reads(Prelu(), numbers(8)), reads(Minimum(), other), reads(Add(), other), reads(Sub(), other)]
    sums += [reads(Abs()), reads(Mul(), numbers(1))] if int8 else []
    # an int8 sum per channel in front of a sign is a comparison in that sign
    bits = [reads(GreaterEqual(), numbers(8), to=DType.BOOL), reads(Greater(), other, to=DType.BOOL)]
    bits += [reads(Add(), numbers(8))] if int8 else []
    for name in bits:
        sums.append(back_to(net, name).quantize().bconv(8, (1, 1), to=dtype, quant=quant).now.name)
    sums.append(move(back_to(net, stem), Slice(), [0, 0, 0, 2], [1, 4, 5, 5]).now.name)
    inner = back_to(net, stem).node(Concatenation(3), other, dtype=dtype, quant=quant).now.name
    sums.append(net.quantize().bconv(6, to=dtype, quant=quant).now.name)
    back_to(net, inner).node(Concatenation(3), *sums, dtype=dtype, quant=quant)
    return net.conv(3, (1, 1), quant=quant).graph()


def grown_shortcut(dtype: DType) -> Graph:
    """Blocks that double the channels and halve the map, the shortcut pooled and repeated; the join is the output."""
    quant = _quant(0.05, 3) if dtype is I8 else None
    net = Net((1, 8, 8, 3), dtype, INT8_INPUT if dtype is I8 else None).conv(8, quant=quant)
    for _ in range(2):
        stream = net.now.name
        branch = net.quantize().bconv(2 * net.now.shape[3], stride=(2, 2), to=dtype, quant=quant).now.name
        pooled = back_to(net, stream).average().now.name
        net.node(Concatenation(3), pooled, dtype=dtype, quant=quant).node(Add(), branch, dtype=dtype, quant=quant)
    shortcut = net.conv(5, (1, 1), quant=quant).now.name
    return net.node(Concatenation(3), shortcut, dtype=dtype, quant=quant).graph()


def joined_stages() -> Graph:
    """int8 output stages with a multiplier, a table and segments, joined."""
    net, quant = Net((1, 4, 5, 64), seed=4).quantize(), _quant(1.0, 0)
    signs, bent = net.now.name, np.where(np.arange(6) % 2, 0.25, -0.25)
    table = net.bconv(6, (1, 1), to=I8, quant=quant, multiplier=bent, activation=Activation.RELU).now.name
    segments = back_to(net, signs).bconv(6, to=I8, quant=quant, multiplier=bent, activation=Activation.RELU).now.name
    back_to(net, signs).bconv(5, to=I8, quant=quant)
    return net.node(Concatenation(3), table, segments, dtype=I8, quant=quant).quantize().bconv(4).graph()


def bordered(dtype: DType) -> Graph:
    """PyTorch's padding at stride 2, which is not SAME: borders in front of convolutions, one wider than the kernel."""
    quant = _quant(0.05, 3) if dtype is I8 else None
    net = Net((1, 9, 8, 3), dtype, INT8_INPUT if dtype is I8 else None)
    for i, (border, outs) in enumerate((([[1, 1], [1, 1]], 6), ([[4, 0], [0, 5]], 34))):
        widths = net.constant(f"border_{i}", [[0, 0], *border, [0, 0]], DType.INT32)
        net.node(Pad(), widths, dtype=dtype, quant=net.now.quantization)
        net.conv(outs, stride=(2, 2), padding=VALID, quant=quant)
    widths = net.constant("border", [[0, 0], [1, 1], [2, 0], [0, 0]], DType.INT32)
    net.node(Pad(), widths, dtype=dtype, quant=quant).quantize()
    return net.bconv(9, stride=(2, 2), padding=VALID, to=dtype, quant=quant).graph()


def bordered_bits() -> Net:
    """Packed signs with a border of +1."""
    net = Net((1, 5, 4, 33)).quantize()
    return net.node(Pad(), net.constant("border", [[0, 0], [1, 2], [0, 1], [0, 0]], DType.INT32), dtype=BITS)


def halves(dtype: DType) -> Graph:
    """Both halves of a map, of which one is changed where it lies, and read after the other."""
    quant = _quant(0.05, 3) if dtype is I8 else None
    net = Net((1, 4, 3, 5), dtype, INT8_INPUT if dtype is I8 else None).conv(5, quant=quant)
    whole = net.now.name
    net.node(Split(1, 2, 0), dtype=dtype, quant=quant)
    first = net.now.name
    net.now = net.tensors[whole]
    net.node(Split(1, 2, 1), dtype=dtype, quant=quant).node(Abs(), dtype=dtype, quant=quant)
    return net.node(Add(), first, dtype=dtype, quant=quant).graph()


def comparison() -> Net:
    """A float comparison, and the signs of its truth values."""
    net = Net((1, 3, 5, 7))
    limits = net.constant("limits", np.linspace(-1, 1, 7), F32)
    return net.node(GreaterEqual(), limits, dtype=DType.BOOL).quantize()


def without_bias(dtype: DType) -> Net:
    """FULLY_CONNECTED with two inputs (the interpreter demands a bias for CONV_2D)."""
    net = Net((1, 3, 3, 5), dtype, INT8_INPUT if dtype is I8 else None)
    shape, int8 = (4, 45), dtype is I8
    weights = net.rng.integers(-127, 128, shape) if int8 else net.rng.normal(size=shape)
    name = net.constant("weights", weights, dtype, quant=_quant(0.01, 0) if int8 else None)
    return net.node(FullyConnected(), name, dtype=dtype, quant=_quant(0.05, -7) if int8 else None)


def _zero_points(zero_point: int) -> Net:
    """int8 input and outputs whose zero point is at an end of the range, where signs can be constant."""
    net = Net((1, 6, 6, 3), I8, _quant(1 / 100, zero_point), seed=8)
    net.conv(8, quant=_quant(0.02, zero_point)).quantize().bconv(34, to=I8, quant=_quant(0.05, zero_point))
    return net.pool(2, SAME).quantize().bconv(7, to=I8, quant=_quant(0.1, zero_point)).quantize().dequantize()


def _int8_head(activation: Activation) -> Net:
    net = Net((1, 6, 7, 3), I8, INT8_INPUT).conv(9, stride=(2, 2), activation=activation).pool(2, SAME)
    return net.dense(13, activation).dense(5).softmax(0.7)


def _float_head(activation: Activation) -> Net:
    net = Net((1, 6, 7, 3)).conv(9, stride=(2, 2), activation=activation).pool(2, SAME, activation)
    return net.dense(13, activation).dense(5).softmax(0.7)


def moved_bits() -> Net:
    """Packed words sliced, joined, padded and reshaped between two convolutions, and as bool."""
    net = Net((1, 4, 6, 40)).quantize()
    first = net.now.name
    move(net, Slice(), [0, 1, 0, 0], [1, 2, 6, 2])
    move(back_to(net, first), Concatenation(1), "slice_1")
    move(net, Pad(), [[0, 0], [1, 0], [0, 2], [0, 0]]).bconv(33, to=BITS)
    move(net, Reshape((1, 8, 7, 2)), shape=(1, 8, 7, 33))
    return net.node(LceDequantize(), dtype=DType.BOOL).quantize().bconv(5)


def reordered_bits() -> Net:
    """Packed words transposed, stacked, split, turned around and flattened between two convolutions."""
    net = Net((1, 3, 4, 96)).quantize()
    first = move(net, Transpose(), [0, 2, 1, 3]).now.name
    move(net, StridedSlice(15, 15), [0] * 4, [0] * 4, [1, -1, 2, -1])
    move(net, Split(3, 3, 1)).bconv(64, to=BITS)
    move(net, Pack(3, 2), net.now.name)
    move(net, Reshape((1, 4, 4, 2)), shape=(1, 4, 4, 64))
    move(net, Slice(), [0, 0, 0, 1], [1, 4, 3, 1])
    move(net, Concatenation(3), first)
    move(move(net, ExpandDims(), 2), Squeeze((2,)))
    return move(net, Reshape((1, 1, 1, 48)), shape=(1, 1, 1, 1536)).bconv(7, (1, 1))


def _requantized(size: int) -> Net:
    return Net((1, size), I8, _quant(0.25, 0)).node(Quantize(), dtype=I8, quant=_quant(1.0, 0))


NETS: dict[str, Callable[[], Any]] = {
    **{name: net for channels in (1, 31, 32, 33, 65) for name, net in _word_edges(channels).items()},
    **_geometry(),
    **{f"zero_point_{i}": (lambda z=zero: _zero_points(z)) for i, zero in enumerate(ZERO_POINTS)},
    **{f"int8_head_{a.name.lower()}": (lambda a=a: _int8_head(a)) for a in Activation},
    **{f"float_head_{a.name.lower()}": (lambda a=a: _float_head(a)) for a in Activation},
    "groups_2": lambda: Net((1, 4, 4, 64)).quantize().bconv(64, groups=2, to=BITS).bconv(6, groups=2, pad_value=0),
    "groups_3": lambda: Net((1, 4, 4, 96)).quantize().bconv(33, groups=3, to=I8).quantize().bconv(3),
    "groups_4": lambda: Net((1, 4, 4, 128)).quantize().bconv(128, groups=4).quantize().bconv(8, (1, 1), groups=4),
    "binary_pools": lambda: Net((1, 9, 10, 33)).quantize().bpool(2, padding=SAME).bpool(3, 1).bpool(2, 3, SAME)
    .dequantize(),
    "float_pools": lambda: Net((1, 9, 10, 5)).pool(3, SAME).pool(2, activation=Activation.RELU_N1_TO_1),
    "int8_pools": lambda: Net((1, 9, 10, 5), I8, _quant(0.02, -3)).pool(3, SAME).pool(2, activation=Activation.RELU),
    "batch_norm": lambda: Net((1, 6, 6, 33)).quantize().bconv(40).mul(np.linspace(-1, 2, 40), Activation.RELU)
    .add(np.linspace(1, -1, 40)).quantize().bconv(5, activation=Activation.RELU6),
    "pool_first": lambda: Net((1, 6, 6, 33)).quantize().bconv(40).pool().mul(np.linspace(-1, 2, 40)).quantize()
    .bconv(5),
    **{f"random_chain_{seed}": (lambda s=seed: random_chain(s)) for seed in range(12)},
    "padded_bits": padded_bits,
    "ranges": lambda: ranges(Net((1, 5, 6, 64)).quantize().bconv(40)).bconv(5),
    "ranges_zero_padded": lambda: ranges(Net((1, 5, 6, 66)).quantize().bconv(33, pad_value=0, stride=(2, 1))).bconv(5),
    "ranges_in_groups": lambda: ranges(Net((1, 5, 6, 128)).quantize().bconv(70, groups=2)).bconv(5),
    "bit_table": lambda: several_ranges(Net((1, 5, 6, 64)).quantize().bconv(40)).bconv(5),
    "bit_table_of_odd_values": lambda: several_ranges(Net((1, 5, 6, 3)).quantize().bconv(33, pad_value=0)).bconv(5),
    "minima": lambda: minima(Net((1, 7, 12, 33)).quantize().bconv(40)).bconv(5),
    "minima_zero_padded": lambda: minima(Net((1, 7, 12, 32)).quantize().bconv(64, pad_value=0)).bconv(5),
    "binary_dense": lambda: binary_dense_layer(
        binary_dense_layer(Net((1, 100)).quantize().dequantize(), np.linspace(0.1, 2, 40)).quantize().dequantize(),
        np.linspace(0.1, 2, 10)),
    "binary_dense_of_a_map": lambda: binary_dense_layer(
        Net((1, 4, 4, 32)).quantize().dequantize().pool().reshape(1, 128), np.full(10, 0.3),
        activation=Activation.RELU),
    "table": lambda: bent_stage(16, 6),
    "table_zero_padded": lambda: bent_stage(10, 10, pad_value=0),
    "table_of_odd_values": lambda: bent_stage(9, 6, pad_value=0),
    "segments": lambda: bent_stage(64, 18),
    "segments_zero_padded": lambda: bent_stage(64, 18, pad_value=0),
    "segments_of_odd_values": lambda: bent_stage(65, 18, pad_value=0),
    "segments_of_a_large_window": lambda: Net((1, 3, 3, 160), seed=3).quantize().bconv(40, to=I8),
    "quantized_chain": lambda: prelu(
        Net((1, 6, 6, 64)).quantize().bconv(20).pool().add(np.linspace(-1, 1, 20)), np.linspace(0, 0.5, 20))
    .node(Quantize(), dtype=I8, quant=_quant(0.02, -3)),
    # 3 taps: every count from none to all occurs
    "few_taps": lambda: Net((1, 8, 8, 3)).quantize().bconv(
        6, (1, 1), to=BITS, padding=VALID, threshold=np.array([-(2**31), -1, 0, 2, 3, 2**31 - 1])),
    "clamped_bits": lambda: Net((1, 4, 4, 40)).quantize().bconv(
        6, to=BITS, threshold=np.array([-(2**31), -1, 0, 359, 360, 2**31 - 1])),
    "softmax_float": lambda: _softmax_rows(F32, 1.0),
    "softmax_float_beta": lambda: _softmax_rows(F32, 2.5),
    "softmax_int8": lambda: _softmax_rows(I8, 1.0),
    "softmax_int8_beta": lambda: _softmax_rows(I8, 0.1),
    **{f"{name}_{dtype.value}": (lambda n=net, d=dtype: n(d)) for dtype in (F32, I8)
       for name, net in (("depthwise", depthwise), ("averages", averages), ("reductions", reductions))},
    **{f"{net.__name__}_{dtype.value}": (lambda n=net, d=dtype: n(d))
       for net in (joined_rows, joined_twice, joined_again, residual_chain, dense_block, inception, bordered, halves,
                   joined_channels, grown_shortcut, read_in_joins, signs_of_streams)
       for dtype in (F32, I8)},
    "joined_stages": joined_stages,
    "bordered_bits": lambda: bordered_bits().bconv(5, padding=VALID),
    "bordered_bits_dequantized": lambda: bordered_bits().dequantize(),
    "copy": lambda: Net((1, 3, 5, 2)).reshape(1, 30),
    "copy_int8": lambda: Net((1, 3, 5, 2), I8, INT8_INPUT).reshape(1, 5, 6).reshape(1, 30),
    "reshaped_input": reshaped_input,
    "residual": residual,
    "int8_thresholds": int8_thresholds,
    "broadcast": broadcast,
    "two_readers": two_readers,
    "without_bias_float": lambda: without_bias(F32),
    "without_bias_int8": lambda: without_bias(I8),
    "single_pixel": lambda: Net((1, 1, 1, 40)).quantize().bconv(64, to=BITS).bconv(33, pad_value=0).quantize()
    .bconv(3, (1, 1)),
    "comparison": comparison,
    **{name.replace(" ", "_"): chain for name, chain in CHAINS.items()},
    "movement_float": lambda: every_movement(F32),
    "movement_int8": lambda: every_movement(I8),
    # ties, which whole blocks of 16 round another way than the rest
    **{f"requantized_{n}": (lambda n=n: _requantized(n)) for n in (16, 43)},
    "moved_bits": moved_bits,
    "reordered_bits": reordered_bits,
    "scalar_operands": lambda: Net((1, 3, 3, 4)).mul([0.5]).add([-0.25]).add(np.ones((1, 3, 3, 4)), Activation.RELU),
}  # fmt: skip


def _as_graph(made: Net | Graph) -> Graph:
    return made if isinstance(made, Graph) else made.graph()


def _rounded_as_tflm(name: str) -> Graph:
    return replace(_as_graph(NETS[name]()), rounding=Rounding.TFLM)


#: nets with the kernels and parameters that --rounding tflm changes
NETS |= {
    f"tflm_{name}": (lambda name=name: _rounded_as_tflm(name))
    for name in (
        *("zero_point_0", "zero_point_1", "zero_point_2", "int8_head_none", "without_bias_int8", "softmax_int8"),
        *("softmax_int8_beta", "depthwise_int8", "averages_int8", "reductions_int8", "reductions_float32"),
        "signs_of_streams_int8",
        *(name.replace(" ", "_") for name in CHAINS),
    )
}


def graph_of(name: str) -> Graph:
    """The graph of a net of the table."""
    return _as_graph(NETS[name]())


def graphs() -> dict[str, Graph]:
    """All graphs of the table."""
    return {name: graph_of(name) for name in NETS}


__all__ = ["NETS", "bent_stage", "graph_of", "graphs"]
