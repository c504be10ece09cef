"""The flatbuffer codec against the schema module and the object API that LiteRT generates."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onebit.core import DType, Graph, read_model, spec, write_model
from onebit.core.errors import UnsupportedError
from onebit.core.flatbuffer import schema
from onebit.core.flatbuffer.builtin_names import BUILTIN_NAMES, builtin_name
from onebit.core.flatbuffer.results import operators_of
from onebit.core.metadata import METADATA_NAME, ModelMetadata, Preprocessing
from onebit.core.ops import OPS, Activation, BuiltinOp, CustomOp, Mean, Padding
from support.elementwise_nets import CHAINS
from support.files import (
    all_small_files,
    attribute_net,
    edited,
    float_net,
    int8_net,
    movement_net,
    subgraph,
    tensor,
    window_net,
)
from support.nets import Net

GRAPHS = {
    "int8": int8_net,
    "float": float_net,
    "attributes": attribute_net,
    "movement": movement_net,
    "window": window_net,
    **CHAINS,
}
RequiresData = Callable[[str], Path]


@pytest.fixture(scope="module")
def generated() -> Any:
    """LiteRT's own schema module."""
    return pytest.importorskip("ai_edge_litert.schema_py_generated", reason="package: ai-edge-litert is not installed")


# ------------------------------------------------------------------------------------------------------------- schema

PREPEND = {
    "bool": "PrependBoolSlot", "u8": "PrependUint8Slot", "i8": "PrependInt8Slot", "i32": "PrependInt32Slot",
    "u32": "PrependUint32Slot", "u64": "PrependUint64Slot", "f32": "PrependFloat32Slot",
}  # fmt: skip
ELEMENT_BYTES = {"i32": 4, "i64": 8, "f32": 4, "bytes": 1}


