"""int8 outputs of binary convolutions without float at run time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from onebit.codegen.ops import BinaryConvScale, BinaryConvSegments, BinaryConvTable
from onebit.codegen.passes.segments import solve_segments
from onebit.core.graph import Array, DType, Graph, Node, Tensor
from onebit.core.ops import Activation, LceBconv2d, MaxPool2d, Op, Quantize, Reshape, View
from onebit.core.passes.enumeration import Chain, Refusal, Table, enumerate_chain, find_chain
from onebit.core.passes.naming import constant_tensor, unique_name

#: bytes up to which a lookup table is taken for its speed, though segments are smaller
SMALL_TABLE_BYTES = 1024
#: bytes of constants per channel above which operators behind an int8 tensor are left out of the output stage
MAX_BYTES_PER_CHANNEL = 64
#: distances from the nearest multiplier, in the order in which they are tried
_NEIGHBOURS = (0, 1, -1, 2, -2)


@dataclass(frozen=True, eq=False)
class Int8Table:
    """`x` int64 [X] are accumulators, `q` int8 [X, O] the outputs, `real` float64 [X, O] what they are roundings of."""

    x: Array
    q: Array
    real: Array


def integer_output_stage(graph: Graph) -> Graph:
    """``LceBconv2d (int8)`` or ``LceBconv2d - ... - QUANTIZE - ...`` to one of three integer output stages.

    LCE computes round(f32(f32(x) * m) + b) in float32, and operators behind it may go on in float32 and int8. For
    every channel a fixed-point multiplier is derived and the offsets that reproduce *all* accumulator values are
    solved for (`BinaryConvScale`). If some channel has none, a small table of the values takes over
    (`BinaryConvTable`), or straight segments, which every function has (`BinaryConvSegments`). Max pools whose result
    the int8 value follows upwards move behind it.
    """
    for node in graph.nodes:
        whole = find_chain(graph, node)
        found = list(_stages(graph, whole)) if whole is not None else []
        if found:
            small = [stage for stage in found if stage.nbytes <= MAX_BYTES_PER_CHANNEL * stage.channels]
            graph = _rewrite(graph, (small or found[-1:])[0])
    return graph


@dataclass(frozen=True, eq=False)
class _Stage:
    """A chain that ends in int8, the operator that replaces it but for its pools, and its constants by role."""

    chain: Chain
    op: Op
    channels: int
    constants: dict[str, Array]

    @property
    def nbytes(self) -> int:
        return sum(data.nbytes for data in self.constants.values())


def _stages(graph: Graph, chain: Chain) -> Iterator[_Stage]:
    """For the chain up to each operator with int8 out, the longest first, where it is a function of the accumulator."""
    assert isinstance(chain.bconv.op, LceBconv2d)
    for node in reversed(chain.nodes):
        moves = node.op.alias or isinstance(node.op, MaxPool2d)
        if graph.tensors[node.output].dtype is DType.INT8 and not moves:
            part = chain.until(node)
            table = int8_table(graph, part)
            if table is not None:
                yield _Stage(part, *cheapest_stage(chain.bconv.op, View.of(graph, chain.bconv), table))


@np.errstate(over="ignore", invalid="ignore")  # infinities and NaN are values like others
def int8_table(graph: Graph, chain: Chain) -> Int8Table | None:
    """The function of a chain that ends in int8, pools behind it; None where it is no function of the accumulator."""
    table = enumerate_chain(graph, chain)
    if isinstance(table, Refusal) or not _pools_may_follow(graph, chain, table):
        return None
    q = table.values[-1]
    end = chain.nodes[-1]
    real = q.astype(np.float64)
    if isinstance(end.op, Quantize) and len(table.values) > 1 and table.values[-2].dtype == np.float32:
        quant = graph.tensors[end.output].quant
        real = table.values[-2].astype(np.float64) / quant.scale + quant.zero_point
    elif end is chain.bconv:
        assert isinstance(end.op, LceBconv2d)
        view = View.of(graph, end)
        real = end.op.output_transform(view).real(np.broadcast_to(table.x[:, None], q.shape)).astype(np.float64)
    return Int8Table(table.x, q, real)


def _pools_may_follow(graph: Graph, chain: Chain, table: Table) -> bool:
    """Whether the int8 value never falls as a pooled value rises, and the pools see the convolution's pixels."""
    shape, q = graph.tensors[chain.bconv.output].shape, table.values[-1]
    for pool in chain.pools:
        pooled = table.entering(chain, pool)
        order = pooled.argsort(axis=0, kind="stable")
        ordered = np.take_along_axis(q, order, axis=0)
        if (
            np.isnan(pooled).any()
            or (ordered[1:] < ordered[:-1]).any()
            or graph.tensors[pool.inputs[0] or ""].shape != shape
        ):
            return False
        shape = graph.tensors[pool.output].shape
    return True


