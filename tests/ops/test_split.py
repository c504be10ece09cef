"""SPLIT: one operator of the file is one node per result, and the way back."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from onebit.core import DType, evaluate, read_model, write_model
from onebit.core.errors import BadInputError
from onebit.core.ops import Add, Split
from support.files import Record, decode, edited, operator, subgraph, tensor
from support.lce import Agrees, LceSession
from support.movement_nets import back_to, move, start
from support.nets import Net

F32 = DType.FLOAT32


def two_parts(*, axes: tuple[int, int] = (3, 3)) -> Net:
    net = start(F32, (1, 3, 6, 6))
    first = move(net, Split(axes[0], 2, 0)).now.name
    move(back_to(net, "input"), Split(axes[1], 2, 1))
    return net.node(Add(), first, dtype=F32)


def splits(model: bytes) -> list[Record]:
    record = decode(model)
    codes = record["operator_codes"]
    return [o for o in subgraph(record)["operators"] if codes[o["opcode_index"]]["builtin_code"] == Split.code]


def test_results_of_one_input_are_one_operator(agrees: Agrees) -> None:
    net = two_parts()
    model = write_model(net.graph())
    assert [len(o["outputs"]) for o in splits(model)] == [2]
    graph = read_model(model)
    assert [node.op for node in graph.nodes] == [Split(3, 2, 0), Split(3, 2, 1), Add()]
    assert all(node.inputs == ("input",) for node in graph.nodes[:2])
    assert set(graph.tensors) == {"input", *(t.name for t in graph.activations())}
    agrees(graph, net.samples(2))


@pytest.mark.parametrize("axes", [(3, 2), (3, -1)], ids=str)
def test_another_axis_is_another_operator(axes: tuple[int, int]) -> None:
    """Also the same axis counted from the other side: only what is written alike is joined."""
    net = start(F32, (1, 6, 6, 6))
    move(net, Split(axes[0], 2, 0))
    move(back_to(net, "input"), Split(axes[1], 2, 0))
    assert [len(o["outputs"]) for o in splits(write_model(net.graph()))] == [2, 2]


def test_the_same_part_twice_is_two_operators(lce: LceSession) -> None:
    net = start(F32, (1, 3, 6, 6))
    first = move(net, Split(3, 2, 1)).now.name
    move(back_to(net, "input"), Split(3, 2, 1)).node(Add(), first, dtype=F32)
    graph, x = net.graph(), net.samples(2)
    model = write_model(graph)
    assert [len(o["outputs"]) for o in splits(model)] == [2, 2]
    (y,) = lce.run_model(model, x)
    np.testing.assert_array_equal(y, 2 * x[..., 3:])


def test_parts_that_nothing_reads_are_written_and_read_again(agrees: Agrees) -> None:
    net = start(F32, (1, 3, 6, 6))
    graph = move(net, Split(-1, 3, 1)).graph()
    model = write_model(graph)
    assert [len(o["outputs"]) for o in splits(model)] == [3]
    again, x = read_model(model), net.samples(2)
    assert [node.op for node in again.nodes] == [Split(-1, 3, i) for i in range(3)]
    np.testing.assert_array_equal(evaluate(again, x)[again.outputs[0]], x[..., 2:4])
    agrees(again, x)


Change = Callable[[Record], object]
CASES: dict[str, tuple[Change, str]] = {
    "more parts than results": (lambda r: operator(r, "split_0")["builtin_options"].update(num_splits=3), "2 outputs"),
    "no parts": (lambda r: operator(r, "split_0")["builtin_options"].update(num_splits=0), "2 outputs"),
    "one input": (lambda r: operator(r, "split_0").update(inputs=[0]), "allowed are 2"),
    "an absent axis": (lambda r: operator(r, "split_0").update(inputs=[-1, 0]), "allowed are 2"),
    "a computed axis": (lambda r: operator(r, "split_0").update(inputs=[0, 0]), "no int32 constant"),
    "an axis of two values": (
        lambda r: (
            tensor(r, "input/axis").update(shape=[2]),
            r["buffers"][tensor(r, "input/axis")["buffer"]].update(data=bytes(8)),
        ),
        "no int32 constant",
    ),
    "no outputs": (lambda r: operator(r, "split_0").update(outputs=[]), "0 outputs"),
}


@pytest.mark.parametrize("case", CASES)
def test_broken_files(case: str) -> None:
    change, message = CASES[case]
    with pytest.raises(BadInputError, match=message):
        read_model(edited(write_model(two_parts().graph()), change))
