"""The LCE interpreter for tests: one child process answers for many small graphs, every activation of each."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np

from onebit.core import DType, Graph, Rounding, evaluate, write_model
from onebit.core.flatbuffer.excerpt import with_outputs
from onebit.core.graph import Array, Node
from onebit.core.ops import (
    Conv2d,
    DepthwiseConv2d,
    FullyConnected,
    HardSwish,
    Logistic,
    Mean,
    Softmax,
    Tanh,
    View,
)
from onebit.core.oracle import Oracle
from onebit.simulate._tflm_worker import receive, send
from onebit.simulate.oracle import _interpreter_library

#: float32 operators whose order of operations LiteRT does not fix: TOLERANCE of the tensor's range is owed
INEXACT = (Conv2d, DepthwiseConv2d, FullyConnected, Mean, Softmax, Logistic, Tanh, HardSwish)
TOLERANCE = 1e-5

Agrees = Callable[[Graph, Array], None]


class Interpreter(Protocol):
    """What computes as `rounding` says."""

    rounding: Rounding

    def run(self, graph: Graph, x: Array) -> dict[str, Array]:
        """The stored value of every activation."""
        ...


class LceRefusedError(Exception):
    """The interpreter refused the model."""


class LceSession:
    """Runs graphs in the LCE interpreter: reference binary convolution, built-in kernels, no XNNPACK."""

    rounding = Rounding.LITERT

    def __init__(self, log: Path) -> None:
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> LceSession:  # noqa: PYI034 (Self is newer than Python 3.10)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the child process."""
        if self._process is not None:
            self._process.communicate()
            self._process = None

    def run_model(self, model: bytes, x: Array) -> list[Array]:
        """The outputs of a `.tflite` file for samples `x`; LceRefusedError if the interpreter does not run it."""
        if self._process is None:
            command = [sys.executable, str(Path(__file__).with_name("lce_server.py")), str(_interpreter_library())]
            with self._log.open("wb") as stderr:
                self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        send(self._process.stdin, {"model": np.frombuffer(model, np.uint8), "x": x})
        answer = receive(self._process.stdout)
        if answer is None:
            code = self._process.wait()
            self.close()
            raise AssertionError(f"the LCE interpreter crashed (exit code {code}): {self._messages()}")
        if "error" in answer:
            raise LceRefusedError(f"{answer['error']} {self._messages()}")
        return [answer[f"output_{i}"] for i in range(len(answer))]

    def _messages(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")[-500:]

    def run(self, graph: Graph, x: Array) -> dict[str, Array]:
        """The stored value of every activation."""
        names = tuple(tensor.name for tensor in graph.activations())
        values = self.run_model(write_model(replace(graph, outputs=names)), x)
        return dict(zip(names, values, strict=True))


class SessionOracle(Oracle):
    """A session as the `Oracle` of a conversion."""

    engine = "larq-compute-engine"

    def __init__(self, session: LceSession) -> None:
        self._session = session

    def run(self, model: bytes, x: Array, tensors: Sequence[str]) -> list[Array]:
        """See `Oracle.run`."""
        return self._session.run_model(with_outputs(model, tensors), x)


def is_exact(graph: Graph, node: Node) -> bool:
    """Whether identity with the interpreter is owed for the output of `node`."""
    return graph.tensors[node.output].dtype is not DType.FLOAT32 or not isinstance(node.op, INEXACT)


def assert_agrees(graph: Graph, x: Array, interpreter: Interpreter) -> None:
    """Every node of `graph`, fed with the interpreter's values, gives the interpreter's value and shape.

    Where all of the graph is exact, `evaluate` must give the same from end to end.
    """
    graph = replace(graph, rounding=interpreter.rounding)
    truth = {**interpreter.run(graph, x), graph.input.name: x}
    constants = {t.name: t.data for t in graph.tensors.values() if t.data is not None}
    for node in graph.nodes:
        args = [None if name is None else constants.get(name, truth.get(name)) for name in node.inputs]
        with np.errstate(over="ignore", invalid="ignore"):
            got = node.op.evaluate(View.of(graph, node), args)
        assert_same(graph, node, got, truth[node.output])
    if all(is_exact(graph, node) for node in graph.nodes):
        names = [node.output for node in graph.nodes]
        for name, value in evaluate(graph, x, names).items():
            np.testing.assert_array_equal(value, truth[name], err_msg=name)


def assert_same(graph: Graph, node: Node, got: Array, want: Array) -> None:
    """`got` (ours) equals `want` (the interpreter's) as section 5 of design.md demands of the operator."""
    tensor = graph.tensors[node.output]
    label = node.describe()
    # the interpreter computes its shapes itself: this is the test of the shape rule
    assert want.shape[1:] == tensor.stored_shape[1:], f"{label}: shape {want.shape}, inferred {tensor.stored_shape}"
    assert got.shape == want.shape, label
    assert got.dtype == want.dtype == tensor.dtype.numpy, label
    if not is_exact(graph, node):
        largest = np.abs(want).max()
        # almost equal outputs (a flat softmax) have a range below the float32 resolution of their values
        tolerance = max(TOLERANCE * float(want.max() - want.min()), 4 * float(np.spacing(largest)))
        np.testing.assert_allclose(got, want, rtol=0, atol=tolerance, err_msg=label)
    elif got.dtype == np.float32:
        # as bits, so that -0.0 and NaN count
        np.testing.assert_array_equal(_float_bits(got), _float_bits(want), err_msg=label)
    else:
        np.testing.assert_array_equal(got, want, err_msg=label)


def _float_bits(x: Array) -> Array:
    return np.ascontiguousarray(x).view(np.uint32)
