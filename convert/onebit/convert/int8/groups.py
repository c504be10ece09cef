"""Which tensors share one quantization, and from which range it follows."""

from __future__ import annotations

from dataclasses import dataclass, field

from onebit.convert.int8.calibration import Ranges, has_lowest_border
from onebit.convert.int8.rules import RULES, Output
from onebit.core import DType, Graph, Node
from onebit.core.ops import LceQuantize, Movement

MAX_LOSS = 2.0
"""How much wider the shared range of an operator with several inputs may be than that of an input with other readers.

An input that nothing else reads takes the shared quantization at no cost. One that is read elsewhere would lose
resolution there; beyond this factor (one bit) it keeps its own, and a QUANTIZE brings a copy to the shared one.
"""


@dataclass
class Group:
    """Tensors with one quantization: `members` in order of execution, the union of their ranges."""

    members: list[str]
    low: float
    high: float
    #: readers outside the group take signs only, and saturation inside it keeps signs
    only_signed: bool = field(default=False)


def group_tensors(graph: Graph, ranges: Ranges, kept_float: set[str]) -> dict[str, Group]:
    """The group of every float32 activation (and the input); `kept_float` names outputs that stay in float."""
    groups = {name: Group([name], *ranges[name]) for name in (graph.input.name, *_float_activations(graph))}
    for node in graph.nodes:
        rule = RULES.get(type(node.op))
        if rule is None or rule.output is not Output.SHARED or node.output in kept_float:
            continue
        if node.output not in groups:
            continue  # packed bits
        _include_constants(graph, node, groups[node.output])
        inputs = [name for name in value_inputs(graph, node) if name in groups]
        for name in inputs:
            if len(inputs) == 1 or _may_join(graph, groups[name], groups[node.output], node):
                _merge(groups, groups[name], groups[node.output])
    for group in {id(g): g for g in groups.values()}.values():
        group.only_signed = _only_signed(graph, group)
    return groups


def value_inputs(graph: Graph, node: Node) -> list[str]:
    """The computed inputs whose elements the operator reads."""
    names = node.inputs[: node.op.sources] if isinstance(node.op, Movement) and node.op.sources else node.inputs
    return [name for name in dict.fromkeys(names) if name is not None and not graph.tensors[name].is_constant]


def _float_activations(graph: Graph) -> list[str]:
    return [t.name for t in graph.activations() if t.dtype is DType.FLOAT32]


def _include_constants(graph: Graph, node: Node, group: Group) -> None:
    if has_lowest_border(graph, node):
        return  # it saturates, and nothing is lower
    for name in node.inputs:
        tensor = graph.tensor(name)
        if tensor is not None and tensor.data is not None and tensor.dtype is DType.FLOAT32:
            group.low, group.high = min(group.low, float(tensor.data.min())), max(group.high, float(tensor.data.max()))


def _may_join(graph: Graph, group: Group, output: Group, node: Node) -> bool:
    if any(_is_fixed(graph, name) for name in group.members):
        return False
    elsewhere = any(reader is not node for name in group.members for reader in _outside_readers(graph, group, name))
    return not elsewhere or _width(output, group) <= MAX_LOSS * _width(group)


def _width(*groups: Group) -> float:
    return max(0.0, *(g.high for g in groups)) - min(0.0, *(g.low for g in groups))


def _is_fixed(graph: Graph, name: str) -> bool:
    node = graph.producer(name)
    rule = None if node is None else RULES.get(type(node.op))
    return node is None or (rule is not None and rule.output is Output.FIXED)


def _outside_readers(graph: Graph, group: Group, name: str) -> list[Node]:
    return [reader for reader in graph.consumers(name) if reader.output not in group.members]


def _merge(groups: dict[str, Group], first: Group, second: Group) -> None:
    if first is second:
        return
    first.members.extend(second.members)
    first.low, first.high = min(first.low, second.low), max(first.high, second.high)
    groups.update(dict.fromkeys(second.members, first))


def _only_signed(graph: Graph, group: Group) -> bool:
    readers = [reader for name in group.members for reader in _outside_readers(graph, group, name)]
    if not readers or any(name in graph.outputs for name in group.members):
        return False
    inner = [graph.producer(name) for name in group.members[1:]]
    monotone = all(node is not None and RULES[type(node.op)].monotone for node in inner)
    return monotone and all(isinstance(reader.op, LceQuantize) for reader in readers)
