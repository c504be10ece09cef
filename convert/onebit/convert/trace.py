"""From any traceable `nn.Module` to a torch.fx graph that consists of module calls only.

Function and method calls that have a module form (``torch.flatten``, ``x.view(n, -1)``, ``F.relu``) are replaced by
that module, so that the importers and the verification know one form of each operation.

Legend: N batch, C channels, H height, W width; torch tensors are NCHW or [N, features].
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812 - the name PyTorch's own documentation uses
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from onebit.core.errors import BadInputError, UnsupportedError


@dataclass(frozen=True)
class Traced:
    """A float32 copy of the source in eval mode: `module` as it was, and the same as module calls.

    `shapes` has the torch shape, batch 1, of every node of ``graph_module.graph`` that is a tensor.
    """

    module: nn.Module
    graph_module: fx.GraphModule
    shapes: dict[fx.Node, tuple[int, ...]]

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
        """The call_module nodes in execution order."""
        return [node for node in self.graph_module.graph.nodes if node.op == "call_module"]


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return hasattr(m, "onebit_kind") or super().is_leaf_module(m, module_qualified_name)


def trace(source: nn.Module, example_input: Tensor) -> Traced:
    """Trace `source` with `example_input` [N, C, H, W] or [N, features]; only its shape counts, and N becomes 1.

    `source` is not changed. BadInputError for a module that cannot be traced or does not run on the example, for
    several inputs or outputs, and for parameters that are not finite; UnsupportedError for functions without a module
    form, all listed at once.
    """
    module = copy.deepcopy(source).cpu().float().eval()
    _refuse_not_finite(module)
    x = example_input.detach().cpu().float()[:1]
    _try_out(module, x, type(source).__name__)
    tracer = _Tracer()
    # A leaf at the top would be traced through its own forward; one level above it stays a leaf.
    root = nn.Sequential(module) if tracer.is_leaf_module(module, "") else module
    graph_module = _traced(tracer, root)
    placeholders = [node for node in graph_module.graph.nodes if node.op == "placeholder"]
    if len(placeholders) != 1:
        raise BadInputError(
            f"the model takes {len(placeholders)} inputs",
            where=type(source).__name__,
            fix="give forward() exactly one tensor, a batch of images or vectors",
        )
    _propagate(graph_module, x)
    _replace_functions(graph_module)
    _separate_parts(graph_module)
    _propagate(graph_module, x)
    shapes = {
        node: tuple(int(d) for d in node.meta["tensor_meta"].shape)
        for node in graph_module.graph.nodes
        if isinstance(getattr(node.meta.get("tensor_meta"), "shape", None), torch.Size)
    }
    traced = Traced(module, graph_module, shapes)
    if traced.output not in shapes:
        raise BadInputError(
            "the model does not return one tensor", where=type(source).__name__, fix="return the logits only"
        )
    return traced


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


def _refuse_not_finite(module: nn.Module) -> None:
    for name, value in [*module.named_parameters(), *module.named_buffers()]:
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise BadInputError("has NaN or infinite values", where=name, fix="train the model again")


def _traced(tracer: _Tracer, root: nn.Module) -> fx.GraphModule:
    try:
        return fx.GraphModule(root, tracer.trace(root))
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        layer = next(reversed(tracer.module_stack), "") if hasattr(tracer, "module_stack") else ""
        raise BadInputError(
            f"torch.fx cannot trace the model: {reason}",
            where=f"{type(root).__name__}{' ' + layer if layer else ''}",
            fix="forward() must not branch on the values of tensors",
        ) from error


def _try_out(module: nn.Module, x: Tensor, name: str) -> None:
    """Run the module once, because torch.fx prints tracebacks where a traced module fails."""
    try:
        with torch.no_grad():
            module(x)
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BadInputError(
            f"the model does not run on an input of shape {list(x.shape)}: {reason}",
            where=name,
            fix="check example_input or --input-shape",
        ) from error


def _propagate(graph_module: fx.GraphModule, x: Tensor) -> None:
    with torch.no_grad():
        ShapeProp(graph_module).propagate(x)


# ---------------------------------------------------------------------------------------------- functions to modules


def _flatten(start_dim: int = 0, end_dim: int = -1) -> nn.Module:
    return nn.Flatten(start_dim, end_dim)


def _softmax(dim: int | None = None, *_: Any, **__: Any) -> nn.Module:
    return nn.Softmax(dim)


def _max_pool(
    kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, **_: Any
) -> nn.Module:
    return nn.MaxPool2d(kernel_size, stride, padding, dilation, ceil_mode=ceil_mode)


def _hardtanh(min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> nn.Module:  # noqa: ARG001
    return nn.Hardtanh(min_val, max_val)


def _relu(inplace: bool = False) -> nn.Module:  # noqa: ARG001 - F.relu's signature
    return nn.ReLU()


def _relu6(inplace: bool = False) -> nn.Module:  # noqa: ARG001 - F.relu6's signature
    return nn.ReLU6()


def _identity(*_: Any, **__: Any) -> nn.Module:
    return nn.Identity()


#: call target (a function, or the name of a method of Tensor) -> the module for its arguments behind the tensor
_AS_MODULE: dict[Any, Callable[..., nn.Module]] = {
    torch.flatten: _flatten,
    "flatten": _flatten,
    torch.softmax: _softmax,
    F.softmax: _softmax,
    "softmax": _softmax,
    torch.max_pool2d: _max_pool,
    F.max_pool2d: _max_pool,
    F.hardtanh: _hardtanh,
    torch.relu: _relu,
    F.relu: _relu,
    "relu": _relu,
    F.relu6: _relu6,
    F.dropout: _identity,
    "contiguous": _identity,
}
#: calls that flatten if, and only if, their result is [N, everything else]
_RESHAPES = {torch.reshape, "view", "reshape"}


def _replace_functions(graph_module: fx.GraphModule) -> None:
    """Replace calls by module calls, then drop what only computed shapes. UnsupportedError lists what is left."""
    graph = graph_module.graph
    for node in list(graph.nodes):
        if node.op not in ("call_function", "call_method") or not isinstance(_meta_shape(node), torch.Size):
            continue
        layer = _module_form(node)
        if layer is None:
            continue
        target = node.name
        while hasattr(graph_module, target):
            target += "_"
        graph_module.add_submodule(target, layer.eval())
        with graph.inserting_before(node):
            call = graph.call_module(target, (node.args[0],))
        call.meta = dict(node.meta)
        node.replace_all_uses_with(call)
        graph.erase_node(node)
    graph.eliminate_dead_code()
    graph_module.recompile()
    left = [node for node in graph.nodes if node.op not in ("placeholder", "call_module", "output")]
    if left:
        raise UnsupportedError(
            f"unsupported: {', '.join(f'{_target_name(node)} ({node.name})' for node in left)}",
            where="forward()",
            fix="use modules with a counterpart, as nn.Flatten, nn.ReLU or nn.MaxPool2d",
        )


def _module_form(node: fx.Node) -> nn.Module | None:
    if not node.args or not isinstance(node.args[0], fx.Node):
        return None
    rest = node.args[1:]
    if node.target in _RESHAPES:
        before, after = _meta_shape(node.args[0]), _meta_shape(node)
        return nn.Flatten() if after is not None and tuple(after) == (1, math.prod(before or ())) else None
    make = _AS_MODULE.get(node.target)
    if make is None or any(isinstance(value, fx.Node) for value in (*rest, *node.kwargs.values())):
        return None
    try:
        return make(*rest, **node.kwargs)
    except TypeError:
        return None


def _meta_shape(node: fx.Node) -> torch.Size | None:
    return getattr(node.meta.get("tensor_meta"), "shape", None)


def _target_name(node: fx.Node) -> str:
    return str(node.target) if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
