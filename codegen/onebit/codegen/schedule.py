"""The scheduled form: kernel calls in order over buffers with a layout, a lifetime and an offset each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import onebit.codegen.kernels  # noqa: F401  fills the kernel registry
from onebit.codegen.kernel import (
    KERNELS,
    Call,
    Constant,
    Kernel,
    Layout,
    Placed,
    Scratch,
    constants_of,
    default_layout,
    select_kernel,
    stored_bytes,
)
from onebit.codegen.kernels.movement import copy_again
from onebit.codegen.memory import (
    Within,
    choose,
    joinable,
    moved_parts,
    resolved,
    share_memory,
    signs_taken_with_values,
    stays_in_place,
)
from onebit.codegen.ops import ConvertLayout
from onebit.codegen.options import Optimize
from onebit.codegen.passes import PIPELINE
from onebit.codegen.planner import Block, Lifetime, Plan, lower_bound, plan_memory
from onebit.codegen.sharing import Memory, Sharing
from onebit.codegen.targets import Target
from onebit.core.errors import UnsupportedError
from onebit.core.graph import Graph, Node, Tensor
from onebit.core.ops import View
from onebit.core.passes import run_passes
from onebit.core.passes.naming import unique_name

#: of one value; no microcontroller has as much RAM, and the self-test's arrays would take minutes to write
MAX_VALUE_BYTES: Final = 2**24


@dataclass(frozen=True)
class Buffer:
    """Memory that holds a tensor's value: `offset` bytes behind the start of the model's input, output, or arena.

    Between the end of a pixel and the start of the next lie `gap` bytes of other values: not 0 where a value is some of
    the channels of another.
    """

    tensor: Tensor
    layout: Layout
    memory: Memory
    offset: int
    gap: int = 0

    @property
    def nbytes(self) -> int:
        """Bytes of the value in this layout."""
        return stored_bytes(self.tensor, self.layout)

    @property
    def pitch(self) -> int:
        """Bytes from the start of a pixel to that of the next, of a layout with the channels innermost."""
        return self.tensor.stored_shape[-1] * self.tensor.dtype.numpy.itemsize + self.gap

    @property
    def runs(self) -> tuple[int, int]:
        """Number of runs of contiguous bytes, and bytes of each; they start `gap` bytes behind each other's ends."""
        if not self.gap:
            return 1, self.nbytes
        run = self.pitch - self.gap
        return self.nbytes // run, run


@dataclass(frozen=True)
class Step:
    """One node as kernel calls. `values` are complete when it is done: its output, and what needs no step of its own.

    The latter are the `signs` that its kernel takes, parts of the output (reshapes, slices) and joins of which it is
    the last part.
    """

    index: int
    node: Node
    kernel: Kernel
    calls: tuple[Call, ...]
    inputs: tuple[Buffer, ...]
    output: Buffer
    signs: Buffer | None
    values: tuple[Buffer, ...]
    scratch_offset: int
    macs: tuple[int, int]

    @property
    def tensors(self) -> tuple[str, ...]:
        """The names of the tensors in `values`."""
        return tuple(buffer.tensor.name for buffer in self.values)

    @property
    def scratch(self) -> Scratch | None:
        """The scratch memory of the calls, if they need any."""
        return _scratch(self.calls)

    @property
    def constants(self) -> tuple[Constant, ...]:
        """The constant arrays of the calls."""
        return tuple(constant for call in self.calls for arg in call.args for constant in constants_of(arg))


#: dtype and bytes of a constant array
ArrayKey = tuple[str, bytes]


