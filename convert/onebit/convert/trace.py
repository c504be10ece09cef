"""From any traceable `nn.Module` to a torch.fx graph that consists of module calls only.

Function and method calls become calls of modules that compute the same (`onebit.convert.functional`), what depends on
parameters and sizes only becomes constants, so that the importers and the verification know one form of each operation.

Legend: N batch, C channels, H height, W width; torch tensors are NCHW or [N, features].
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, fx, nn

from onebit.convert.functional import PIECES, NoForm, Operand, form_of, piece_of, shaped
from onebit.core.errors import BadInputError, UnsupportedError

BATCH = 2
"""Samples of the example: two, so that a model that mixes samples or wants one sample is found."""


@dataclass(frozen=True)
class Traced:
    """A float32 copy of the source in eval mode: `module` as it was, and the same as module calls on tensors.

    `shapes` has the torch shape, batch 1, of every node of ``graph_module.graph`` that is a tensor.
    """

    module: nn.Module
    graph_module: fx.GraphModule
    shapes: Mapping[fx.Node, tuple[int, ...]]

    @property
    def input(self) -> fx.Node:
        """The only placeholder."""
        return cast("fx.Node", next(n for n in self.graph_module.graph.nodes if n.op == "placeholder"))

    @property
    def output(self) -> fx.Node:
        """The node whose value the model returns."""
        result = next(node for node in self.graph_module.graph.nodes if node.op == "output")
        return cast("fx.Node", result.args[0])

    def layer(self, node: fx.Node) -> nn.Module:
        """The module that a call_module node calls."""
        return self.graph_module.get_submodule(str(node.target))

    def calls(self) -> list[fx.Node]:
        """The call_module nodes in execution order; their arguments are the nodes of their inputs, nothing else."""
        return [node for node in self.graph_module.graph.nodes if node.op == "call_module"]


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return hasattr(m, "onebit_kind") or super().is_leaf_module(m, module_qualified_name)


def trace(source: nn.Module, example_input: Tensor) -> Traced:
    """Trace `source` with `example_input` [N, C, H, W] or [N, features]; only its shape counts, without N.

    `source` is not changed. BadInputError for a module that cannot be traced or does not run on the example, for
    several inputs or outputs, and for parameters that are not finite; UnsupportedError for functions without a module
    form, all listed at once.
    """
    name = type(source).__name__
    _refuse_lazy(source)
    module = copy.deepcopy(source).cpu().float().eval()
    _refuse_not_finite(module)
    parameters = [p for p in inspect.signature(module.forward).parameters.values() if p.kind is not p.VAR_KEYWORD]
    _refuse_several_inputs(sum(p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters), name)
    x = torch.zeros(BATCH, *example_input.shape[1:])
    _try_out(module, x, name)
    tracer = _Tracer()
    # A leaf at the top would be traced through its own forward; one level above it stays a leaf.
    root = nn.Sequential(module) if tracer.is_leaf_module(module, "") else module
    graph_module = _traced(tracer, root, one_input=len(parameters) == 1)
    _separate_parts(graph_module)
    placeholders = [node for node in graph_module.graph.nodes if node.op == "placeholder"]
    _refuse_several_inputs(len(placeholders), name)
    values = _Simplifier(graph_module, x).run()
    shapes = {node: (1, *value.shape[1:]) for node, value in values.items()}
    return Traced(module, graph_module, shapes)


def _refuse_several_inputs(count: int, name: str) -> None:
    if count > 1:
        raise BadInputError(
            f"the model takes {count} inputs",
            where=name,
            fix="give forward() exactly one tensor, a batch of images or vectors",
        )


def _refuse_lazy(module: nn.Module) -> None:
    for name, value in [*module.named_parameters(), *module.named_buffers()]:
        if torch.nn.parameter.is_lazy(value):
            raise BadInputError("has no shape yet", where=name, fix="run the model once, or load its weights")


def _refuse_not_finite(module: nn.Module) -> None:
    for name, value in [*module.named_parameters(), *module.named_buffers()]:
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise BadInputError("has NaN or infinite values", where=name, fix="train the model again")


class _OneInput(nn.Module):
    """Calls a model with one tensor, so that all other parameters of its forward() have their defaults."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Any:
        return self.model(x)


def _traced_with_defaults(tracer: _Tracer, root: nn.Module) -> fx.Graph:
    """The graph of `root` called with one tensor; its layers have their own names."""
    graph = tracer.trace(_OneInput(root))
    for node in graph.nodes:
        if node.op in ("call_module", "get_attr"):
            node.target = str(node.target).removeprefix("model.")
        stack = node.meta.get("nn_module_stack") or {}
        node.meta["nn_module_stack"] = {k.removeprefix("model").removeprefix("."): v for k, v in stack.items()}
    return graph


