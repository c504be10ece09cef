"""SPLIT has several results in the file and one per node in the graph: the crossing in both directions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from onebit.core.graph import DType, Graph, Node, Tensor
from onebit.core.ops import Op, Split
from onebit.core.ops.movement import constant_scalar
from onebit.core.passes.naming import unique_name


def nodes_of(op: Op, inputs: Sequence[str | None], outputs: Sequence[str], tensors: Mapping[str, Tensor]) -> list[Node]:
    """The nodes of one operator of the file; ValueError where its results are not what the operator has."""
    if isinstance(op, Split):
        return _nodes_of_split(op, inputs, outputs, tensors)
    if len(outputs) != 1:
        raise ValueError(f"{op.name} has {len(outputs)} outputs, allowed is 1")
    return [Node(op, tuple(inputs), tuple(outputs))]


def _nodes_of_split(
    op: Split, inputs: Sequence[str | None], outputs: Sequence[str], tensors: Mapping[str, Tensor]
) -> list[Node]:
    if len(outputs) != op.num or not outputs:
        raise ValueError(f"SPLIT has {len(outputs)} outputs, its options say {op.num}")
    if len(inputs) != 2 or inputs[0] is None:
        raise ValueError(f"SPLIT has inputs {list(inputs)}, allowed are 2")
    axis = constant_scalar(tensors[inputs[0]])
    if axis is None:
        raise ValueError(f"the axis of SPLIT, {tensors[inputs[0]].describe()}, is no int32 constant")
    return [Node(replace(op, axis=axis, index=i), (inputs[1],), (name,)) for i, name in enumerate(outputs)]


@dataclass(frozen=True)
class FileOperator:
    """One operator of the file with the names of its tensors."""

    op: Op
    inputs: tuple[str | None, ...]
    outputs: tuple[str, ...]


def operators_of(graph: Graph) -> tuple[list[FileOperator], list[Tensor]]:
    """The operators of the file, in order, and the tensors that only the file has.

    Nodes of SPLIT that share input, axis and number become one operator where the first of them stands. The file wants
    a tensor for the axis, and one for every result.
    """
    operators: list[FileOperator] = []
    added: dict[str, Tensor] = {}

    def add(tensor: Tensor, wanted: str) -> str:
        name = unique_name({*graph.tensors, *added}, wanted)
        added[name] = replace(tensor, name=name)
        return name

    for first, results in _groups(graph.nodes):
        if not isinstance(first.op, Split):
            operators.append(FileOperator(first.op, first.inputs, first.outputs))
            continue
        (source,) = first.inputs
        axis = Tensor("", (), DType.INT32, None, np.array(first.op.axis, np.int32))
        unread = [i for i in range(first.op.num) if i not in results]
        results |= {i: add(graph.tensors[first.output], f"{source}/part {i}") for i in unread}
        outputs = tuple(results[i] for i in range(first.op.num))
        operators.append(FileOperator(first.op, (add(axis, f"{source}/axis"), source), outputs))
    return operators, list(added.values())


def _groups(nodes: Iterable[Node]) -> list[tuple[Node, dict[int, str]]]:
    """The first node of every operator of the file, and the names of the results that the graph has, by position."""
    groups: list[tuple[Node, dict[int, str]]] = []
    splits: dict[tuple[Op, tuple[str | None, ...]], list[dict[int, str]]] = {}
    for node in nodes:
        if not isinstance(node.op, Split):
            groups.append((node, {}))
            continue
        index, alike = node.op.index, splits.setdefault((replace(node.op, index=0), node.inputs), [])
        if all(index in results for results in alike):
            alike.append({})
            groups.append((node, alike[-1]))
        next(results for results in alike if index not in results)[index] = node.output
    return groups
