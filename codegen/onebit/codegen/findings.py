"""What a model pays for not being bits, layer by layer: what it costs on the target, and what to change in training.

Costs are those of the generated code: instructions by the kernels' estimates (see `onebit.codegen.kernel`), bytes of
constants and of maps in RAM.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from onebit.codegen.kernel import select_kernel
from onebit.codegen.ops import Int8Sign
from onebit.codegen.passes.fold_into_int8_sign import fold_into_int8_sign
from onebit.codegen.schedule import Program, Step
from onebit.core.graph import Array, DType, Graph, Node
from onebit.core.ops import (
    Activation,
    Conv2d,
    DepthwiseConv2d,
    Dequantize,
    FullyConnected,
    LceBconv2d,
    LceDequantize,
    LceQuantize,
    Relu,
    Relu6,
    Round,
    View,
)
from onebit.core.passes.enumeration import accumulator_values

LINEAR = (Conv2d, DepthwiseConv2d, FullyConnected)

FEW_LEVELS = 4
"""Magnitudes of weights per output channel up to which a layer counts as multi-bit rather than as real-valued."""


@dataclass(frozen=True)
class Finding:
    """One thing that costs: `kind` for scripts, the operator it concerns, what is so (`what`), what to change (`fix`).

    `instructions` per inference (estimated), `flash_bytes` of constants and `ram_bytes` of maps are what the operator
    takes now, as far as the change would save them.
    """

    kind: str
    index: int
    op: str
    tensor: str
    what: str
    fix: str
    instructions: int = 0
    flash_bytes: int = 0
    ram_bytes: int = 0


def find_costs(program: Program) -> list[Finding]:
    """All findings of a compiled model, in execution order."""
    found: list[Finding] = []
    for index, node in enumerate(program.source.nodes):
        for rule in RULES:
            for kind, what, fix, cost in rule(program, node):
                found.append(Finding(kind, index, node.op.name, node.output, what, fix, **cost))
    return found


Cost = dict[str, int]
Found = Iterator[tuple[str, str, str, Cost]]


def instructions_of(program: Program, step: Step) -> int:
    """The estimated instructions of a step."""
    return round(step.kernel.cost(View.of(program.graph, step.node)))


def _step(program: Program, node: Node) -> Step | None:
    """The step that computes this node and no other."""
    step = program.step_of(node.output)
    return step if step is not None and step.node.output == node.output else None


def _cost(program: Program, node: Node, *, ram: str | None = None) -> Cost:
    step = _step(program, node)
    flash = 0 if step is None else sum(constant.data.nbytes for constant in step.constants)
    cost = {"instructions": 0 if step is None else instructions_of(program, step), "flash_bytes": flash}
    return cost if ram is None else {**cost, "ram_bytes": program.source.tensors[ram].nbytes}


# ------------------------------------------------------------------------------------------------------- rules


def surviving_sign(program: Program, node: Node) -> Found:
    """A LceQuantize that runs: a map of numbers is stored only to be turned into bits."""
    # a pass may have moved it in front of a reshape
    step = program.step_of(node.output)
    if not isinstance(node.op, LceQuantize) or step is None:
        return
    if step.signs is None and not isinstance(step.node.op, LceQuantize | Int8Sign):
        return
    graph, source = program.source, node.inputs[0] or ""
    read = step.node.inputs[0] or ""
    if isinstance(step.node.op, Int8Sign) and read in graph.tensors:
        source = read
    tensor, producer = graph.tensors[source], graph.producer(source)
    while producer is not None and producer.op.alias:
        producer = graph.producer(producer.inputs[0])
    folded = fold_into_int8_sign.__name__
    readers = [reader for reader in graph.consumers(source) if program.eliminated.get(reader.output) != folded]
    others = [reader.op.name for reader in readers if not isinstance(reader.op, LceQuantize)]
    kind = "in " + tensor.dtype.value
    if producer is None:
        what, fix = f"takes the sign of the model's input {kind}", "nothing, if the input is meant to be binary"
    elif others:
        what = f"takes the sign of {producer.op.name}, {kind} because {', '.join(others)} reads it too"
        smaller = "convert with --int8 for a quarter of the RAM; " if tensor.dtype is DType.FLOAT32 else ""
        fix = f"{smaller}nothing, if it is a shortcut (it carries the accuracy); else read the sign only"
    elif isinstance(producer.op, LceBconv2d):
        what, fix = f"takes the sign of LceBconv2d {kind}", "keep only batch norm between binary convolution and sign"
    else:
        what = f"takes the sign of {producer.op.name}, {kind}"
        fix = "move what is not needed from in front of the sign, or put the binary convolution's own batch norm there"
    cost = {"instructions": _sign_instructions(program, step), "ram_bytes": tensor.nbytes}
    yield "surviving_sign", what, fix, cost


def _sign_instructions(program: Program, step: Step) -> int:
    """Those of a step that takes signs; where it computes their value too, those it would not need without them."""
    if step.signs is None:
        return instructions_of(program, step)
    view = View.of(program.graph, step.node)
    return instructions_of(program, step) - round(select_kernel(view, program.target).cost(view))


def float_layer(program: Program, node: Node) -> Found:
    """A dense or convolutional layer with float32 weights."""
    if not isinstance(node.op, LINEAR) or program.source.tensors[node.output].dtype is not DType.FLOAT32:
        return
    if node not in program.graph.nodes:
        return  # it turned out to be binary
    weights = program.source.tensors[node.inputs[1] or ""]
    dense = isinstance(node.op, FullyConnected)
    layer = "dense layer" if dense else "convolution"
    what = f"float32 {layer}: {weights.nbytes:,} bytes of weights, {weights.elements:,} in int8"
    what += f", {weights.elements // 8:,} in bits" if dense else ""
    binary = "; or make it binary (QuantLinear, or QuantConv2D with a kernel as large as the map)" if dense else ""
    yield f"float_{'dense' if dense else 'conv'}", what, f"convert with --int8{binary}", _cost(program, node)


def zero_padding(program: Program, node: Node) -> Found:
    """SAME padding with zeros, which no bit can express: border pixels are corrected."""
    if not isinstance(node.op, LceBconv2d) or not node.op.window.zero_padded:
        return
    step = _step(program, node)
    if step is None:
        step = next((s for s in program.steps if s.node.inputs[:1] == node.inputs[:1] and node.inputs[0]), None)
    if step is None:
        return
    extra = instructions_of(program, step) - _one_padded_cost(program, step)
    what = "SAME padding with zeros: LCE has no packed output for it, and the border is corrected pixel by pixel"
    yield (
        "zero_padding", what, "pad with ones (pad_values=1 in Larq, pad_value=1 in onebit)", {"instructions": extra}
    )  # fmt: skip


def _one_padded_cost(program: Program, step: Step) -> int:
    node = step.node
    window = getattr(node.op, "window", None)
    if window is None:
        return instructions_of(program, step)
    padded = replace(node, op=replace(node.op, window=replace(window, pad_value=1)))  # type: ignore[type-var]
    view = View.of(program.graph, node)
    one_padded = View(padded, view.inputs, view.outputs)
    return round(select_kernel(one_padded, program.target).cost(one_padded))


def dead_sign(program: Program, node: Node) -> Found:
    """A sign that is the same for every input."""
    graph = program.source
    if isinstance(node.op, LceQuantize):
        producer = graph.producer(node.inputs[0])
        activation = getattr(producer.op, "activation", Activation.NONE) if producer is not None else Activation.NONE
        relu = activation in (Activation.RELU, Activation.RELU6)
        if producer is None or not (isinstance(producer.op, Relu | Relu6) or relu):
            return
        if isinstance(producer.op, LceBconv2d):
            return  # its activation comes before multiplier and bias
        what = f"the sign of a ReLU ({producer.op.name}) is +1 for every input: all in front of it computes nothing"
        yield "dead_sign", what, DEAD_FIX, _cost(program, producer, ram=producer.output)
    elif isinstance(node.op, LceBconv2d) and graph.tensors[node.output].dtype is DType.BITS:
        constant = _constant_channels(graph, node)
        if constant.all():
            what = "every output bit is the same for every input: a ReLU, or a bias beyond every sum, precedes the sign"
            yield "dead_sign", what, DEAD_FIX, _cost(program, node)
        elif constant.mean() >= DEAD_SHARE:
            what = f"{constant.sum()} of {len(constant)} channels give the same bit for every input"
            fix = "train with a larger learning rate for batch norm, or use fewer channels"
            yield "dead_channels", what, fix, _cost(program, node)


DEAD_FIX = "remove the ReLU between batch norm and the next binary layer: the sign is the activation"

DEAD_SHARE = 0.25
"""Share of constant channels from which on a layer is worth a look."""


def _constant_channels(graph: Graph, node: Node) -> Array:
    """bool [O]: channels whose threshold lies outside all accumulators."""
    view = View.of(graph, node)
    x = accumulator_values(view)
    doubled = 2 * view.input(4).constant().astype(np.int64)
    return np.asarray((doubled >= x[-1]) | (doubled < x[0]))


def multi_bit(program: Program, node: Node) -> Found:
    """Weights of a few levels, or activations rounded to some: stored and computed as if they had 8 bits or 32."""
    graph = program.source
    if isinstance(node.op, Round):
        what = "rounds activations to a few levels, which the code computes as numbers"
        yield "multi_bit", what, "use ste_sign or approx_sign activations", _cost(program, node)
    if not isinstance(node.op, LINEAR) or node not in program.graph.nodes:
        return
    weights = graph.tensors[node.inputs[1] or ""]
    levels = _levels(np.moveaxis(weights.constant(), node.op.channel_axis, 0))
    if levels is None or node.inputs[0] in graph.inputs:
        return  # real-valued, or the first layer, whose input is no bit
    what = f"weights of {levels} levels per channel are stored as {weights.dtype.value}: {weights.nbytes:,} bytes"
    yield "multi_bit", what, "use a binary quantizer (ste_sign) for weights and input", _cost(program, node)


def _levels(rows: Array) -> int | None:
    """The largest number of values in a row, None where it is more than a few bits express."""
    counts = [len(np.unique(row)) for row in rows.reshape(len(rows), -1)]
    per_row = rows[0].size
    most = max(counts)
    return most if most <= 2 * FEW_LEVELS and per_row >= 4 * most else None


def unpacked_signs(program: Program, node: Node) -> Found:
    """Bits that are turned into numbers for a layer that cannot read bits."""
    if not isinstance(node.op, LceDequantize) or _step(program, node) is None:
        return
    readers = ", ".join(dict.fromkeys(n.op.name for n in program.source.consumers(node.output))) or "the model's output"
    what = f"signs become {program.source.tensors[node.output].dtype.value} for {readers}"
    fix = "make what reads them binary (dense layers as QuantConv2D with a kernel as large as the map)"
    yield "unpacked_signs", what, fix, _cost(program, node, ram=node.output)


def float_island(program: Program, node: Node) -> Found:
    """An operator that computes in float in an int8 model."""
    if not isinstance(node.op, Dequantize) or node.output in program.source.outputs:
        return
    readers = program.source.consumers(node.output)
    names = ", ".join(dict.fromkeys(n.op.name for n in readers))
    what = f"{names} computes in float32 in an int8 model, between DEQUANTIZE and QUANTIZE"
    cost = _cost(program, node, ram=node.output)
    cost["instructions"] += sum(_cost(program, reader)["instructions"] for reader in readers)
    yield "float_island", what, f"replace {names} by an operator with int8 form (docs/supported-ops.md)", cost


RULES: tuple[Callable[[Program, Node], Found], ...] = (
    surviving_sign,
    dead_sign,
    zero_padding,
    float_layer,
    multi_bit,
    unpacked_signs,
    float_island,
)
