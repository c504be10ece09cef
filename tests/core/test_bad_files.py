"""Bad model files: one line that names the place, exit code 2, quickly, whatever the bytes are."""

from __future__ import annotations

import re
import struct
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flatbuffers import flexbuffers

from onebit.core import Graph, evaluate, read_model, write_model
from onebit.core.errors import BadInputError, OnebitError, SpecError, UnsupportedError
from onebit.core.flatbuffer.encode import Encoder
from onebit.core.graph import DType
from support.files import (
    Record,
    all_small_files,
    attribute_net,
    edited,
    float_net,
    int8_net,
    operator,
    subgraph,
    tensor,
)
from support.nets import Net

CONV, QUANTIZE, BCONV, BPOOL, BCONV_INT8, POOL, RESHAPE, DENSE, SOFTMAX = (node.output for node in int8_net().nodes)


def error_of(source: Any) -> OnebitError:
    """The error that reading raises, after the checks that hold for every one."""
    with pytest.raises(OnebitError) as caught:
        read_model(source)
    error = caught.value
    assert error.exit_code == 2
    assert error.message
    assert error.where
    assert "\n" not in str(error)
    assert str(error).isprintable()
    return error


# -------------------------------------------------------------------------------------------------- files and their form


def test_a_missing_file(tmp_path: Path) -> None:
    error = error_of(tmp_path / "none.tflite")
    assert isinstance(error, BadInputError)
    assert "No such file" in error.message
    assert error.where.endswith("none.tflite")


def test_a_directory(tmp_path: Path) -> None:
    assert "directory" in error_of(tmp_path).message


def test_a_path_that_no_file_can_have() -> None:
    assert "null" in error_of("a\0b").message


