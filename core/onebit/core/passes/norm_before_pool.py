"""Move a batch norm (MUL and ADD per channel) from behind a max pool to in front of it. For conversion only.

Multiplying by g and adding c, each rounded, never falls as its input rises if g >= 0, and a maximum is one of its
operands: f(max(a, b)) == max(f(a), f(b)) exactly. In front of the pool the batch norm can be folded into a convolution.
A negative g would need a minimum there; the batch norm then stays where it is.
"""

from __future__ import annotations

from onebit.core.graph import Graph, Node, Tensor
from onebit.core.ops import Activation, Add, MaxPool2d, Mul
from onebit.core.passes.naming import fresh_name
from onebit.core.passes.pipeline import rewrite_all


def norm_before_pool(graph: Graph) -> Graph:
    """``MUL, ADD`` by constants per channel and ``MAX_POOL_2D`` change places, one operator at a time.

    Only where nothing else reads the pool, and where no factor is negative (or the pool only picks pixels). The result
    keeps its name and value; the pool's output disappears. No rounding changes.
    """
    return rewrite_all(graph, _rewrite_one)


def _rewrite_one(graph: Graph) -> Graph | None:
    for pool in graph.nodes:
        if not isinstance(pool.op, MaxPool2d) or pool.op.activation is not Activation.NONE:
            continue
        reader, source = graph.sole_consumer(pool.output), graph.tensor(pool.inputs[0])
        if reader is None or source is None or not _is_per_channel(graph, pool, reader):
            continue
        between = Tensor(fresh_name(graph, f"{reader.output}/before_pool"), source.shape, source.dtype)
        return graph.rewrite(
            remove=(pool, reader),
            insert=(
                Node(reader.op, (source.name, reader.inputs[1]), (between.name,)),
                Node(pool.op, (between.name,), reader.outputs),
            ),
            tensors=(between,),
        )
    return None


def _is_per_channel(graph: Graph, pool: Node, reader: Node) -> bool:
    if not isinstance(reader.op, Mul | Add) or reader.inputs[0] != pool.output:
        return False
    operand, x = graph.tensor(reader.inputs[1]), graph.tensors[pool.output]
    if operand is None or operand.data is None or x.quantization is not None:
        return False
    if operand.elements not in (1, x.shape[-1]) or graph.tensors[reader.output].shape != x.shape:
        return False
    assert isinstance(pool.op, MaxPool2d)
    return isinstance(reader.op, Add) or pool.op.window.size == (1, 1) or bool((operand.data >= 0).all())
