"""What the interpreter makes of every tensor of a graph, for the fuzzers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from onebit.core import DType, Graph, evaluate
from onebit.core.graph import Array, Node
from onebit.core.ops import Activation, Conv2d, DepthwiseConv2d, FullyConnected, Mean, View
from onebit.simulate.compare import UNORDERED, Comparison, compare_tensor
from support.lce import LceRefusedError, LceSession

#: the only form of a legal graph that LCE's kernels do not have, and onebit's semantics state instead
ODD_ZERO_PADDING = "Zero-padding is only supported by the reference kernel with an even number of input channels"


def truth(lce: LceSession, graph: Graph, x: Array) -> dict[str, Array]:
    """The value of every activation; LceRefusedError where the interpreter refuses what onebit calls legal."""
    try:
        return lce.run(graph, x)
    except LceRefusedError as refused:
        if ODD_ZERO_PADDING not in str(refused):
            raise
        return evaluate(graph, x, [tensor.name for tensor in graph.activations()])


#: the least normal float32 number: the interpreter flushes what is smaller to zero
SMALLEST_NORMAL = float(np.finfo(np.float32).tiny)


def comparable(x: Array) -> Array:
    """float32 with one NaN for all, and zeros for denormals; other dtypes unchanged."""
    if x.dtype != np.float32:
        return x
    flushed = np.where(np.abs(x) < SMALLEST_NORMAL, np.copysign(np.float32(0), x), x)
    return np.where(np.isnan(flushed), np.float32(np.nan), flushed)


def noise(graph: Graph, node: Node, values: Mapping[str, Array]) -> float:
    """What the order of a float sum may change: n / 4 + 8 roundings of the sum of the magnitudes of its n terms.

    The class of a tensor, 1e-5 of its range, knows nothing of sums whose terms cancel and of activations that cut most
    of the range off: a dense layer of one output may have hardly any range.
    """
    if not isinstance(node.op, (Conv2d, DepthwiseConv2d, FullyConnected, Mean)):
        return 0.0
    plain = node.op if isinstance(node.op, Mean) else replace(node.op, activation=Activation.NONE)
    args = [None if name is None else np.abs(_value(graph, name, values)) for name in node.inputs]
    with np.errstate(all="ignore"):
        largest = float(plain.evaluate(View.of(graph, node), args).max())
    view = View.of(graph, node)
    if isinstance(node.op, Mean):
        terms = view.input(0).elements // view.output.elements
    else:
        terms = view.input(1).elements // node.op.outputs(view.input(1))
    return (terms / 4 + 8) * 2.0**-24 * largest


def _value(graph: Graph, name: str, values: Mapping[str, Array]) -> Array:
    data = graph.tensors[name].data
    return values[name] if data is None else data


def difference(
    graph: Graph, name: str, expected: Array, got: Array, *, inexact: bool, values: Mapping[str, Array]
) -> str:
    """How the values of a tensor differ from what is expected, empty where they are equal under its class.

    `values` are those of the tensors that its operator read.
    """
    tensor, node = graph.tensors[name], graph.producer(name)
    assert node is not None
    if inexact and tensor.dtype is DType.FLOAT32 and expected.size == got.size:
        with np.errstate(all="ignore"):
            want = expected.reshape(got.shape)
            got = np.where(np.abs(want - got) <= noise(graph, node, values), want, got)
    if expected.size != got.size or expected.dtype != got.dtype:
        return f"{node.op} {tensor.describe()}: expected {expected.dtype} {expected.shape}"
    want = comparable(expected.reshape(len(expected), *tensor.stored_shape[1:]))
    found: Comparison = compare_tensor(tensor, node.op.name, want, comparable(got), inexact=inexact)
    if found.first is None:
        return ""
    inputs = ", ".join(t.describe() for t in (graph.tensor(n) for n in node.inputs) if t is not None)
    index, want_first, got_first = found.first
    wrong = f"{found.compared - found.equal} of {found.compared} differ, at {index}"
    return f"{node.op} {tensor.describe()} of {inputs}: {wrong} expected {want_first!r}, got {got_first!r}"


def first_difference(graph: Graph, x: Array, expected: Mapping[str, Array]) -> str:
    """Where onebit's semantics, fed with the interpreter's values node by node, first differ; empty if nowhere."""
    values = {**expected, graph.input.name: x}
    for node in graph.nodes:
        args = [None if name is None else _value(graph, name, values) for name in node.inputs]
        with np.errstate(all="ignore"):
            got = node.op.evaluate(View.of(graph, node), args)
        inexact = node.op.name in UNORDERED
        found = difference(graph, node.output, expected[node.output], got, inexact=inexact, values=values)
        if found:
            return found
    return ""
