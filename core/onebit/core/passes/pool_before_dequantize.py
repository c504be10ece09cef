"""Max pools of +1/-1 work on packed bits: in front of the LceDequantize, not behind it."""

from __future__ import annotations

from onebit.core.graph import DType, Graph, Node, Tensor
from onebit.core.ops import Activation, LceBMaxPool2d, LceDequantize, MaxPool2d
from onebit.core.passes.naming import fresh_name
from onebit.core.passes.pipeline import rewrite_all


def pool_before_dequantize(graph: Graph) -> Graph:
    """``MAX_POOL_2D(LceDequantize(x))`` becomes ``LceDequantize(LceBMaxPool2d(x))``.

    Two levels, the higher one for +1, keep their order; so this is exact, in float32 and in int8. Only where nothing
    else reads the LceDequantize and the pool has no fused activation.
    """
    return rewrite_all(graph, _rewrite_one)


def _rewrite_one(graph: Graph) -> Graph | None:
    for pool in graph.nodes:
        dequantize = graph.producer(pool.inputs[0])
        if not isinstance(pool.op, MaxPool2d) or pool.op.activation is not Activation.NONE:
            continue
        if dequantize is None or not isinstance(dequantize.op, LceDequantize):
            continue
        if graph.sole_consumer(dequantize.output) is not pool:
            continue
        bits = Tensor(fresh_name(graph, f"{pool.output}/bits"), graph.tensors[pool.output].shape, DType.BITS)
        return graph.rewrite(
            remove=(dequantize, pool),
            insert=(
                Node(LceBMaxPool2d(pool.op.window), dequantize.inputs, (bits.name,)),
                Node(LceDequantize(), (bits.name,), pool.outputs),
            ),
            tensors=(bits,),
        )
    return None
