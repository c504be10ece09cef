"""A bounds-checked flatbuffer decoder driven by the schema tables.

Files come from strangers: every offset, length and count is checked against the file before it is used. Offsets may
also point to the same bytes again and again, so the number of decoded objects and bytes is bounded by the file's size:
a small hostile file can neither read outside itself nor cost much time or memory.
"""

from __future__ import annotations

import struct
from typing import Any, Final

import numpy as np

from onebit.core.errors import BadInputError
from onebit.core.flatbuffer.schema import FILE_IDENTIFIER, OPTION_TABLES, TABLES, Field

_SCALARS: Final = {
    "bool": "<?", "u8": "<B", "i8": "<b", "u16": "<H", "i32": "<i", "u32": "<I", "i64": "<q", "u64": "<Q", "f32": "<f",
}  # fmt: skip
_NUMPY: Final = {"i32": "<i4", "i64": "<i8", "f32": "<f4", "u8": "u1"}

#: decoded tables and strings of one file; the largest known LCE models have a few thousand
MAX_OBJECTS: Final = 200_000
#: least size of a table or string that shares nothing: an offset to it, and four bytes of its own
OBJECT_BYTES: Final = 8
#: how often a file's bytes may be decoded on average; a writer that shares equal strings decodes a few twice
MAX_SHARING: Final = 2

Record = dict[str, Any]


class Decoder:
    """Decodes the tables of one file into plain dicts; vectors of scalars and bytes become read-only NumPy arrays."""

    def __init__(self, data: bytes, source: str) -> None:
        self._data = data
        self._source = source
        self._objects_left = min(MAX_OBJECTS, MAX_SHARING * len(data) // OBJECT_BYTES)
        self._bytes_left = MAX_SHARING * len(data)

    def error(self, message: str) -> BadInputError:
        """A one-line complaint about the file."""
        return BadInputError(message, where=self._source, fix="give an intact .tflite file")

    def root(self, table: str) -> Record:
        """Decode the root table after checking the file identifier."""
        if len(self._data) < 8 or self._data[4:8] != FILE_IDENTIFIER:
            raise self.error("this is not a TFLite flatbuffer (no TFL3 identifier)")
        return self._table(self._offset(0), table)

    def _scalar(self, kind: str, at: int) -> Any:
        fmt = _SCALARS[kind]
        if at < 0 or at + struct.calcsize(fmt) > len(self._data):
            raise self.error(f"the flatbuffer points outside the file (offset {at} of {len(self._data)} bytes)")
        return struct.unpack_from(fmt, self._data, at)[0]

    def _offset(self, at: int) -> int:
        """Follow the unsigned offset stored at `at`."""
        return at + int(self._scalar("u32", at))

    def _count(self) -> None:
        self._objects_left -= 1
        if self._objects_left < 0:
            raise self.error("the flatbuffer describes more objects than its size allows")

    def _table(self, at: int, name: str) -> Record:
        self._count()
        vtable = at - self._scalar("i32", at)
        size = self._scalar("u16", vtable)
        record: Record = {}
        for key, field in TABLES[name].items():
            slot = 4 + 2 * field.slot
            relative = self._scalar("u16", vtable + slot) if slot + 2 <= size else 0
            record[key] = self._value(field, at + relative, record) if relative else self._absent(field)
        return record

    @staticmethod
    def _absent(field: Field) -> Any:
        if field.kind.startswith("[table") or field.kind == "[string]":
            return []
        if field.kind == "string":
            return ""
        return field.default if field.kind in _SCALARS else None

    def _value(self, field: Field, at: int, record: Record) -> Any:
        kind = field.kind
        if kind in _SCALARS:
            return self._scalar(kind, at)
        target = self._offset(at)
        if kind == "string":
            return self._string(target)
        if kind == "bytes":
            return self._array(target, "u8")
        if kind == "union:options":
            table = OPTION_TABLES.get(record["builtin_options_type"])
            return self._table(target, table) if table else None
        if kind.startswith("table:"):
            return self._table(target, kind.removeprefix("table:"))
        element = kind[1:-1]
        if element in _NUMPY:
            return self._array(target, element)
        length = self._length(target, 4)
        return [
            self._table(self._offset(target + 4 + 4 * i), element.removeprefix("table:")) for i in range(length)
        ]  # fmt: skip

    def _length(self, at: int, element_bytes: int) -> int:
        length = int(self._scalar("u32", at))
        if at + 4 + length * element_bytes > len(self._data):
            raise self.error(f"a vector of {length} elements at offset {at} runs past the end of the file")
        return length

    def _array(self, at: int, kind: str) -> np.ndarray[Any, Any]:
        dtype = np.dtype(_NUMPY[kind])
        length = self._length(at, dtype.itemsize)
        self._bytes_left -= length * dtype.itemsize
        if self._bytes_left < 0:
            raise self.error("the flatbuffer describes more data than its size allows")
        return np.frombuffer(self._data, dtype, length, at + 4)

    def _string(self, at: int) -> str:
        self._count()
        raw = self._array(at, "u8").tobytes()
        if self._scalar("u8", at + 4 + len(raw)) != 0:
            raise self.error(f"a name at offset {at} is not terminated")
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as e:
            raise self.error(f"a name at offset {at} is not UTF-8") from e
