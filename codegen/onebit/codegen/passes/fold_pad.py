"""A border of zeros around a map is part of the convolution that reads it: no padded copy is made."""

from __future__ import annotations

from dataclasses import replace

from onebit.core.graph import DType, Graph, Node, Tensor
from onebit.core.ops import Conv2d, DepthwiseConv2d, LceBconv2d, LceQuantize, Padding, View
from onebit.core.ops.joining import Pad, PadV2
from onebit.core.ops.window import Border
from onebit.core.passes import rewrite_all
from onebit.core.passes.naming import fresh_name


def fold_pad(graph: Graph) -> Graph:
    """``CONV(PAD(x))``, ``LceBconv2d(PAD(x))`` and ``LceBconv2d(LceQuantize(PAD(x)))`` read x itself, with a border.

    Where PAD, or PADV2, widens height and width only, its value counts as real 0 for CONV_2D and DEPTHWISE_CONV_2D, or
    is +1 or has the sign + for LceBconv2d, the convolution is VALID, and nothing else reads what is in between. Exact:
    a tap outside adds nothing (as the same tap on a zero does), or counts as +1 (as the border's bit does). Pools stay:
    they leave out what lies outside.
    """
    return rewrite_all(graph, _fold_one)


def _fold_one(graph: Graph) -> Graph | None:
    for pad in graph.nodes:
        border = _border(graph, pad)
        reader = graph.sole_consumer(pad.output)
        if border is None or reader is None:
            continue
        if isinstance(reader.op, (Conv2d, DepthwiseConv2d)):
            if reader.op.padding is Padding.VALID and _fill(graph, pad) == graph.tensors[pad.output].quant.zero_point:
                op = replace(reader.op, padding=border)
                return graph.rewrite(
                    [pad, reader], [replace(reader, op=op, inputs=(pad.inputs[0], *reader.inputs[1:]))]
                )
        elif isinstance(reader.op, LceBconv2d) and reader.op.window.padding is Padding.VALID:
            # packed bits are only ever padded with +1
            return graph.rewrite([pad, reader], [_bordered(reader, border, pad.inputs[0])])
        elif isinstance(reader.op, LceQuantize) and _is_positive(graph, pad):
            folded = _fold_into_binary(graph, pad, reader, border)
            if folded is not None:
                return folded
    return None


def _fold_into_binary(graph: Graph, pad: Node, sign: Node, border: Border) -> Graph | None:
    conv = graph.sole_consumer(sign.output)
    if conv is None or not isinstance(conv.op, LceBconv2d) or conv.op.window.padding is not Padding.VALID:
        return None
    x = graph.tensors[pad.inputs[0] or ""]
    bits = Tensor(fresh_name(graph, f"{x.name}/sign"), x.shape, DType.BITS)
    nodes = [Node(LceQuantize(), (x.name,), (bits.name,)), _bordered(conv, border, bits.name)]
    return graph.rewrite([pad, sign, conv], nodes, [bits])


def _bordered(conv: Node, border: Border, x: str | None) -> Node:
    """A binary convolution that reads `x` with a border of +1."""
    assert isinstance(conv.op, LceBconv2d)
    op = replace(conv.op, window=replace(conv.op.window, padding=border, pad_value=1))
    return replace(conv, op=op, inputs=(x, *conv.inputs[1:]))


def _border(graph: Graph, pad: Node) -> Border | None:
    if not isinstance(pad.op, (Pad, PadV2)) or len(graph.tensors[pad.output].shape) != 4:
        return None
    _, rows, cols, channels = graph.tensors[pad.inputs[1] or ""].constant().tolist()
    return None if any(channels) else Border((rows[0], rows[1]), (cols[0], cols[1]))


def _fill(graph: Graph, pad: Node) -> float | None:
    assert isinstance(pad.op, (Pad, PadV2))
    return pad.op.fill(View.of(graph, pad))


def _is_positive(graph: Graph, pad: Node) -> bool:
    """Whether LceQuantize makes +1 of the border."""
    fill, tensor = _fill(graph, pad), graph.tensors[pad.output]
    assert fill is not None
    negative = float(LceQuantize().largest_negative(View.of(graph, pad)))
    limit = negative if tensor.dtype is DType.FLOAT32 else tensor.quant.zero_point - 1
    return fill > limit
