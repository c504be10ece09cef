"""One wrong thing at a time in a small valid model, and the error that reading it gives."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from flatbuffers import flexbuffers

from onebit.core.errors import BadInputError, OnebitError, SpecError, UnsupportedError
from support.files import Record, int8_net, operator, subgraph, tensor

CONV, QUANTIZE, BCONV, BPOOL, BCONV_INT8, POOL, RESHAPE, DENSE, SOFTMAX = (node.output for node in int8_net().nodes)

Change = Callable[[Record], object]


def in_model(**fields: Any) -> Change:
    return lambda record: record.update(fields)


def in_subgraph(**fields: Any) -> Change:
    return lambda record: subgraph(record).update(fields)


def in_tensor(name: str, /, **fields: Any) -> Change:
    return lambda record: tensor(record, name).update(fields)


def in_quantization(name: str, **fields: Any) -> Change:
    return lambda record: tensor(record, name)["quantization"].update(fields)


def in_operator(output: str, **fields: Any) -> Change:
    return lambda record: operator(record, output).update(fields)


def in_options(output: str, **fields: Any) -> Change:
    return lambda record: operator(record, output)["builtin_options"].update(fields)


def custom(options: bytes | dict[str, Any] | list[Any]) -> Change:
    """Other custom options for the binary convolution."""
    raw = options if isinstance(options, bytes) else bytes(flexbuffers.Dumps(options))
    return in_operator(BCONV, custom_options=raw)


def in_custom(**fields: int | None) -> Change:
    """Other custom options for the binary convolution; None leaves the entry out."""
    options = {**int8_net().nodes[2].op.to_options(), **fields}  # type: ignore[attr-defined]
    return custom({key: value for key, value in options.items() if value is not None})


def data(name: str, content: bytes) -> Change:
    """Other content for the buffer of a constant."""
    return lambda record: record["buffers"][tensor(record, name)["buffer"]].update(data=content)


def metadata(content: bytes) -> Change:
    return lambda record: record["buffers"][record["metadata"][0]["buffer"]].update(data=content)


def code(output: str, **fields: Any) -> Change:
    """Another operator code for one operator."""

    def change(record: Record) -> None:
        record["operator_codes"].append({"version": 1, **fields})
        operator(record, output)["opcode_index"] = len(record["operator_codes"]) - 1

    return change


def reads(output: str, position: int, name: str) -> Change:
    """Another tensor as an operator's input."""

    def change(record: Record) -> None:
        inputs = list(operator(record, output)["inputs"])
        inputs[position] = index_of(record, name)
        operator(record, output)["inputs"] = inputs

    return change


def computes(output: str, name: str) -> Change:
    """Another tensor as an operator's output."""
    return lambda record: operator(record, output).update(outputs=[index_of(record, name)])


def index_of(record: Record, name: str) -> int:
    return [t["name"] for t in subgraph(record)["tensors"]].index(name)


def all_of(*changes: Change) -> Change:
    return lambda record: [change(record) for change in changes]


def batch_of_two(record: Record) -> None:
    for each in subgraph(record)["tensors"]:
        if each["buffer"] == 0:
            each["shape"] = [2, *each["shape"][1:]]


def last_two_swapped(record: Record) -> None:
    operators = subgraph(record)["operators"]
    operators.insert(-1, operators.pop())


def two_subgraphs(record: Record) -> None:
    record["subgraphs"] *= 2


HUGE = 2**31 - 1
SEVERAL_OPS = all_of(
    code(CONV, builtin_code=11), code(BPOOL, builtin_code=32, custom_code="LceOther"), code(SOFTMAX, builtin_code=150)
)
SEVERAL_DTYPES = all_of(in_tensor(CONV, type=3), in_tensor(DENSE, type=99))
OP_AND_DTYPE = all_of(code(SOFTMAX, builtin_code=111), in_tensor("input", type=1))

