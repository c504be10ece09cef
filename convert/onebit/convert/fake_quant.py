"""The fake-quantized source: the PyTorch model run with the file's quantization, by arithmetic of its own.

The traced source model is interpreted node by node. Its weights, its batch norms and its order of operations are the
source's; from the file come only the scales and zero points. Nothing here uses the converter's graph passes or
`onebit.core.evaluate`, so that a mistake there does not repeat here. Integers are accumulated in float64, where they
are exact; roundings are those of LiteRT's built-in kernels and of LCE's output stage (see `onebit.core.fixed_point` and
`onebit.core.ops`), because a sign near zero depends on them.

Legend: N batch, C channels, H height, W width, O outputs; all values are NCHW or [N, features], as in the source.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from onebit.convert.compare import Comparison
from onebit.convert.torch_layers import activation_of, batch_norm_constants, to_numpy
from onebit.convert.torch_source import SIGNING_KINDS, Imported
from onebit.core import DType, Graph, Quantization
from onebit.core.fixed_point import quantize_multiplier, requantize, round_half_away
from onebit.core.graph import Array
from onebit.core.ops import Activation

SOFTMAX_QUANTIZATION = Quantization.per_tensor(1 / 256, -128)


@dataclass(frozen=True)
class Quantized:
    """int8 values `q` (as float64) with their quantization."""

    q: Array
    quant: Quantization


@dataclass(frozen=True)
class Real:
    """float32 values."""

    value: Array


@dataclass(frozen=True)
class Pending:
    """A linear layer whose result is not rounded yet, because batch norm and activation still belong to it.

    ``y = post(pre(layer(x)) * g + c)``; `pre` occurs only behind binary layers, `post` only behind the others.
    """

    layer: Any
    x: Array
    quant: Quantization | None
    g: Array
    c: Array
    pre: Activation = Activation.NONE
    post: Activation = Activation.NONE
    flat: bool = False


Interpreted = Quantized | Real | Pending


class FakeQuantized(fx.Interpreter):
    """Runs the source with the quantization of `graph`, the int8 graph that was made from it.

    With a `comparison`, every value is compared with the file's (allowed are `tolerance` steps), and signs go on as the
    file decided them where the source's value is that close to its zero point.
    """

    def __init__(
        self, imported: Imported, graph: Graph, comparison: Comparison | None = None, tolerance: int = 0
    ) -> None:
        super().__init__(imported.traced.graph_module)
        self._imported = imported
        self._graph = graph
        self._comparison = comparison
        self._tolerance = tolerance

    def run_quantized(self, x: Array) -> Array:
        """Quantized outputs [N, classes] (float64) for quantized inputs in the source's layout."""
        with torch.no_grad():
            result = self.run(Quantized(x.astype(np.float64), self._graph.input.quant))
        assert isinstance(result, Quantized)
        return result.q

    def run_node(self, n: fx.Node) -> Any:
        """One node of the source."""
        if n.op != "call_module":
            return super().run_node(n)
        (source,) = (arg for arg in n.args if isinstance(arg, fx.Node))
        x: Interpreted = self.env[source]
        result = self._call(n, source, self._imported.traced.layer(n), x)
        tensor = self._graph.tensors.get(self._imported.values[n].tensor)
        if isinstance(result, Pending) and tensor is not None:
            result = _rounded(result, tensor.quant if tensor.dtype is DType.INT8 else None)
        if self._comparison is not None and isinstance(result, Quantized):
            self._comparison.value(n, result.q, self._tolerance)
        return result

    def _call(self, node: fx.Node, source: fx.Node, module: Any, x: Interpreted) -> Interpreted:
        if getattr(module, "onebit_kind", None) in SIGNING_KINDS:
            return _pending(module, self._signs(node, source, x), None)
        if isinstance(module, nn.Conv2d | nn.Linear):
            assert isinstance(x, Quantized)
            return _pending(module, x.q - x.quant.zero_point, x.quant)
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            return _normalized(x, *(value.astype(np.float32) for value in batch_norm_constants(module)))
        if isinstance(module, nn.Flatten):
            return _flattened(x)
        activation = activation_of(module)
        if activation is not None and self._imported.values[node] != self._imported.values[source]:
            return _activated(x, activation)
        if isinstance(module, nn.MaxPool2d):
            return _pooled(module, _rounded(x, None) if isinstance(x, Pending) else x)
        if isinstance(module, nn.Softmax):
            assert isinstance(x, Quantized)
            return _softmax(x)
        return x

    def _signs(self, node: fx.Node, source: fx.Node, x: Interpreted) -> Array:
        """+1/-1 of what a binary layer reads: int8 against its zero point, float32 against 0."""
        settled = _rounded(x, None) if isinstance(x, Pending) else x
        negative = settled.q < settled.quant.zero_point if isinstance(settled, Quantized) else settled.value < 0
        signs = np.where(negative, -1.0, 1.0)
        if self._comparison is None:
            return signs
        near = np.zeros(signs.shape, np.bool_)
        if isinstance(settled, Quantized) and self._tolerance:
            distance = settled.q - settled.quant.zero_point
            near = (distance >= -self._tolerance) & (distance < self._tolerance)
        return self._comparison.decided(node, source, signs, near)