def array_key(constant: Constant) -> ArrayKey:
    """What makes two constant arrays one: elements of one type with the same bytes. Their shape is no part of the C."""
    return constant.data.dtype.name, constant.data.tobytes()


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

    @cached_property
    def arrays(self) -> Mapping[ArrayKey, tuple[Step, Constant]]:
        """Every constant array of the generated code once, by its content, with the first step that reads it."""
        found: dict[ArrayKey, tuple[Step, Constant]] = {}
        for step in self.steps:
            for constant in step.constants:
                found.setdefault(array_key(constant), (step, constant))
        return found

    @property
    def weight_bytes(self) -> int:
        """Bytes of all constant arrays in the generated code."""
        return sum(constant.data.nbytes for _, constant in self.arrays.values())

    def step_of(self, tensor: str) -> Step | None:
        """The step after which a buffer holds this tensor of the source graph."""
        return next((step for step in self.steps if tensor in step.tensors), None)

    def buffers(self) -> tuple[Buffer, ...]:
        """Everything that steps complete, in the order in which they do: what the layer-by-layer build reports."""
        return tuple(buffer for step in self.steps for buffer in step.values)


def compile_graph(source: Graph, target: Target, optimize: Optimize = "speed") -> Program:
    """Run the passes, select kernels, insert layout conversions, decide what shares memory, plan the arena."""
    _check_interface(source)
    result = run_passes(source, PIPELINE)
    graph, kernels = _insert_layout_conversions(result.graph, target, optimize)
    steps, plan = _schedule(graph, kernels, optimize)
    return Program(source, graph, target, steps, plan, result.eliminated)


def _check_interface(graph: Graph) -> None:
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise UnsupportedError(
            f"the model has {len(graph.inputs)} inputs and {len(graph.outputs)} outputs", where="model",
            fix="generated code has one input and one output; split the model",
        )  # fmt: skip
    for tensor in graph.tensors.values():
        if not tensor.is_constant and tensor.nbytes > MAX_VALUE_BYTES:
            raise UnsupportedError(
                f"{tensor.describe()} takes {tensor.nbytes:,} bytes, at most {MAX_VALUE_BYTES:,} are allowed",
                where="model",
                fix="give the model a smaller input",
            )
    if graph.producer(graph.outputs[0]) is None:
        raise UnsupportedError("the model's output is its input", where="model", fix="give a model that computes")


def _insert_layout_conversions(graph: Graph, target: Target, optimize: Optimize) -> tuple[Graph, dict[str, Kernel]]:
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
        kernel = select_kernel(View.of(graph, node), target, optimize)
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


def _scratch(calls: Sequence[Call]) -> Scratch | None:
    return next((arg for call in calls for arg in call.args if isinstance(arg, Scratch)), None)


