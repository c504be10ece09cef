"""What every pass owes: a tensor that keeps its name keeps its value."""

from __future__ import annotations

from itertools import product

import numpy as np

from onebit.core import Graph, evaluate
from onebit.core.graph import Array
from onebit.core.passes import Pass, PassResult, run_passes
from onebit.core.passes.enumeration import Chain, sign_chains


def names(graph: Graph) -> list[str]:
    """The operators, without the prefix of onebit's own."""
    return [node.op.name.removeprefix("onebit.") for node in graph.nodes]


def all_signs(channels: int) -> Array:
    """Every pattern of signs of `channels` channels, as the pixels of one float image ``[1, H, W, channels]``."""
    patterns = np.array(list(product((1.0, -1.0), repeat=channels)), np.float32)
    height = 1 << (channels // 2)
    return patterns.reshape(1, height, -1, channels)


def chain_of(graph: Graph) -> Chain:
    """The only chain of the graph that ends in a sign."""
    (chain,) = sign_chains(graph)
    return chain


def run_pass(step: Pass, graph: Graph, x: Array) -> PassResult:
    """The pass applied (the spec checked), after comparing all values of all tensors that kept their names."""
    result = run_passes(graph, [step])
    assert result.graph.outputs == graph.outputs
    assert set(result.eliminated) == {t.name for t in graph.activations()} - {
        t.name for t in result.graph.activations()
    }
    assert set(result.eliminated.values()) <= {step.__name__}
    kept = [t.name for t in graph.activations() if t.name not in result.eliminated]
    before, after = evaluate(graph, x, kept), evaluate(result.graph, x, kept)
    for name in kept:
        assert result.graph.tensors[name].dtype is graph.tensors[name].dtype
        np.testing.assert_array_equal(after[name], before[name], err_msg=name)
    return result
