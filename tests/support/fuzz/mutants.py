"""Corrupted model files: bytes of the file changed blindly, or fields, tables and lists of its content exchanged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from onebit.core.flatbuffer.decode import Record
from onebit.core.flatbuffer.encode import Encoder
from onebit.core.flatbuffer.schema import OPTION_TABLES, TABLES
from support.files import decode

Place = tuple[Any, Any, str]
"""A dict or list, the key or index in it, and the kind of what is there, as the schema names it."""

LIMITS = {"i8": (-128, 127), "u8": (0, 255), "u32": (0, 2**32 - 1), "u64": (0, 2**64 - 1), "i32": (-(2**31), 2**31 - 1)}
INTEGERS = (0, 1, 2, 3, -1, -2, 5, 7, 8, 31, 32, 33, 64, 127, 128, 255, 1000, 1024, 1025, 2**16, 2**28, 2**31 - 1)
FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-30, 1e30, float("nan"), float("inf"), float("-inf"), 1e-45, 0.5)


def mutated(rng: np.random.Generator, content: bytes, donor: bytes) -> bytes:
    """One corruption of `content`; tables may come from `donor`, another model. May happen to change nothing."""
    return mutated_bytes(rng, content) if rng.random() < 0.5 else mutated_content(rng, content, donor)


def mutated_bytes(rng: np.random.Generator, content: bytes) -> bytes:
    """Truncation, flipped bits, other bytes, extreme or shifted words (offsets and lengths), bytes copied elsewhere."""
    data, kind = bytearray(content), int(rng.integers(6))
    if kind == 0:
        return bytes(data[: rng.integers(len(data))])
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(len(data) - 8))
        word = at & ~3
        if kind == 1:
            data[at] ^= 1 << int(rng.integers(8))
        elif kind == 2:
            data[at] = int(rng.integers(256))
        elif kind == 3:
            value = int(rng.choice([0, 1, 4, 8, 2**31 - 1, 2**31, 2**32 - 1, len(data), len(data) - 4]))
            data[word : word + 4] = value.to_bytes(4, "little")
        elif kind == 4:
            value = int.from_bytes(data[word : word + 4], "little") + int(rng.integers(-16, 17))
            data[word : word + 4] = (value % 2**32).to_bytes(4, "little")
        else:
            source, size = int(rng.integers(len(data) - 8)), int(rng.integers(1, 9))
            data[at : at + size] = data[source : source + size]
    return bytes(data)


def mutated_content(rng: np.random.Generator, content: bytes, donor: bytes) -> bytes:
    """Up to three of: another value, two fields swapped, a table of the donor, a list shortened, doubled or turned."""
    record = decode(content)
    for _ in range(rng.integers(1, 4)):
        places = list(_places(record, "Model"))
        holder, key, kind = places[rng.integers(len(places))]
        alike = [place for place in places if place[2] == kind]
        change = int(rng.integers(3))
        if kind.startswith("[table"):
            _change_list(rng, holder[key])
        elif change == 0 and kind in (*LIMITS, "f32", "bool", "string", "bytes", "[i32]", "[i64]", "[f32]"):
            holder[key] = _other_value(rng, kind, holder[key])
        elif change == 1:
            other, there, _ = alike[rng.integers(len(alike))]
            holder[key], other[there] = other[there], holder[key]
        else:
            foreign = [place for place in _places(decode(donor), "Model") if place[2] == kind]
            if foreign:
                other, there, _ = foreign[rng.integers(len(foreign))]
                holder[key] = other[there]
    return Encoder().finish("Model", record)


def _places(record: Record, table: str) -> Iterator[Place]:
    """Every field with a value, and every table in a list, of a decoded table and what it holds."""
    for key, field in TABLES[table].items():
        value = record[key]
        # the type of a union decides how it is written: it changes only together with its table
        if value is None or key == "builtin_options_type":
            continue
        if field.kind == "union:options":
            name = OPTION_TABLES[record["builtin_options_type"]]
            yield record, key, f"table:{name}"
            yield from _places(value, name)
            continue
        yield record, key, field.kind
        if field.kind.startswith("table:"):
            yield from _places(value, field.kind.removeprefix("table:"))
        elif field.kind.startswith("[table:"):
            name = field.kind[1:-1].removeprefix("table:")
            for i, each in enumerate(value):
                yield value, i, f"table:{name}"
                yield from _places(each, name)


def _change_list(rng: np.random.Generator, items: list[Any]) -> None:
    if not items:
        return
    i, j = (int(rng.integers(len(items))) for _ in range(2))
    kind = rng.integers(3)
    if kind == 0:
        del items[i]
    elif kind == 1:
        items.insert(j, items[i])
    else:
        items[i], items[j] = items[j], items[i]


def _other_value(rng: np.random.Generator, kind: str, value: Any) -> Any:
    if kind == "string":
        names = ("", "a/b:0", "int", "x" * 300, "*/ #include", "line\nline", "ä", "input", "\\", '"')
        return str(rng.choice(np.array(names, object)))
    if kind == "bool":
        return not value
    if kind == "bytes":
        data = bytearray(value)
        if data and rng.random() < 0.7:
            data[rng.integers(len(data))] = rng.integers(256)
            return bytes(data)
        return bytes(data[:-1]) if rng.random() < 0.5 else bytes(data) + b"\0"
    if kind.startswith("["):
        values = list(value)
        if values and rng.random() < 0.8:
            i = int(rng.integers(len(values)))
            values[i] = _number(rng, "f32" if kind == "[f32]" else "i32", values[i])
        else:
            values = values[:-1] if rng.random() < 0.5 else [*values, 1]
        return values
    return _number(rng, kind, value)


def _number(rng: np.random.Generator, kind: str, value: Any) -> Any:
    if kind == "f32":
        return float(np.float32(rng.choice(FLOATS) if rng.random() < 0.5 else value * rng.choice([2, 0.5, 0.9, -1])))
    number = int(rng.choice(INTEGERS)) if rng.random() < 0.5 else int(value) + int(rng.integers(-2, 3))
    low, high = LIMITS[kind]
    return min(max(number, low), high)