def _pending(module: Any, x: Array, quant: Quantization | None) -> Pending:
    outputs = len(module.weight)
    return Pending(module, x, quant, np.ones(outputs), np.zeros(outputs))


def _normalized(x: Interpreted, g: Array, c: Array) -> Interpreted:
    """Batch norm by its float32 constants: folded in double, or behind a pool MUL and ADD with a rounding each."""
    if isinstance(x, Pending):
        wide = g.astype(np.float64)
        return replace(x, g=x.g * wide, c=x.c * wide + c)
    assert isinstance(x, Real)
    return Real(x.value * _per_channel(g, x.value) + _per_channel(c, x.value))


def _flattened(x: Interpreted) -> Interpreted:
    if isinstance(x, Pending):
        return replace(x, flat=True)
    if isinstance(x, Quantized):
        return replace(x, q=x.q.reshape(len(x.q), -1))
    return Real(x.value.reshape(len(x.value), -1))


def _activated(x: Interpreted, activation: Activation) -> Interpreted:
    if isinstance(x, Pending):
        binary = getattr(x.layer, "onebit_kind", None) in SIGNING_KINDS
        return replace(x, pre=activation) if binary else replace(x, post=activation)
    if isinstance(x, Real):
        return Real(activation.apply(x.value))
    return replace(x, q=np.clip(x.q, *activation.quantized_bounds(x.quant)))


def _pooled(module: nn.Module, x: Quantized | Real) -> Interpreted:
    if isinstance(x, Quantized):
        return replace(x, q=to_numpy(module(torch.from_numpy(x.q))))
    return Real(to_numpy(module(torch.from_numpy(x.value))))


def _softmax(x: Quantized) -> Quantized:
    real = (x.q - x.quant.zero_point) * x.quant.scale
    e = np.exp(real - real.max(axis=1, keepdims=True))
    q = np.floor(e / e.sum(axis=1, keepdims=True) * 256 + 0.5) - 128
    return Quantized(np.clip(q, -128, 127), SOFTMAX_QUANTIZATION)


def _rounded(x: Pending, quant: Quantization | None) -> Quantized | Real:
    """The layer's result in int8, or (binary layers only) in float32 where `quant` is None."""
    binary = getattr(x.layer, "onebit_kind", None) in SIGNING_KINDS
    result = _binary(x, quant) if binary else _linear(x, quant)
    flattened = _flattened(result) if x.flat else result
    assert not isinstance(flattened, Pending)
    return flattened


def _per_channel(values: Array, like: Array) -> Array:
    return values.reshape(1, -1, *(1,) * (like.ndim - 2))