def _rewrite(graph: Graph, stage: _Stage) -> Graph:
    chain, taken = stage.chain, dict(graph.tensors)
    result = graph.tensors[chain.output]
    new: list[Tensor] = []
    for role, data in stage.constants.items():
        constant = constant_tensor(taken, f"{chain.output}/{role}", data)
        new.append(replace(constant, quantization=result.quantization) if constant.dtype is DType.INT8 else constant)
        taken[constant.name] = constant
    steps: list[tuple[Op, tuple[int, ...]]] = [(stage.op, graph.tensors[chain.bconv.output].shape)]
    for pool in chain.pools:
        assert isinstance(pool.op, MaxPool2d)
        steps.append((MaxPool2d(pool.op.window, Activation.NONE), graph.tensors[pool.output].shape))
    if steps[-1][1] != result.shape:
        steps.append((Reshape(result.shape), result.shape))
    nodes: list[Node] = []
    inputs = (*chain.bconv.inputs[:2], *(tensor.name for tensor in new))
    for i, (step, shape) in enumerate(steps):
        name = chain.output if i == len(steps) - 1 else unique_name(taken, f"{chain.output}/step")
        tensor = Tensor(name, shape, DType.INT8, result.quantization)
        new.append(tensor)
        taken[name] = tensor
        nodes.append(Node(step, inputs, (name,)))
        inputs = (name,)
    return graph.rewrite(chain.nodes, nodes, new)


def cheapest_stage(op: LceBconv2d, view: View, table: Int8Table) -> tuple[Op, int, dict[str, Array]]:
    """The cheapest output stage that equals the table, the number of channels, and the stage's constants by role."""
    outs = table.q.shape[1]
    ends = table.real[[0, -1]]
    slope = (ends[1] - ends[0]) / (table.x[-1] - table.x[0])
    if view.output.dtype is DType.INT8:
        slope = op.output_transform(view).multiplier
    scaled = solve_scale(table.x, table.q, slope) if np.isfinite(slope).all() else None
    if scaled is not None:
        shift, multiplier, offset = scaled
        return BinaryConvScale(op.window, shift), outs, {"multiplier": multiplier, "offset": offset}
    channels = [solve_segments(table.x, q, real) for q, real in zip(table.q.T, table.real.T, strict=True)]
    first = np.cumsum([0, *(len(channel) for channel in channels[:-1])]).astype(np.int32)
    segments = np.array([(s.end, s.multiplier, s.offset) for c in channels for s in c], np.int32)
    if table.q.nbytes <= max(SMALL_TABLE_BYTES, first.nbytes + segments.nbytes):
        return BinaryConvTable(op.window), outs, {"table": np.ascontiguousarray(table.q.T)}
    return BinaryConvSegments(op.window), outs, {"first": first, "segments": segments}


def solve_scale(x: Array, wanted: Array, slope: Array) -> tuple[int, Array, Array] | None:
    """(shift, multiplier int32 [O], offset int32 [O]) with clamp((x*multiplier + offset) >> shift) == wanted, or None.

    `x` int64 [X], `wanted` int8 [X, O], `slope` the real multiplier [O]. For a multiplier M and shift S a value q
    inside the int8 range demands q*2^S <= x*M + offset < (q+1)*2^S; the saturated values demand one side only. The
    offset is the middle of the intersection over all x, so that every x is proven by construction. Where the nearest
    M leaves no offset, its neighbours are tried: the tilt of one rounding may cross a step that another does not.
    """
    largest = float(np.abs(slope * x[-1]).max()) + 256.0
    shift = min(24, 30 - int(np.ceil(np.log2(largest))))
    if shift < 1:
        return None
    nearest = np.rint(slope.astype(np.float64) * 2.0**shift).astype(np.int64)
    q = wanted.astype(np.int64)
    multiplier, offset = np.zeros_like(nearest), np.zeros_like(nearest)
    open_channels = np.ones(len(nearest), np.bool_)
    for step in _NEIGHBOURS:
        found, candidate = _solve_offset(x, q, nearest + step, shift)
        chosen = open_channels & found
        multiplier, offset = np.where(chosen, nearest + step, multiplier), np.where(chosen, candidate, offset)
        open_channels &= ~found
        if not open_channels.any():
            break
    product = x[:, None] * multiplier
    total = product + offset
    if open_channels.any() or max(np.abs(v).max() for v in (product, total, offset)) >= 2**31:
        return None
    exact = np.clip(total >> shift, -128, 127) == q
    return (shift, multiplier.astype(np.int32), offset.astype(np.int32)) if exact.all() else None


def _solve_offset(x: Array, q: Array, multiplier: Array, shift: int) -> tuple[Array, Array]:
    """(whether there is an offset, the offset) per channel for the given multipliers."""
    product = x[:, None] * multiplier
    unbounded = np.int64(2) ** 40
    lower = np.where(q == -128, -unbounded, (q << shift) - product).max(axis=0)
    upper = np.where(q == 127, unbounded, ((q + 1) << shift) - 1 - product).min(axis=0)
    # one-sided where every value saturates: stay next to the finite side
    offset = np.where(lower <= -unbounded, upper, np.where(upper >= unbounded, lower, (lower + upper) // 2))
    return lower <= upper, offset
