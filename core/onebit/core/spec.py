"""The IR's executable spec: a table of rules, checked after import and after every pass.

A rule is a function from the graph to complaints; a failure names the stage (file or pass), the node and the rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np

from onebit.core.bits import WORD_BITS
from onebit.core.errors import SpecError
from onebit.core.graph import Array, DType, Graph
from onebit.core.ops.base import View

Complaint = tuple[str, str]
Rule = Callable[[Graph], Iterator[Complaint]]


def tensors_exist(graph: Graph) -> Iterator[Complaint]:
    """Every name that a node, the inputs or the outputs mention is a tensor."""
    mentioned = [*graph.inputs, *graph.outputs, *(n for node in graph.nodes for n in (*node.inputs, *node.outputs))]
    for name in mentioned:
        if name is not None and name not in graph.tensors:
            yield name, "the tensor does not exist"


def has_inputs_and_outputs(graph: Graph) -> Iterator[Complaint]:
    """The graph has nodes, one input, which is not constant, and outputs."""
    if not (graph.nodes and graph.inputs and graph.outputs):
        yield "graph", "the graph has no operators, no inputs or no outputs"
    if len(graph.inputs) > 1:
        yield "graph", f"the graph has {len(graph.inputs)} inputs, supported is 1"
    for name in graph.inputs:
        if graph.tensors[name].is_constant:
            yield name, "a graph input has constant data"


def computed_once_before_use(graph: Graph) -> Iterator[Complaint]:
    """Every activation is a graph input or computed by exactly one earlier node; every graph output is computed."""
    known = {name for name, tensor in graph.tensors.items() if tensor.is_constant} | set(graph.inputs)
    for node in graph.nodes:
        for name in node.inputs:
            if name is not None and name not in known:
                yield node.describe(), f"reads '{name}', which is not computed before"
        for name in node.outputs:
            if name in known:
                yield node.describe(), f"computes '{name}', which already has a value"
            known.add(name)
    for name in graph.outputs:
        if graph.producer(name) is None:
            yield name, "the graph output is never computed"


def constants_match(graph: Graph) -> Iterator[Complaint]:
    """Constant data has the stored shape and dtype of its tensor, float data is finite, and pad bits are 0."""
    for tensor in graph.tensors.values():
        if tensor.data is None:
            continue
        if tensor.data.shape != tensor.stored_shape or tensor.data.dtype != tensor.dtype.numpy:
            yield tensor.describe(), f"its data is {tensor.data.dtype} {list(tensor.data.shape)}"
        elif tensor.dtype is DType.FLOAT32 and not np.isfinite(tensor.data).all():
            yield tensor.describe(), "its data has NaN or infinite values"
        elif tensor.dtype is DType.BOOL and (tensor.data.view(np.uint8) > 1).any():
            yield tensor.describe(), "its data has bytes other than 0 and 1"
        elif tensor.dtype is DType.BITS and not _pad_bits_are_zero(tensor.data, tensor.shape[-1]):
            yield tensor.describe(), f"bits beyond the last of its {tensor.shape[-1]} channels are set"


def _pad_bits_are_zero(words: Array, channels: int) -> bool:
    # popcounts include the pad bits of a filter; only zeros cancel against those of the input
    used = channels % WORD_BITS
    return used == 0 or not (words[..., -1].astype(np.uint32) >> np.uint32(used)).any()


def quantized(graph: Graph) -> Iterator[Complaint]:
    """int8 tensors carry finite positive scales and zero points in -128..127."""
    for tensor in graph.tensors.values():
        if tensor.dtype is not DType.INT8:
            continue
        if tensor.quantization is None:
            yield tensor.describe(), "an int8 tensor has no quantization"
            continue
        scales = np.array(tensor.quantization.scales)
        if not (np.isfinite(scales).all() and (scales > 0).all()):
            yield tensor.describe(), "scales must be finite and positive"
        if not all(-128 <= z <= 127 for z in tensor.quantization.zero_points):
            yield tensor.describe(), "zero points must be in -128..127"
        if not tensor.is_constant and len(scales) != 1:
            yield tensor.describe(), "an activation must have one scale"


def batch_is_one(graph: Graph) -> Iterator[Complaint]:
    """Activations have a batch of 1."""
    for name in (*graph.inputs, *(t.name for t in graph.activations())):
        tensor = graph.tensors[name]
        if not tensor.shape or tensor.shape[0] != 1:
            yield tensor.describe(), "the batch dimension must be 1"


def operators_hold(graph: Graph) -> Iterator[Complaint]:
    """Every node satisfies its operator's constraints, and its output is what the operator infers."""
    for node in graph.nodes:
        op, (least, most) = node.op, node.op.arity
        if not least <= len(node.inputs) <= most or node.inputs[0] is None or None in node.inputs[:least][:2]:
            yield node.describe(), f"has inputs {list(node.inputs)}, allowed are {least} to {most}"
            continue
        view = View.of(graph, node)
        broken = next((rule for rule in op.constraints() if not rule(op, view)), None)
        if broken is not None:
            shapes = ", ".join(t.describe() for t in (*view.inputs, *view.outputs) if t is not None)
            yield node.describe(), f"must hold: {broken.__doc__}; found {shapes}"
            continue
        shape, dtype = op.infer(view)
        if (view.output.shape, view.output.dtype) != (shape, dtype):
            yield node.describe(), f"declares {view.output.describe()}, computed is {dtype.value} {list(shape)}"


#: in this order: later rules rely on earlier ones
RULES: Final[tuple[Rule, ...]] = (
    tensors_exist,
    has_inputs_and_outputs,
    computed_once_before_use,
    constants_match,
    quantized,
    batch_is_one,
    operators_hold,
)


def verify(graph: Graph, stage: str) -> None:
    """Check all rules. `stage` names the file or the pass in the error."""
    for rule in RULES:
        for where, message in rule(graph):
            raise SpecError(message, where=f"{stage}: {where}", fix=f"(rule: {rule.__name__})")