def _binary(x: Pending, quant: Quantization | None) -> Quantized | Real:
    """LCE's output stage on exact sign products, in two float32 roundings."""
    weight = to_numpy(x.layer.quantized_weight()).astype(np.float64)
    taps = weight[0].size
    scale = np.abs(weight.reshape(len(weight), -1)[:, 0])
    # the module's own forward with its own padding; its input quantizer leaves +1/-1 as they are
    products = to_numpy(x.layer(torch.from_numpy(x.x.astype(np.float32)))).astype(np.float64)
    shift = np.zeros(len(weight)) if x.layer.bias is None else to_numpy(x.layer.bias).astype(np.float64)
    dot = np.rint((products - _per_channel(shift, products)) / _per_channel(scale, products))
    low, high = (np.clip(bound, -taps, taps) for bound in x.pre.bounds)
    doubled = (taps - np.clip(dot, low, high)).astype(np.float32)
    multiplier = (scale.astype(np.float32) * x.g).astype(np.float32).astype(np.float64)
    bias = (shift * x.g + x.c).astype(np.float32).astype(np.float64)
    out_scale, zero_point = (1.0, 0) if quant is None else (quant.scale, quant.zero_point)
    m = (-multiplier / out_scale).astype(np.float32)
    b = ((bias + taps * multiplier) / out_scale + zero_point).astype(np.float32)
    y = (doubled * _per_channel(m, doubled)).astype(np.float32) + _per_channel(b, doubled)
    if quant is None:
        return Real(y.astype(np.float32))
    return Quantized(np.clip(round_half_away(y), -128, 127).astype(np.float64), quant)


def _linear(x: Pending, quant: Quantization | None) -> Quantized:
    """A real-valued layer with int8 weights: exact integer products, fixed-point requantization."""
    assert quant is not None and x.quant is not None
    weight = to_numpy(x.layer.weight).astype(np.float64)
    shift = np.zeros(len(weight)) if x.layer.bias is None else to_numpy(x.layer.bias).astype(np.float64)
    folded = (weight * x.g.reshape(-1, *(1,) * (weight.ndim - 1))).astype(np.float32).astype(np.float64)
    bias = (shift * x.g + x.c).astype(np.float32).astype(np.float64)
    convolution = isinstance(x.layer, nn.Conv2d)
    in_scale = np.float32(x.quant.scale)
    magnitudes = [np.abs(folded).reshape(len(folded), -1).max(axis=1), np.abs(bias) / (float(in_scale) * 2**30)]
    magnitudes[0] = magnitudes[0] / 127
    if not convolution:
        magnitudes = [m.max(keepdims=True) for m in magnitudes]
    scales = np.maximum(*magnitudes).astype(np.float32)
    scales = np.broadcast_to(np.where(scales > 0, scales, np.float32(1)), (len(weight),))
    q = np.clip(round_half_away(folded / scales.reshape(-1, *(1,) * (weight.ndim - 1)).astype(np.float64)), -127, 127)
    parameters = {"weight": torch.from_numpy(q.astype(np.float64))}
    if x.layer.bias is not None:
        parameters["bias"] = torch.zeros(len(weight), dtype=torch.float64)
    acc = to_numpy(torch.func.functional_call(x.layer, parameters, (torch.from_numpy(x.x),)))
    acc = acc + _per_channel(round_half_away(bias / (in_scale * scales).astype(np.float32)), acc)
    # LiteRT takes the product of the scales in double per channel, but in float32 for a dense layer
    products = in_scale.astype(np.float64) * scales if convolution else (in_scale * scales).astype(np.float64)
    pairs = np.array([quantize_multiplier(float(p) / quant.scale) for p in products], np.int64)
    multiplier, exponent = (_per_channel(column, acc) for column in pairs.T)
    out = requantize(acc.astype(np.int64), multiplier, exponent) + quant.zero_point
    return Quantized(np.clip(out, *x.post.quantized_bounds(quant)).astype(np.float64), quant)
