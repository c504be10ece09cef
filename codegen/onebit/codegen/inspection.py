"""What a model is made of and what becomes of it: one row per operator, with the reason where it is not binary."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from onebit.codegen.findings import Finding, find_costs, instructions_of
from onebit.codegen.ops import BinaryConvScale, BinaryConvSegments, BinaryConvTable
from onebit.codegen.schedule import Program, compile_graph
from onebit.codegen.targets import Target
from onebit.core.graph import DType, Graph, Node
from onebit.core.ops import (
    FullyConnected,
    LceBconv2d,
    LceBMaxPool2d,
    LceDequantize,
    LceQuantize,
    Movement,
    ResizeNearestNeighbor,
    View,
)
from onebit.core.passes.sign_table import refusals


@dataclass(frozen=True)
class OpRow:
    """One operator of the source graph. `why` says in one line what happens to it and why.

    `form` is what its output is: bits, int8, float32, int32 or bool. `instructions` per inference are estimated,
    `weight_bytes` are its constants in the generated code; both are 0 for what is part of another operator's step.
    """

    index: int
    op: str
    tensor: str
    form: str
    inputs: list[str]
    outputs: list[str]
    macs: int
    binary: bool
    why: str
    instructions: int
    weight_bytes: int


@dataclass(frozen=True)
class Inspection:
    """The whole model. Bytes are those of the generated code for `target`."""

    target: str
    ops: list[OpRow]
    findings: list[Finding]
    binary_macs: int
    other_macs: int
    weight_bytes: int
    arena_bytes: int
    arena_lower_bound_bytes: int
    fits_ram: bool | None
    fits_flash: bool | None

    def as_dict(self) -> dict[str, Any]:
        """The object that ``onebit inspect --json`` prints."""
        return asdict(self)


def inspect_graph(graph: Graph, target: Target) -> Inspection:
    """Compile for `target` and explain every operator."""
    program = compile_graph(graph, target)
    reasons = {node.output: refusal.reason for chain, refusal in refusals(graph) for node in chain.nodes}
    rows = []
    for index, node in enumerate(graph.nodes):
        binary_macs, other_macs = _macs(program, node)
        rows.append(
            OpRow(
                index=index,
                op=node.op.name,
                tensor=node.output,
                form=graph.tensors[node.output].dtype.value,
                inputs=[_describe(graph, n) for n in node.inputs if n is not None and not graph.tensors[n].is_constant],
                outputs=[_describe(graph, name) for name in node.outputs],
                macs=binary_macs + other_macs,
                binary=isinstance(node.op, LceBconv2d | LceBMaxPool2d) or _is_binary_dense(program, node),
                why=_why(program, node, reasons.get(node.output)),
                **_cost(program, node),
            )
        )
    totals = [_macs(program, node) for node in graph.nodes]
    return Inspection(
        target=target.name,
        ops=rows,
        findings=find_costs(program),
        binary_macs=sum(b for b, _ in totals),
        other_macs=sum(o for _, o in totals),
        weight_bytes=program.weight_bytes,
        arena_bytes=program.arena_bytes,
        arena_lower_bound_bytes=program.plan.lower_bound_bytes,
        fits_ram=None if target.ram_bytes is None else program.arena_bytes <= target.ram_bytes,
        fits_flash=None if target.flash_bytes is None else program.weight_bytes <= target.flash_bytes,
    )


def _cost(program: Program, node: Node) -> dict[str, int]:
    """Instructions and bytes of constants of the step that ends in this node."""
    step = program.step_of(node.output)
    if step is None or step.node.output != node.output:
        return {"instructions": 0, "weight_bytes": 0}
    constants = sum(constant.data.nbytes for constant in step.constants)
    return {"instructions": instructions_of(program, step), "weight_bytes": constants}


def _is_binary_dense(program: Program, node: Node) -> bool:
    """Whether a dense layer turned out to be one of +c and -c on signs."""
    return isinstance(node.op, FullyConnected) and node not in program.graph.nodes


def _macs(program: Program, node: Node) -> tuple[int, int]:
    """Multiply-accumulates as (binary, other)."""
    binary, other = node.op.macs(View.of(program.source, node))
    return (other, 0) if _is_binary_dense(program, node) else (binary, other)


def _describe(graph: Graph, name: str) -> str:
    tensor = graph.tensors[name]
    return f"{tensor.dtype.value} {list(tensor.shape)}"


def _why(program: Program, node: Node, refused: str | None) -> str:
    graph = program.source
    step = program.step_of(node.output)
    if step is None:
        by = program.eliminated.get(node.output)
        return f"never stored: {by}" if by else "shares the memory of the model's input"
    if _is_binary_dense(program, node):
        return "weights of +c and -c on signs: a binary convolution, its sum scaled once"
    if step.signs is not None and step.signs.tensor.name == node.output:
        return f"sign of {step.node.op.name}, taken while that is computed"
    if step.node.output != node.output:
        return "shares the memory of its input" if len(node.inputs) == 1 else "its parts are computed where it lies"
    if refused is not None:
        return f"not folded into thresholds: {refused}"
    dtype = graph.tensors[node.output].dtype
    if isinstance(node.op, LceBconv2d):
        return _why_bconv(program, node)
    if isinstance(node.op, LceQuantize):
        return _why_sign(program, node)
    if isinstance(node.op, LceDequantize):
        readers = ", ".join(n.op.name for n in graph.consumers(node.output)) or "the model's output"
        return f"bits become {dtype.value} for {readers}"
    if isinstance(node.op, LceBMaxPool2d):
        return "AND of packed words"
    if isinstance(node.op, (Movement, ResizeNearestNeighbor)):
        return f"moves {dtype.value} elements"
    return f"{dtype.value} arithmetic"


def _why_bconv(program: Program, node: Node) -> str:
    graph, output = program.source, program.source.tensors[node.output]
    if output.dtype is DType.BITS:
        return "packed bits in and out, integer thresholds"
    step = program.step_of(node.output)
    assert step is not None
    readers = ", ".join(dict.fromkeys(n.op.name for n in graph.consumers(node.output))) or "the model's output"
    if isinstance(step.node.op, BinaryConvScale):
        return f"int8 for {readers}; fixed-point scale, exact on all accumulators"
    if isinstance(step.node.op, BinaryConvTable):
        return f"int8 for {readers}; lookup table, exact on all accumulators"
    if isinstance(step.node.op, BinaryConvSegments):
        return f"int8 for {readers}; straight segments in fixed point, exact on all accumulators"
    return f"float at run time: {readers} reads {output.dtype.value}"


def _why_sign(program: Program, node: Node) -> str:
    graph = program.source
    step = program.step_of(node.output)
    assert step is not None
    if step.node.op.name != node.op.name:
        return f"folded into the thresholds of {step.node.op.name.removeprefix('onebit.')}"
    producer = graph.producer(node.inputs[0])
    source = "the model's input" if producer is None else producer.op.name
    return f"sign of {source}, which is {graph.tensors[node.inputs[0] or ''].dtype.value}"
