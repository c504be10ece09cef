"""Move the sign in front of a max pool, so that the pool works on packed bits.

The sign is monotone and a maximum is one of its operands: sign(max(a, b)) == max(sign(a), sign(b)), exactly, in float32
and, compared with the zero point, in int8. The same holds for windows clipped to the image. The pool then is an AND of
words, and a convolution in front of it can give bits.
"""

from __future__ import annotations

from onebit.core.graph import DType, Graph, Node, Tensor
from onebit.core.ops import Activation, LceBMaxPool2d, LceQuantize, MaxPool2d
from onebit.core.passes.naming import fresh_name
from onebit.core.passes.pipeline import rewrite_all


def sign_before_pool(graph: Graph) -> Graph:
    """``LceQuantize(MAX_POOL_2D(x))`` becomes ``LceBMaxPool2d(LceQuantize(x))``.

    Only where nothing else reads the pool and it has no fused activation. The result keeps its name (and value); the
    pool's output disappears. No rounding is involved.
    """
    return rewrite_all(graph, _rewrite_one)


def _rewrite_one(graph: Graph) -> Graph | None:
    for sign in graph.nodes:
        if not isinstance(sign.op, LceQuantize) or sign.inputs[0] is None:
            continue
        pool = graph.producer(sign.inputs[0])
        if pool is None or not isinstance(pool.op, MaxPool2d) or graph.sole_consumer(pool.output) is not sign:
            continue
        if pool.op.activation is not Activation.NONE or pool.inputs[0] is None:
            continue
        x = graph.tensors[pool.inputs[0]]
        signs = Tensor(fresh_name(graph, f"{x.name}/sign"), x.shape, DType.BITS)
        return graph.rewrite(
            remove=(pool, sign),
            insert=(
                Node(LceQuantize(), (x.name,), (signs.name,)),
                Node(LceBMaxPool2d(pool.op.window), (signs.name,), (sign.output,)),
            ),
            tensors=(signs,),
        )
    return None
