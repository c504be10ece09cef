"""The fake-quantized float graph: an oracle for int8 files by arithmetic of its own.

Every operator is computed by its float semantics, on real values. From the file come only scales and zero points: the
constants are rounded to them here, from the float ones, and so is every result that the file holds in int8. No integer
arithmetic of the int8 operators is used, so that a mistake there does not repeat here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from onebit.core import DType, Graph, Node, Quantization, Tensor
from onebit.core.errors import VerificationError
from onebit.core.graph import Array
from onebit.core.ops import Add, Dequantize, LceQuantize, Quantize, View

INFINITE_STEPS = 2.0**40

NEAR_TIE = 1e-3
"""How far from the middle between two steps a value lies that other arithmetic may round to either of them."""


def real_values(tensor: Tensor, stored: Array, offset: float = 0.0) -> Array:
    """What a stored tensor means: int8 as scale * (q - zero point) - offset in float64, anything else as it is."""
    if tensor.dtype is not DType.INT8:
        return stored
    return np.asarray(tensor.quant.scale * (stored.astype(np.float64) - tensor.quant.zero_point) - offset)


def to_steps(value: Array, quant: Quantization, offset: float = 0.0) -> Array:
    """The int8 value nearest to real values plus `offset`, as float64: halves away from zero, saturated."""
    return _rounded(_scaled(value, quant, offset), quant)


def _scaled(value: Array, quant: Quantization, offset: float) -> Array:
    scaled = (value.astype(np.float64) + offset) / quant.scale
    return np.asarray(np.clip(scaled, -INFINITE_STEPS, INFINITE_STEPS))


def _rounded(scaled: Array, quant: Quantization) -> Array:
    steps = np.trunc(scaled + np.copysign(0.5, scaled))
    return np.asarray(np.clip(steps + quant.zero_point, -128.0, 127.0))


@dataclass(frozen=True)
class Step:
    """What a tensor of the file must hold: `values` in its stored form, int8 as float64.

    `ties` (bool, int8 only) tells where the real value lies in the middle between two steps.
    """

    values: Array
    ties: Array | None = None


@dataclass(frozen=True)
class FakeQuantized:
    """`source` is the float graph, `file` the int8 graph that was made from it.

    `offsets` are those of `Int8Model`: what the file stores beside the real value of a tensor.
    """

    source: Graph
    file: Graph
    offsets: Mapping[str, float]

    def output(self, found: Mapping[str, Array]) -> Array:
        """The model's output in the stored form of the file, from the source's output as `step` gives it."""
        value, tensor = found[self.source.output.name], self.file.output
        if tensor.name == self.source.output.name:
            return value
        return to_steps(value, tensor.quant)

    def real(self, name: str, stored: Array) -> Array:
        """The real value of a tensor of the file that the source has too."""
        return real_values(self.file.tensors[name], stored, self.offsets.get(name, 0.0))

    def step(self, node: Node, found: Mapping[str, Array]) -> Step:
        """The output of one node of the source in the stored form of the file.

        `found` has the file's values of the tensors that the node reads. VerificationError where the file does not
        have the node, or lets it read something else.
        """
        value = self._evaluate(node, found, rounded=True)
        tensor = self.file.tensors[node.output]
        if tensor.dtype is not DType.INT8:
            return Step(value)
        scaled = _scaled(value, tensor.quant, self.offsets.get(tensor.name, 0.0))
        return Step(_rounded(scaled, tensor.quant), np.abs(scaled - np.floor(scaled) - 0.5) < NEAR_TIE)

    def exact_step(self, node: Node, found: Mapping[str, Array]) -> Array:
        """The real output of one node for the same inputs, its constants and its output not rounded."""
        return self._evaluate(node, found, rounded=False)

    def _evaluate(self, node: Node, found: Mapping[str, Array], *, rounded: bool) -> Array:
        written = self.file.producer(node.output)
        if written is None or type(written.op) is not type(node.op) or len(written.inputs) < len(node.inputs):
            raise _wrong(node, "the file does not compute it")
        args: list[Array | None] = []
        for name, read in zip(node.inputs, written.inputs, strict=False):
            tensor = self.source.tensor(name)
            if tensor is None:
                args.append(None)
            elif read is None or read not in self.file.tensors:
                raise _wrong(node, f"the file does not read '{name}'")
            elif tensor.data is not None:
                args.append(self._constant(node, tensor, self.file.tensors[read]) if rounded else tensor.data)
            else:
                args.append(self._activation(node, tensor, self.file.tensors[read], found))
        # float semantics on float tensors, whatever the file's are
        with np.errstate(over="ignore", invalid="ignore"):
            return node.op.evaluate(View.of(self.source, node), args)

    def _activation(self, node: Node, tensor: Tensor, read: Tensor, found: Mapping[str, Array]) -> Array:
        """The real value of `tensor` of the source, which the file reads as `read`: itself or a copy in another form"""
        origin = read.name
        while origin != tensor.name:
            producer = self.file.producer(origin)
            if producer is None or not isinstance(producer.op, Quantize | Dequantize):
                raise _wrong(node, f"the file reads '{read.name}' in place of '{tensor.name}'")
            origin = producer.inputs[0] or ""
        value = self.real(tensor.name, found[tensor.name])
        if read.name != tensor.name and read.dtype is DType.INT8:
            # a copy in another quantization is rounded again, offset and all
            offset = self.offsets.get(tensor.name, 0.0)
            value = real_values(read, to_steps(value, read.quant, offset), offset)
        return value.astype(np.float32) if tensor.dtype is DType.FLOAT32 else value

    def _is_threshold(self, node: Node, constant: Tensor) -> bool:
        """Whether a constant is added in front of signs only, on the grid of the other operand.

        Such a threshold is rounded down: q + floor(b) is negative exactly where q + b is.
        """
        readers = self.source.consumers(node.output)
        signed = isinstance(node.op, Add) and all(isinstance(reader.op, LceQuantize) for reader in readers)
        written = self.file.producer(node.output)
        others = [] if written is None else [n for n in written.inputs if n is not None and n != constant.name]
        scales = [self.file.tensors[name].quant.scale for name in others]
        return signed and node.output not in self.source.outputs and scales == [constant.quant.scale]

    def _constant(self, node: Node, tensor: Tensor, copy: Tensor) -> Array:
        """A constant as the file rounds it: int8 values and int32 biases by their scales, others unchanged."""
        offset = self.offsets.get(copy.name, 0.0)
        data = tensor.constant() + np.float32(offset)
        if copy.dtype is tensor.dtype:
            return tensor.constant()
        shape = [-1 if i == copy.quant.axis else 1 for i in range(data.ndim)]
        scales, zeros = (
            np.array(v, np.float64).reshape(shape if len(v) > 1 else [1] * data.ndim)
            for v in (copy.quant.scales, copy.quant.zero_points)
        )
        limits = (-128, 127) if copy.dtype is DType.INT8 else (-(2**31), 2**31 - 1)
        scaled = data.astype(np.float64) / scales
        rounded = np.floor(scaled) if self._is_threshold(node, copy) else np.trunc(scaled + np.copysign(0.5, scaled))
        steps = np.clip(rounded + zeros, *limits)
        return np.asarray(((steps - zeros) * scales - offset).astype(np.float32))


def _wrong(node: Node, what: str) -> VerificationError:
    return VerificationError(what, where=node.describe(), fix="nothing was written; please report this model")