#: what is wrong -> (change of the int8 net, error, words of the line)
CASES: dict[str, tuple[Change, type[OnebitError], str]] = {
    # the model
    "version 2": (in_model(version=2), BadInputError, "test: schema version 2, supported is 3"),
    "no subgraph": (in_model(subgraphs=[]), BadInputError, "0 subgraphs"),
    "two subgraphs": (two_subgraphs, BadInputError, "2 subgraphs"),
    "no tensors": (in_subgraph(tensors=[]), BadInputError, "tensor 0 does not exist, there are 0"),
    "no operators": (in_subgraph(operators=[]), SpecError, "no operators"),
    "no inputs": (in_subgraph(inputs=[]), UnsupportedError, "0 model inputs, supported is 1"),
    "two inputs": (in_subgraph(inputs=[0, 1]), UnsupportedError, "2 model inputs"),
    "no outputs": (in_subgraph(outputs=[]), UnsupportedError, "0 model outputs"),
    "input -1": (in_subgraph(inputs=[-1]), BadInputError, "tensor -1 does not exist"),
    "input out of range": (in_subgraph(inputs=[999]), BadInputError, "tensor 999 does not exist"),
    "output out of range": (in_subgraph(outputs=[999]), BadInputError, "tensor 999 does not exist"),
    "the output is a constant": (in_subgraph(outputs=[1]), SpecError, "filter_0: .*never computed"),
    "the output is the input": (in_subgraph(outputs=[0]), SpecError, "input: .*never computed"),
    "the input has data": (in_tensor("input", buffer=1), BadInputError, "'input': its buffer has"),
    # operators that onebit does not have
    "unsupported builtin": (code(CONV, builtin_code=11), UnsupportedError, f"L2_NORMALIZATION .output '{CONV}'"),
    "unsupported in the old field": (code(CONV, deprecated_builtin_code=12), UnsupportedError, "L2_POOL_2D .output"),
    "unknown builtin": (code(CONV, builtin_code=9999), UnsupportedError, "builtin operator 9999"),
    "negative builtin": (
        code(CONV, builtin_code=-5, deprecated_builtin_code=-5), UnsupportedError, "builtin operator -5",
    ),
    "unknown custom": (code(CONV, builtin_code=32, custom_code="My\n"), UnsupportedError, r"custom operator 'My\\n'"),
    "several unsupported": (SEVERAL_OPS, UnsupportedError, "L2_NORMALIZATION .*'LceOther'.*GELU"),
    "unsupported without outputs": (
        all_of(code(CONV, builtin_code=11), in_operator(CONV, outputs=[])), UnsupportedError, "L2_NORMALIZATION .*none",
    ),
    "missing operator code": (in_operator(CONV, opcode_index=99), BadInputError, "operator code 99 does not exist"),
    "no operator codes": (in_model(operator_codes=[]), BadInputError, "operator code 0 does not exist"),
    # tensors
    "unsupported dtype": (in_tensor(CONV, type=7), UnsupportedError, f"dtype int16 .tensor '{CONV}'"),
    "several unsupported dtypes": (SEVERAL_DTYPES, UnsupportedError, "dtype uint8 .*dtype 99 .*supported are"),
    "unsupported operator and dtype": (OP_AND_DTYPE, UnsupportedError, "ELU .*dtype float16"),
    "dynamic shape": (
        in_tensor("input", shape_signature=[1, -1, -1, 3]), BadInputError,
        r"'input': dynamic shape \[1, -1, -1, 3\]; convert it with fixed",
    ),
    "negative dimension": (in_tensor("input", shape=[1, -6, 6, 3]), BadInputError, r"dynamic shape \[1, -6"),
    "batch of 2": (batch_of_two, SpecError, "'input' int8 .2, 6, 6, 3.: the batch dimension must be 1"),
    "zero dimension": (in_tensor("input", shape=[1, 0, 6, 3]), BadInputError, "has 0 elements"),
    "product beyond 2**31": (in_tensor("input", shape=[1, 65536, 65536, 3]), BadInputError, "'input': .*12884901888"),
    "product beyond 2**64": (in_tensor("input", shape=[HUGE] * 5), BadInputError, "'input': shape"),
    "100,000 dimensions": (in_tensor("input", shape=[HUGE] * 100_000), BadInputError, "100000 dimensions, supported"),
    "no dimension": (in_tensor("input", shape=[]), SpecError, "the batch dimension must be 1"),
    "same name twice": (in_tensor(CONV, name="input"), BadInputError, "two tensors are named 'input'; give"),
    "unprintable name": (in_tensor(CONV, name="a\nb\x1b"), BadInputError, r"'a\\nb\\x1b' has unprintable characters"),
    # how operators hang together
    "dangling input": (in_operator(CONV, inputs=[0, 999, 1]), BadInputError, "tensor 999 does not exist, there are"),
    "dangling negative input": (in_operator(CONV, inputs=[0, -2, 1]), BadInputError, "tensor -2 does not exist"),
    "dangling output": (in_operator(CONV, outputs=[999]), BadInputError, "tensor 999 does not exist"),
    "no output": (in_operator(CONV, outputs=[]), BadInputError, "CONV_2D has 0 outputs, allowed is 1"),
    "two outputs": (in_operator(CONV, outputs=[1, 2]), BadInputError, "CONV_2D has 2 outputs"),
    "too few inputs": (in_operator(CONV, inputs=[0]), SpecError, f"CONV_2D '{CONV}': has inputs"),
    "no operator inputs": (in_operator(SOFTMAX, inputs=[]), SpecError, "SOFTMAX .*has inputs"),
    "too many inputs": (in_operator(SOFTMAX, inputs=[0, 0]), SpecError, "has inputs .*allowed are 1 to 1"),
    "absent input": (in_operator(SOFTMAX, inputs=[-1]), SpecError, "SOFTMAX .*has inputs"),
    "cycle": (reads(POOL, 0, SOFTMAX), SpecError, f"MAX_POOL_2D '{POOL}': reads '{SOFTMAX}', which is not"),
    "reads itself": (reads(CONV, 0, CONV), SpecError, "which is not computed before"),
    "computed twice": (computes(POOL, BCONV_INT8), SpecError, "already has a value"),
    "computes a constant": (computes(CONV, "bias_7"), SpecError, "already has a value"),
    "out of order": (last_two_swapped, SpecError, f"SOFTMAX '{SOFTMAX}': reads '{DENSE}', which is not computed"),
    # constants
    "missing buffer": (in_tensor("filter_0", buffer=999), BadInputError, "'filter_0': buffer 999"),
    "no buffers": (in_model(buffers=[]), BadInputError, "'input': buffer 0 does not exist"),
    "short buffer": (data("filter_0", b"123"), BadInputError, "'filter_0': its buffer has 3 bytes, its .*216"),
    "empty buffer": (data("filter_0", b""), SpecError, "reads 'filter_0'"),
    "infinite weights": (
        data("multiplier_4", struct.pack("<4f", 1, 2, np.inf, 4)), SpecError, "'multiplier_4' .*NaN or infinite",
    ),
    "pad bits set": (data("filter_2", b"\xff" * 33 * 9 * 4), SpecError, "'filter_2' .*: bits beyond the last of its 8"),
    "words that do not hold the channels": (
        in_tensor(QUANTIZE, shape=[1, 6, 6, 2]), BadInputError, f"'{QUANTIZE}' .*should hold 8 packed",
    ),
    "packed tensor of another dtype": (in_tensor(QUANTIZE, type=9), BadInputError, f"'{QUANTIZE}' int8 .*hold 8"),
    "thresholds of another dtype": (in_tensor("threshold_2", type=0), SpecError, "bits constant int32 thresholds"),
    "filter of one dimension": (
        all_of(in_tensor("filter_2", shape=[1]), data("filter_2", b"1234")), BadInputError, "should hold 1 packed",
    ),
    "filter without dimensions": (
        all_of(in_tensor("filter_2", shape=[]), data("filter_2", b"1234")), BadInputError, "should hold",
    ),
    # attributes
    "zero stride": (in_options(CONV, stride_w=0), SpecError, f"CONV_2D '{CONV}': must hold: strides and dilations"),
    "negative stride": (in_options(CONV, stride_h=-1), SpecError, "strides and dilations are at least 1"),
    "zero dilation": (in_options(CONV, dilation_h_factor=0), SpecError, "strides and dilations are at least 1"),
    "absurd dilation": (in_options(CONV, dilation_h_factor=2**24), SpecError, "at most 1024"),
    "absurd stride": (in_options(POOL, stride_h=HUGE), SpecError, "at most 1024"),
    "zero pool": (in_options(POOL, filter_width=0), SpecError, "filter and strides are at least 1"),
    "unknown padding": (in_options(CONV, padding=7), BadInputError, "CONV_2D has unusable options .*7"),
    "unknown activation": (
        in_options(DENSE, fused_activation_function=4), BadInputError, "FULLY_CONNECTED has unusable options .*4",
    ),
    "no options": (
        in_operator(CONV, builtin_options=None, builtin_options_type=0), BadInputError, "CONV_2D has unusable options",
    ),
    "options of another operator": (
        in_operator(CONV, builtin_options={"beta": 1.0}, builtin_options_type=9), BadInputError, "CONV_2D has unusable",
    ),
    "NaN beta": (in_options(SOFTMAX, beta=float("nan")), SpecError, "beta is finite"),
    # quantization
    "zero scale": (in_quantization(CONV, scale=[0.0]), SpecError, f"'{CONV}' int8 .*: scales must be finite"),
    "negative scale": (in_quantization(CONV, scale=[-0.5]), SpecError, "scales must be finite and positive"),
    "NaN scale": (in_quantization(CONV, scale=[np.nan]), SpecError, "scales must be finite and positive"),
    "infinite scale": (in_quantization(CONV, scale=[np.inf]), SpecError, "scales must be finite and positive"),
    "no scale": (in_tensor(CONV, quantization=None), SpecError, "an int8 tensor has no quantization"),
    "two scales of an activation": (
        in_quantization(CONV, scale=[0.1, 0.2], zero_point=[0, 0]), SpecError, "an activation must have one scale",
    ),
    "scales without zero points": (
        in_quantization("filter_0", zero_point=[0]), BadInputError, "'filter_0': 8 scales but 1 zero points",
    ),
    "zero point 128": (in_quantization(CONV, zero_point=[128]), SpecError, "zero points must be in -128..127"),
    "zero point of 40 bits": (in_quantization(CONV, zero_point=[2**40]), SpecError, "zero points must be in -128..127"),
    # custom options
    "custom options are garbage": (custom(b"\x01\x02\x03garbage"), BadInputError, "no flexbuffer map"),
    "custom options of one byte": (custom(b"\x01"), BadInputError, "no flexbuffer map"),
    "custom options are a list": (custom([1, 2]), BadInputError, "no flexbuffer map of integers"),
    "custom options of text": (custom({"padding": "SAME"}), BadInputError, "no flexbuffer map of integers"),
    "custom options nested": (custom({"padding": {"a": 1}}), BadInputError, "no flexbuffer map of integers"),
    "1,000 custom options": (custom({f"k{i}": i for i in range(1000)}), BadInputError, "no flexbuffer map"),
    "no custom options": (in_operator(BCONV, custom_options=None), BadInputError, "LceBconv2d has .*channels_in"),
    "key missing": (in_custom(stride_width=None), BadInputError, "LceBconv2d has unusable options .*stride_width"),
    "unknown padding of a bconv": (in_custom(padding=2), BadInputError, "LceBconv2d has unusable options .*2"),
    "unknown padding value": (in_custom(pad_values=2), SpecError, "pad_values 0 or 1"),
    "unknown activation of a bconv": (in_custom(fused_activation_function=9), BadInputError, "LceBconv2d .*9"),
    "zero stride of a bconv": (in_custom(stride_height=0), SpecError, "strides and dilations are at least 1"),
    "absurd stride of a bconv": (in_custom(stride_height=2**62), SpecError, "at most 1024"),
    "absurd dilation of a bconv": (in_custom(dilation_width_factor=2**40), SpecError, "at most 1024"),
    "no channels": (in_custom(channels_in=0), SpecError, "LceBconv2d"),
    "negative channels": (in_custom(channels_in=-8), SpecError, "LceBconv2d"),
    "too many channels": (in_custom(channels_in=2**62), SpecError, "LceBconv2d"),
    "zero padding with bits": (in_custom(pad_values=0), SpecError, "no zero-padded form"),
    "unknown custom option": (in_custom(sparsity=1), BadInputError, "LceBconv2d has unknown options .'sparsity'."),
    "options of LceQuantize": (
        in_operator(QUANTIZE, custom_options=bytes(flexbuffers.Dumps({"threshold": 1}))), BadInputError,
        "LceQuantize has unknown options .'threshold'.",
    ),
    # metadata
    "metadata is no JSON": (metadata(b"{"), BadInputError, "test: metadata: .*no JSON"),
    "metadata is no text": (metadata(b"\xff\xfe\0"), BadInputError, "test: metadata: .*no JSON"),
    "metadata is empty": (metadata(b""), BadInputError, "test: metadata: "),
    "metadata is deeply nested": (metadata(b"[" * 100_000), BadInputError, "test: metadata: "),
    "metadata of another format": (metadata(b'{"format": 99}'), BadInputError, "test: metadata: "),
    "metadata buffer missing": (
        lambda r: r["metadata"][0].update(buffer=999), BadInputError, "the metadata buffer 999 does not exist",
    ),
}  # fmt: skip