def _schedule(graph: Graph, kernels: Mapping[str, Kernel], optimize: Optimize) -> tuple[tuple[Step, ...], Plan]:
    layouts = {graph.input.name: default_layout(graph.input)}
    layouts |= {name: kernel.output_layout(graph.tensors[name]) for name, kernel in kernels.items()}
    views = [View.of(graph, node) for node in graph.nodes]
    all_calls = {view.node.output: kernels[view.node.output].calls(view) for view in views}
    scratches = {t: s.bytes for t, view in enumerate(views) if (s := _scratch(all_calls[view.node.output])) is not None}
    names = {t: unique_name(graph.tensors, f"scratch of node {t}") for t in scratches}
    lives = [Block.of(Lifetime(names[t], size, t, t)) for t, size in scratches.items()]

    def bound(within: Mapping[str, Within], signs: Mapping[str, str]) -> int:
        return lower_bound([*share_memory(graph, kernels, layouts, within, signs).blocks(), *lives])

    within = choose(joinable(graph, kernels, all_calls), lambda within: bound(within, {}))
    # a kernel that takes signs is one more in flash
    taken = {} if optimize == "size" else signs_taken_with_values(graph, kernels, layouts, within)
    signs = choose(taken, lambda signs: bound(within, signs))
    sharing = share_memory(graph, kernels, layouts, within, signs)
    places = resolved(within)
    pitches = {name: _pitch(graph.tensors[name], place.gap) for name, place in places.items()}
    views = [
        Placed(v.node, v.inputs, v.outputs, v.rounding, pitches)
        if pitches.keys() & {*v.node.inputs, *v.node.outputs}
        else v
        for v in views
    ]
    all_calls |= {v.node.output: kernels[v.node.output].calls(v) for v in views if isinstance(v, Placed)}
    kernels, all_calls = _with_signs(views, kernels, all_calls, signs)
    calls = [_remaining_calls(view, all_calls[view.node.output], sharing, within) for view in views]
    plan = plan_memory([*sharing.blocks(), *lives])

    def buffer(name: str) -> Buffer:
        if name in places:
            place = places[name]
            whole = buffer(place.whole)
            return replace(whole, tensor=graph.tensors[name], offset=whole.offset + place.start, gap=place.gap)
        memory = sharing.memory(name)
        offset = plan.offsets[name] if memory is Memory.ARENA else sharing.offset_in_memory(name)
        return Buffer(graph.tensors[name], layouts[name], memory, offset)

    buffers = {name: buffer(name) for name in layouts}
    signs_of = {value: buffers[name] for name, value in signs.items()}
    computing = [t for t, called in enumerate(calls) if called]
    complete = _completion(graph, {graph.nodes[t].output: index for index, t in enumerate(computing)})
    steps = []
    for index, t in enumerate(computing):
        node, view = graph.nodes[t], views[t]
        steps.append(
            Step(
                index=index,
                node=node,
                kernel=kernels[node.output],
                calls=calls[t],
                inputs=tuple(buffers[tensor.name] for tensor in view.inputs if tensor and not tensor.is_constant),
                output=buffers[node.output],
                signs=signs_of.get(node.output),
                values=tuple(buffers[name] for name, after in complete.items() if after == index),
                scratch_offset=plan.offsets[names[t]] if t in names else 0,
                macs=node.op.macs(view),
            )
        )
    return tuple(steps), plan


def _pitch(tensor: Tensor, gap: int) -> int:
    return tensor.stored_shape[-1] + gap // tensor.dtype.numpy.itemsize


def _with_signs(
    views: Sequence[View],
    kernels: Mapping[str, Kernel],
    calls: Mapping[str, tuple[Call, ...]],
    signs: Mapping[str, str],
) -> tuple[dict[str, Kernel], dict[str, tuple[Call, ...]]]:
    """Kernels and calls where those that compute the values take the `signs`, which need no calls then."""
    kernels, calls = dict(kernels), {**calls, **dict.fromkeys(signs, ())}
    for view in views:
        kernel = kernels[view.node.output].with_signs
        if view.node.output in signs.values() and kernel is not None:
            kernels[view.node.output], calls[view.node.output] = kernel, kernel.calls(view)
    return kernels, calls


def _remaining_calls(
    view: View, calls: tuple[Call, ...], sharing: Sharing, within: Mapping[str, Within]
) -> tuple[Call, ...]:
    """The kernel's calls but the copies of what is already in its place: call i of a movement copies its part i."""
    node, parts = view.node, moved_parts(view)
    if not parts:
        return calls
    remaining: list[Call] = []
    for i, (call, part) in enumerate(zip(calls, parts, strict=True)):
        if part.name in within and within[part.name].whole == node.output:
            first = next(k for k, other in enumerate(parts) if other.name == part.name)
            remaining += [copy_again(view, first, i)] if i > first else []
        elif not stays_in_place(node, part, sharing):
            remaining.append(call)
    return tuple(remaining)


def _completion(graph: Graph, steps: Mapping[str, int]) -> dict[str, int]:
    """For every tensor that some step completes, the index of that step."""
    complete: dict[str, int] = {}
    for node in graph.nodes:
        after = [complete[name] for name in node.inputs if name in complete]
        if node.output in steps:
            complete[node.output] = steps[node.output]
        elif after:
            complete[node.output] = max(after)
    return complete


__all__ = ["Buffer", "Program", "Step", "array_key", "compile_graph"]
