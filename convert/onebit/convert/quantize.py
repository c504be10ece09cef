"""Post-training quantization of a float graph to int8, with the bits inside left as they are.

What becomes int8 is what Larq Compute Engine's converter makes int8 under quantization-aware training: the input, the
outputs of real-valued layers, binary convolutions whose output is not directly signed (their multiplier and bias stay
float32), pools and reshapes between them. A binary convolution that only feeds signs keeps its exact float or bit form.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from onebit.core import DType, Graph, Node, Quantization, Tensor, evaluate, spec
from onebit.core.errors import BadInputError, UnsupportedError
from onebit.core.evaluate import CHUNK
from onebit.core.fixed_point import round_half_away
from onebit.core.graph import Array
from onebit.core.metadata import ModelMetadata
from onebit.core.ops import (
    Conv2d,
    FullyConnected,
    LceBconv2d,
    LceBMaxPool2d,
    LceDequantize,
    LceQuantize,
    MaxPool2d,
    Reshape,
    Softmax,
)
from onebit.core.ops.softmax import OUTPUT_QUANTIZATION

Ranges = Mapping[str, tuple[float, float]]

WEIGHT_LIMIT = 127
"""Quantized weights are in -127..127 (narrow range, zero point 0)."""

BIAS_LIMIT = 2**30
"""Largest quantized bias: leaves as much room in an int32 accumulator for the products."""

SIGN_LEVELS = Quantization.per_tensor(1 / 127, 0)
"""Quantization of signs that leave the binary part: +1 is 127, -1 is -127."""


def calibrate(graph: Graph, x: Array) -> dict[str, tuple[float, float]]:
    """Smallest and largest value of the input and of every float32 activation, for real inputs `x` float32 [N, ...]."""
    if len(x) == 0:
        raise BadInputError("no calibration samples", fix="give at least one, better some hundred")
    names = [t.name for t in graph.activations() if t.dtype is DType.FLOAT32]
    ranges: dict[str, tuple[float, float]] = {}
    for start in range(0, len(x), CHUNK):
        part = x[start : start + CHUNK]
        values = {graph.input.name: part, **evaluate(graph, part, names)}
        for name, value in values.items():
            low, high = ranges.get(name, (np.inf, -np.inf))
            ranges[name] = (min(low, float(value.min())), max(high, float(value.max())))
    return ranges


def activation_quantization(low: float, high: float) -> Quantization:
    """int8 quantization of a range, widened to include 0, which then is the zero point exactly.

    scale = (high - low) / 255, rounded to float32; zero point = round(-128 - low / scale). A range of zeros gets
    scale 1, zero point 0.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    if not np.isfinite([low, high]).all():
        raise BadInputError(f"a calibrated range {low:g} to {high:g} is not finite", fix="check the calibration data")
    scale = np.float32((high - low) / 255)
    if scale < np.finfo(np.float32).tiny:
        return Quantization.per_tensor(1.0, 0)
    zero_point = int(round_half_away(np.array(-128 - low / float(scale))))
    return Quantization.per_tensor(float(scale), min(127, max(-128, zero_point)))


def input_quantization(tensor: Tensor, metadata: ModelMetadata | None, ranges: Ranges) -> Quantization:
    """Quantization of the input: the range of pixels 0 to 255 by the metadata, or the calibrated one.

    Pixels scaled by 1/255 get scale 1/255 and zero point -128, so that pixel p becomes p - 128.
    """
    if metadata is None:
        return activation_quantization(*ranges[tensor.name])
    table = metadata.preprocessing.real_table(tensor.shape[-1] if len(tensor.shape) == 4 else 1)
    return activation_quantization(float(table.min()), float(table.max()))


def quantize_int8(graph: Graph, ranges: Ranges) -> Graph:
    """The int8 form of a float graph. `ranges` are those of `calibrate` on this graph.

    Tensors keep their names, though their values are quantized now: the result is another model, not a rewrite of this
    one. UnsupportedError lists the operators that have no int8 form.
    """
    _refuse_without_int8(graph)
    quantizer = _Quantizer(graph, ranges)
    for node in graph.nodes:
        quantizer.convert(node)
    result = replace(graph, tensors=quantizer.tensors, nodes=tuple(quantizer.nodes))
    spec.verify(result, "quantize_int8")
    return result


def _refuse_without_int8(graph: Graph) -> None:
    left = [node.describe() for node in graph.nodes if type(node.op) not in _CONVERSIONS]
    if left:
        raise UnsupportedError(
            f"no int8 form for {', '.join(left)}",
            where="quantize_int8",
            fix="put batch norm directly behind a convolution or dense layer, where it folds into it, or stay in float",
        )


