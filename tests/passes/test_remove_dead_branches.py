"""Dead branches: what no output needs goes, the rest stays as it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from onebit.codegen import compile_graph, find_target
from onebit.core import DType, Graph, Node, Tensor, read_model, write_model
from onebit.core.ops import LceDequantize, LceQuantize
from onebit.core.passes.remove_dead_branches import remove_dead_branches
from support.movement_nets import NETS
from support.nets import Net
from support.passes import names, run_pass


def with_dead_branch(net: Net, read: str) -> Graph:
    """Two operators more that read the tensor `read`, and that nothing reads."""
    graph = net.graph()
    shape = graph.tensors[read].shape
    tensors = {"dead": Tensor("dead", shape, DType.BITS), "dead_too": Tensor("dead_too", shape, DType.FLOAT32)}
    nodes = (Node(LceQuantize(), (read,), ("dead",)), Node(LceDequantize(), ("dead",), ("dead_too",)))
    at = 1 + next(i for i, node in enumerate(graph.nodes) if node.output == read)
    return replace(graph, nodes=(*graph.nodes[:at], *nodes, *graph.nodes[at:]), tensors={**graph.tensors, **tensors})


def test_a_branch_that_nothing_reads_goes_as_a_whole() -> None:
    net = Net((1, 4, 4, 3)).conv(5).pool()
    graph = with_dead_branch(net, "conv_2d_0")
    result = run_pass(remove_dead_branches, graph, net.samples(3))
    assert names(result.graph) == ["CONV_2D", "MAX_POOL_2D"]
    assert set(result.eliminated) == {"dead", "dead_too"}
    assert set(result.graph.tensors) == set(net.graph().tensors)


def test_a_part_of_a_split_that_nothing_reads_goes() -> None:
    graph = read_model(write_model(NETS["SPLIT"]["one part unread"](DType.FLOAT32).graph()))
    x = np.random.default_rng(0).normal(size=(2, *graph.input.shape[1:])).astype(np.float32)
    result = run_pass(remove_dead_branches, graph, x)
    assert len(result.eliminated) == 1
    assert names(graph).count("SPLIT") == names(result.graph).count("SPLIT") + 1 == 3


def test_nothing_dead_is_the_same_graph() -> None:
    graph = Net((1, 4, 4, 3)).conv(5).pool().graph()
    assert remove_dead_branches(graph) is graph


def test_an_output_that_is_also_read_keeps_its_branch() -> None:
    graph = Net((1, 4, 4, 3)).conv(5).pool().graph()
    both = replace(graph, outputs=(*graph.outputs, "conv_2d_0"))
    assert remove_dead_branches(both) is both
    first = remove_dead_branches(replace(graph, outputs=("conv_2d_0",)))
    assert names(first) == ["CONV_2D"]


def test_a_dead_reader_does_not_keep_a_sign_from_being_folded() -> None:
    """The pass runs before the others: with its second reader the convolution's output would have to stay."""
    net = Net((1, 6, 6, 8)).quantize().bconv(16)
    graph = with_dead_branch(net.quantize().bconv(4), "lcebconv2d_1")
    program = compile_graph(graph, find_target("host"))
    assert program.eliminated["lcebconv2d_1"] == "fold_sign_into_bconv"
    assert program.eliminated["dead"] == "remove_dead_branches"
