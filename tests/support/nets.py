"""Small random graphs, built with core's own types, that the tests share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from onebit.core import DType, Graph, Node, Quantization, Tensor
from onebit.core.bits import pack
from onebit.core.graph import Array
from onebit.core.metadata import ModelMetadata
from onebit.core.ops import (
    Activation,
    Add,
    AveragePool2d,
    BinaryWindow,
    Conv2d,
    DepthwiseConv2d,
    FullyConnected,
    LceBconv2d,
    LceBMaxPool2d,
    LceDequantize,
    LceQuantize,
    MaxPool2d,
    Mul,
    Op,
    Padding,
    PoolWindow,
    Reshape,
    Softmax,
    View,
)


class Net:
    """Builds a chain: every method appends one operator to the current tensor. Weights are seeded."""

    def __init__(
        self, shape: Sequence[int], dtype: DType = DType.FLOAT32, quant: Quantization | None = None, seed: int = 0
    ) -> None:
        self.rng = np.random.default_rng(seed)
        self.tensors: dict[str, Tensor] = {}
        self.nodes: list[Node] = []
        self.now = self._add(Tensor("input", tuple(shape), dtype, quant))

    def _add(self, tensor: Tensor) -> Tensor:
        self.tensors[tensor.name] = tensor
        return tensor

    def constant(self, name: str, data: Any, dtype: DType, **kw: Any) -> str:
        """Add a constant; bits are given as bool (True = -1) with logical shape."""
        data = np.asarray(data)
        shape = data.shape
        stored: Array = pack(data) if dtype is DType.BITS else data.astype(dtype.numpy)
        self._add(Tensor(name, shape, dtype, kw.get("quant"), stored))
        return name

    def node(
        self, op: Op, *inputs: str | None, dtype: DType, quant: Quantization | None = None, shape: Any = None
    ) -> Net:
        """Append an operator; the output shape is inferred unless given."""
        name = f"{op.name.lower()}_{len(self.nodes)}"
        names = (self.now.name, *inputs)
        node = Node(op, names, (name,))
        draft = Tensor(name, tuple(shape or (1,)), dtype, quant)
        view = View(node, tuple(None if n is None else self.tensors[n] for n in names), (draft,))
        self.now = self._add(Tensor(name, op.infer(view)[0], dtype, quant))
        self.nodes.append(node)
        return self

    def quantize(self) -> Net:
        return self.node(LceQuantize(), dtype=DType.BITS)

    def dequantize(self, dtype: DType = DType.FLOAT32, quant: Quantization | None = None) -> Net:
        return self.node(LceDequantize(), dtype=dtype, quant=quant)

    def bconv(
        self,
        out: int,
        kernel: tuple[int, int] = (3, 3),
        *,
        to: DType = DType.FLOAT32,
        padding: Padding = Padding.SAME,
        pad_value: int = 1,
        stride: tuple[int, int] = (1, 1),
        dilation: tuple[int, int] = (1, 1),
        groups: int = 1,
        activation: Activation = Activation.NONE,
        quant: Quantization | None = None,
        multiplier: Array | None = None,
        bias: Array | None = None,
        threshold: Array | None = None,
    ) -> Net:
        channels = self.now.shape[3]
        i = len(self.nodes)
        taps = kernel[0] * kernel[1] * channels // groups
        filters = self.constant(f"filter_{i}", self.rng.random((out, *kernel, channels // groups)) < 0.5, DType.BITS)
        window = BinaryWindow(channels, stride, dilation, padding, pad_value if padding is Padding.SAME else 0)
        op = LceBconv2d(window, activation)
        if to is DType.BITS:
            if threshold is None:
                threshold = self.rng.normal(taps / 2, taps**0.5 / 2, out).round()
            return self.node(
                op, filters, None, None, self.constant(f"threshold_{i}", threshold, DType.INT32), dtype=DType.BITS
            )
        if multiplier is None:
            multiplier = self.rng.normal(0, 1, out) / taps**0.5
        if bias is None:
            bias = self.rng.normal(0, 0.5, out)
        if to is DType.INT8 and quant is None:
            quant = Quantization.per_tensor(3.0 / 127, -3)
        m = self.constant(f"multiplier_{i}", multiplier, DType.FLOAT32)
        b = self.constant(f"bias_{i}", bias, DType.FLOAT32)
        return self.node(op, filters, m, b, None, dtype=to, quant=quant)

    def bpool(self, size: int = 2, stride: int | None = None, padding: Padding = Padding.VALID) -> Net:
        op = LceBMaxPool2d(PoolWindow((size, size), (stride or size,) * 2, padding))
        return self.node(op, dtype=DType.BITS)

    def pool(self, size: int = 2, padding: Padding = Padding.VALID, activation: Activation = Activation.NONE) -> Net:
        op = MaxPool2d(activation=activation, window=PoolWindow((size, size), (size, size), padding))
        return self.node(op, dtype=self.now.dtype, quant=self.now.quantization)

    def conv(
        self,
        out: int,
        kernel: tuple[int, int] = (3, 3),
        *,
        padding: Padding = Padding.SAME,
        stride: tuple[int, int] = (1, 1),
        dilation: tuple[int, int] = (1, 1),
        activation: Activation = Activation.NONE,
        quant: Quantization | None = None,
    ) -> Net:
        op = Conv2d(activation, stride=stride, dilation=dilation, padding=padding)
        return self._linear(op, (out, *kernel, self.now.shape[3]), quant, per_channel=True)

    def depthwise(
        self,
        multiplier: int = 1,
        kernel: tuple[int, int] = (3, 3),
        *,
        padding: Padding = Padding.SAME,
        stride: tuple[int, int] = (1, 1),
        dilation: tuple[int, int] = (1, 1),
        activation: Activation = Activation.NONE,
        quant: Quantization | None = None,
    ) -> Net:
        op = DepthwiseConv2d(activation, stride=stride, dilation=dilation, padding=padding, depth_multiplier=multiplier)
        return self._linear(op, (1, *kernel, self.now.shape[3] * multiplier), quant, per_channel=True)

    def average(
        self,
        size: tuple[int, int] = (2, 2),
        stride: tuple[int, int] = (2, 2),
        padding: Padding = Padding.VALID,
        activation: Activation = Activation.NONE,
    ) -> Net:
        op = AveragePool2d(PoolWindow(size, stride, padding), activation)
        return self.node(op, dtype=self.now.dtype, quant=self.now.quantization)

    def reduce(self, op: Op, axes: Sequence[int] = (1, 2), quant: Quantization | None = None) -> Net:
        name = self.constant(f"axes_{len(self.nodes)}", axes, DType.INT32)
        return self.node(op, name, dtype=self.now.dtype, quant=quant or self.now.quantization)

    def dense(self, out: int, activation: Activation = Activation.NONE, quant: Quantization | None = None) -> Net:
        return self._linear(FullyConnected(activation), (out, self.now.elements), quant, per_channel=False)

    def _linear(self, op: Op, shape: tuple[int, ...], quant: Quantization | None, *, per_channel: bool) -> Net:
        i, dtype, axis = len(self.nodes), self.now.dtype, 3 if isinstance(op, DepthwiseConv2d) else 0
        out, fan_in = shape[axis], int(np.prod(shape)) // shape[axis]
        if dtype is DType.FLOAT32:
            w = self.constant(f"filter_{i}", self.rng.normal(0, fan_in**-0.5, shape), dtype)
            b = self.constant(f"bias_{i}", self.rng.normal(0, 0.1, out), dtype)
            return self.node(op, w, b, dtype=dtype)
        scales = self.rng.uniform(0.5, 1.5, out if per_channel else 1).astype(np.float32) * fan_in**-0.5 / 64
        wq = Quantization(tuple(map(float, scales)), (0,) * len(scales), axis)
        w = self.constant(f"filter_{i}", self.rng.integers(-127, 128, shape), dtype, quant=wq)
        in_scale = self.now.quant.scale
        bias_scales = (scales * np.float32(in_scale)).astype(np.float32)
        bq = Quantization(tuple(map(float, bias_scales)), (0,) * len(scales), 0)
        bias = np.broadcast_to(self.rng.normal(0, 0.1, out) / bias_scales, out).round()
        b = self.constant(f"bias_{i}", bias, DType.INT32, quant=bq)
        return self.node(op, w, b, dtype=dtype, quant=quant or Quantization.per_tensor(0.02, 4))

    def mul(self, factor: Any, activation: Activation = Activation.NONE) -> Net:
        name = self.constant(f"factor_{len(self.nodes)}", factor, DType.FLOAT32)
        return self.node(Mul(activation), name, dtype=DType.FLOAT32)

    def add(self, term: Any, activation: Activation = Activation.NONE) -> Net:
        name = self.constant(f"term_{len(self.nodes)}", term, DType.FLOAT32)
        return self.node(Add(activation), name, dtype=DType.FLOAT32)

    def reshape(self, *shape: int) -> Net:
        return self.node(Reshape(shape), dtype=self.now.dtype, quant=self.now.quantization, shape=shape)

    def softmax(self, beta: float = 1.0) -> Net:
        quant = Quantization.per_tensor(1 / 256, -128) if self.now.dtype is DType.INT8 else None
        return self.node(Softmax(beta), dtype=self.now.dtype, quant=quant)

    def graph(self, metadata: ModelMetadata | None = None) -> Graph:
        return Graph(self.tensors, tuple(self.nodes), ("input",), (self.now.name,), metadata)

    def samples(self, n: int) -> Array:
        """Seeded inputs over the input's range."""
        t = self.tensors["input"]
        if t.dtype is DType.INT8:
            return self.rng.integers(-128, 128, (n, *t.shape[1:])).astype(np.int8)
        return self.rng.normal(0, 1, (n, *t.shape[1:])).astype(np.float32)


INT8_INPUT = Quantization.per_tensor(1 / 255, -128)