def _traced(tracer: _Tracer, root: nn.Module, *, one_input: bool) -> fx.GraphModule:
    try:
        return fx.GraphModule(root, tracer.trace(root) if one_input else _traced_with_defaults(tracer, root))
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        layer = next(reversed(tracer.module_stack), "") if hasattr(tracer, "module_stack") else ""
        raise BadInputError(
            f"torch.fx cannot trace the model: {reason}",
            where=f"{type(root).__name__}{' ' + layer if layer else ''}",
            fix="forward() must not branch on the values of tensors",
        ) from error


def _separate_parts(graph_module: fx.GraphModule) -> None:
    """Replace a layer that says so (``onebit_parts``, see onebit.train.layers) by the chain of its parts."""
    graph = graph_module.graph
    for node in [node for node in graph.nodes if node.op == "call_module"]:
        parts = getattr(graph_module.get_submodule(node.target), "onebit_parts", lambda: ())()
        if len(parts) < 2:
            continue
        value = node.args[0]
        for i, part in enumerate(parts):
            target = node.target if hasattr(part, "onebit_kind") else f"{node.target}_part{i}"
            graph_module.add_submodule(target, part.eval())
            with graph.inserting_before(node):
                value = graph.call_module(target, (value,))
        node.replace_all_uses_with(value)
        graph.erase_node(node)
    graph_module.recompile()


def _try_out(module: nn.Module, x: Tensor, name: str) -> None:
    """Run the module once, because torch.fx prints tracebacks where a traced module fails."""
    fix = "check example_input or --input-shape"
    for samples in (1, len(x)):
        try:
            with torch.no_grad():
                y = module(x[:samples])
        except Exception as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise BadInputError(
                f"the model does not run on an input of shape {[samples, *x.shape[1:]]}: {reason}",
                where=name,
                fix=fix if samples == 1 else "forward() must take batches of any size",
            ) from error
        if not isinstance(y, Tensor):
            raise BadInputError("the model does not return one tensor", where=name, fix="return the logits only")
        if y.shape[:1] != (samples,):
            raise BadInputError(
                f"the model returns {list(y.shape)} for {samples} samples",
                where=name,
                fix="return one row per sample, and leave the batch as it is in view() and reshape()",
            )