@pytest.mark.parametrize(
    "content",
    [b"", b"TFL3", b"\0" * 7, b"\0" * 64, b"PK\x03\x04" + b"x" * 100, b"\x18\0\0\0TFL4" + b"\0" * 100],
    ids=["empty", "4 bytes", "7 bytes", "zeros", "a zip", "TFL4"],
)
def test_no_tflite_flatbuffer(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    error = error_of(path)
    assert isinstance(error, BadInputError)
    assert "TFL3" in error.message
    assert error.where == "model.tflite"


def test_a_header_and_nothing_else() -> None:
    error_of(b"\x08\0\0\0TFL3")
    error_of(b"\xff\xff\xff\xffTFL3")
    error_of(b"\x00\0\0\0TFL3" + b"\0" * 100)


@pytest.mark.parametrize("name", ["int8", "float", "attributes"])
def test_truncation_at_any_length(name: str) -> None:
    content = all_small_files()[name]
    step = max(1, len(content) // 150)
    for length in (*range(0, len(content), step), *range(len(content) - 8, len(content))):
        error = error_of(content[:length])
        assert isinstance(error, BadInputError), length


# ---------------------------------------------------------------------------------------------- one wrong thing at a time

Change = Callable[[Record], object]


def set_custom(record: Record, options: Any) -> None:
    operator(record, BCONV)["custom_options"] = bytes(options)


def bconv_options(**changes: Any) -> bytes:
    options = dict(int8_net().nodes[2].op.to_options())  # type: ignore[attr-defined]
    options.update(changes)
    return bytes(flexbuffers.Dumps({k: v for k, v in options.items() if v is not None}))


def rename(record: Record, old: str, new: str) -> None:
    tensor(record, old)["name"] = new


def use_code(record: Record, output: str, **code: Any) -> None:
    """Give one operator another operator code."""
    record["operator_codes"].append({"version": 1, **code})
    operator(record, output)["opcode_index"] = len(record["operator_codes"]) - 1


def unsupported_twice(record: Record) -> None:
    use_code(record, CONV, builtin_code=4)
    use_code(record, BPOOL, builtin_code=32, custom_code="LceOther")
    use_code(record, SOFTMAX, builtin_code=150)


def cycle(record: Record) -> None:
    names = [t["name"] for t in subgraph(record)["tensors"]]
    operator(record, QUANTIZE)["inputs"] = [names.index(BPOOL)]


def batch_of_two(record: Record) -> None:
    for each in subgraph(record)["tensors"]:
        if each["buffer"] == 0:
            each["shape"] = [2, *each["shape"][1:]]


def index_of(record: Record, name: str) -> int:
    return [t["name"] for t in subgraph(record)["tensors"]].index(name)


#: what is wrong -> (change of the int8 net, error, words of the line)
CASES: dict[str, tuple[Change, type[OnebitError], str]] = {
    "version 2": (lambda r: r.update(version=2), BadInputError, "test: schema version 2, supported is 3"),
    "no subgraph": (lambda r: r.update(subgraphs=[]), BadInputError, "0 subgraphs"),
    "two subgraphs": (lambda r: r.update(subgraphs=r["subgraphs"] * 2), BadInputError, "2 subgraphs"),
    "no tensors": (lambda r: subgraph(r).update(tensors=[]), BadInputError, "tensor 0 does not exist, there are 0"),
    "no operators": (lambda r: subgraph(r).update(operators=[]), SpecError, "no operators"),
    "no inputs": (lambda r: subgraph(r).update(inputs=[]), UnsupportedError, "0 model inputs, supported is 1"),
    "two inputs": (lambda r: subgraph(r).update(inputs=[0, 1]), UnsupportedError, "2 model inputs"),
    "no outputs": (lambda r: subgraph(r).update(outputs=[]), UnsupportedError, "0 model outputs"),
    "input -1": (lambda r: subgraph(r).update(inputs=[-1]), BadInputError, "tensor -1 does not exist"),
    "input out of range": (lambda r: subgraph(r).update(inputs=[999]), BadInputError, "tensor 999 does not exist"),
    "output out of range": (lambda r: subgraph(r).update(outputs=[999]), BadInputError, "tensor 999 does not exist"),
    "output never computed": (
        lambda r: subgraph(r).update(outputs=[index_of(r, "filter_0")]), SpecError, "'?filter_0'?: .*never computed",
    ),
    "input is the output": (lambda r: subgraph(r).update(outputs=[0]), SpecError, "input: .*never computed"),
    "input has data": (lambda r: tensor(r, "input").update(buffer=4), BadInputError, "'input': its buffer has"),
    "unsupported builtin": (
        lambda r: use_code(r, CONV, builtin_code=4), UnsupportedError, f"DEPTHWISE_CONV_2D .output '{CONV}'.*supported are",
    ),
    "unsupported in the old field": (
        lambda r: use_code(r, CONV, deprecated_builtin_code=0x22), UnsupportedError, "PAD .output",
    ),
    "unknown builtin": (lambda r: use_code(r, CONV, builtin_code=9999), UnsupportedError, "builtin operator 9999"),
    "negative builtin": (
        lambda r: use_code(r, CONV, builtin_code=-5, deprecated_builtin_code=-5), UnsupportedError, "builtin operator -5",
    ),
    "unknown custom": (
        lambda r: use_code(r, CONV, builtin_code=32, custom_code="My'Op\n"), UnsupportedError, r"custom operator .My'Op\\n",
    ),
    "several unsupported": (unsupported_twice, UnsupportedError, "DEPTHWISE_CONV_2D .*'LceOther'.*GELU"),
    "unsupported without outputs": (
        lambda r: (use_code(r, CONV, builtin_code=4), operator(r, CONV).update(outputs=[])), UnsupportedError,
        "DEPTHWISE_CONV_2D .output none",
    ),
    "missing operator code": (
        lambda r: operator(r, CONV).update(opcode_index=99), BadInputError, "operator code 99 does not exist",
    ),
    "no operator codes": (lambda r: r.update(operator_codes=[]), BadInputError, "operator code 0 does not exist"),
    "unsupported dtype": (lambda r: tensor(r, CONV).update(type=7), UnsupportedError, f"dtype int16 .tensor '{CONV}'"),
    "several unsupported dtypes": (
        lambda r: (tensor(r, CONV).update(type=3), tensor(r, DENSE).update(type=99)), UnsupportedError,
        "dtype uint8 .*dtype 99 .*supported are",
    ),
    "unsupported operator and dtype": (
        lambda r: (use_code(r, SOFTMAX, builtin_code=98), tensor(r, "input").update(type=1)), UnsupportedError,
        "LEAKY_RELU .*dtype float16",
    ),
    "dynamic shape": (
        lambda r: tensor(r, "input").update(shape_signature=[1, -1, -1, 3]), BadInputError,
        r"'input': dynamic shape \[1, -1, -1, 3\]; convert it with fixed",
    ),
    "negative dimension": (
        lambda r: tensor(r, "input").update(shape=[1, -6, 6, 3]), BadInputError, r"dynamic shape \[1, -6",
    ),
    "batch of 2": (batch_of_two, SpecError, "'input' int8 .2, 6, 6, 3.: the batch dimension must be 1"),
    "zero dimension": (lambda r: tensor(r, "input").update(shape=[1, 0, 6, 3]), BadInputError, "has 0 elements"),
    "product beyond 2**31": (
        lambda r: tensor(r, "input").update(shape=[1, 65536, 65536, 3]), BadInputError, "'input': shape .* has 12884901888",
    ),
    "product beyond 2**64": (
        lambda r: tensor(r, "input").update(shape=[2**31 - 1] * 5), BadInputError, "'input': shape",
    ),
    "100,000 dimensions": (
        lambda r: tensor(r, "input").update(shape=[2**31 - 1] * 100_000), BadInputError, "100000 dimensions, supported are 8",
    ),
    "no dimension": (lambda r: tensor(r, "input").update(shape=[]), SpecError, "the batch dimension must be 1"),
    "same name twice": (
        lambda r: rename(r, CONV, "input"), BadInputError, "two tensors are named 'input'; give every layer",
    ),
    "unprintable name": (
        lambda r: rename(r, CONV, "a\nb\x1b"), BadInputError, r"the tensor name 'a\\nb\\x1b' has unprintable characters",
    ),
    "dangling input": (
        lambda r: operator(r, CONV).update(inputs=[0, 999, 1]), BadInputError, "tensor 999 does not exist, there are",
    ),
    "dangling negative input": (
        lambda r: operator(r, CONV).update(inputs=[0, -2, 1]), BadInputError, "tensor -2 does not exist",
    ),
    "dangling output": (lambda r: operator(r, CONV).update(outputs=[999]), BadInputError, "tensor 999 does not exist"),
    "no output": (lambda r: operator(r, CONV).update(outputs=[]), BadInputError, "CONV_2D has 0 outputs, allowed is 1"),
    "two outputs": (lambda r: operator(r, CONV).update(outputs=[1, 2]), BadInputError, "CONV_2D has 2 outputs"),
    "too few inputs": (lambda r: operator(r, CONV).update(inputs=[0]), SpecError, f"CONV_2D '{CONV}': has inputs"),
    "no operator inputs": (lambda r: operator(r, SOFTMAX).update(inputs=[]), SpecError, "SOFTMAX .*has inputs"),
    "too many inputs": (
        lambda r: operator(r, SOFTMAX).update(inputs=[index_of(r, DENSE)] * 2), SpecError, "has inputs .*allowed are 1 to 1",
    ),
    "absent input": (lambda r: operator(r, SOFTMAX).update(inputs=[-1]), SpecError, "SOFTMAX .*has inputs"),
    "cycle": (cycle, SpecError, f"LceQuantize '{QUANTIZE}': reads '{BPOOL}', which is not computed before"),
    "reads itself": (
        lambda r: operator(r, CONV).update(inputs=[index_of(r, CONV), *operator(r, CONV)["inputs"][1:]]), SpecError,
        "which is not computed before",
    ),
    "computed twice": (
        lambda r: operator(r, POOL).update(outputs=[index_of(r, BCONV_INT8)]), SpecError, "already has a value",
    ),
    "computes a constant": (
        lambda r: operator(r, CONV).update(outputs=[index_of(r, "bias_7")]), SpecError, "already has a value",
    ),
    "operators out of order": (
        lambda r: subgraph(r)["operators"].insert(-2, subgraph(r)["operators"].pop()), SpecError,
        f"SOFTMAX '{SOFTMAX}': reads '{DENSE}', which is not computed before",
    ),
    "missing buffer": (lambda r: tensor(r, "filter_0").update(buffer=999), BadInputError, "'filter_0': buffer 999"),
    "no buffers": (lambda r: r.update(buffers=[]), BadInputError, "'input': buffer 0 does not exist"),
    "short buffer": (
        lambda r: r["buffers"][tensor(r, "filter_0")["buffer"]].update(data=b"123"), BadInputError,
        "'filter_0': its buffer has 3 bytes, its shape needs 216",
    ),
    "empty buffer": (
        lambda r: r["buffers"][tensor(r, "filter_0")["buffer"]].update(data=b""), SpecError, "reads 'filter_0'",
    ),
    "pad bits set": (
        lambda r: r["buffers"][tensor(r, "filter_2")["buffer"]].update(data=b"\xff" * 33 * 9 * 4), SpecError,
        "'filter_2' bits .*: bits beyond the last of its 8 channels are set",
    ),
    "words that do not hold the channels": (
        lambda r: tensor(r, QUANTIZE).update(shape=[1, 6, 6, 2]), BadInputError, f"'{QUANTIZE}' .*should hold 8 packed",
    ),
    "packed tensor of another dtype": (
        lambda r: tensor(r, QUANTIZE).update(type=9), BadInputError, f"'{QUANTIZE}' int8 .*should hold 8 packed",
    ),
    "thresholds of another dtype": (
        lambda r: tensor(r, "threshold_2").update(type=0), SpecError, "bits have constant int32 thresholds",
    ),
    "filter without dimensions": (
        lambda r: (tensor(r, "filter_2").update(shape=[1]), r["buffers"][tensor(r, "filter_2")["buffer"]].update(data=b"1234")),
        OnebitError, "",
    ),
    "zero stride": (
        lambda r: operator(r, CONV)["builtin_options"].update(stride_w=0), SpecError,
        f"CONV_2D '{CONV}': must hold: strides and dilations are at least 1",
    ),
    "negative stride": (lambda r: operator(r, CONV)["builtin_options"].update(stride_h=-1), SpecError, "strides"),
    "zero dilation": (lambda r: operator(r, CONV)["builtin_options"].update(dilation_h_factor=0), SpecError, "dilations"),
    "absurd dilation": (
        lambda r: operator(r, CONV)["builtin_options"].update(dilation_h_factor=2**24), SpecError, "at most 1024",
    ),
    "absurd stride": (
        lambda r: operator(r, POOL)["builtin_options"].update(stride_h=2**31 - 1), SpecError, "at most 1024",
    ),
    "zero pool": (lambda r: operator(r, POOL)["builtin_options"].update(filter_width=0), SpecError, "filter and strides"),
    "unknown padding": (lambda r: operator(r, CONV)["builtin_options"].update(padding=7), BadInputError, "CONV_2D .*7"),
    "unknown activation": (
        lambda r: operator(r, DENSE)["builtin_options"].update(fused_activation_function=4), BadInputError,
        "FULLY_CONNECTED has unusable options .*4",
    ),
    "no options": (
        lambda r: operator(r, CONV).update(builtin_options=None, builtin_options_type=0), BadInputError, "CONV_2D .*options",
    ),
    "options of another operator": (
        lambda r: operator(r, CONV).update(builtin_options={"beta": 1.0}, builtin_options_type=9), BadInputError,
        "CONV_2D has unusable options",
    ),
    "NaN beta": (
        lambda r: operator(r, SOFTMAX)["builtin_options"].update(beta=float("nan")), SpecError, "beta is finite",
    ),
    "zero scale": (
        lambda r: tensor(r, CONV)["quantization"].update(scale=[0.0]), SpecError,
        f"'{CONV}' int8 .*: scales must be finite and positive",
    ),
    "negative scale": (lambda r: tensor(r, CONV)["quantization"].update(scale=[-0.5]), SpecError, "finite and positive"),
    "NaN scale": (lambda r: tensor(r, CONV)["quantization"].update(scale=[np.nan]), SpecError, "finite and positive"),
    "infinite scale": (lambda r: tensor(r, CONV)["quantization"].update(scale=[np.inf]), SpecError, "finite and positive"),
    "no scale": (lambda r: tensor(r, CONV).update(quantization=None), SpecError, "an int8 tensor has no quantization"),
    "two scales of an activation": (
        lambda r: tensor(r, CONV)["quantization"].update(scale=[0.1, 0.2], zero_point=[0, 0]), SpecError, "must have one scale",
    ),
    "scales without zero points": (
        lambda r: tensor(r, "filter_0")["quantization"].update(zero_point=[0]), BadInputError,
        "'filter_0': 8 scales but 1 zero points",
    ),
    "zero point 128": (
        lambda r: tensor(r, CONV)["quantization"].update(zero_point=[128]), SpecError, "zero points must be in -128..127",
    ),
    "zero point beyond 32 bits": (
        lambda r: tensor(r, CONV)["quantization"].update(zero_point=[2**40]), SpecError, "zero points must be in",
    ),
    "infinite weights": (
        lambda r: r["buffers"][tensor(r, "multiplier_4")["buffer"]].update(data=struct.pack("<4f", 1, 2, np.inf, 4)),
        SpecError, "'multiplier_4' .*NaN or infinite",
    ),
    "custom options are garbage": (lambda r: set_custom(r, b"\x01\x02\x03garbage"), BadInputError, "no flexbuffer map"),
    "custom options of one byte": (lambda r: set_custom(r, b"\x01"), BadInputError, "no flexbuffer map"),
    "custom options empty": (
        lambda r: operator(r, BCONV).update(custom_options=None), BadInputError, "LceBconv2d has unusable options .*channels_in",
    ),
    "custom options are a list": (lambda r: set_custom(r, flexbuffers.Dumps([1, 2])), BadInputError, "flexbuffer map"),
    "custom options of text": (
        lambda r: set_custom(r, flexbuffers.Dumps({"padding": "SAME"})), BadInputError, "flexbuffer map of integers",
    ),
    "custom options nested": (
        lambda r: set_custom(r, flexbuffers.Dumps({"padding": {"a": 1}})), BadInputError, "flexbuffer map of integers",
    ),
    "1,000 custom options": (
        lambda r: set_custom(r, flexbuffers.Dumps({f"k{i}": i for i in range(1000)})), BadInputError, "flexbuffer map",
    ),
    "key missing": (
        lambda r: set_custom(r, bconv_options(stride_width=None)), BadInputError, "LceBconv2d .*stride_width",
    ),
    "unknown padding of a bconv": (lambda r: set_custom(r, bconv_options(padding=2)), BadInputError, "LceBconv2d .*2"),
    "unknown padding value": (lambda r: set_custom(r, bconv_options(pad_values=2)), SpecError, "pad_values 0 or 1"),
    "unknown activation of a bconv": (
        lambda r: set_custom(r, bconv_options(fused_activation_function=9)), BadInputError, "LceBconv2d .*9",
    ),
    "zero stride of a bconv": (lambda r: set_custom(r, bconv_options(stride_height=0)), SpecError, "strides"),
    "absurd stride of a bconv": (lambda r: set_custom(r, bconv_options(stride_height=2**62)), SpecError, "at most 1024"),
    "absurd dilation of a bconv": (
        lambda r: set_custom(r, bconv_options(dilation_width_factor=2**40)), SpecError, "at most 1024",
    ),
    "no channels": (lambda r: set_custom(r, bconv_options(channels_in=0)), SpecError, "LceBconv2d"),
    "negative channels": (lambda r: set_custom(r, bconv_options(channels_in=-8)), SpecError, "LceBconv2d"),
    "too many channels": (lambda r: set_custom(r, bconv_options(channels_in=2**62)), SpecError, "LceBconv2d"),
    "zero padding with bits": (lambda r: set_custom(r, bconv_options(pad_values=0)), SpecError, "no zero-padded form"),
    "metadata is no JSON": (
        lambda r: r["buffers"][r["metadata"][0]["buffer"]].update(data=b"{"), BadInputError, "test: metadata: .*no JSON",
    ),
    "metadata is no text": (
        lambda r: r["buffers"][r["metadata"][0]["buffer"]].update(data=b"\xff\xfe\0"), BadInputError, "test: metadata: .*no JSON",
    ),
    "metadata is empty": (
        lambda r: r["buffers"][r["metadata"][0]["buffer"]].update(data=b""), BadInputError, "test: metadata: ",
    ),
    "metadata is deeply nested": (
        lambda r: r["buffers"][r["metadata"][0]["buffer"]].update(data=b"[" * 100_000), BadInputError, "test: metadata: ",
    ),
    "metadata of another format": (
        lambda r: r["buffers"][r["metadata"][0]["buffer"]].update(data=b'{"format": 99}'), BadInputError, "test: metadata: ",
    ),
    "metadata buffer missing": (
        lambda r: r["metadata"][0].update(buffer=999), BadInputError, "the metadata buffer 999 does not exist",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_one_wrong_thing(name: str, tmp_path: Path) -> None:
    change, kind, words = CASES[name]
    path = tmp_path / "test"
    path.write_bytes(edited(write_model(int8_net()), change))
    error = error_of(path)
    assert isinstance(error, kind), error
    assert error.where.startswith("test")
    assert re.search(words, str(error)), str(error)


def test_an_unsupported_dtype_is_also_found_in_constants() -> None:
    content = edited(write_model(float_net()), lambda r: tensor(r, "filter_0").update(type=1))
    assert "dtype float16 (tensor 'filter_0')" in error_of(content).message


def test_reshape_to_another_shape_than_declared() -> None:
    content = edited(
        write_model(Net((1, 2, 6)).reshape(1, 12).graph()),
        lambda r: subgraph(r)["operators"][0]["builtin_options"].update(new_shape=[1, 3, 4]),
    )
    assert isinstance(error_of(content), SpecError)


def test_a_name_that_is_not_utf8() -> None:
    content = write_model(int8_net()).replace(b"input", b"inp\xfft")
    assert "UTF-8" in error_of(content).message


def test_a_name_that_does_not_end() -> None:
    content = write_model(int8_net()).replace(b"input\0", b"input!")
    assert "not terminated" in error_of(content).message


# ----------------------------------------------------------------------------------------------------- hostile and random


def limited(content: bytes) -> tuple[OnebitError | None, float, int]:
    """Outcome of reading, seconds, and peak of allocated bytes."""
    tracemalloc.start()
    start = time.perf_counter()
    try:
        read_model(content)
        error = None
    except OnebitError as e:
        error = e
    seconds = time.perf_counter() - start
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return error, seconds, peak


class Bomb(Encoder):
    """An encoder that writes each distinct object once, however often it is referred to."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[int, int] = {}

    def _table(self, name: str, record: Any) -> int:
        if id(record) not in self._seen:
            self._seen[id(record)] = super()._table(name, record)
        return self._seen[id(record)]

    def _reference(self, kind: str, value: Any, record: Any) -> int:
        if id(value) not in self._seen:
            self._seen[id(value)] = super()._reference(kind, value, record)
        return self._seen[id(value)]


LONG_NAME, NUMBERS = "n" * 50_000, list(range(50_000))
TENSOR = {"name": LONG_NAME, "shape": [1, 2, 3], "type": 0, "buffer": 0}
OPERATOR = {"opcode_index": 0, "inputs": NUMBERS, "outputs": NUMBERS, "custom_options": b"o" * 50_000}
SUBGRAPH = {"tensors": [TENSOR] * 50_000, "inputs": [0], "outputs": [1], "operators": []}
BOMBS: dict[str, Record] = {
    "one long name in 50,000 tensors": {"subgraphs": [SUBGRAPH]},
    "one operator 50,000 times": {"subgraphs": [{**SUBGRAPH, "tensors": [], "operators": [OPERATOR] * 50_000}]},
    "one long shape in 5,000 tensors": {
        "subgraphs": [
            {**SUBGRAPH, "tensors": [{"name": f"t{i}", "shape": NUMBERS, "type": 0, "buffer": 0} for i in range(5000)]}
        ]
    },
    "one subgraph 100,000 times": {"subgraphs": [SUBGRAPH] * 100_000},
    "one buffer 100,000 times": {"buffers": [{"data": b"x" * 100_000}] * 100_000},
}


@pytest.mark.parametrize("name", BOMBS)
def test_offsets_that_share_one_object_many_times(name: str) -> None:
    content = Bomb().finish("Model", {"version": 3, **BOMBS[name]})
    assert len(content) < 1_000_000
    error, seconds, peak = limited(content)
    assert isinstance(error, BadInputError)
    assert "size allows" in error.message
    assert seconds < 3  # tracing allocations slows it down several times
    assert peak < 100_000_000


def unfolding_flexbuffer(levels: int) -> bytes:
    """Vectors of ten references to the vector before: 10**levels values in 21 bytes a level."""
    vector = 10 << 2  # packed type, offsets of one byte
    raw, target = bytearray([1, 7, 1 << 2]), 1  # a vector of one integer: length, value, type
    for _ in range(levels):
        start = len(raw) + 1
        raw += bytes([10, *(start + i - target for i in range(10)), *[vector] * 10])
        target = start
    return bytes(raw + bytes([len(raw) - target, vector, 1]))


def test_a_flexbuffer_that_would_unfold_to_a_billion_values() -> None:
    assert np.shape(flexbuffers.Loads(unfolding_flexbuffer(2))) == (10, 10, 1)
    content = edited(write_model(int8_net()), lambda r: set_custom(r, unfolding_flexbuffer(9)))
    error, seconds, _ = limited(content)
    assert isinstance(error, BadInputError)
    assert seconds < 1


def test_many_tensors_on_one_large_buffer_cost_no_copies() -> None:
    net = Net((1, 4))
    for _ in range(300):
        net.add(np.zeros(4))
    graph = net.graph()

    def share(record: Record) -> None:
        record["buffers"].append({"data": bytes(4_000_000)})
        for each in subgraph(record)["tensors"]:
            if each["name"].startswith("term_"):
                each.update(buffer=len(record["buffers"]) - 1, shape=[1_000_000])

    error, _, peak = limited(edited(write_model(graph), share))
    assert isinstance(error, SpecError)
    assert peak < 50_000_000


def mutated(rng: np.random.Generator, content: bytes) -> bytes:
    """One corruption: truncation, flipped bits, other bytes, extreme or shifted words, or bytes copied elsewhere."""
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


FILES = {"int8": int8_net, "float": float_net, "attributes": attribute_net}
CORRUPTIONS = 400


@pytest.mark.parametrize("name", FILES)
def test_random_corruptions(name: str, rng: np.random.Generator) -> None:
    """Reading succeeds or says why not; what is accepted can be written and evaluated, all of it quickly."""
    content = write_model(FILES[name]())
    refused = 0
    for i in range(CORRUPTIONS):
        damaged = mutated(rng, content)
        start = time.perf_counter()
        try:
            graph = read_model(damaged)
        except OnebitError as error:
            assert error.exit_code == 2, i
            assert error.where, i
            assert "\n" not in str(error), i
            refused += 1
        else:
            exercise(graph)
        assert time.perf_counter() - start < 1, i
    assert CORRUPTIONS * 0.5 < refused < CORRUPTIONS


def exercise(graph: Graph) -> None:
    write_model(graph)
    x = np.zeros(graph.input.stored_shape, graph.input.dtype.numpy)
    y = evaluate(graph, x)[graph.outputs[0]]
    assert y.shape == graph.output.stored_shape
    assert graph.input.dtype in (DType.FLOAT32, DType.INT8)
