"""Move the sign in front of a join, so that only packed bits are joined."""

from __future__ import annotations

from onebit.core.bits import WORD_BITS
from onebit.core.graph import DType, Graph, Node, Tensor
from onebit.core.ops import Concatenation, LceQuantize
from onebit.core.passes.naming import unique_name
from onebit.core.passes.pipeline import rewrite_all


def sign_before_join(graph: Graph) -> Graph:
    """``LceQuantize(CONCATENATION(a, b))`` becomes ``CONCATENATION(LceQuantize(a), LceQuantize(b))``.

    Only where nothing else reads the join, all its parts are computed, and, along the channels, all but the last have a
    multiple of 32 of them: then the packed words of the parts are those of the join. Exact: a sign looks at one element
    (int8 parts of a join have one zero point). A thirty-second of the bytes is copied, and a convolution in front of a
    sign can give bits.
    """
    return rewrite_all(graph, _rewrite_one)


def _rewrite_one(graph: Graph) -> Graph | None:
    for sign in graph.nodes:
        join = graph.producer(sign.inputs[0])
        if not isinstance(sign.op, LceQuantize) or join is None or not isinstance(join.op, Concatenation):
            continue
        parts = [graph.tensors[name] for name in join.inputs if name is not None]
        along_channels = join.op.axis in (-1, len(parts[0].shape) - 1)
        whole = not along_channels or all(part.shape[-1] % WORD_BITS == 0 for part in parts[:-1])
        if not whole or any(part.is_constant for part in parts) or graph.sole_consumer(join.output) is not sign:
            continue
        signs: dict[str, Tensor] = {}
        for part in parts:
            if part.name not in signs:
                taken = {*graph.tensors, *(tensor.name for tensor in signs.values())}
                signs[part.name] = Tensor(unique_name(taken, f"{part.name}/sign"), part.shape, DType.BITS)
        nodes = [Node(LceQuantize(), (name,), (tensor.name,)) for name, tensor in signs.items()]
        joined = Node(join.op, tuple(signs[part.name].name for part in parts), sign.outputs)
        return graph.rewrite((join, sign), (*nodes, joined), signs.values())
    return None
