"""From a PyTorch model to the float graph IR."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from torch import Tensor, fx, nn

from onebit.convert.builder import GraphBuilder, Layout, Value
from onebit.convert.importers import Layer, find_importer, signed_input, supported_modules
from onebit.convert.operations import Concat, Expand, Permute, Reshape, Slice
from onebit.convert.trace import Traced, trace
from onebit.core import Graph, spec
from onebit.core.errors import UnsupportedError
from onebit.core.metadata import ModelMetadata

log = logging.getLogger(__name__)

KEEPING_SIGNS = (
    *(nn.Flatten, nn.Identity, nn.Dropout, nn.Dropout2d, nn.MaxPool2d, nn.ZeroPad2d),
    *(Concat, Permute, Reshape, Slice),
)
"""Modules behind which the sign of every element is that of one element of the input, or of a zero."""

SIGNING_KINDS = ("quant_conv2d", "quant_linear")
"""The values of ``onebit_kind`` of layers that take the sign of their input."""


@dataclass(frozen=True)
class Imported:
    """A source model and its float graph (not optimized), with what connects them.

    `values`: where the value of each node of the traced model lives; `signs`: for each binary layer the tensor of the
    packed signs that it reads; `sign_only`: nodes whose values have the source's signs only, because an activation that
    keeps the sign was left out; `notes`: layer -> what is worth knowing about how it is deployed.
    """

    traced: Traced
    graph: Graph
    values: Mapping[fx.Node, Value]
    signs: Mapping[fx.Node, Value]
    sign_only: frozenset[fx.Node]
    notes: Mapping[str, str]


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
    layout = Layout.PLAIN if len(shape) == 2 else Layout.IMAGE
    build = GraphBuilder(shape if layout is Layout.PLAIN else (1, *shape[2:], shape[1]))
    values = {traced.input: Value(build.input, layout)}
    signs: dict[fx.Node, Value] = {}
    sign_only: set[fx.Node] = set()
    for node in traced.calls():
        importer = find_importer(traced.layer(node))
        assert importer is not None
        inputs = [values[source] for source in sources(node)]
        values[node] = importer(build, _layer(traced, node), *inputs)
        _refuse_expanded(build, traced, node, values[node])
        layer = traced.layer(node)
        left_out = values[node] == inputs[0] and not isinstance(layer, KEEPING_SIGNS)
        if left_out or (isinstance(layer, KEEPING_SIGNS) and not sign_only.isdisjoint(sources(node))):
            sign_only.add(node)
        if _signs(traced, node):
            signs[node] = signed_input(build, layer, inputs[0])
    for name, note in build.notes.items():
        log.warning("%s: %s", name, note)
    output = _logits(build, traced, values[traced.output])
    graph = build.graph(output, metadata)
    spec.verify(graph, type(source).__name__)
    return Imported(traced, graph, values, signs, frozenset(sign_only), build.notes)


def _refuse_expanded(build: GraphBuilder, traced: Traced, node: fx.Node, value: Value) -> None:
    """UnsupportedError where a value that arithmetic would have repeated was read by something else."""
    if prod(build.shape(value.tensor)) != prod(traced.shapes[node]) and not isinstance(traced.layer(node), Expand):
        raise UnsupportedError(
            "reads an expanded value", where=f"'{node.target}'", fix="use expand() for operands of arithmetic only"
        )


def sources(node: fx.Node) -> list[fx.Node]:
    """The nodes whose values a call reads, in order; one may occur several times."""
    return [source for source in node.args if isinstance(source, fx.Node)]


def _layer(traced: Traced, node: fx.Node) -> Layer:
    return Layer(
        name=str(node.target),
        module=traced.layer(node),
        in_shapes=tuple(traced.shapes[source] for source in sources(node)),
        out_shape=traced.shapes[node],
        only_signed=_only_signed(traced, node),
    )


def _only_signed(traced: Traced, node: fx.Node) -> bool:
    """Whether only binary layers read a value, directly or behind modules that keep signs."""
    return all(
        reader.op == "call_module"
        and (
            _signs(traced, reader) or (isinstance(traced.layer(reader), KEEPING_SIGNS) and _only_signed(traced, reader))
        )
        for reader in node.users
    )


def _signs(traced: Traced, node: fx.Node) -> bool:
    return getattr(traced.layer(node), "onebit_kind", None) in SIGNING_KINDS


def _logits(build: GraphBuilder, traced: Traced, value: Value) -> str:
    shape = traced.shapes[traced.output]
    if len(shape) != 2:
        raise UnsupportedError(
            f"needs a vector of one value per class, found a result of shape {list(shape)}",
            where="the model's output",
            fix="end the model with a dense layer, or flatten the result",
        )
    return build.plain(value)


def _refuse_unknown_modules(traced: Traced) -> None:
    unknown = [node for node in traced.calls() if find_importer(traced.layer(node)) is None]
    if unknown:
        names = dict.fromkeys(f"{type(traced.layer(node)).__name__} '{node.target}'" for node in unknown)
        raise UnsupportedError(
            f"unsupported: {', '.join(names)}",
            where=type(traced.module).__name__,
            fix=f"supported are {', '.join(supported_modules())}",
        )
