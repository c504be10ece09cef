"""TFLite flatbuffers: the schema as data, a bounds-checked decoder, an encoder, and the mapping to the graph IR."""

from onebit.core.flatbuffer.reader import read_model
from onebit.core.flatbuffer.writer import write_model

__all__ = ["read_model", "write_model"]
