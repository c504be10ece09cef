"""The candidates for sharing memory in a graph: what moves whole pieces, and what its kernel can write over."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np

from onebit.codegen.kernel import Call, Kernel, Layout, knows_pitch, stored_bytes
from onebit.codegen.planner import Lifetime
from onebit.codegen.sharing import Content, Memory, Origin, Sharing, Value, cut
from onebit.core.graph import Array, Graph, Node, Tensor
from onebit.core.ops import LceQuantize, Movement, View


@dataclass(frozen=True)
class Moved:
    """What a movement does with one of its inputs: `size` bytes from `source` go to `target`, both counted in bytes.

    `size` is 0 where they are no single run on both sides. If then the whole input goes pixel by pixel among the
    channels of a larger map, `gap` is the number of bytes there from the end of a pixel to the next, else 0.
    """

    name: str
    source: int = 0
    target: int = 0
    size: int = 0
    gap: int = 0


@dataclass(frozen=True)
class Within:
    """Where a value lies that is computed as channels of `whole`: its first byte, and the bytes between its pixels."""

    whole: str
    start: int
    gap: int

    def inside(self, outer: Within) -> Within:
        """The same in the memory of another map, in which `whole` lies."""
        return Within(outer.whole, outer.start + self.start, outer.gap + self.gap)


def moved_parts(view: View) -> tuple[Moved, ...]:
    """One entry for every input that a movement without fill, or an alias operator, moves; none for anything else."""
    op = view.node.op
    if op.alias:
        return (Moved(view.input(0).name, size=view.output.nbytes),)
    if not isinstance(op, Movement) or op.fill(view) is not None:
        return ()
    tensors = [view.input(i) for i in op.moved(view)]
    # never touched: the memory only gives addresses to views
    inputs = [np.empty(tensor.stored_shape, tensor.dtype.numpy) for tensor in tensors]
    output = np.empty(view.output.stored_shape, view.output.dtype.numpy)
    return tuple(
        _moved(tensor.name, x, source, output, target)
        for tensor, x, (target, source) in zip(tensors, inputs, op.parts(view, inputs, output), strict=True)
    )


def _moved(name: str, x: Array, source: Array, output: Array, target: Array) -> Moved:
    if not (source.flags.c_contiguous and target.flags.c_contiguous):
        gap = _gap(target) if source.shape == x.shape and source.strides == x.strides else 0
        return Moved(name, target=start_in(target, output), gap=gap)
    return Moved(name, start_in(source, x), start_in(target, output), source.nbytes)


def _gap(target: Array) -> int:
    """Bytes between pixels that lie in order and equally far apart; 0 for anything else."""
    loops = [(n, step) for n, step in zip(target.shape[:-1], target.strides[:-1], strict=True) if n > 1]
    regular = all(step == n * inner for (_, step), (n, inner) in pairwise(loops))
    if not loops or not regular or target.strides[-1] != target.itemsize:
        return 0
    return max(0, loops[-1][1] - target.shape[-1] * target.itemsize)


def start_in(part: Array, whole: Array) -> int:
    """Bytes from the first element of `whole` to that of `part`, a view of it."""
    return int(part.__array_interface__["data"][0] - whole.__array_interface__["data"][0])


def joinable(graph: Graph, kernels: Mapping[str, Kernel], calls: Mapping[str, Sequence[Call]]) -> dict[str, Within]:
    """The values that can be computed as channels of a join: all that read or write them take pixels that lie apart.

    A join can itself lie in another one, as in dense blocks.
    """
    found: dict[str, Within] = {}
    for node in graph.nodes:
        pixel = _pixel_bytes(graph.tensors[node.output])
        for part in moved_parts(View.of(graph, node)):
            channels = part.gap and part.gap + _pixel_bytes(graph.tensors[part.name]) == pixel
            if channels and part.name not in found and _can_lie_apart(graph, kernels, calls, part.name):
                found[part.name] = Within(node.output, part.target, part.gap)
    return found


def resolved(within: Mapping[str, Within]) -> dict[str, Within]:
    """The places of values in maps that lie in no other."""

    def outermost(place: Within) -> Within:
        return outermost(place.inside(within[place.whole])) if place.whole in within else place

    return {name: outermost(place) for name, place in within.items()}


def _pixel_bytes(tensor: Tensor) -> int:
    return tensor.stored_shape[-1] * tensor.dtype.numpy.itemsize


def _can_lie_apart(graph: Graph, kernels: Mapping[str, Kernel], calls: Mapping[str, Sequence[Call]], name: str) -> bool:
    """Whether the pixels of a value may lie apart: not where a run of its bytes is taken without a copy."""
    producer = graph.producer(name)
    if producer is None or name in graph.outputs:
        return False
    view = View.of(graph, producer)
    writes = kernels[name].writes_pitch(view) or any(knows_pitch(arg) for call in calls[name] for arg in call.args)
    if not writes or any(part.size for part in moved_parts(view)):
        return False
    for reader in graph.consumers(name):
        view = View.of(graph, reader)
        positions = {i for i, other in enumerate(reader.inputs) if other == name}
        if not positions <= set(kernels[reader.output].reads_pitch(view)):
            return False
        if any(part.size for part in moved_parts(view) if part.name == name):
            return False
    return True


def signs_taken_with_values(
    graph: Graph, kernels: Mapping[str, Kernel], layouts: Mapping[str, Layout], within: Mapping[str, Within]
) -> dict[str, str]:
    """The signs that the kernel which computes their value can write as well, each with the name of that value."""
    found: dict[str, str] = {}
    for node in graph.nodes:
        value, producer = node.inputs[0], graph.producer(node.inputs[0])
        if not isinstance(node.op, LceQuantize) or value is None or producer is None or value in found.values():
            continue
        kernel = kernels[value].with_signs
        packed = layouts[node.output] is Layout.CHANNEL_PACKED and node.output not in within
        if kernel is not None and packed and kernel.supports(View.of(graph, producer)):
            found[node.output] = value
    return found


PlaceT = TypeVar("PlaceT")


def choose(candidates: Mapping[str, PlaceT], bound: Callable[[Mapping[str, PlaceT]], int]) -> dict[str, PlaceT]:
    """The candidates that are worth it: all that do not raise the least arena, which `bound` tells.

    A copy, or a second reading, is always saved, but a map that is computed in parts lives from the first on, and signs
    that are taken with their value meet its operands. Where all together need more, halves are tried, down to single
    values, those computed last first.
    """
    chosen: dict[str, PlaceT] = {}
    if not candidates:
        return chosen
    least = bound(chosen)
    pending = [list(candidates.items())[::-1]]
    while pending:
        some = pending.pop()
        together = {**chosen, **dict(some)}
        needed = bound(together)
        if needed <= least:
            chosen, least = together, needed
        elif len(some) > 1:
            half = len(some) // 2
            pending += [some[half:], some[:half]]
    return chosen


def share_memory(
    graph: Graph,
    kernels: Mapping[str, Kernel],
    layouts: Mapping[str, Layout],
    within: Mapping[str, Within],
    signs: Mapping[str, str],
) -> Sharing:
    """Decide for every tensor whose memory it shares. A value lives from the node that computes it to its last reader.

    Values that lie `within` others have no memory of their own; those live from the first node that computes some of
    their channels to the last that reads some. `signs` are computed together with the value they name. Pieces come
    before results over operands: they save the copy, too.
    """
    sizes = {name: stored_bytes(graph.tensors[name], layout) for name, layout in layouts.items()}
    parts = {node.output: moved_parts(View.of(graph, node)) for node in graph.nodes}
    sharing = Sharing(_values(graph, sizes, parts, within, signs))
    for node in graph.nodes:
        if is_piece(parts[node.output], sizes[node.output]):
            (piece,) = parts[node.output]
            sharing.take_piece(node.output, piece.name, piece.source)
            continue
        for part in parts[node.output]:
            if part.size == sizes.get(part.name):
                sharing.put(part.name, node.output, part.target)
    for node in graph.nodes:
        if not parts[node.output] and node.output not in within and node.output not in signs:
            _write_over_an_operand(graph, node, kernels[node.output], sharing)
    return sharing


def is_piece(parts: Sequence[Moved], size: int) -> bool:
    """Whether a node only takes one piece out of its input."""
    return len(parts) == 1 and parts[0].size == size


def stays_in_place(node: Node, part: Moved, sharing: Sharing) -> bool:
    """Whether a part that a movement would copy already lies where it belongs; a constant lies in flash."""
    return (
        part.size > 0
        and part.name in sharing.values
        and sharing.lies_in(node.output, part.name, part.source - part.target)
    )


def _write_over_an_operand(graph: Graph, node: Node, kernel: Kernel, sharing: Sharing) -> None:
    positions = kernel.in_place(View.of(graph, node))
    for position in positions:
        name = node.inputs[position]
        # an operand that also stands where the kernel needs it whole stays
        everywhere = {i for i, other in enumerate(node.inputs) if other == name} <= set(positions)
        if name in sharing.values and everywhere and sharing.write_over(name, node.output):
            return


def _values(
    graph: Graph,
    sizes: Mapping[str, int],
    parts: Mapping[str, Sequence[Moved]],
    within: Mapping[str, Within],
    signs: Mapping[str, str],
) -> list[Value]:
    end = len(graph.nodes)
    times = {node.output: t for t, node in enumerate(graph.nodes)}
    times |= {name: times[value] for name, value in signs.items()}
    last: dict[str, int] = {}
    for node in graph.nodes:
        last |= {name: max(last.get(name, 0), times[node.output]) for name in node.inputs if name is not None}
    last |= dict.fromkeys(graph.outputs, end)
    first = dict(times)
    for name, place in resolved(within).items():
        first[place.whole] = min(first[place.whole], times[name])
        last[place.whole] = max(last.get(place.whole, times[place.whole]), last[name])
    source = graph.input
    content: dict[str, Content] = {
        tensor.name: (Origin(tensor.name, 0, tensor.nbytes),) for tensor in graph.tensors.values() if tensor.is_constant
    }
    content[source.name] = (Origin(source.name, 0, sizes[source.name]),)
    input_life = Lifetime(source.name, sizes[source.name], -1, end)
    values = [Value(input_life, source.dtype, Memory.INPUT, content[source.name], written=False)]
    for name, t in first.items():
        size = sizes[name]
        content[name] = _content(name, size, parts[name], content)
        memory = Memory.OUTPUT if name in graph.outputs else Memory.ARENA
        if name in within:
            continue
        written = not is_piece(parts[name], size)
        life = Lifetime(name, size, t, last.get(name, t))
        values.append(Value(life, graph.tensors[name].dtype, memory, content[name], written))
    return values


def _content(name: str, size: int, parts: Sequence[Moved], content: Mapping[str, Content]) -> Content:
    """What a movement puts together, where its parts are whole runs that cover the output; else something new."""
    ordered = sorted(parts, key=lambda part: part.target)
    if not ordered or sum(part.size for part in ordered) != size or not all(part.size for part in ordered):
        return (Origin(name, 0, size),)
    return tuple(o for part in ordered for o in cut(content[part.name], part.source, part.source + part.size))
