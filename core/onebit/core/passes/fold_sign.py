"""Batch norm, pooling and sign behind a binary convolution become integer comparisons on packed bits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from onebit.core.bits import pack, unpack
from onebit.core.graph import Array, DType, Graph, Node, Tensor
from onebit.core.ops import Activation, LceBconv2d, LceBMaxPool2d, MaxPool2d, Op, PoolWindow, ReshapeBits, View
from onebit.core.passes.enumeration import Chain, sign_chains
from onebit.core.passes.naming import constant_tensor, fresh_name, unique_name
from onebit.core.passes.sign_table import SignTable, solve_signs, solve_thresholds

#: inputs of a node behind its activations by role; None is an absent input
Constants = Mapping[str, Array | None]


@dataclass(frozen=True, eq=False)
class BitsForm:
    """An operator with bits out: `flip` bool [O] are the filters to negate, `constants` its further inputs by role.

    int32 constants stay as they are, bool ones are packed.
    """

    op: Op
    flip: Array
    constants: Constants


#: a max pool on packed bits that takes minima in the channels given as bool [O], and its constants
PoolForm = Callable[[PoolWindow, Array], tuple[Op, Constants]]


def fold_sign_into_bconv(graph: Graph) -> Graph:
    """``LceBconv2d (float32 or int8) - ... - LceQuantize`` to ``LceBconv2d (bits) [- LceBMaxPool2d]``.

    Between them may stand whatever works channel by channel, and max pools. Applied where enumeration proves a single
    threshold per channel equal on every accumulator value. LCE has no form for SAME-zero padding, for a sign that falls
    as a pooled value rises, and for signs that are no single step: those are left to codegen.
    """
    return fold_chains(graph, _lce_form, _lce_pool)


def _lce_form(view: View, table: SignTable) -> BitsForm | None:
    op = view.node.op
    assert isinstance(op, LceBconv2d)
    solved = None if table.takes_minima else solve_thresholds(table)
    if solved is None:
        return None
    # p > floor(t / 2) is 2p > t
    thresholds = (solved.doubled // 2).astype(np.int32)
    constants: Constants = {"multiplier": None, "bias": None, "threshold": thresholds}
    return BitsForm(replace(op, activation=Activation.NONE), solved.flip, constants)


def _lce_pool(window: PoolWindow, _: Array) -> tuple[Op, Constants]:
    return LceBMaxPool2d(window), {}


def fold_chains(
    graph: Graph,
    choose: Callable[[View, SignTable], BitsForm | None],
    pool: PoolForm,
    handles: Callable[[LceBconv2d], bool] = lambda op: not op.window.zero_padded,
    *,
    reshape: bool = False,
) -> Graph:
    """Rewrite every sign chain whose convolution `handles` accepts to the form that `choose` finds for its signs.

    Chains share no nodes, so that each is solved once. A chain that ends in another shape needs `reshape`, because a
    flatbuffer cannot hold what then follows the signs.
    """
    for chain in tuple(sign_chains(graph)):
        assert isinstance(chain.bconv.op, LceBconv2d)
        if not handles(chain.bconv.op) or not _keeps_pixels(graph, chain, reshape):
            continue
        table = solve_signs(graph, chain)
        form = choose(View.of(graph, chain.bconv), table) if isinstance(table, SignTable) else None
        if form is not None:
            assert isinstance(table, SignTable)
            graph = _rewrite(graph, chain, form, [pool(*args) for args in _pools(chain, table)])
    return graph


def _pools(chain: Chain, table: SignTable) -> list[tuple[PoolWindow, Array]]:
    windows = [node.op.window for node in chain.pools if isinstance(node.op, MaxPool2d)]
    return list(zip(windows, table.falling, strict=True))


def _keeps_pixels(graph: Graph, chain: Chain, reshape: bool) -> bool:
    """Whether the reshapes of the chain can be left out, or replaced by one at its end."""
    shape = graph.tensors[chain.bconv.output].shape
    for node in chain.pools:
        if graph.tensors[node.inputs[0] or ""].shape != shape:
            return False
        shape = graph.tensors[node.output].shape
    return reshape or graph.tensors[chain.output].shape == shape


def _rewrite(graph: Graph, chain: Chain, form: BitsForm, pools: list[tuple[Op, Constants]]) -> Graph:
    filters = flipped_filters(graph, chain, form.flip)
    shapes = [graph.tensors[node.output].shape for node in (chain.bconv, *chain.pools)]
    steps = [(form.op, form.constants), *pools]
    if shapes[-1] != graph.tensors[chain.output].shape:
        steps.append((ReshapeBits(), {}))
        shapes.append(graph.tensors[chain.output].shape)
    taken = dict(graph.tensors)
    nodes: list[Node] = []
    new = [filters]
    inputs: tuple[str | None, ...] = (chain.bconv.inputs[0], filters.name)
    for (op, constants), shape in zip(steps, shapes, strict=True):
        is_last = len(nodes) == len(steps) - 1
        name = chain.output if is_last else unique_name(taken, f"{chain.output}/before_pool")
        made = {
            role: constant_tensor(taken, f"{chain.output}/{role}", data)
            for role, data in constants.items()
            if data is not None
        }
        names = tuple(made[role].name if role in made else None for role in constants)
        nodes.append(Node(op, (*inputs, *names), (name,)))
        new += [Tensor(name, shape, DType.BITS), *made.values()]
        taken |= {tensor.name: tensor for tensor in new}
        inputs = (name,)
    return graph.rewrite(chain.nodes, nodes, new)


def flipped_filters(graph: Graph, chain: Chain, flip: Array) -> Tensor:
    """The filter tensor with the channels in `flip` negated; the same tensor where there are none."""
    filters = graph.tensors[chain.bconv.inputs[1] or ""]
    if not flip.any():
        return filters
    negative = unpack(filters.constant(), filters.shape[3]) ^ flip[:, None, None, None]
    return replace(filters, name=fresh_name(graph, f"{chain.output}/filter"), data=pack(negative))