class Recorder:
    """Stands in for a flatbuffers builder and keeps the one call that a generated function makes."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []

    def __getattr__(self, name: str) -> Callable[..., int]:
        def record(*args: Any) -> int:
            self.calls.append((name, args))
            return 0

        return record


def generated_call(generated: Any, function: str, *args: Any) -> tuple[str, tuple[Any, ...]]:
    recorder = Recorder()
    getattr(generated, function)(recorder, *args)
    (call,) = recorder.calls
    return call


def camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


@pytest.mark.parametrize("table", schema.TABLES)
def test_every_field_has_the_slot_kind_and_default_of_the_schema(table: str, generated: Any) -> None:
    for name, field in schema.TABLES[table].items():
        label = f"{table}.{name}"
        method, args = generated_call(generated, f"{table}Add{camel(name)}", 0)
        if field.kind in PREPEND:
            assert (method, args[0], args[2]) == (PREPEND[field.kind], field.slot, field.default), label
        else:
            assert (method, args[0]) == ("PrependUOffsetTRelativeSlot", field.slot), label
        element = field.kind if field.kind == "bytes" else field.kind.removeprefix("[").removesuffix("]")
        if field.kind.startswith("[") or field.kind == "bytes":
            method, args = generated_call(generated, f"{table}Start{camel(name)}Vector", 0)
            assert (method, args[0]) == ("StartVector", ELEMENT_BYTES.get(element, 4)), label
        elif not field.kind.startswith("union"):
            assert not hasattr(generated, f"{table}Start{camel(name)}Vector"), label


def test_every_code_is_that_of_the_schema(generated: Any) -> None:
    for name, op in OPS.items():
        if issubclass(op, BuiltinOp):
            assert op.code == getattr(generated.BuiltinOperator, name), name
            if op.options_table is not None:
                assert op.options_table in schema.OPTION_TABLES.values(), name
    for code, table in schema.OPTION_TABLES.items():
        assert code == getattr(generated.BuiltinOptions, table)
    assert generated.BuiltinOperator.CUSTOM == schema.CUSTOM
    assert generated.BuiltinOperator.PLACEHOLDER_FOR_GREATER_OP_CODES == schema.PLACEHOLDER_FOR_GREATER_OP_CODES


def test_every_enumeration_is_that_of_the_schema(generated: Any) -> None:
    assert {p.name: int(p) for p in Padding} == {"SAME": generated.Padding.SAME, "VALID": generated.Padding.VALID}
    for activation in Activation:
        assert int(activation) == getattr(generated.ActivationFunctionType, activation.name)
    for code, name in schema.TENSOR_TYPE_NAMES.items():
        assert code == getattr(generated.TensorType, name.upper())
    assert schema.TENSOR_TYPES.items() <= schema.TENSOR_TYPE_NAMES.items()


def test_builtin_operators_are_called_by_their_names(generated: Any) -> None:
    codes = {name: code for name, code in vars(generated.BuiltinOperator).items() if isinstance(code, int)}
    assert {name: code for code, name in enumerate(BUILTIN_NAMES)} == codes
    assert builtin_name(len(BUILTIN_NAMES)) == f"builtin operator {len(BUILTIN_NAMES)}"


# --------------------------------------------------------------------------------------------------------- round trip


def assert_same_graph(got: Graph, want: Graph) -> None:
    assert got.nodes == want.nodes
    assert (got.inputs, got.outputs, got.metadata) == (want.inputs, want.outputs, want.metadata)
    assert got.tensors.keys() == want.tensors.keys()
    for name, ours in want.tensors.items():
        other = got.tensors[name]
        assert (other.shape, other.dtype, other.quantization) == (ours.shape, ours.dtype, ours.quantization), name
        assert (other.data is None) == (ours.data is None), name
        if ours.data is not None:
            np.testing.assert_array_equal(other.constant(), ours.constant(), err_msg=name)
            assert other.constant().dtype == ours.constant().dtype, name


@pytest.mark.parametrize("name", GRAPHS)
def test_what_is_written_reads_back_equal(name: str) -> None:
    graph = GRAPHS[name]()
    assert_same_graph(read_model(write_model(graph)), graph)


def test_every_operator_is_in_the_round_trip() -> None:
    seen = {node.op.name for make in GRAPHS.values() for node in make().nodes}
    assert seen == {name for name, op in OPS.items() if not op.internal}


@pytest.mark.parametrize("channels", [1, 31, 32, 33, 64, 65])
def test_packed_tensors_keep_their_channel_count(channels: int) -> None:
    net = Net((1, 4, 4, channels)).quantize().bconv(channels, to=DType.BITS).bpool().bconv(3).quantize().dequantize()
    assert_same_graph(read_model(write_model(net.graph())), net.graph())


def test_metadata_travels_with_the_model() -> None:
    preprocessing = Preprocessing(1 / 3, -0.5, (0.1, 0.2, 0.3), (0.3, 0.2, 0.1))
    metadata = ModelMetadata(preprocessing, "NHWC", ("ä", "b"), "mnist5k")
    graph = Net((1, 2, 2, 3)).quantize().graph(metadata)
    assert read_model(write_model(graph)).metadata == metadata
    assert read_model(write_model(Net((1, 3)).quantize().graph())).metadata is None


def test_a_path_and_its_content_read_the_same(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(write_model(int8_net()))
    for source in (path, str(path), path.read_bytes()):
        assert_same_graph(read_model(source), int8_net())


def test_constants_that_share_a_buffer_are_read_without_copies() -> None:
    net = Net((1, 4)).mul(np.arange(4)).add(np.ones(4))

    def share(record: dict[str, Any]) -> None:
        tensor(record, "term_1")["buffer"] = tensor(record, "factor_0")["buffer"]

    graph = read_model(edited(write_model(net.graph()), share))
    assert np.shares_memory(graph.tensors["term_1"].constant(), graph.tensors["factor_0"].constant())


def test_a_free_batch_is_used_with_a_batch_of_one() -> None:
    def free_batch(record: dict[str, Any]) -> None:
        for each in subgraph(record)["tensors"]:
            each["shape_signature"] = [-1, *each["shape"][1:]] if list(each["shape"][:1]) == [1] else None

    assert_same_graph(read_model(edited(write_model(int8_net()), free_batch)), int8_net())


def test_options_at_their_defaults_may_be_absent() -> None:
    """flatc omits a table of defaults: float CONV_2D needs its strides, but ADD and FULLY_CONNECTED nothing."""
    net = Net((1, 4)).mul(np.ones(4)).add(np.ones(4)).dense(3).reduce(Mean(), (1,))

    def drop(record: dict[str, Any]) -> None:
        for each in subgraph(record)["operators"]:
            each["builtin_options_type"], each["builtin_options"] = 0, None

    assert_same_graph(read_model(edited(write_model(net.graph()), drop)), net.graph())


# ------------------------------------------------------------------------------------------ files that others can read


@pytest.mark.parametrize("name", GRAPHS)
def test_the_object_api_reads_the_same_content(name: str, generated: Any) -> None:
    graph = GRAPHS[name]()
    model = generated.ModelT.InitFromPackedBuf(write_model(graph), 0)
    assert model.version == 3
    (sub,) = model.subgraphs
    names = [t.name.decode() for t in sub.tensors]
    operators, added = operators_of(graph)
    for theirs, ours in zip(sub.tensors, (*graph.tensors.values(), *added), strict=True):
        assert theirs.name.decode() == ours.name
        assert tuple(theirs.shape) == ours.stored_shape, ours.name
        dtype = DType.INT32 if ours.dtype is DType.BITS else ours.dtype
        assert theirs.type == getattr(generated.TensorType, dtype.name), ours.name
        data = model.buffers[theirs.buffer].data
        if ours.data is None:
            assert theirs.buffer == 0
            assert data is None
        else:
            assert bytes(bytearray(data)) == ours.data.tobytes(), ours.name
        if ours.quantization is None:
            assert theirs.quantization is None or theirs.quantization.scale is None
        else:
            assert tuple(map(float, theirs.quantization.scale)) == ours.quantization.scales
            assert tuple(theirs.quantization.zeroPoint) == ours.quantization.zero_points
            assert theirs.quantization.quantizedDimension == ours.quantization.axis
    assert [names[i] for i in sub.inputs] == list(graph.inputs)
    assert [names[i] for i in sub.outputs] == list(graph.outputs)
    for operator_, node in zip(sub.operators, operators, strict=True):
        assert [None if i < 0 else names[i] for i in operator_.inputs] == list(node.inputs)
        assert [names[i] for i in operator_.outputs] == list(node.outputs)
        assert_same_operator(model, operator_, node.op, generated)
    if graph.metadata is not None:
        (entry,) = model.metadata
        assert entry.name.decode() == METADATA_NAME
        assert bytes(bytearray(model.buffers[entry.buffer].data)) == graph.metadata.to_json_bytes()


def assert_same_operator(model: Any, theirs: Any, op: Any, generated: Any) -> None:
    code = model.operatorCodes[theirs.opcodeIndex]
    if isinstance(op, CustomOp):
        flexbuffers = pytest.importorskip("flatbuffers.flexbuffers")
        assert (code.builtinCode, code.customCode.decode()) == (generated.BuiltinOperator.CUSTOM, op.name)
        options = {} if theirs.customOptions is None else flexbuffers.Loads(bytes(bytearray(theirs.customOptions)))
        assert options == op.to_options()
        return
    assert code.builtinCode == getattr(generated.BuiltinOperator, op.name)
    assert code.deprecatedBuiltinCode == min(code.builtinCode, schema.PLACEHOLDER_FOR_GREATER_OP_CODES)
    assert theirs.builtinOptionsType == getattr(generated.BuiltinOptions, op.options_table or "NONE")
    for name, value in op.to_options().items():
        field = camel(name)
        got = getattr(theirs.builtinOptions, field[0].lower() + field[1:])
        assert np.array_equal(got if got is not None else [], value), f"{op.name}.{name}"


@pytest.mark.parametrize("name", GRAPHS)
def test_files_of_the_object_api_read_back_equal(name: str, generated: Any) -> None:
    """Packed by another program: other order of tables and vectors, the same model."""
    flatbuffers = pytest.importorskip("flatbuffers")
    graph = GRAPHS[name]()
    model = generated.ModelT.InitFromPackedBuf(write_model(graph), 0)
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    assert_same_graph(read_model(bytes(builder.Output())), graph)


def test_constant_data_is_aligned_to_16_bytes_in_the_file(generated: Any) -> None:
    for content in all_small_files().values():
        start = np.frombuffer(content, np.uint8).__array_interface__["data"][0]
        model = generated.Model.GetRootAs(content)
        buffers = [model.Buffers(i) for i in range(model.BuffersLength())]
        filled = [b.DataAsNumpy() for b in buffers if b.DataLength()]
        assert len(filled) > 5
        assert {(data.__array_interface__["data"][0] - start) % 16 for data in filled} == {0}


PRINT_DIGESTS = """
import hashlib, support.files
print([hashlib.sha256(content).hexdigest() for content in support.files.all_small_files().values()])
"""


def test_files_are_deterministic() -> None:
    for name, make in GRAPHS.items():
        assert write_model(make()) == write_model(make()), name
    digests = set()
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", PRINT_DIGESTS]
        digests.add(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    assert len(digests) == 1


def test_the_writer_refuses_a_graph_that_breaks_the_spec() -> None:
    graph = int8_net()
    broken = Graph(graph.tensors, graph.nodes[:-1], graph.inputs, graph.outputs)
    with pytest.raises(spec.SpecError, match="writer"):
        write_model(broken)


def test_encoding_what_was_decoded_changes_nothing() -> None:
    def nothing(record: dict[str, Any]) -> None:
        assert record["version"] == schema.SCHEMA_VERSION

    for content in all_small_files().values():
        once = edited(content, nothing)
        assert edited(once, nothing) == once
        assert_same_graph(read_model(once), read_model(content))


# -------------------------------------------------------------------------------------------------- files of strangers

MLPERF = ["ic_resnet8_fp32", "ic_resnet8_int8", "kws_dscnn_int8"]


@pytest.mark.parametrize("name", MLPERF)
def test_mlperf_tiny_reads_or_lists_all_that_is_unsupported(
    name: str, requires_data: RequiresData, repository: Path, generated: Any
) -> None:
    beside = repository.parent / "shared" / "data" / "mlperf_tiny"
    path = (beside if beside.is_dir() else requires_data("mlperf_tiny")) / f"{name}.tflite"
    model = generated.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    by_code = {code: op for op, code in vars(generated.BuiltinOperator).items() if isinstance(code, int)}
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    ops = [by_code[codes[operator_.opcodeIndex]] for operator_ in model.subgraphs[0].operators]
    unsupported = [op for op in ops if op not in OPS]
    if not unsupported:
        assert [node.op.name for node in read_model(path).nodes] == ops
        return
    with pytest.raises(UnsupportedError) as caught:
        read_model(path)
    for op in set(unsupported):
        assert caught.value.message.count(f"{op} (output") == unsupported.count(op)
    assert caught.value.where == path.name
