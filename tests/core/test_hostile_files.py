"""Hostile and random files: a clean error or a usable graph, quickly and in little memory."""

from __future__ import annotations

import time
import tracemalloc
from typing import Any

import numpy as np
import pytest
from flatbuffers import flexbuffers

from onebit.core import DType, Graph, evaluate, read_model, write_model
from onebit.core.errors import BadInputError, OnebitError, SpecError
from onebit.core.flatbuffer.encode import Encoder
from support.files import Record, all_small_files, edited, int8_net, operator, subgraph
from support.fuzz.mutants import mutated_bytes
from support.nets import Net


def limited(content: bytes) -> tuple[OnebitError | None, float, int]:
    """Outcome of reading, seconds, and peak of allocated bytes."""
    tracemalloc.start()
    start = time.perf_counter()
    try:
        read_model(content)
        error = None
    except OnebitError as e:
        error = e
    seconds = time.perf_counter() - start
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return error, seconds, peak


class Bomb(Encoder):
    """An encoder that writes each distinct object once, however often it is referred to."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[int, int] = {}

    def _table(self, name: str, record: Any) -> int:
        if id(record) not in self._seen:
            self._seen[id(record)] = super()._table(name, record)
        return self._seen[id(record)]

    def _reference(self, kind: str, value: Any, record: Any) -> int:
        if id(value) not in self._seen:
            self._seen[id(value)] = super()._reference(kind, value, record)
        return self._seen[id(value)]


LONG_NAME, NUMBERS = "n" * 50_000, list(range(50_000))
TENSOR = {"name": LONG_NAME, "shape": [1, 2, 3], "type": 0, "buffer": 0}
OPERATOR = {"opcode_index": 0, "inputs": NUMBERS, "outputs": NUMBERS, "custom_options": b"o" * 50_000}
SUBGRAPH = {"tensors": [TENSOR] * 50_000, "inputs": [0], "outputs": [1], "operators": []}
BOMBS: dict[str, Record] = {
    "one long name in 50,000 tensors": {"subgraphs": [SUBGRAPH]},
    "one operator 50,000 times": {"subgraphs": [{**SUBGRAPH, "tensors": [], "operators": [OPERATOR] * 50_000}]},
    "one long shape in 5,000 tensors": {
        "subgraphs": [
            {**SUBGRAPH, "tensors": [{"name": f"t{i}", "shape": NUMBERS, "type": 0, "buffer": 0} for i in range(5000)]}
        ]
    },
    "one subgraph 100,000 times": {"subgraphs": [SUBGRAPH] * 100_000},
    "one buffer 100,000 times": {"buffers": [{"data": b"x" * 100_000}] * 100_000},
}


@pytest.mark.parametrize("name", BOMBS)
def test_offsets_that_share_one_object_many_times(name: str) -> None:
    content = Bomb().finish("Model", {"version": 3, **BOMBS[name]})
    assert len(content) < 1_000_000
    error, seconds, peak = limited(content)
    assert isinstance(error, BadInputError)
    assert "size allows" in error.message
    assert seconds < 3  # tracing allocations slows it down several times
    assert peak < 100_000_000


def unfolding_flexbuffer(levels: int) -> bytes:
    """Vectors of ten references to the vector before: 10**levels values in 21 bytes a level."""
    vector = 10 << 2  # packed type, offsets of one byte
    raw, target = bytearray([1, 7, 1 << 2]), 1  # a vector of one integer: length, value, type
    for _ in range(levels):
        start = len(raw) + 1
        raw += bytes([10, *(start + i - target for i in range(10)), *[vector] * 10])
        target = start
    return bytes(raw + bytes([len(raw) - target, vector, 1]))


def test_a_flexbuffer_that_would_unfold_to_a_billion_values() -> None:
    assert np.shape(flexbuffers.Loads(unfolding_flexbuffer(2))) == (10, 10, 1)
    bconv = int8_net().nodes[2].output

    def unfold(record: Record) -> None:
        operator(record, bconv)["custom_options"] = unfolding_flexbuffer(9)

    content = edited(write_model(int8_net()), unfold)
    error, seconds, _ = limited(content)
    assert isinstance(error, BadInputError)
    assert seconds < 1


def test_many_tensors_on_one_large_buffer_cost_no_copies() -> None:
    net = Net((1, 4))
    for _ in range(300):
        net.add(np.zeros(4))
    graph = net.graph()

    def share(record: Record) -> None:
        record["buffers"].append({"data": bytes(4_000_000)})
        for each in subgraph(record)["tensors"]:
            if each["name"].startswith("term_"):
                each.update(buffer=len(record["buffers"]) - 1, shape=[1_000_000])

    error, _, peak = limited(edited(write_model(graph), share))
    assert isinstance(error, SpecError)
    assert peak < 50_000_000


FILES = all_small_files()
CORRUPTIONS = 400


@pytest.mark.parametrize("name", FILES)
def test_random_corruptions(name: str, rng: np.random.Generator) -> None:
    """Reading succeeds or says why not; what is accepted can be written and evaluated, all of it quickly."""
    content = FILES[name]
    errors = []
    for i in range(CORRUPTIONS):
        damaged = mutated_bytes(rng, content)
        start = time.perf_counter()
        try:
            graph = read_model(damaged)
        except OnebitError as error:
            errors.append(error)
        else:
            exercise(graph)
        assert time.perf_counter() - start < 1, i
    assert CORRUPTIONS * 0.5 < len(errors) < CORRUPTIONS
    for error in errors:
        assert error.exit_code == 2
        assert error.where
        assert "\n" not in str(error)


def exercise(graph: Graph) -> None:
    write_model(graph)
    x = np.zeros(graph.input.stored_shape, graph.input.dtype.numpy)
    y = evaluate(graph, x)[graph.outputs[0]]
    assert y.shape == graph.output.stored_shape
    assert graph.input.dtype in (DType.FLOAT32, DType.INT8)
