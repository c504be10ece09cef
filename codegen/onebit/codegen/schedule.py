"""The scheduled form: kernel calls in order over buffers with a layout, a lifetime and an offset each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import onebit.codegen.kernels  # noqa: F401  fills the kernel registry
from onebit.codegen.kernel import (
    KERNELS,
    Call,
    Constant,
    Kernel,
    Layout,
    Scratch,
    default_layout,
    select_kernel,
    stored_bytes,
)
from onebit.codegen.ops import ConvertLayout
from onebit.codegen.passes import PIPELINE
from onebit.codegen.planner import Lifetime, Plan, plan_memory
from onebit.codegen.targets import Target
from onebit.core.errors import UnsupportedError
from onebit.core.graph import Graph, Node, Tensor
from onebit.core.ops import View
from onebit.core.passes import run_passes
from onebit.core.passes.naming import unique_name


@dataclass(frozen=True)
class Buffer:
    """Memory that holds a value: the model's input, its output, or a place in the arena.

    `name` is ``input``, ``output``, or for the arena ``tensor <name>``: a model may call its tensors anything.
    """

    name: str
    tensor: Tensor
    layout: Layout

    @property
    def nbytes(self) -> int:
        """Bytes of the value in this layout."""
        return stored_bytes(self.tensor, self.layout)


@dataclass(frozen=True)
class Step:
    """One node as kernel calls. `tensors` are the graph tensors whose value the output buffer then holds.

    These are the node's own output and its aliases.
    """

    index: int
    node: Node
    kernel: Kernel
    calls: tuple[Call, ...]
    inputs: tuple[Buffer, ...]
    output: Buffer
    tensors: tuple[str, ...]
    macs: tuple[int, int]

    @property
    def scratch(self) -> Scratch | None:
        """The scratch memory of the calls, if they need any."""
        return next((arg for call in self.calls for arg in call.args if isinstance(arg, Scratch)), None)

    @property
    def constants(self) -> tuple[Constant, ...]:
        """The constant arrays of the calls."""
        return tuple(arg for call in self.calls for arg in call.args if isinstance(arg, Constant))


@dataclass(frozen=True)
class Program:
    """A model compiled for a target: what the emitter prints and what the simulator compares."""

    source: Graph
    graph: Graph
    target: Target
    steps: tuple[Step, ...]
    plan: Plan
    eliminated: Mapping[str, str]

    @property
    def arena_bytes(self) -> int:
        """Bytes of the arena, a compile-time constant of the generated code."""
        return self.plan.arena_bytes

    @property
    def weight_bytes(self) -> int:
        """Bytes of all constant arrays in the generated code."""
        return sum(constant.data.nbytes for step in self.steps for constant in step.constants)

    def step_of(self, tensor: str) -> Step | None:
        """The step after which a buffer holds this tensor of the source graph."""
        return next((step for step in self.steps if tensor in step.tensors), None)


def compile_graph(source: Graph, target: Target) -> Program:
    """Run the passes, select kernels, insert layout conversions, share the memory of reshapes, plan the arena."""
    _check_interface(source)
    result = run_passes(source, PIPELINE)
    graph, kernels = _insert_layout_conversions(result.graph, target)
    steps = _schedule(graph, kernels)
    return Program(source, graph, target, steps, plan_memory(_lifetimes(steps)), result.eliminated)


def _check_interface(graph: Graph) -> None:
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise UnsupportedError(
            f"the model has {len(graph.inputs)} inputs and {len(graph.outputs)} outputs", where="model",
            fix="generated code has one input and one output; split the model",
        )  # fmt: skip
    if graph.producer(graph.outputs[0]) is None:
        raise UnsupportedError("the model's output is its input", where="model", fix="give a model that computes")


def _insert_layout_conversions(graph: Graph, target: Target) -> tuple[Graph, dict[str, Kernel]]:
    """Select a kernel per node (keyed by output) and convert where producer and consumer disagree on the layout."""
    nodes: list[Node] = []
    tensors = dict(graph.tensors)
    kernels: dict[str, Kernel] = {}
    layouts = {graph.input.name: default_layout(graph.input)}
    converted: dict[tuple[str, Layout], str] = {}

    def convert(name: str, wanted: Layout) -> str:
        if layouts[name] is wanted:
            return name
        if (name, wanted) not in converted:
            tensor = replace(tensors[name], name=unique_name(tensors, f"{name}/{wanted.value}"))
            tensors[tensor.name] = tensor
            node = Node(ConvertLayout(), (name,), (tensor.name,))
            nodes.append(node)
            kernels[tensor.name] = _conversion_kernel(layouts[name], wanted)
            layouts[tensor.name] = wanted
            converted[name, wanted] = tensor.name
        return converted[name, wanted]

    for node in graph.nodes:
        kernel = select_kernel(View.of(graph, node), target)
        inputs = tuple(
            convert(n, kernel.input_layout(tensors[n])) if n is not None and not tensors[n].is_constant else n
            for n in node.inputs
        )
        nodes.append(replace(node, inputs=inputs))
        kernels[node.output] = kernel
        layouts[node.output] = kernel.output_layout(tensors[node.output])
    output = graph.outputs[0]
    final = convert(output, default_layout(tensors[output]))
    return replace(graph, nodes=tuple(nodes), tensors=tensors, outputs=(final,)), kernels


def _conversion_kernel(have: Layout, wanted: Layout) -> Kernel:
    return next(k for k in KERNELS if k.op is ConvertLayout and k.layouts == (have, wanted))


def _aliases(graph: Graph) -> dict[str, str]:
    """Every tensor to the tensor whose memory it shares: that of an alias operator (RESHAPE) shares its input's.

    An alias from the model's input to its output is the exception, and copies.
    """
    root = {name: name for name in graph.tensors}
    for node in graph.nodes:
        source = node.inputs[0]
        if node.op.alias and source is not None:
            if node.output in graph.outputs and root[source] == graph.input.name:
                continue
            root[node.output] = root[source]
    return root


def _schedule(graph: Graph, kernels: Mapping[str, Kernel]) -> tuple[Step, ...]:
    root = _aliases(graph)
    buffers: dict[str, Buffer] = {graph.input.name: Buffer("input", graph.input, default_layout(graph.input))}
    output_root = root[graph.outputs[0]]
    steps: list[Step] = []
    for node in graph.nodes:
        name = node.output
        if root[name] != name:
            continue
        view, kernel = View.of(graph, node), kernels[name]
        tensor = graph.tensors[name]
        buffer_name = "output" if name == output_root else f"tensor {name}"
        buffers[name] = Buffer(buffer_name, tensor, kernel.output_layout(tensor))
        activations = [n for n in node.inputs if n is not None and not graph.tensors[n].is_constant]
        steps.append(
            Step(
                index=len(steps),
                node=node,
                kernel=kernel,
                calls=kernel.calls(view),
                inputs=tuple(buffers[root[n]] for n in activations),
                output=buffers[name],
                tensors=tuple(t for t in graph.tensors if root[t] == name),
                macs=node.op.macs(view),
            )
        )
    return tuple(steps)


def _lifetimes(steps: tuple[Step, ...]) -> list[Lifetime]:
    values: list[Lifetime] = []
    for step in steps:
        if step.output.name != "output":
            last = max((s.index for s in steps if step.output in s.inputs), default=step.index)
            values.append(Lifetime(step.output.name, step.output.nbytes, step.index, last))
        if step.scratch is not None:
            values.append(Lifetime(scratch_name(step), step.scratch.bytes, step.index, step.index))
    return values


def scratch_name(step: Step) -> str:
    """Name of a step's scratch memory in the plan."""
    return f"scratch of step {step.index}"


__all__ = ["Buffer", "Program", "Step", "compile_graph", "scratch_name"]
