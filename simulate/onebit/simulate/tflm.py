"""TensorFlow Lite Micro as the reference of ``--rounding tflm``: its own interpreter, from the tflite-micro wheel."""

from __future__ import annotations

import importlib.util
import logging
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from onebit.core.errors import ToolMissingError, VerificationError
from onebit.core.evaluate import evaluate_node
from onebit.core.flatbuffer import read_model
from onebit.core.flatbuffer.excerpt import one_operator, with_outputs
from onebit.core.graph import Array, Graph, Node
from onebit.core.oracle import Oracle
from onebit.core.rounding import Rounding
from onebit.simulate._tflm_worker import receive, send

_WORKER = Path(__file__).with_name("_tflm_worker.py")

log = logging.getLogger(__name__)


def is_installed() -> bool:
    """Whether the tflite-micro wheel is there; it is not imported."""
    return importlib.util.find_spec("tflite_micro") is not None


class TflmRefusedError(Exception):
    """The interpreter does not run this model: it lacks an operator, or a form of one."""


class TflmInterpreter:
    """The interpreter in a child process, which answers for any number of models; a context manager.

    ToolMissingError where tflite-micro is not installed.
    """

    def __init__(self) -> None:
        if not is_installed():
            raise ToolMissingError(
                "tflite-micro is not installed", fix="pip install 'onebit[oracle]', or use --reference numpy"
            )
        self._messages = tempfile.TemporaryFile()  # noqa: SIM115  closed with the process
        self._process = subprocess.Popen(
            [sys.executable, str(_WORKER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._messages
        )

    def __enter__(self) -> TflmInterpreter:  # noqa: PYI034  (Self is newer than Python 3.10)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()
        self._messages.close()

    def run(self, model: bytes, inputs: Sequence[Array], outputs: int, arena_bytes: int) -> list[Array]:
        """The outputs ``[N, ...]`` of a `.tflite` file for samples ``[N, ...]`` of each input.

        TflmRefusedError where the interpreter does not accept the model, VerificationError where it crashes.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        samples = {f"input_{i}": value for i, value in enumerate(inputs)}
        request = {"model": np.frombuffer(model, np.uint8), "arena": arena_bytes, "outputs": outputs, **samples}
        try:
            send(self._process.stdin, request)
            answer = receive(self._process.stdout)
        except BrokenPipeError:
            answer = None
        if answer is None:
            reason = f"exit code {self._process.wait()}: {self._last_message()}"
            raise VerificationError(f"the TFLM interpreter crashed, {reason}", where="TFLM interpreter")
        if "refused" in answer:
            raise TflmRefusedError(f"{answer['refused']}: {self._last_message()}")
        return [answer[f"output_{i}"] for i in range(outputs)]

    def _last_message(self) -> str:
        self._messages.seek(0)
        lines = self._messages.read().decode("utf-8", "replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "no message")


class TflmOracle(Oracle):
    """Whole models in the interpreter, every tensor an output of it; see `onebit.core.oracle.Oracle`.

    A model that the interpreter does not run whole, because it has operators of LCE above all, is run node by node,
    each on the values of the nodes before; nodes that the interpreter does not run alone are left to the NumPy
    semantics. `engine` names their operators.
    """

    def __init__(self) -> None:
        if not is_installed():
            with TflmInterpreter():
                pass
        self._lacking: set[str] = set()

    @property
    def engine(self) -> str:
        """Who computed the tensors so far."""
        return f"tflite-micro, onebit-numpy for {', '.join(sorted(self._lacking))}" if self._lacking else "tflite-micro"

    def run(self, model: bytes, x: Array, tensors: Sequence[str]) -> list[Array]:
        """See `Oracle.run`."""
        graph = read_model(model, Rounding.TFLM)
        with TflmInterpreter() as tflm:
            try:
                return tflm.run(with_outputs(model, tensors), [x], len(tensors), arena_bytes(graph))
            except TflmRefusedError as refusal:
                log.info("node by node: %s", refusal)
            values = self._node_by_node(tflm, model, graph, x)
        return [values[name] for name in tensors]

    def _node_by_node(self, tflm: TflmInterpreter, model: bytes, graph: Graph, x: Array) -> dict[str, Array]:
        values = {t.name: t.data for t in graph.tensors.values() if t.data is not None} | {graph.input.name: x}
        for node in graph.nodes:
            try:
                values[node.output] = run_node(tflm, model, graph, node, values)
            except TflmRefusedError as refusal:
                log.info("%s by NumPy: %s", node.describe(), refusal)
                self._lacking.add(node.op.name)
                values[node.output] = evaluate_node(graph, node, values)
        return values


def run_node(tflm: TflmInterpreter, model: bytes, graph: Graph, node: Node, values: Mapping[str, Array]) -> Array:
    """The interpreter's output of one node of `model` alone, on `values` ``[N, ...]`` of what it reads."""
    computed = [n for n in dict.fromkeys(node.inputs) if n is not None and not graph.tensors[n].is_constant]
    alone = one_operator(model, computed, node.output)
    (value,) = tflm.run(alone, [values[name] for name in computed], 1, arena_bytes(graph))
    return value


def arena_bytes(graph: Graph) -> int:
    """An arena that surely holds all activations at once, and what the interpreter adds."""
    return 2**20 + 4 * sum(t.nbytes for t in graph.tensors.values() if not t.is_constant)
