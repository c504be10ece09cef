"""The TFLM interpreter for tests: every activation of many small graphs, as `support.lce` has them of LCE's."""

from __future__ import annotations

from dataclasses import replace
from types import TracebackType

from onebit.core import DType, Graph, Rounding, write_model
from onebit.core.errors import VerificationError
from onebit.core.evaluate import evaluate_node
from onebit.core.graph import Array, Node
from onebit.simulate.tflm import TflmInterpreter, TflmRefusedError, arena_bytes, run_node

#: operators that the wheel does not have, and those of which it refuses some form (docs/rounding.md)
NOT_REGISTERED = frozenset({"RELU_N1_TO_1", "SIGN", "LceBconv2d", "LceBMaxPool2d", "LceDequantize", "LceQuantize"})
SOME_FORMS = frozenset({"STRIDED_SLICE"})
#: those that it does not have for int32, as which the file holds packed bits
NOT_OF_WORDS = frozenset({"TRANSPOSE", "EXPAND_DIMS"})
#: values in a row from which the wheel may abort in an int8 SOFTMAX
ABORTS_FROM = 512


class TflmSession:
    """Runs graphs in the TFLM interpreter; what it lacks, by NumPy."""

    rounding = Rounding.TFLM

    def __init__(self) -> None:
        self._interpreter: TflmInterpreter | None = None

    def __enter__(self) -> TflmSession:  # noqa: PYI034 (Self is newer than Python 3.10)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the child process."""
        if self._interpreter is not None:
            self._interpreter.__exit__(None, None, None)
            self._interpreter = None

    def run(self, graph: Graph, x: Array) -> dict[str, Array]:
        """The stored value of every activation; an operator that the interpreter refuses must be a known one."""
        graph = replace(graph, rounding=Rounding.TFLM)
        names = tuple(tensor.name for tensor in graph.activations())
        whole = replace(graph, outputs=names)
        if self._interpreter is None:
            self._interpreter = TflmInterpreter()
        try:
            values = self._interpreter.run(write_model(whole), [x], len(names), arena_bytes(whole))
        except (TflmRefusedError, VerificationError):
            return self._node_by_node(write_model(graph), graph, x)
        return dict(zip(names, values, strict=True))

    def _node_by_node(self, model: bytes, graph: Graph, x: Array) -> dict[str, Array]:
        values = {t.name: t.data for t in graph.tensors.values() if t.data is not None} | {graph.input.name: x}
        for node in graph.nodes:
            values[node.output] = self._node(model, graph, node, values)
        return values

    def _node(self, model: bytes, graph: Graph, node: Node, values: dict[str, Array]) -> Array:
        self._interpreter = self._interpreter or TflmInterpreter()
        try:
            return run_node(self._interpreter, model, graph, node, values)
        except TflmRefusedError:
            of_bits = graph.tensors[node.output].dtype is DType.BITS
            assert node.op.name in NOT_REGISTERED | SOME_FORMS | (NOT_OF_WORDS if of_bits else set()), node.describe()
        except VerificationError:
            self.close()
            assert node.op.name == "SOFTMAX", node.describe()
            assert graph.tensors[node.output].shape[-1] >= ABORTS_FROM, node.describe()
        return evaluate_node(graph, node, values)
