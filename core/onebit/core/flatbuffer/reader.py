"""From a .tflite file to the graph IR, every rule of the spec checked."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

from flatbuffers import flexbuffers

from onebit.core import spec
from onebit.core.errors import BadInputError, UnsupportedError
from onebit.core.flatbuffer.builtin_names import builtin_name, instead_of
from onebit.core.flatbuffer.decode import Decoder, Record
from onebit.core.flatbuffer.results import nodes_of
from onebit.core.flatbuffer.schema import CUSTOM, SCHEMA_VERSION, TENSOR_TYPE_NAMES, TENSOR_TYPES
from onebit.core.graph import Array, DType, Graph, Node, Quantization, Tensor
from onebit.core.metadata import METADATA_NAME, ModelMetadata
from onebit.core.ops import (
    OPS,
    BuiltinOp,
    CustomOp,
    LceBconv2d,
    Op,
)
from onebit.core.rounding import Rounding

#: elements of one tensor; far above any microcontroller, far below what would exhaust the host
MAX_ELEMENTS = 2**28
MAX_DIMENSIONS = 8
#: entries of an operator's custom options; LceBconv2d has 8
MAX_OPTIONS = 64

_BUILTINS = {op.code: op for op in OPS.values() if issubclass(op, BuiltinOp)}


def read_model(source: Path | str | bytes, rounding: Rounding = Rounding.LITERT) -> Graph:
    """Read a `.tflite` file (path) or its content (bytes) into a verified graph that computes as `rounding` says.

    Raises BadInputError for a missing, truncated or malformed file and for dynamic shapes, UnsupportedError that lists
    all unsupported operators and dtypes at once, and SpecError where a rule of the spec is broken (batches above 1).
    """
    if isinstance(source, bytes):
        return _Reader(source, "model").graph(rounding)
    path = Path(source)
    try:
        data = path.read_bytes()
    except OSError as e:
        raise BadInputError(f"cannot read the model: {e.strerror}", where=str(path), fix="give a .tflite file") from e
    except ValueError as e:
        raise BadInputError(f"cannot read the model: {e}", where=repr(str(path)), fix="give a .tflite file") from e
    return _Reader(data, path.name).graph(rounding)


class _Reader:
    def __init__(self, data: bytes, source: str) -> None:
        self._source = source
        self._decoder = Decoder(data, source)
        model = self._decoder.root("Model")
        if model["version"] != SCHEMA_VERSION:
            raise self._bad(f"schema version {model['version']}, supported is {SCHEMA_VERSION}")
        if len(model["subgraphs"]) != 1:
            raise self._bad(f"{len(model['subgraphs'])} subgraphs, supported is 1")
        self._model = model
        self._records: list[Record] = model["subgraphs"][0]["tensors"]
        self._names = self._unique_names()

    def _bad(self, message: str, where: str = "", fix: str = "convert the model again") -> BadInputError:
        return BadInputError(message, where=f"{self._source}: {where}" if where else self._source, fix=fix)

    def _unique_names(self) -> list[str]:
        names = [record["name"] or f"tensor_{i}" for i, record in enumerate(self._records)]
        seen: set[str] = set()
        for name in names:
            if not name.isprintable():
                raise self._bad(f"the tensor name {name!a} has unprintable characters", fix="rename the layer")
            if name in seen:
                raise self._bad(f"two tensors are named '{name}'", fix="give every layer its own name")
            seen.add(name)
        return names

    def graph(self, rounding: Rounding) -> Graph:
        subgraph = self._model["subgraphs"][0]
        operators = [(record, self._op(record)) for record in subgraph["operators"]]
        self._refuse_unsupported(operators)
        for end in ("inputs", "outputs"):
            if (count := len(_ints(subgraph[end]))) != 1:
                raise UnsupportedError(
                    f"{count} model {end}, supported is 1", where=self._source, fix="split the model"
                )
        tensors: dict[str, Tensor] = {}
        nodes: list[Node] = []
        for i in [*_ints(subgraph["inputs"]), *(i for record, _ in operators for i in _ints(record["inputs"]))]:
            if i != -1 and self._name(i) not in tensors:
                tensors[self._name(i)] = self._tensor(i)
        for record, op in operators:
            assert isinstance(op, Op)
            inputs = tuple(None if i == -1 else self._name(i) for i in _ints(record["inputs"]))
            outputs = tuple(self._name(i) for i in _ints(record["outputs"]))
            try:
                made = nodes_of(op, inputs, outputs, tensors)
            except ValueError as e:
                raise self._bad(str(e)) from e
            tensors.update((self._name(i), self._tensor(i)) for i in _ints(record["outputs"]))
            for node in made:
                self._restore_bits(node, tensors)
            nodes += made
        for i in _ints(subgraph["outputs"]):
            if self._name(i) not in tensors:
                tensors[self._name(i)] = self._tensor(i)
        used = {name for node in nodes for name in (*node.inputs, *node.outputs)}
        used |= {self._name(i) for end in ("inputs", "outputs") for i in _ints(subgraph[end])}
        graph = Graph(
            {name: tensor for name, tensor in tensors.items() if name in used},
            tuple(nodes),
            tuple(self._name(i) for i in _ints(subgraph["inputs"])),
            tuple(self._name(i) for i in _ints(subgraph["outputs"])),
            self._metadata(),
            rounding,
        )
        spec.verify(graph, self._source)
        return graph

    def _op(self, record: Record) -> Op | str:
        """The operator, or the name of an unsupported one."""
        codes = self._model["operator_codes"]
        index = record["opcode_index"]
        if index >= len(codes):
            raise self._bad(f"operator code {index} does not exist, there are {len(codes)}")
        code = max(codes[index]["builtin_code"], codes[index]["deprecated_builtin_code"])
        op: type[Op] | None = OPS.get(codes[index]["custom_code"]) if code == CUSTOM else _BUILTINS.get(code)
        if op is None or op.internal:
            return f"custom operator {codes[index]['custom_code']!a}" if code == CUSTOM else builtin_name(code)
        options = self._custom_options(record) if code == CUSTOM else record["builtin_options"]
        try:
            made: Op = op.from_options(options or _DEFAULT_OPTIONS)  # type: ignore[attr-defined]
        except (KeyError, ValueError, TypeError) as e:
            raise self._bad(f"{op.name} has unusable options ({type(e).__name__}: {e})") from e
        if isinstance(made, CustomOp) and (unknown := sorted(options.keys() - made.to_options().keys())):
            raise self._bad(f"{op.name} has unknown options {unknown}", fix=f"allowed are {list(made.to_options())}")
        return made

    def _custom_options(self, record: Record) -> dict[str, int]:
        raw = record["custom_options"]
        if raw is None or len(raw) == 0:
            return {}
        try:
            return _integer_map(raw.tobytes())
        except Exception as e:  # the flexbuffers package raises whatever it stumbles over
            raise self._bad("an operator has custom options that are no flexbuffer map of integers") from e

    def _refuse_unsupported(self, operators: list[tuple[Record, Op | str]]) -> None:
        """UnsupportedError that lists all operators and dtypes of the graph that onebit does not have."""
        found = []
        used: dict[int, None] = {}
        for record, op in operators:
            outputs = _ints(record["outputs"])
            used.update(dict.fromkeys(i for i in (*_ints(record["inputs"]), *outputs) if i != -1))
            if isinstance(op, str):
                names = ", ".join(_short(self._name(i)) for i in outputs) or "none"
                advice = f": {instead_of(op)}" if instead_of(op) else ""
                found.append(f"{op} (output {names}{advice})")
        for i in used:
            name, code = self._name(i), self._records[i]["type"]
            if code not in TENSOR_TYPES:
                found.append(f"dtype {TENSOR_TYPE_NAMES.get(code, code)} (tensor {_short(name)})")
        if found:
            operators_known = ", ".join(sorted(n for n, op in OPS.items() if not op.internal))
            raise UnsupportedError(
                f"unsupported: {', '.join(found)}",
                where=self._source,
                fix=f"supported are {operators_known}; float32, int8 and packed bits",
            )

    def _name(self, index: int) -> str:
        if not 0 <= index < len(self._names):
            raise self._bad(f"tensor {index} does not exist, there are {len(self._names)}")
        return self._names[index]

    def _tensor(self, index: int) -> Tensor:
        name = self._name(index)
        record = self._records[index]
        shape = self._shape(record, name)
        if record["type"] not in TENSOR_TYPES:
            found = TENSOR_TYPE_NAMES.get(record["type"], record["type"])
            raise UnsupportedError(
                f"dtype {found}", where=f"{self._source}: '{name}'", fix="allowed are float32, int8 and packed bits"
            )
        dtype = DType(TENSOR_TYPES[record["type"]])
        return Tensor(name, shape, dtype, self._quantization(record, name), self._data(record, name, shape, dtype))

    def _shape(self, record: Record, name: str) -> tuple[int, ...]:
        shape = _ints(record["shape"])
        signature = _ints(record["shape_signature"])
        if max(len(shape), len(signature)) > MAX_DIMENSIONS:
            count = max(len(shape), len(signature))
            raise self._bad(f"{count} dimensions, supported are {MAX_DIMENSIONS}", where=f"'{name}'")
        # a batch of any size is used with a batch of 1
        fixed = signature[1:] if shape[:1] == (1,) and signature[:1] == (-1,) else signature
        if any(d < 0 for d in (*shape, *fixed)):
            fix = "convert it with fixed input dimensions"
            raise self._bad(f"dynamic shape {list(signature or shape)}", where=f"'{name}'", fix=fix)
        if not 1 <= prod(shape) <= MAX_ELEMENTS:
            raise self._bad(f"shape {list(shape)} has {prod(shape)} elements", where=f"'{name}'")
        return shape

    def _quantization(self, record: Record, name: str) -> Quantization | None:
        params = record["quantization"]
        if params is None or params["scale"] is None or len(params["scale"]) == 0:
            return None
        scales = tuple(float(s) for s in params["scale"])
        zeros = tuple(int(z) for z in params["zero_point"]) if params["zero_point"] is not None else (0,) * len(scales)
        if len(zeros) != len(scales):
            raise self._bad(f"{len(scales)} scales but {len(zeros)} zero points", where=f"'{name}'")
        return Quantization(scales, zeros, params["quantized_dimension"])

    def _data(self, record: Record, name: str, shape: tuple[int, ...], dtype: DType) -> Array | None:
        buffers = self._model["buffers"]
        if record["buffer"] >= len(buffers):
            raise self._bad(f"buffer {record['buffer']} does not exist", where=f"'{name}'")
        raw = buffers[record["buffer"]]["data"]
        if record["buffer"] == 0 or raw is None or len(raw) == 0:
            return None
        wanted = prod(shape) * dtype.numpy.itemsize
        if len(raw) != wanted:
            raise self._bad(f"its buffer has {len(raw)} bytes, its shape needs {wanted}", where=f"'{name}'")
        # a view: many tensors may share one large buffer
        data: Array = raw.view(dtype.numpy.newbyteorder("<")).reshape(shape)
        return data

    def _restore_bits(self, node: Node, tensors: dict[str, Tensor]) -> None:
        """Give packed tensors, stored as int32 words, their dtype and their logical channel count."""
        if isinstance(node.op, LceBconv2d):
            self._restore_filter(node, tensors)
        output = tensors[node.output]
        inputs = [tensors[name] for name in node.inputs if name is not None]
        channels = node.op.packed_channels(inputs, output)
        if channels is not None:
            tensors[node.output] = self._as_bits(output, channels)

    def _restore_filter(self, node: Node, tensors: dict[str, Tensor]) -> None:
        assert isinstance(node.op, LceBconv2d)
        if len(node.inputs) < 2 or node.inputs[1] is None:
            return
        filters = tensors[node.inputs[1]]
        channels_in = node.op.window.channels_in
        if filters.dtype is not DType.INT32 or len(filters.shape) != 4 or channels_in < 1:
            return
        groups = -(-channels_in // 32) // filters.shape[3] or 1
        tensors[filters.name] = self._as_bits(filters, channels_in // groups)

    def _as_bits(self, tensor: Tensor, channels: int) -> Tensor:
        bits = Tensor(tensor.name, (*tensor.shape[:-1], channels), DType.BITS, None, tensor.data)
        if tensor.dtype is not DType.INT32 or bits.stored_shape != tensor.shape:
            raise self._bad(
                f"{tensor.describe()} should hold {channels} packed channels, int32 {list(bits.stored_shape)}"
            )
        return bits

    def _metadata(self) -> ModelMetadata | None:
        for entry in self._model["metadata"]:
            if entry["name"] == METADATA_NAME:
                if entry["buffer"] >= len(self._model["buffers"]):
                    raise self._bad(f"the metadata buffer {entry['buffer']} does not exist")
                data = self._model["buffers"][entry["buffer"]]["data"]
                try:
                    return ModelMetadata.from_json_bytes(b"" if data is None else data.tobytes())
                except BadInputError as e:
                    raise BadInputError(e.message, where=f"{self._source}: metadata", fix=e.fix) from e
        return None


def _ints(vector: Any) -> tuple[int, ...]:
    return () if vector is None else tuple(int(v) for v in vector)


def _short(name: str) -> str:
    """A quoted name, cut for lists: fused TFLite layers carry the names of all their parts."""
    return f"'{name if len(name) <= 60 else name[:57] + '...'}'"


def _integer_map(raw: bytes) -> dict[str, int]:
    """The entries of a flexbuffer map of integers, at most MAX_OPTIONS; raises whatever it stumbles over.

    Only the root is opened: nested values may refer to each other and grow without bound.
    """
    root = flexbuffers.GetRoot(raw)
    if not root.IsMap:
        raise ValueError("no map")
    entries = root.AsMap
    if len(entries) > MAX_OPTIONS:
        raise ValueError("too many options")
    keys, values = entries.Keys, entries.Values
    options: dict[str, int] = {}
    for i in range(len(entries)):
        if not (values[i].IsInt or values[i].IsBool):
            raise ValueError("not an integer")
        options[keys[i].AsKey] = int(values[i].AsInt)
    return options


class _Defaults(dict[str, Any]):
    """Options of an operator that has no options table: every field at its default."""

    def __missing__(self, key: str) -> Any:
        if key.startswith("dilation"):
            return 1
        if key in ("fused_activation_function", "keep_dims"):
            return 0
        if key == "new_shape":
            return None
        raise KeyError(key)


_DEFAULT_OPTIONS = _Defaults()
