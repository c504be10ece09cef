"""From a PyTorch model to the float graph IR."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, fx, nn

from onebit.convert.builder import GraphBuilder, Value
from onebit.convert.torch_layers import Layer, as_vector, find_importer, supported_modules
from onebit.convert.trace import Traced, trace
from onebit.core import Graph, spec
from onebit.core.errors import UnsupportedError
from onebit.core.metadata import ModelMetadata

SIGNING_KINDS = ("quant_conv2d", "quant_linear")
"""The values of ``onebit_kind`` of layers that take the sign of their input."""


@dataclass(frozen=True)
class Imported:
    """A source model and its float graph (not optimized), with what connects them.

    `values`: where the value of each node of the traced model lives; `signs`: for each binary layer the tensor of the
    packed signs that it reads.
    """

    traced: Traced
    graph: Graph
    values: Mapping[fx.Node, Value]
    signs: Mapping[fx.Node, str]


def import_torch(source: nn.Module, example_input: Tensor, metadata: ModelMetadata | None = None) -> Imported:
    """Import a model whose input is [N, C, H, W] or [N, features] and whose output is [N, classes].

    The graph has batch 1, the input [1, H, W, C] or [1, features], and the output [1, classes]. UnsupportedError lists
    all modules without importer at once, and names the layer whose settings have no counterpart; BadInputError for
    what `trace` refuses and for weights that are not binary where a layer claims it.
    """
    if example_input.ndim not in (2, 4):
        raise UnsupportedError(
            f"an input of shape {list(example_input.shape)}",
            where=type(source).__name__,
            fix="supported are images [N, C, H, W] and vectors [N, features]",
        )
    traced = trace(source, example_input)
    _refuse_unknown_modules(traced)
    shape = traced.shapes[traced.input]
    flat = len(shape) == 2
    build = GraphBuilder(shape if flat else (1, *shape[2:], shape[1]))
    values = {traced.input: Value(build.input, flat)}
    signs: dict[fx.Node, str] = {}
    for node in traced.calls():
        module, source_node = traced.layer(node), _source(node)
        importer = find_importer(module)
        assert importer is not None
        layer = Layer(
            name=str(node.target),
            module=module,
            in_shape=traced.shapes[source_node],
            out_shape=traced.shapes[node],
            only_signed=all(reader.op == "call_module" and _signs(traced, reader) for reader in node.users),
            sole_reader=len(source_node.users) == 1,
        )
        values[node] = importer(build, layer, values[source_node])
        if _signs(traced, node):
            signs[node] = build.sign(_signed_tensor(build, values[source_node]))
    output = as_vector(build, values[traced.output])
    graph = build.graph(output, metadata)
    spec.verify(graph, type(source).__name__)
    return Imported(traced, graph, values, signs)


def _source(node: fx.Node) -> fx.Node:
    source = node.args[0] if node.args else next(iter(node.kwargs.values()))
    assert isinstance(source, fx.Node)
    return source


def _signs(traced: Traced, node: fx.Node) -> bool:
    return getattr(traced.layer(node), "onebit_kind", None) in SIGNING_KINDS


def _signed_tensor(build: GraphBuilder, value: Value) -> str:
    shape = build.shape(value.tensor)
    return value.tensor if len(shape) == 4 else build.reshape(value.tensor, (1, 1, *shape))


def _refuse_unknown_modules(traced: Traced) -> None:
    unknown = [node for node in traced.calls() if find_importer(traced.layer(node)) is None or len(node.args) != 1]
    if unknown:
        names = dict.fromkeys(f"{type(traced.layer(node)).__name__} '{node.target}'" for node in unknown)
        raise UnsupportedError(
            f"unsupported: {', '.join(names)}",
            where=type(traced.module).__name__,
            fix=f"supported are {', '.join(supported_modules())}",
        )
