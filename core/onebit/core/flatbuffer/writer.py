"""From the graph IR to a .tflite file with LCE operators, without TensorFlow. Output is deterministic."""

from __future__ import annotations

from typing import Any

import numpy as np
from flatbuffers import flexbuffers

from onebit.core import spec
from onebit.core.flatbuffer.encode import Encoder
from onebit.core.flatbuffer.results import FileOperator, operators_of
from onebit.core.flatbuffer.schema import (
    CUSTOM,
    OPTION_TABLES,
    PLACEHOLDER_FOR_GREATER_OP_CODES,
    SCHEMA_VERSION,
    TENSOR_TYPES,
)
from onebit.core.graph import DType, Graph, Tensor
from onebit.core.metadata import METADATA_NAME
from onebit.core.ops import BuiltinOp, CustomOp

_TYPE_CODES = {DType(name): code for code, name in TENSOR_TYPES.items()}
_OPTION_CODES = {table: code for code, table in OPTION_TABLES.items()}


def write_model(graph: Graph) -> bytes:
    """The content of a `.tflite` file. Internal operators have no flatbuffer form and are a programming error here."""
    spec.verify(graph, "writer")
    assert not any(node.op.internal for node in graph.nodes)
    return _Writer(graph).file()


class _Writer:
    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        # buffer 0 is the empty buffer of all activations
        self._buffers: list[dict[str, Any]] = [{}]
        self._operators, added = operators_of(graph)
        self._tensors = (*graph.tensors.values(), *added)
        self._index = {tensor.name: i for i, tensor in enumerate(self._tensors)}
        self._codes: list[tuple[int, str | None]] = []

    def file(self) -> bytes:
        graph = self._graph
        operators = [self._operator(operator) for operator in self._operators]
        tensors = [self._tensor(tensor) for tensor in self._tensors]
        metadata = []
        if graph.metadata is not None:
            metadata.append({"name": METADATA_NAME, "buffer": self._buffer(graph.metadata.to_json_bytes())})
        subgraph = {
            "tensors": tensors,
            "inputs": [self._index[name] for name in graph.inputs],
            "outputs": [self._index[name] for name in graph.outputs],
            "operators": operators,
            "name": "main",
        }
        model = {
            "version": SCHEMA_VERSION,
            "operator_codes": [_operator_code(code, custom) for code, custom in self._codes],
            "subgraphs": [subgraph],
            "description": "onebit",
            "buffers": self._buffers,
            "metadata": metadata,
        }
        return Encoder().finish("Model", model)

    def _buffer(self, data: bytes) -> int:
        self._buffers.append({"data": data})
        return len(self._buffers) - 1

    def _tensor(self, tensor: Tensor) -> dict[str, Any]:
        dtype = DType.INT32 if tensor.dtype is DType.BITS else tensor.dtype
        record: dict[str, Any] = {
            "shape": list(tensor.stored_shape),
            "type": _TYPE_CODES[dtype],
            "buffer": 0 if tensor.data is None else self._buffer(_little_endian(tensor)),
            "name": tensor.name,
        }
        if tensor.quantization is not None:
            q = tensor.quantization
            record["quantization"] = {
                "scale": list(q.scales),
                "zero_point": list(q.zero_points),
                "quantized_dimension": q.axis,
            }
        return record

    def _operator(self, operator: FileOperator) -> dict[str, Any]:
        op = operator.op
        record: dict[str, Any] = {
            "inputs": [-1 if name is None else self._index[name] for name in operator.inputs],
            "outputs": [self._index[name] for name in operator.outputs],
        }
        if isinstance(op, CustomOp):
            record["opcode_index"] = self._code(CUSTOM, op.name)
            options = op.to_options()
            if options:
                record["custom_options"] = bytes(flexbuffers.Dumps(options))
        else:
            assert isinstance(op, BuiltinOp)
            record["opcode_index"] = self._code(op.code, None)
            if op.options_table is not None:
                record["builtin_options_type"] = _OPTION_CODES[op.options_table]
                record["builtin_options"] = op.to_options()
        return record

    def _code(self, code: int, custom: str | None) -> int:
        if (code, custom) not in self._codes:
            self._codes.append((code, custom))
        return self._codes.index((code, custom))


def _operator_code(code: int, custom: str | None) -> dict[str, Any]:
    # version 1: LiteRT asks no more of a kernel than that it knows the version
    old = min(code, PLACEHOLDER_FOR_GREATER_OP_CODES)
    return {"deprecated_builtin_code": old, "custom_code": custom, "version": 1, "builtin_code": code}


def _little_endian(tensor: Tensor) -> bytes:
    data = np.ascontiguousarray(tensor.constant())
    return data.astype(data.dtype.newbyteorder("<")).tobytes()
