"""The model and its meaning: graph IR, executable spec, NumPy semantics, flatbuffer reader and writer."""

from onebit.core.evaluate import evaluate
from onebit.core.flatbuffer import read_model, write_model
from onebit.core.graph import DType, Graph, Node, Quantization, Tensor
from onebit.core.rounding import Rounding

__all__ = ["DType", "Graph", "Node", "Quantization", "Rounding", "Tensor", "evaluate", "read_model", "write_model"]
