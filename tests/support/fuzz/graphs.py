"""The hypothesis strategy for whole models: an input, a few operators, branches that are joined again or not."""

from __future__ import annotations

from math import prod

import numpy as np
from hypothesis import strategies as st

import support.fuzz.movements  # noqa: F401  fills the moves
from onebit.core import Graph, Tensor
from onebit.core.graph import Array
from onebit.core.ops import OPS
from support.fuzz.growth import BITS, BOOL, F32, I8, MAX_ELEMENTS, Draw, Growth
from support.fuzz.moves import MOVES

#: operators that a flatbuffer can hold
NAMES = tuple(sorted(name for name, op in OPS.items() if not op.internal))
MOST_NODES = 12
SAMPLES = 4


@st.composite
def graphs(draw: Draw, wanted: str) -> Graph:
    """A legal graph of a dozen operators, the operator `wanted` among them wherever it can be."""
    g = Growth(draw)
    # hypothesis likes first options; which operator is the first differs from graph to graph
    order = [str(name) for name in g.rng.permutation(NAMES)]
    move = MOVES[wanted]
    rank = g.pick([4, 4, 4, 2, 3, 5] if 4 in move.ranks else sorted(move.ranks))
    shape = _input_shape(g, rank)
    dtype = g.pick((F32, I8))
    g.start(shape, dtype, g.quant() if dtype is I8 else None)
    todo = [wanted]
    if BITS in move.dtypes and MOVES["LceQuantize"].propose(g, g.tensor("input")):
        _step(g, g.tensor(g.values[-1]), todo, order)
    for _ in range(g.number(2, MOST_NODES + 4)):
        x = g.tensor(g.values[-1] if g.chance(75) else g.pick(g.values))
        if x.dtype is BITS and g.chance(50):
            binary_block(g, x)
        else:
            _step(g, x, todo, order)
        if len(g.nodes) >= MOST_NODES:
            break
    if not g.nodes:
        _finish(g)
    return g.graph()


def binary_block(g: Growth, x: Tensor) -> None:
    """A binary convolution and what training puts behind it, in any order: these are the chains that passes rewrite."""
    if not (MOVES["LceBconv2d"].accepts(x) and MOVES["LceBconv2d"].propose(g, x)):
        return
    for _ in range(g.number(0, 4)):
        name = g.pick(("MUL", "ADD", "RELU", "PRELU", "MAX_POOL_2D", "RELU_N1_TO_1", "LEAKY_RELU"))
        y = g.tensor(g.values[-1])
        if name in ("MUL", "ADD") and y.dtype is F32:
            per_channel = g.operand(y.shape[-1:], F32)
            g.add(OPS[name](g.activation()), y.name, per_channel, dtype=F32)  # type: ignore[call-arg]
        elif MOVES[name].accepts(y):
            MOVES[name].propose(g, y)
    last = g.tensor(g.values[-1])
    if last.dtype is not BITS and g.chance(70):
        MOVES["LceQuantize"].propose(g, last)


def _input_shape(g: Growth, rank: int) -> tuple[int, ...]:
    shape = [g.channels()]
    for _ in range(rank - 2):
        shape.append(1 if g.chance(15) else g.number(1, min(9, MAX_ELEMENTS // prod(shape))))
    return (1, *reversed(shape))


def _step(g: Growth, x: Tensor, todo: list[str], order: list[str]) -> None:
    """One operator that reads `x`: the one that is wanted, if it can, else any that can."""
    if todo and MOVES[todo[0]].accepts(x) and MOVES[todo[0]].propose(g, x):
        todo.clear()
        return
    able = [name for name in order if MOVES[name].accepts(x)]
    MOVES[g.pick(able)].propose(g, x)


def _finish(g: Growth) -> None:
    """What every input can do: a graph needs an operator."""
    grown = MOVES["LceQuantize"].propose(g, g.tensor("input"))
    assert grown


def samples(graph: Graph, count: int = SAMPLES) -> Array:
    """Seeded inputs in stored form: int8 over all values, floats normal with zeros and halves among them."""
    tensor, rng = graph.input, np.random.default_rng(1)
    shape = (count, *tensor.stored_shape[1:])
    if tensor.dtype is I8:
        return np.asarray(rng.integers(-128, 128, shape), np.int8)
    if tensor.dtype is BOOL:
        return rng.random(shape) < 0.5
    x = rng.normal(0, 2, shape).astype(np.float32)
    special = np.array([0.0, -0.0, 0.5, -0.5, 1.0, 6.0, -1.0], np.float32)
    return np.where(rng.random(shape) < 0.05, special[rng.integers(0, len(special), shape)], x)