class _Quantizer:
    def __init__(self, graph: Graph, ranges: Ranges) -> None:
        self.graph = graph
        self.ranges = ranges
        self.tensors = {k: t for k, t in graph.tensors.items() if not t.is_constant}
        self.nodes: list[Node] = []
        self._set(graph.input.name, input_quantization(graph.input, graph.metadata, ranges))

    def convert(self, node: Node) -> None:
        self.nodes.append(_CONVERSIONS[type(node.op)](self, node))

    def _set(self, name: str, quant: Quantization) -> None:
        self.tensors[name] = replace(self.graph.tensors[name], dtype=DType.INT8, quantization=quant)

    def _keep(self, node: Node) -> Node:
        """The node as it is, with its constants."""
        for name in node.inputs:
            if name is not None and self.graph.tensors[name].is_constant:
                self.tensors[name] = self.graph.tensors[name]
        return node

    def _constant(self, name: str, data: Array, dtype: DType, scales: Array) -> str:
        quant = Quantization(tuple(float(s) for s in scales), (0,) * len(scales), 0)
        self.tensors[name] = Tensor(name, tuple(data.shape), dtype, quant, data.astype(dtype.numpy))
        return name

    def binary_conv(self, node: Node) -> Node:
        output = self.graph.tensors[node.output]
        if output.dtype is DType.FLOAT32 and not self._only_signed(node):
            self._set(node.output, activation_quantization(*self.ranges[node.output]))
        return self._keep(node)

    def _only_signed(self, node: Node) -> bool:
        """Whether nothing but signs reads the output."""
        readers = self.graph.consumers(node.output)
        signs = bool(readers) and all(isinstance(reader.op, LceQuantize) for reader in readers)
        return signs and node.output not in self.graph.outputs

    def linear(self, node: Node) -> Node:
        x, filters, *rest = node.inputs
        assert x is not None and filters is not None
        weights = self.graph.tensors[filters].constant()
        old = self.graph.tensor(rest[0]) if rest else None
        bias = np.zeros(len(weights)) if old is None else old.constant().astype(np.float64)
        in_scale = np.float32(self.tensors[x].quant.scale)
        scales = weight_scales(weights, bias, float(in_scale), per_channel=isinstance(node.op, Conv2d))
        steps = scales.reshape(-1, *(1,) * (weights.ndim - 1)).astype(np.float64)
        q = np.clip(round_half_away(weights / steps), -WEIGHT_LIMIT, WEIGHT_LIMIT)
        bias_name = f"{filters}/bias" if old is None else old.name
        bias_scales = (in_scale * scales).astype(np.float32)
        bias_q = round_half_away(bias / bias_scales)
        if self._only_signed(node):
            self._set(node.output, sign_quantization(q, bias_q, bias_scales))
        else:
            self._set(node.output, activation_quantization(*self.ranges[node.output]))
        names = (
            x,
            self._constant(filters, q, DType.INT8, scales),
            self._constant(bias_name, bias_q, DType.INT32, bias_scales),
        )
        return Node(node.op, names, node.outputs)

    def sharing(self, node: Node) -> Node:
        """MAX_POOL_2D and RESHAPE: the output has the quantization of the input."""
        x = self.tensors[node.inputs[0] or ""]
        if x.dtype is DType.INT8:
            self._set(node.output, x.quant)
        return self._keep(node)

    def softmax(self, node: Node) -> Node:
        self._set(node.output, OUTPUT_QUANTIZATION)
        return self._keep(node)

    def dequantize(self, node: Node) -> Node:
        self._set(node.output, SIGN_LEVELS)
        return self._keep(node)

    def bits(self, node: Node) -> Node:
        """LceQuantize and LceBMaxPool2d give bits, from whatever they read."""
        return self._keep(node)


def sign_quantization(q: Array, bias: Array, steps: Array) -> Quantization:
    """Quantization of a real-valued layer's output of which only the sign is read.

    Range does not matter, since saturation keeps signs; resolution does: with a coarse scale everything in
    [-scale/2, 0) would round to 0, which counts as +1. So one step of the output is the smallest step of an accumulator
    (`steps`, real value per output channel), and no accumulator but 0 rounds to 0. The step is larger only where the
    largest accumulator times the multiplier would leave int32. Weights `q` ``[O, ...]``, `bias` [O].
    """
    largest = np.abs(q.reshape(len(q), -1)).sum(axis=1) * 255.0 + np.abs(bias)
    scale = max(float(steps.min()), float((largest * steps).max()) / 2**30)
    return Quantization.per_tensor(scale, 0)


def weight_scales(weights: Array, bias: Array, in_scale: float, *, per_channel: bool) -> Array:
    """float32 scales, one per output channel (axis 0) or one: max|w| / 127, but large enough for an int32 bias.

    Weights and biases that are all 0 get scale 1.
    """
    largest = np.abs(weights.reshape(len(weights), -1)).max(axis=1).astype(np.float64)
    magnitude = np.abs(bias)
    if not per_channel:
        largest, magnitude = largest.max(keepdims=True), magnitude.max(keepdims=True)
    scales = np.maximum(largest / WEIGHT_LIMIT, magnitude / (in_scale * BIAS_LIMIT)).astype(np.float32)
    return np.where(scales > 0, scales, np.float32(1)).astype(np.float32)


_CONVERSIONS: dict[type, Callable[[_Quantizer, Node], Node]] = {
    Conv2d: _Quantizer.linear,
    FullyConnected: _Quantizer.linear,
    LceBMaxPool2d: _Quantizer.bits,
    LceBconv2d: _Quantizer.binary_conv,
    LceDequantize: _Quantizer.dequantize,
    LceQuantize: _Quantizer.bits,
    MaxPool2d: _Quantizer.sharing,
    Reshape: _Quantizer.sharing,
    Softmax: _Quantizer.softmax,
}
