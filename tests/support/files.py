"""Model files for tests: small valid ones, edited ones, damaged ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from onebit.core import DType, Graph, Quantization, write_model
from onebit.core.flatbuffer.decode import Decoder
from onebit.core.flatbuffer.encode import Encoder
from onebit.core.metadata import ModelMetadata
from onebit.core.ops import Activation, Padding
from support.movement_nets import every_movement
from support.nets import INT8_INPUT, Net
from support.window_nets import every_window

Record = dict[str, Any]


def int8_net() -> Graph:
    """Every int8 and bit operator, with metadata."""
    net = Net((1, 6, 6, 3), DType.INT8, INT8_INPUT)
    net.conv(8).quantize().bconv(33, to=DType.BITS).bpool().bconv(4, to=DType.INT8, stride=(2, 2)).pool()
    net.reshape(1, 4).dense(3).softmax()
    return net.graph(ModelMetadata(classes=("a", "b", "c")))


def float_net() -> Graph:
    """Every float operator."""
    net = Net((1, 6, 6, 3))
    net.conv(4).quantize().bconv(5).mul(np.ones(5)).add(np.ones(5)).quantize().dequantize().pool().reshape(1, 45)
    return net.dense(3).softmax().graph()


def attribute_net() -> Graph:
    """Attributes that are not at their defaults."""
    net = Net((1, 5, 5, 64)).quantize()
    net.bconv(8, (3, 2), groups=2, activation=Activation.RELU, dilation=(2, 1), padding=Padding.SAME, pad_value=0)
    net.quantize().dequantize(DType.INT8, Quantization.per_tensor(0.3, 2))
    net.conv(3, (2, 2), stride=(2, 1), padding=Padding.VALID, activation=Activation.RELU6)
    net.pool(2, Padding.SAME, Activation.RELU).reshape(1, net.now.elements)
    return net.dense(2, Activation.RELU_N1_TO_1).softmax(0.5).graph()


def movement_net() -> Graph:
    """Every operator that moves elements."""
    return every_movement(DType.INT8).graph()


def window_net() -> Graph:
    """Depthwise convolution, average pooling and reductions."""
    return every_window(DType.INT8).graph()


def decode(model: bytes) -> Record:
    """The file as plain dicts."""
    return Decoder(model, "test").root("Model")


def edited(model: bytes, change: Callable[[Record], object]) -> bytes:
    """The file with its plain dicts changed by `change`."""
    record = decode(model)
    change(record)
    return Encoder().finish("Model", record)


def subgraph(record: Record) -> Record:
    """The only subgraph."""
    graph: Record = record["subgraphs"][0]
    return graph


def tensor(record: Record, name: str) -> Record:
    """The tensor of that name."""
    return next(t for t in subgraph(record)["tensors"] if t["name"] == name)


def operator(record: Record, output: str) -> Record:
    """The operator that computes the tensor of that name."""
    tensors = subgraph(record)["tensors"]
    return next(o for o in subgraph(record)["operators"] if tensors[o["outputs"][0]]["name"] == output)


def all_small_files() -> dict[str, bytes]:
    """Small valid files that have every operator between them."""
    nets = {"int8": int8_net, "float": float_net, "attributes": attribute_net}
    nets |= {"movement": movement_net, "window": window_net}
    return {name: write_model(net()) for name, net in nets.items()}
