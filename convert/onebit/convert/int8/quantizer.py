"""Post-training quantization of a float graph to int8, with the bits inside left as they are.

What becomes int8 is everything that is not binary, as Larq Compute Engine's converter does under quantization-aware
training: input and output, real-valued layers, the outputs of binary convolutions that are not directly signed (their
multiplier and bias stay float32), and all arithmetic between them. A binary convolution that only feeds signs keeps its
exact float or bit form; so does a chain of float operators that is proven to be an integer threshold. An operator
without int8 form stays in float, between DEQUANTIZE and QUANTIZE, and is reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from onebit.convert.int8.calibration import Ranges
from onebit.convert.int8.groups import Group, group_tensors
from onebit.convert.int8.parameters import (
    WEIGHT_LIMIT,
    activation_quantization,
    input_quantization,
    sign_quantization,
    sum_sign_quantization,
    threshold_quantization,
    to_int8,
    weight_scales,
)
from onebit.convert.int8.rules import RULES, Constants, Output, Rule
from onebit.convert.int8.sign_edges import Offsets, find_offsets
from onebit.core import DType, Graph, Node, Quantization, Tensor, spec
from onebit.core.errors import UnsupportedError
from onebit.core.fixed_point import round_half_away
from onebit.core.graph import Array
from onebit.core.ops import (
    Add,
    Conv2d,
    DepthwiseConv2d,
    Dequantize,
    FullyConnected,
    LceBconv2d,
    LceQuantize,
    Quantize,
    Sub,
    View,
)
from onebit.core.passes.enumeration import sign_chains
from onebit.core.passes.naming import unique_name
from onebit.core.passes.sign_table import SignTable, solve_signs


@dataclass(frozen=True)
class KeptFloat:
    """An operator that computes in float in the int8 model, and why."""

    node: Node
    reason: str


@dataclass(frozen=True)
class Int8Model:
    """The int8 form of a graph, the operators that have none, and the offsets of its tensors (see `sign_edges`)."""

    graph: Graph
    kept_float: tuple[KeptFloat, ...]
    offsets: Offsets


def quantize_int8(graph: Graph, ranges: Ranges) -> Int8Model:
    """The int8 form of a float graph. `ranges` are those of `calibrate` on this graph.

    Tensors keep their names, though their values are quantized now: the result is another model, not a rewrite of this
    one. UnsupportedError for a graph that has int8 tensors already.
    """
    if any(t.dtype is DType.INT8 for t in graph.tensors.values()):
        raise UnsupportedError("the model has int8 tensors already", fix="give its float form, or leave out --int8")
    thresholds = threshold_chains(graph)
    quantizer = _Quantizer(graph, ranges, thresholds)
    for node in graph.nodes:
        quantizer.convert(node)
    result = quantizer.finish()
    spec.verify(result.graph, "quantize_int8")
    return result


def threshold_chains(graph: Graph) -> set[str]:
    """Outputs of the float nodes between a binary convolution and its sign that vanish in code generation.

    Those are the chains that enumeration proves to be functions of the accumulator, and binary convolutions that only
    signs read.
    """
    found: set[str] = set()
    for chain in sign_chains(graph):
        if isinstance(solve_signs(graph, chain), SignTable):
            found.update(node.output for node in chain.nodes[:-1])
    for node in graph.nodes:
        readers = graph.consumers(node.output)
        signed = readers and all(isinstance(reader.op, LceQuantize) for reader in readers)
        if isinstance(node.op, LceBconv2d) and signed and node.output not in graph.outputs:
            found.add(node.output)
    return found


class _Quantizer:
    """Emits the int8 graph node by node. A tensor has one native form, float or int8, and copies in other forms."""

    def __init__(self, graph: Graph, ranges: Ranges, thresholds: set[str]) -> None:
        self.graph = graph
        self.thresholds = thresholds
        self.groups = group_tensors(graph, ranges, thresholds)
        self.quants: dict[int, Quantization] = {}
        self.tensors: dict[str, Tensor] = {}
        self.taken = set(graph.tensors)
        self.nodes: list[Node] = []
        self.copies: dict[tuple[str, Quantization | None], str] = {}
        self.kept_float: list[KeptFloat] = []
        group = self.groups[graph.input.name]
        self.quants[id(group)] = input_quantization(graph.input, graph.metadata, ranges)
        self._emit_tensor(graph.input.name, DType.INT8)
        self.offsets = find_offsets(graph, self.groups, thresholds, self._quant)

    def convert(self, node: Node) -> None:
        """Append the int8 form of the node, or its float form where it has none."""
        rule = RULES.get(type(node.op))
        if node.output in self.thresholds:
            self._append_float(node)
        elif rule is None:
            self._keep(node, "it has no int8 arithmetic")
        else:
            broken = self._try_int8(node, rule)
            if broken is not None:
                self._keep(node, f"in int8 it must hold: {broken}")

    def finish(self) -> Int8Model:
        """The graph, its outputs in int8."""
        outputs = tuple(
            self._int8(name) if self.graph.tensors[name].dtype is DType.FLOAT32 else name for name in self.graph.outputs
        )
        used = {name for node in self.nodes for name in (*node.inputs, *node.outputs)} | {*self.graph.inputs, *outputs}
        tensors = {name: tensor for name, tensor in self.tensors.items() if name in used}
        result = replace(self.graph, tensors=tensors, nodes=tuple(self.nodes), outputs=outputs)
        return Int8Model(result, tuple(self.kept_float), self.offsets)

    # ----------------------------------------------------------------------------------------------------- forms

    def _quant(self, name: str) -> Quantization:
        """The quantization of a tensor's group."""
        group = self.groups[name]
        if id(group) not in self.quants:
            self.quants[id(group)] = self._first_quantization(group)
        return self.quants[id(group)]

    def _first_quantization(self, group: Group) -> Quantization:
        for name in group.members:
            producer = self.graph.producer(name)
            fixed = None if producer is None or type(producer.op) not in RULES else RULES[type(producer.op)].fixed
            if fixed is not None:
                return fixed
        return activation_quantization(group.low, group.high)

    def _emit_tensor(self, name: str, dtype: DType) -> Tensor:
        old = self.graph.tensors[name]
        quant = self._quant(name) if dtype is DType.INT8 else None
        self.tensors[name] = replace(old, dtype=dtype, quantization=quant)
        return self.tensors[name]

    def _int8(self, name: str, quant: Quantization | None = None) -> str:
        """The tensor in int8, with the quantization of its group or the given one."""
        tensor = self.tensors[name]
        if tensor.dtype not in (DType.FLOAT32, DType.INT8):
            return name
        wanted = quant or self._quant(name)
        if tensor.quantization == wanted:
            return name
        return self._copy(name, "int8", Quantize(), DType.INT8, wanted)

    def _float(self, name: str) -> str:
        """The tensor in float."""
        if self.tensors[name].dtype is not DType.INT8:
            return name
        return self._copy(name, "float", Dequantize(), DType.FLOAT32, None)

    def _copy(self, name: str, suffix: str, op: Quantize | Dequantize, dtype: DType, quant: Quantization | None) -> str:
        if (name, quant) not in self.copies:
            copy = unique_name(self.taken, f"{name}/{suffix}")
            self.taken.add(copy)
            self.tensors[copy] = replace(self.tensors[name], name=copy, dtype=dtype, quantization=quant)
            self.nodes.append(Node(op, (name,), (copy,)))
            self.copies[name, quant] = copy
        return self.copies[name, quant]

    def _constant(self, old: str, tensor: Tensor) -> str:
        """Add a constant under the name of the float one that it stands for, or a name like it."""
        name = old if old not in self.tensors else unique_name(self.taken, f"{old}/int8")
        self.taken.add(name)
        self.tensors[name] = replace(tensor, name=name)
        return name

    def _kept_constant(self, name: str) -> str:
        old = self.graph.tensors[name]
        if self.tensors.setdefault(name, old) is old:
            return name
        return self._constant(name, old)

    # ----------------------------------------------------------------------------------------------------- nodes

    def _keep(self, node: Node, reason: str) -> None:
        self.kept_float.append(KeptFloat(node, reason))
        self._append_float(node)

    def _append_float(self, node: Node) -> None:
        names = tuple(None if name is None else self._float_input(name) for name in node.inputs)
        self.nodes.append(Node(node.op, names, node.outputs))
        self.tensors[node.output] = self.graph.tensors[node.output]

    def _float_input(self, name: str) -> str:
        return self._kept_constant(name) if self.graph.tensors[name].is_constant else self._float(name)

    def _try_int8(self, node: Node, rule: Rule) -> str | None:
        """Append the int8 form; returns the constraint that does not hold, in which case nothing was appended."""
        undo = len(self.nodes), dict(self.tensors), dict(self.copies)
        names = self._int8_inputs(node, rule)
        if self.graph.tensors[node.output].dtype is DType.FLOAT32:
            self._emit_tensor(node.output, DType.INT8)
        else:
            self.tensors[node.output] = self.graph.tensors[node.output]
        new = Node(node.op, names, node.outputs)
        view = View(new, tuple(None if n is None else self.tensors[n] for n in names), (self.tensors[node.output],))
        broken = next((c for c in node.op.constraints() if not c(node.op, view)), None)
        if broken is None:
            self.nodes.append(new)
            return None
        del self.nodes[undo[0] :]
        self.tensors, self.copies = undo[1], undo[2]
        return " ".join((broken.__doc__ or "").split())

    def _int8_inputs(self, node: Node, rule: Rule) -> tuple[str | None, ...]:
        if rule.constants in (Constants.PER_CHANNEL, Constants.PER_TENSOR):
            return self._linear_inputs(node, per_channel=rule.constants is Constants.PER_CHANNEL)
        if rule.any_form:
            return node.inputs
        shared = self._quant(node.output) if rule.output is Output.SHARED and not self._is_bits(node) else None
        computed = [self._int8(n, shared) for n in node.inputs if n is not None and not self._is_constant(n)]
        if not self._is_bits(node):
            self._refine_signed_sum(node, computed)
        values = iter(computed)
        names: list[str | None] = []
        for name in node.inputs:
            if name is None or not self._is_constant(name):
                names.append(None if name is None else next(values))
            elif rule.constants is Constants.VALUES and self.graph.tensors[name].dtype is DType.FLOAT32:
                names.append(self._value(node, name, shared, computed))
            elif isinstance(node.op, LceBconv2d) and name == node.inputs[3]:
                names.append(self._moved_bias(node, name))
            else:
                names.append(self._kept_constant(name))
        return tuple(names)

    def _moved_bias(self, node: Node, name: str) -> str:
        """The float32 bias of a binary convolution, with the offset of its output."""
        offset, old = self.offsets.get(node.output, 0.0), self.graph.tensors[name]
        if not offset:
            return self._kept_constant(name)
        return self._constant(name, replace(old, data=(old.constant() + offset).astype(np.float32)))

    def _is_constant(self, name: str) -> bool:
        return self.graph.tensors[name].is_constant

    def _is_bits(self, node: Node) -> bool:
        return self.graph.tensors[node.output].dtype is not DType.FLOAT32

    # ------------------------------------------------------------------------------------------------- constants

    def _value(self, node: Node, name: str, shared: Quantization | None, computed: Sequence[str]) -> str:
        """A float32 constant as int8 values."""
        old = self.graph.tensors[name]
        offset = self._constant_offset(node, name)
        data = old.constant() + np.float32(offset)
        quant, values = shared, None
        if isinstance(node.op, Add) and self._only_signs_read(node):
            quant = threshold_quantization(data, self.tensors[computed[0]].quant)
            if quant is not None:
                values = (np.floor(data.astype(np.float64) / quant.scale) + quant.zero_point).astype(np.int8)
        quant = quant or activation_quantization(float(data.min()), float(data.max()))
        values = to_int8(data, quant) if values is None else values
        made = self._constant(name, replace(old, dtype=DType.INT8, quantization=quant, data=values))
        if offset:
            self.offsets[made] = offset
        return made

    def _constant_offset(self, node: Node, name: str) -> float:
        """What a constant operand of a sum adds, so that offsets of input and output fit."""
        if not isinstance(node.op, Add | Sub):
            return 0.0
        (other,) = (n for n in node.inputs if n is not None and n != name)
        y, x = self.offsets.get(node.output, 0.0), self.offsets.get(other, 0.0)
        if isinstance(node.op, Add):
            return y - x
        return x - y if node.inputs[0] == other else y + x

    def _only_signs_read(self, node: Node) -> bool:
        """Whether the node's output goes straight to signs."""
        group = self.groups[node.output]
        return group.only_signed and group.members == [node.output]

    def _refine_signed_sum(self, node: Node, computed: Sequence[str]) -> None:
        """Where only signs read a sum, its step is as fine as the operator allows."""
        group = self.groups[node.output]
        if not isinstance(node.op, Add | Sub) or not self._only_signs_read(node):
            return
        operands = [self.tensors[name].quant for name in computed]
        for name in node.inputs:
            tensor = self.graph.tensor(name)
            if tensor is not None and tensor.data is not None:
                own = activation_quantization(float(tensor.data.min()), float(tensor.data.max()))
                operands.append(threshold_quantization(tensor.data, operands[0]) or own)
        self.quants[id(group)] = sum_sign_quantization(operands)

    def _linear_inputs(self, node: Node, *, per_channel: bool) -> tuple[str, ...]:
        """int8 input, weights and int32 bias of a convolution or dense layer."""
        assert isinstance(node.op, Conv2d | DepthwiseConv2d | FullyConnected)
        filters = self.graph.tensors[node.inputs[1] or ""]
        old = self.graph.tensor(node.inputs[2]) if len(node.inputs) > 2 else None
        x = self._int8(node.inputs[0] or "")
        weights, axis = filters.constant(), node.op.channel_axis
        channels = filters.shape[axis]
        bias = np.zeros(channels) if old is None else old.constant().astype(np.float64)
        rows = np.moveaxis(weights, axis, 0).reshape(channels, -1).astype(np.float64)
        moved = self.offsets.get(node.output, 0.0) - self.offsets.get(node.inputs[0] or "", 0.0) * rows.sum(axis=1)
        bias = bias + moved
        in_scale = np.float32(self.tensors[x].quant.scale)
        scales = weight_scales(weights, bias, float(in_scale), axis=axis if per_channel else None)
        steps = scales.astype(np.float64).reshape([-1 if i == axis else 1 for i in range(weights.ndim)])
        q = np.clip(round_half_away(weights / steps), -WEIGHT_LIMIT, WEIGHT_LIMIT)
        bias_scales = (in_scale * scales).astype(np.float32)
        bias_q = round_half_away(bias / bias_scales)
        group = self.groups[node.output]
        if group.only_signed and id(group) not in self.quants:
            self.quants[id(group)] = sign_quantization(np.moveaxis(q, axis, 0), bias_q, bias_scales)
        bias_name = unique_name(self.taken, f"{filters.name}/bias") if old is None else old.name
        return (
            x,
            self._constant(filters.name, _scaled(filters, q, DType.INT8, scales, axis if per_channel else 0)),
            self._constant(bias_name, _scaled(old or filters, bias_q, DType.INT32, bias_scales, 0)),
        )


def _scaled(old: Tensor, data: Array, dtype: DType, scales: Array, axis: int) -> Tensor:
    quant = Quantization(tuple(float(s) for s in scales), (0,) * len(scales), axis)
    return Tensor(old.name, tuple(data.shape), dtype, quant, data.astype(dtype.numpy))
