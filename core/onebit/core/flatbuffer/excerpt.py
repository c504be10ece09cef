"""The same `.tflite` file with other outputs, or a part of it, for interpreters that show nothing but outputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onebit.core.flatbuffer.decode import Decoder, Record
from onebit.core.flatbuffer.encode import Encoder


def with_outputs(model: bytes, tensors: Sequence[str]) -> bytes:
    """The file with other model outputs; unchanged where it has just these."""
    record, names = _parsed(model)
    subgraph = record["subgraphs"][0]
    wanted = [names.index(name) for name in tensors]
    if wanted == [int(i) for i in subgraph["outputs"]]:
        return model
    subgraph["outputs"] = np.array(wanted, np.int32)
    return Encoder().finish("Model", record)


def one_operator(model: bytes, inputs: Sequence[str], output: str) -> bytes:
    """The file with just the operator that computes `output`, which is all that it outputs."""
    record, names = _parsed(model)
    subgraph, wanted = record["subgraphs"][0], names.index(output)
    subgraph["operators"] = [op for op in subgraph["operators"] if wanted in [int(i) for i in op["outputs"]]]
    subgraph["inputs"] = np.array([names.index(name) for name in inputs], np.int32)
    subgraph["outputs"] = np.array([wanted], np.int32)
    return Encoder().finish("Model", record)


def _parsed(model: bytes) -> tuple[Record, list[str]]:
    record = Decoder(model, "model").root("Model")
    tensors = record["subgraphs"][0]["tensors"]
    return record, [tensor["name"] or f"tensor_{i}" for i, tensor in enumerate(tensors)]
