"""Graphs that break just one constraint of an operator that moves elements, or of one that renames its axes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from onebit.core import DType, Graph, Quantization, Rounding
from onebit.core.ops import (
    Activation,
    Concatenation,
    Pack,
    Pad,
    PadV2,
    ResizeNearestNeighbor,
    Slice,
    Split,
    StridedSlice,
    Transpose,
)
from support.edits import with_node, with_op, with_tensor
from support.movement_nets import NETS, move, start, value
from support.nets import Net

F32, I8 = DType.FLOAT32, DType.INT8
OTHER = Quantization.per_tensor(0.03, 7)
SEVEN = (1, 2, 1, 2, 1, 2, 1)


def graph_of(op: str, case: str, dtype: DType = F32) -> Graph:
    return NETS[op][case](dtype).graph()


def constant_input(graph: Graph, index: int = -1) -> Graph:
    """The first input of a node is a constant."""
    name = graph.nodes[index].inputs[0]
    assert name is not None
    tensor = graph.tensors[name]
    constant = replace(tensor, name="frozen", data=np.zeros(tensor.shape, tensor.dtype.numpy))
    graph = replace(graph, tensors={**graph.tensors, "frozen": constant})
    return with_node(graph, index, inputs=("frozen", *graph.nodes[index].inputs[1:]))


def with_index(graph: Graph, position: int, data: Any) -> Graph:
    """One constant index input of the last node replaced."""
    name = graph.nodes[-1].inputs[position]
    assert name is not None
    array = np.asarray(data, np.int32)
    return with_tensor(graph, name, shape=array.shape, data=array)


def not_an_index(graph: Graph, position: int) -> list[Graph]:
    """The constant index input is computed, of another dtype, or of another shape."""
    name = graph.nodes[-1].inputs[position]
    assert name is not None
    tensor = graph.tensors[name]
    computed = with_node(
        graph, -1, inputs=tuple("input" if i == position else n for i, n in enumerate(graph.nodes[-1].inputs))
    )
    floating = with_tensor(graph, name, dtype=F32, data=np.zeros(tensor.shape, np.float32))
    return [computed, floating, with_index(graph, position, np.zeros((1, *tensor.shape, 2)))]


def movement(graph: Graph, small: Graph, large: Net) -> dict[str, list[Graph]]:
    """The constraints of every movement: a float graph, an int8 graph, and one with too many dimensions."""
    return {
        "inputs_present": [constant_input(graph)],
        "same_elements": [
            with_tensor(graph, graph.outputs[0], dtype=I8, quantization=OTHER),
            with_tensor(small, small.outputs[0], quantization=OTHER),
            with_tensor(with_tensor(graph, graph.outputs[0], dtype=DType.INT32), "input", dtype=DType.INT32),
        ],
        "dimensions": [large.graph(), with_tensor(graph, "input", shape=(1,))],
    }


def seven(op: Any, *inputs: Any) -> Net:
    net = start(F32, SEVEN)
    return move(net, op, *(value(net, x) if isinstance(x, float) else x for x in inputs))


def one(op: Any, *inputs: Any) -> tuple[Graph, Graph]:
    """The operator on the standard image, float and int8."""
    nets = (start(F32), start(I8))
    graphs = [move(n, op, *(value(n, x) if isinstance(x, float) else x for x in inputs)).graph() for n in nets]
    return graphs[0], graphs[1]


def transpose_faults() -> dict[str, list[Graph]]:
    graph, small = one(Transpose(), [0, 3, 1, 2])
    return {
        **movement(graph, small, seven(Transpose(), [0, 6, 5, 4, 3, 2, 1])),
        "permutation": [
            *not_an_index(graph, 1),
            *(with_index(graph, 1, p) for p in ([1, 0, 2, 3], [0, 1, 1, 2], [0, 3, 1], [0, 4, 1, 2], [0, -1, 1, 2])),
        ],
    }


def slice_faults() -> dict[str, list[Graph]]:
    graph, small = one(Slice(), [0, 1, 0, 2], [1, 2, -1, 3])
    return {
        **movement(graph, small, seven(Slice(), [0] * 7, [-1] * 7)),
        "box": [
            *not_an_index(graph, 1),
            *not_an_index(graph, 2),
            *(with_index(graph, 1, b) for b in ([0, 3, 0, 2], [0, -1, 0, 2], [0, 1, 5, 2], [0, 1, 0, 2**31 - 1])),
            *(with_index(graph, 2, s) for s in ([1, 0, -1, 3], [1, -2, -1, 3], [1, 2, -1, 5], [1, 2**31 - 1, -1, 3])),
        ],
    }


def strided_slice_faults() -> dict[str, list[Graph]]:
    graph, small = one(StridedSlice(), [0, 0, 0, 1], [1, 4, 5, 6], [1, 1, 2, 1])
    large = start(F32, SEVEN)
    large = move(large, StridedSlice(ellipsis_mask=1), [0], [0], [1])
    five = start(F32, (1, 2, 3, 2, 2))
    five = move(five, StridedSlice(ellipsis_mask=1), [0], [0], [1])

    def masks(**changes: int) -> Graph:
        return with_op(graph, 0, **changes)

    return {
        **movement(graph, small, large),
        "indices": [
            *(broken for i in (1, 2, 3) for broken in not_an_index(graph, i)),
            with_index(graph, 3, [1, 0, 2, 1]),
            with_index(graph, 2, [1, 4, 5]),
            with_op(graph, 0, offset=True),
        ],
        "no_ellipsis": [replace(five.graph(), rounding=Rounding.TFLM)],
        "masks": [
            masks(ellipsis_mask=2, new_axis_mask=2),
            masks(shrink_axis_mask=16),
            masks(new_axis_mask=32),
            masks(ellipsis_mask=-1),
            masks(shrink_axis_mask=4),
            masks(shrink_axis_mask=2, begin_mask=2),
        ],
        "positions_fit": [
            masks(ellipsis_mask=6),
            with_op(five.graph(), 0, ellipsis_mask=0, new_axis_mask=1),
            too_many_positions(),
        ],
        "batch_is_kept": [masks(shrink_axis_mask=1), masks(new_axis_mask=1)],
        "in_range": [
            with_index(graph, 1, [0, 3, 0, 6]),
            with_index(graph, 2, [0, 4, 5, 6]),
            with_index(graph, 3, [1, 1, -1, 1]),
            with_op(with_index(graph, 1, [0, 4, 0, 1]), 0, shrink_axis_mask=2),
            with_op(with_index(graph, 1, [0, -5, 0, 1]), 0, shrink_axis_mask=2),
        ],
    }


def too_many_positions() -> Graph:
    """Four ranges on three axes."""
    graph = one(StridedSlice(), [0, 0, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1])[0]
    return with_tensor(graph, "input", shape=(1, 4, 5))


def split_faults() -> dict[str, list[Graph]]:
    graph, small = one(Split(3, 3, 0))
    return {
        **movement(graph, small, seven(Split(1, 2, 0))),
        "equal_parts": [
            *(with_op(graph, 0, axis=axis) for axis in (0, 4, -4, -5)),
            *(with_op(graph, 0, num=num) for num in (0, -3, 4)),
            *(with_node(graph, 0, op=Split(3, 3, index)) for index in (-1, 3)),
        ],
    }


def pad_faults(name: str) -> dict[str, list[Graph]]:
    op, rest = (Pad(), ()) if name == "PAD" else (PadV2(), (1.0,))
    widths = [[0, 0], [1, 2], [0, 0], [3, 0]]
    graph, small = one(op, widths, *rest)
    faults = {
        **movement(graph, small, seven(op, [[0, 0]] * 7, *rest)),
        "paddings": [
            *not_an_index(graph, 1),
            *(
                with_index(graph, 1, wrong)
                for wrong in ([[0, 1], *widths[1:]], [*widths[:3], [-1, 0]], widths[:3], np.array(widths).T)
            ),
        ],
    }
    if name == "PAD":
        signs = start(F32, (1, 4, 5, 6)).quantize()
        faults["whole_words"] = [
            with_index(move(signs, Pad(), [[0, 0]] * 4).graph(), 1, [[0, 0], [0, 0], [0, 0], border])
            for border in ([1, 0], [0, 32])
        ]
    if name == "PADV2":
        fill = small.nodes[0].inputs[2]
        assert fill is not None
        faults["pad_value"] = [
            with_node(graph, 0, inputs=(*graph.nodes[0].inputs[:2], "input")),
            with_tensor(small, fill, quantization=OTHER),
            with_tensor(small, fill, shape=(2,), data=np.zeros(2, np.int8)),
            with_tensor(small, fill, dtype=F32, data=np.zeros((), np.float32)),
        ]
    return faults


def joined_signs(channels: int) -> Graph:
    """Packed signs, twice, along the rows."""
    net = start(F32, (1, 4, 5, channels)).quantize()
    return move(net, Concatenation(1), net.now.name).graph()


def concatenation_faults() -> dict[str, list[Graph]]:
    graph, small = one(Concatenation(3), "input")
    faults = movement(graph, small, seven(Concatenation(1), "input"))
    frozen = constant_input(graph)
    faults["inputs_present"] = [
        with_node(frozen, 0, inputs=("frozen", "frozen")),
        with_node(graph, 0, inputs=("input", None)),
    ]
    return {
        **faults,
        "no_activation": [with_op(graph, 0, activation=Activation.RELU)],
        "whole_words": [with_op(joined_signs(channels), 1, axis=3) for channels in (6, 33)],
        "shapes": [
            *(with_op(graph, 0, axis=axis) for axis in (0, 4, -4, -5)),
            *(
                with_node(replace(frozen, tensors={**frozen.tensors, "frozen": piece}), 0, inputs=("input", "frozen"))
                for shape in ((1, 4, 4, 6), (1, 4, 5), (2, 4, 5, 6))
                for piece in (replace(frozen.tensors["frozen"], shape=shape, data=np.zeros(shape, np.float32)),)
            ),
        ],
    }


def pack_faults() -> dict[str, list[Graph]]:
    graph, small = one(Pack(1, 2), "input")
    faults = movement(graph, small, seven(Pack(1, 2), "input"))
    frozen = constant_input(graph)
    faults["inputs_present"] = [
        with_node(frozen, 0, inputs=("frozen", "frozen")),
        with_node(graph, 0, inputs=("input", None)),
    ]
    piece = replace(frozen.tensors["frozen"], shape=(1, 4, 5), data=np.zeros((1, 4, 5), np.float32))
    odd = replace(frozen, tensors={**frozen.tensors, "frozen": piece})
    return {
        **faults,
        "equal_shapes": [
            with_op(graph, 0, count=3),
            with_node(odd, 0, inputs=("input", "frozen")),
            move(start(F32, (1, 2, 3, 2, 2)), Pack(1, 2), "input").graph(),
        ],
        "new_axis": [with_op(graph, 0, axis=axis) for axis in (0, 5, -5, -6)],
    }


def alias_faults(graph: Graph, small: Graph) -> list[Graph]:
    return [
        with_tensor(graph, graph.outputs[0], dtype=I8, quantization=OTHER),
        with_tensor(small, small.outputs[0], quantization=OTHER),
        with_tensor(with_tensor(graph, graph.outputs[0], dtype=DType.INT32), "input", dtype=DType.INT32),
        constant_input(graph),
    ]


def squeeze_faults() -> dict[str, list[Graph]]:
    graph, small = graph_of("SQUEEZE", "one axis"), graph_of("SQUEEZE", "one axis", I8)
    return {
        "dtype": alias_faults(graph, small),
        "axes_of_one": [with_op(graph, 0, dims=dims) for dims in ((1,), (5,), (-6,), (2, 3), (2**31 - 1,))],
    }


def expand_dims_faults() -> dict[str, list[Graph]]:
    graph, small = graph_of("EXPAND_DIMS", "axis 1"), graph_of("EXPAND_DIMS", "axis 1", I8)
    return {
        "dtype": alias_faults(graph, small),
        "axis_exists": [
            *not_an_index(graph, 1),
            *(with_index(graph, 1, axis) for axis in (4, -5, [1, 1], 2**31 - 1)),
        ],
    }


def resize_faults() -> dict[str, list[Graph]]:
    graph, small = one(ResizeNearestNeighbor(), [8, 10])
    return {
        "image": [*alias_faults(graph, small), with_tensor(graph, "input", shape=(1, 20, 6))],
        "size": [
            *not_an_index(graph, 1),
            *(with_index(graph, 1, size) for size in ([0, 10], [8, -1], [8], [8, 10, 6])),
        ],
    }


FAULTS: dict[str, dict[str, list[Graph]]] = {
    "CONCATENATION": concatenation_faults(),
    "EXPAND_DIMS": expand_dims_faults(),
    "PACK": pack_faults(),
    "PAD": pad_faults("PAD"),
    "PADV2": pad_faults("PADV2"),
    "RESIZE_NEAREST_NEIGHBOR": resize_faults(),
    "SLICE": slice_faults(),
    "SPLIT": split_faults(),
    "SQUEEZE": squeeze_faults(),
    "STRIDED_SLICE": strided_slice_faults(),
    "TRANSPOSE": transpose_faults(),
}