class _Simplifier:
    """Replaces all calls of a traced graph by module calls on tensors that depend on the model's input."""

    def __init__(self, graph_module: fx.GraphModule, x: Tensor) -> None:
        self._graph_module = graph_module
        self._x = x
        #: node -> its value for the example, of nodes that are tensors and depend on the input
        self._varying: dict[fx.Node, Any] = {}
        #: the values of all other nodes
        self._known: dict[fx.Node, Any] = {}
        self._refused: dict[str, str] = {}

    def run(self) -> dict[fx.Node, Tensor]:
        """The values of the example at the nodes that are left; UnsupportedError lists what has no module form."""
        graph = self._graph_module.graph
        with torch.no_grad():
            for node in list(graph.nodes):
                self._visit(node)
        if self._refused:
            raise UnsupportedError(
                f"unsupported: {', '.join(self._refused)}",
                where="forward()",
                fix="; ".join(dict.fromkeys(self._refused.values())),
            )
        for node in reversed(list(graph.nodes)):
            if not node.users and node.op not in ("placeholder", "output"):
                graph.erase_node(node)
        graph.lint()
        self._graph_module.recompile()
        return {node: self._varying[node] for node in graph.nodes if node.op != "output"}

    def _visit(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            self._varying[node] = self._x
            return
        if node.op == "output":
            if node.args[0] not in self._varying:
                raise BadInputError("the model's output does not depend on its input", where="forward()")
            return
        value = self._evaluate(node)
        if not self._depends(node, value):
            self._known[node] = value
        elif node.op == "call_module":
            self._call(node, value)
        elif isinstance(value, Tensor):
            self._replace(node, value)
        else:
            self._varying[node] = value
            if node.target not in PIECES:
                self._refuse(node, NoForm("returns no tensor", "use operations that return one tensor"))

    def _evaluate(self, node: fx.Node) -> Any:
        def value(n: fx.Node) -> Any:
            found = self._varying[n] if n in self._varying else self._known[n]
            # in-place functions must not change what was recorded
            return found.clone() if isinstance(found, Tensor) else found

        args, kwargs = fx.map_arg(node.args, value), fx.map_arg(node.kwargs, value)
        if node.op == "get_attr":
            found: Any = self._graph_module
            for part in str(node.target).split("."):
                found = getattr(found, part)
            return found
        if node.op == "call_module":
            return self._graph_module.get_submodule(str(node.target))(*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        return cast("Any", node.target)(*args, **kwargs)

    def _depends(self, node: fx.Node, value: Any) -> bool:
        """Whether the result holds tensors and depends on the input (sizes do not: they are fixed)."""
        parts = value if isinstance(value, tuple | list) else (value,)
        holds = any(isinstance(part, Tensor) for part in parts)
        return holds and any(n in self._varying for n in node.all_input_nodes)

    def _call(self, node: fx.Node, value: Any) -> None:
        """A layer: its arguments become the positional nodes of its inputs."""
        self._varying[node] = value
        operands = (*node.args, *node.kwargs.values())
        layer = self._graph_module.get_submodule(str(node.target))
        if not isinstance(value, Tensor) or not all(isinstance(a, fx.Node) and a in self._varying for a in operands):
            self._refuse(node, NoForm("takes or returns something else than tensors", "give layers one tensor"))
            return
        node.args, node.kwargs = operands, {}
        self._keep_inputs(node, layer)

    def _keep_inputs(self, node: fx.Node, layer: nn.Module) -> None:
        """An in-place layer becomes an ordinary one; refused where something still reads what it overwrites."""
        if getattr(layer, "inplace", False):
            self._refuse_overwriting(node)
            layer.inplace = False  # type: ignore[assignment]

    def _refuse_overwriting(self, node: fx.Node) -> None:
        order = {n: i for i, n in enumerate(self._graph_module.graph.nodes)}
        source = node.all_input_nodes[0]
        if any(order[reader] > order[node] for reader in source.users):
            self._refuse(node, NoForm("overwrites a value that is read again", "use inplace=False"))

    def _replace(self, node: fx.Node, value: Tensor) -> None:
        """A function or method: a call of its module form takes its place."""
        self._varying[node] = value
        if _overwrites(node):
            self._refuse_overwriting(node)
        try:
            layer, operands = self._form(node)
        except NoForm as reason:
            self._refuse(node, reason)
            return
        if value.shape[:1] != (BATCH,):
            self._refuse(node, NoForm("does not keep the batch", "leave the first dimension as it is"))
            return
        target = self._target(node)
        self._graph_module.add_submodule(target, shaped(layer, value).eval())
        with self._graph_module.graph.inserting_before(node):
            call = self._graph_module.graph.call_module(target, tuple(operand.node for operand in operands))
        self._varying[call] = value
        node.replace_all_uses_with(call)
        self._graph_module.graph.erase_node(node)
        del self._varying[node]

    def _form(self, node: fx.Node) -> tuple[nn.Module, tuple[Operand, ...]]:
        def operand(n: fx.Node) -> Any:
            return Operand(n, self._varying[n]) if n in self._varying else self._known[n]

        source = node.args[0] if node.args else None
        if isinstance(source, fx.Node) and source.target in PIECES and isinstance(self._varying.get(source), tuple):
            whole = source.args[0]
            assert isinstance(whole, fx.Node)
            return piece_of(operand(whole), self._varying[source], cast("int", node.args[1]))
        return form_of(node.target, fx.map_arg(node.args, operand), fx.map_arg(node.kwargs, operand))

    def _target(self, node: fx.Node) -> str:
        """The path of the layer whose forward() calls, and the function's name."""
        stack = node.meta.get("nn_module_stack") or {}
        path = str(next(reversed(stack), "")).partition("@")[0]  # '@' counts the calls of one module
        wanted = f"{path}.{_target_name(node)}" if path else _target_name(node)
        target, count = wanted, 0
        modules = dict(self._graph_module.named_modules())
        while target in modules or _attribute(self._graph_module, target) is not None:
            count += 1
            target = f"{wanted}_{count}"
        return target

    def _refuse(self, node: fx.Node, reason: NoForm) -> None:
        name = f"'{node.target}'" if node.op == "call_module" else f"{_target_name(node)} ({node.name})"
        self._refused[f"{name}: {reason.message}"] = reason.fix


def _overwrites(node: fx.Node) -> bool:
    name = _target_name(node)
    return (
        (name.endswith("_") and not name.endswith("__"))
        or name in ("iadd", "isub", "imul", "itruediv")
        or bool(node.kwargs.get("inplace"))
    )


def _attribute(root: nn.Module, path: str) -> Any:
    found: Any = root
    for part in path.split("."):
        found = getattr(found, part, None)
    return found


def _target_name(node: fx.Node) -> str:
    return str(node.target) if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
