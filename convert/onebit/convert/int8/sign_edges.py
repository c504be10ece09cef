"""Zero on the edge between two int8 steps, for tensors that are read by signs and by arithmetic.

An int8 tensor rounds everything in [-scale/2, 0) to its zero point, and LceQuantize takes that for +1: of the values of
a residual stream, which crowd around 0, some percent change their sign. Where only signs read a tensor, a finer scale
is the cure. A residual stream also needs its range. It therefore stores ``value - scale/2``: rounding that to the
nearest step puts negative values below the zero point and all others on it or above, exactly. Whoever reads the value
otherwise puts the half step back, at no cost at run time: it disappears in a bias.

The offset of a tensor is what its stored values lie beside the real ones: ``stored = value + offset``. Convolutions and
dense layers make any offset with their bias, and absorb that of their input (without padding, whose pixels are real
zeros); a sum adds the offsets of its operands, and an operand that nothing else reads can make up a difference; means,
pools and movements pass it on. A tensor whose producer or reader can do none of this is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from onebit.convert.int8.groups import Group, value_inputs
from onebit.core import DType, Graph, Node, Quantization
from onebit.core.ops import (
    Activation,
    Add,
    AveragePool2d,
    Concatenation,
    Conv2d,
    DepthwiseConv2d,
    FullyConnected,
    LceBconv2d,
    LceQuantize,
    MaxPool2d,
    Mean,
    Movement,
    Op,
    Pad,
    PadV2,
    ReduceMax,
    ResizeNearestNeighbor,
    Sub,
    View,
)

Offsets = Mapping[str, float]
"""Offset of a tensor by its name; most tensors have none."""

LINEAR = (Conv2d, DepthwiseConv2d, FullyConnected)


class _RefusedError(Exception):
    """The offset of this group cannot be kept."""

    def __init__(self, group: Group) -> None:
        self.group = group


def find_offsets(
    graph: Graph, groups: Mapping[str, Group], kept_float: set[str], quant: Callable[[str], Quantization]
) -> dict[str, float]:
    """The offsets of activations, by name. `quant` gives the quantization of a tensor's group."""
    wanted = {id(g): g for g in groups.values() if _is_candidate(graph, g, kept_float)}
    while wanted:
        try:
            return _Plan(graph, groups, {key: -quant(g.members[0]).scale / 2 for key, g in wanted.items()}).offsets
        except _RefusedError as refused:
            del wanted[id(refused.group)]
    return {}


def _is_candidate(graph: Graph, group: Group, kept_float: set[str]) -> bool:
    """Whether signs and others read the group, and offsets are possible at all."""
    if group.only_signed or any(name in kept_float or name in graph.outputs for name in group.members):
        return False
    if graph.input.name in group.members:
        return False
    return any(isinstance(r.op, LceQuantize) for name in group.members for r in graph.consumers(name))


class _Plan:
    """Offsets of all tensors for the `wanted` ones of some groups; _RefusedError names a group that is in the way."""

    def __init__(self, graph: Graph, groups: Mapping[str, Group], wanted: Mapping[int, float]) -> None:
        self.graph = graph
        self.groups = groups
        self.wanted = wanted
        self.blame: dict[str, Group] = {}
        self.offsets: dict[str, float] = {}
        for key, offset in wanted.items():
            for group in groups.values():
                if id(group) == key:
                    self.offsets.update(dict.fromkeys(group.members, offset))
                    self.blame.update(dict.fromkeys(group.members, group))
        for node in graph.nodes:
            self._visit(node)

    def _visit(self, node: Node) -> None:
        inputs = [n for n in value_inputs(self.graph, node) if self.graph.tensors[n].dtype is DType.FLOAT32]
        moved = [name for name in inputs if name in self.offsets]
        made = node.output in self.offsets
        if not (moved or made) or isinstance(node.op, LceQuantize):
            return
        group = self.blame[node.output if made else moved[0]]
        op = node.op
        if isinstance(op, (*LINEAR, LceBconv2d)):
            possible = (not made or makes_offset(op)) and (not moved or _pads_nothing(self.graph, node))
        elif isinstance(op, Add | Sub):
            possible = op.activation is Activation.NONE and self._balance(node, inputs, group)
        elif _passes_on(op):
            possible = self._pass_on(node, inputs, group)
        else:
            possible = False
        if not possible or (node.output in self.graph.outputs and node.output in self.offsets):
            raise _RefusedError(group)

    def _pass_on(self, node: Node, inputs: list[str], group: Group) -> bool:
        offsets = {self.offsets.get(name, 0.0) for name in inputs}
        if len(offsets) != 1 or len(inputs) != sum(1 for n in node.inputs if self._is_float(n)):
            return False
        return self._set(node.output, offsets.pop(), group)

    def _is_float(self, name: str | None) -> bool:
        tensor = self.graph.tensor(name)
        return tensor is not None and tensor.dtype is DType.FLOAT32

    def _balance(self, node: Node, inputs: list[str], group: Group) -> bool:
        """Let an operand that nothing else reads make up the difference; a constant operand always can."""
        if len(inputs) < sum(1 for n in node.inputs if n is not None):
            return True
        if len(inputs) != 2:
            return False
        signs = (1.0, -1.0 if isinstance(node.op, Sub) else 1.0)
        target = self.offsets.get(node.output, 0.0)
        for free, other, sign, other_sign in ((0, 1, *signs), (1, 0, *signs[::-1])):
            name = inputs[free]
            if self._is_free(name, node):
                needed = (target - other_sign * self.offsets.get(inputs[other], 0.0)) * sign
                return self._set(name, needed, group)
        return sum(s * self.offsets.get(n, 0.0) for s, n in zip(signs, inputs, strict=True)) == target

    def _is_free(self, name: str, reader: Node) -> bool:
        producer = self.graph.producer(name)
        alone = self.groups[name].members == [name] and self.graph.sole_consumer(name) is reader
        return alone and name not in self.offsets and producer is not None and makes_offset(producer.op)

    def _set(self, name: str, offset: float, group: Group) -> bool:
        if self.offsets.get(name, offset) != offset:
            return False
        if offset:
            self.offsets[name] = offset
            self.blame.setdefault(name, group)
        return True


def makes_offset(op: Op) -> bool:
    """Whether the operator's bias can shift its output."""
    if isinstance(op, LceBconv2d):
        return True  # its activation comes before its bias
    return isinstance(op, LINEAR) and op.activation is Activation.NONE


def _passes_on(op: Op) -> bool:
    if isinstance(op, MaxPool2d | AveragePool2d):
        return op.activation is Activation.NONE
    if isinstance(op, Movement):
        return not isinstance(op, Pad | PadV2)
    return op.alias or isinstance(op, Mean | ReduceMax | ResizeNearestNeighbor | Concatenation)


def _pads_nothing(graph: Graph, node: Node) -> bool:
    if not isinstance(node.op, Conv2d | DepthwiseConv2d):
        return True
    view = View.of(graph, node)
    return all(axis.total_padding == 0 for axis in node.op.axes(view.input(0), view.input(1)))
