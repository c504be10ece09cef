"""A flatbuffer encoder driven by the schema tables; the mirror of `decode`. Output is deterministic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import flatbuffers
import numpy as np

from onebit.core.flatbuffer.schema import FILE_IDENTIFIER, OPTION_TABLES, TABLES

_SCALAR_BYTES: Final = {"bool": 1, "u8": 1, "i8": 1, "i32": 4, "u32": 4, "u64": 8, "f32": 4}
_NUMPY: Final = {"i32": np.int32, "i64": np.int64, "f32": np.float32}

#: TFLite demands that constant data starts at a multiple of 16 bytes
DATA_ALIGNMENT: Final = 16


class Encoder:
    """Encodes plain dicts, as `Decoder` returns them, into a flatbuffer. Absent keys take the schema's default."""

    def __init__(self) -> None:
        self._builder = flatbuffers.Builder(1024)

    def finish(self, table: str, record: Mapping[str, Any]) -> bytes:
        """Encode the root table and return the file."""
        self._builder.Finish(self._table(table, record), file_identifier=FILE_IDENTIFIER)
        return bytes(self._builder.Output())

    def _table(self, name: str, record: Mapping[str, Any]) -> int:
        fields = TABLES[name]
        unknown = record.keys() - fields.keys()
        assert not unknown, f"{name} has no field {sorted(unknown)}"
        present = {k: v for k, v in record.items() if v is not None}
        offsets = {
            key: self._reference(fields[key].kind, value, record)
            for key, value in present.items()
            if fields[key].kind not in _SCALAR_BYTES
        }
        b = self._builder
        b.StartObject(max(field.slot for field in fields.values()) + 1)
        for key, field in fields.items():
            if key in offsets:
                b.PrependUOffsetTRelativeSlot(field.slot, offsets[key], 0)
            elif key in present:
                self._scalar(field.slot, field.kind, present[key], field.default)
        return int(b.EndObject())

    def _scalar(self, slot: int, kind: str, value: Any, default: float) -> None:
        b = self._builder
        prepend = {
            "bool": b.PrependBoolSlot, "u8": b.PrependUint8Slot, "i8": b.PrependInt8Slot, "i32": b.PrependInt32Slot,
            "u32": b.PrependUint32Slot, "u64": b.PrependUint64Slot, "f32": b.PrependFloat32Slot,
        }[kind]  # fmt: skip
        prepend(slot, value, default)

    def _reference(self, kind: str, value: Any, record: Mapping[str, Any]) -> int:
        b = self._builder
        if kind == "string":
            return int(b.CreateString(value))
        if kind == "bytes":
            return self._bytes(bytes(value))
        if kind == "union:options":
            return self._table(OPTION_TABLES[record["builtin_options_type"]], value)
        if kind.startswith("table:"):
            return self._table(kind.removeprefix("table:"), value)
        element = kind[1:-1]
        if element in _NUMPY:
            return int(b.CreateNumpyVector(np.asarray(value, _NUMPY[element])))
        return self._tables(element.removeprefix("table:"), value)

    def _tables(self, name: str, records: Sequence[Mapping[str, Any]]) -> int:
        offsets = [self._table(name, record) for record in records]
        self._builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self._builder.PrependUOffsetTRelative(offset)
        return int(self._builder.EndVector())

    def _bytes(self, data: bytes) -> int:
        b = self._builder
        b.StartVector(1, len(data), DATA_ALIGNMENT)
        b.head -= len(data)
        b.Bytes[b.head : b.head + len(data)] = data
        return int(b.EndVector())
