"""From a scheduled program to the text of the model's C files.

Everything is computed here, as strings ready to print; the templates hold no arithmetic and no shape logic. One context
dataclass per template.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import jinja2
import numpy as np

from onebit.codegen.kernel import Arg, Constant, Fields, Input, Literal, Output, Pitch, Scratch, Signs, Struct
from onebit.codegen.kernels.common import as_c
from onebit.codegen.options import OPTIMIZE_FLAGS, Arena, Optimize
from onebit.codegen.planner import ALIGNMENT
from onebit.codegen.schedule import Buffer, Program, Step, array_key
from onebit.codegen.sharing import Memory
from onebit.codegen.templates_path import templates_root
from onebit.core.graph import Array, DType, Graph, Tensor
from onebit.core.metadata import Preprocessing

#: C type of a tensor's elements, and of constant arrays by NumPy dtype
ELEMENT_TYPES = {
    DType.FLOAT32: "float", DType.INT8: "int8_t", DType.BITS: "uint32_t", DType.INT32: "int32_t", DType.BOOL: "bool",
}  # fmt: skip
ARRAY_TYPES = {
    "float32": "float",
    "int8": "int8_t",
    "int16": "int16_t",
    "uint32": "uint32_t",
    "int32": "int32_t",
    "bool": "bool",
}


@dataclass(frozen=True)
class ArrayText:
    """A constant array: declaration without initialiser, and lines of values in fixed columns."""

    declaration: str
    comment: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class ParamsText:
    """A constant struct of a layer function."""

    ctype: str
    name: str
    fields: tuple[str, ...]


@dataclass(frozen=True)
class CallText:
    """A kernel call."""

    kernel: str
    arguments: tuple[str, ...]


@dataclass(frozen=True)
class ValueText:
    """A value that the layer-by-layer build reports: `count` runs of `bytes`, each `step` bytes behind the last."""

    pointer: str
    count: int
    bytes: int
    step: int


@dataclass(frozen=True)
class LayerText:
    """One layer function: what it computes, its parameter structs, the kernel calls, and what is complete then."""

    function: str
    comment: str
    params: tuple[ParamsText, ...]
    calls: tuple[CallText, ...]
    values: tuple[ValueText, ...]
    index: int


@dataclass(frozen=True)
class ModelContext:
    """Context of every model template."""

    name: str
    guard: str
    banner: tuple[str, ...]
    files: tuple[str, ...]
    headers: tuple[str, ...]
    input_type: str
    output_type: str
    input_comment: str
    output_comment: str
    macros: tuple[tuple[str, str], ...]
    arena_words: int
    arena_bytes: int
    callers_arena: bool
    optimize_flag: str
    layers: tuple[LayerText, ...]
    has_pixels: bool
    arrays: tuple[ArrayText, ...]
    preprocess: tuple[ArrayText, ...]
    pixel_rows: int
    selftest: tuple[ArrayText, ...]
    tolerance: str


@dataclass(frozen=True)
class SelfTest:
    """One input and the output that the NumPy semantics give for it."""

    x: Array
    y: Array


def has_preprocessing(graph: Graph) -> bool:
    """Whether the model comes with a function from pixels to its input."""
    return graph.metadata is not None and graph.input.dtype is not DType.BITS


def model_context(
    program: Program,
    name: str,
    banner: Sequence[str],
    files: Sequence[str],
    selftest: SelfTest,
    optimize: Optimize = "speed",
    arena: Arena = "static",
) -> ModelContext:
    """The context for rendering `program` as the C module `name`; `files` are all that are written with it."""
    source, upper = program.source, name.upper()
    metadata = source.metadata
    preprocess: tuple[ArrayText, ...] = ()
    rows = 1 if metadata is None else _pixel_rows(metadata.preprocessing, source.input)
    if metadata is not None and has_preprocessing(source):
        preprocess = (_preprocess_table(metadata.preprocessing, source.input, rows, name),)
    return ModelContext(
        name=name,
        guard=f"{upper}_H",
        banner=tuple(banner),
        files=_listing(files),
        headers=tuple(sorted({step.kernel.header for step in program.steps})),
        input_type=ELEMENT_TYPES[source.input.dtype],
        output_type=ELEMENT_TYPES[source.output.dtype],
        input_comment=_interface_comment(source.input),
        output_comment=_interface_comment(source.output),
        macros=_macros(program, upper, arena),
        arena_words=_arena_words(program),
        arena_bytes=program.arena_bytes,
        callers_arena=arena == "caller",
        optimize_flag=OPTIMIZE_FLAGS[optimize],
        layers=tuple(_layer(program, step, name) for step in program.steps),
        has_pixels=any(buffer.gap for buffer in program.buffers()),
        arrays=tuple(_constant(step, constant, name) for step, constant in program.arrays.values()),
        preprocess=preprocess,
        pixel_rows=rows,
        selftest=(
            _selftest_array(
                source.input, f"static const {name}_input_t selftest_input[{upper}_INPUT_SIZE]", selftest.x
            ),
            _selftest_array(
                source.output, f"static const {name}_output_t selftest_output[{upper}_OUTPUT_SIZE]", selftest.y
            ),
        ),
        tolerance=_tolerance(source.output, selftest),
    )


def render(template: str, context: ModelContext) -> str:
    """Render ``model/<template>``; an undefined name in a template is an error."""
    loader = jinja2.FileSystemLoader(templates_root() / "model")
    environment = jinja2.Environment(
        loader=loader,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(model=context)


def _interface_comment(tensor: Tensor) -> str:
    text = f"{tensor.dtype.value} {list(tensor.shape)}"
    if tensor.dtype is DType.INT8:
        sign, offset = (
            ("+", -tensor.quant.zero_point) if tensor.quant.zero_point < 0 else ("-", tensor.quant.zero_point)
        )
        text += f", real = {tensor.quant.scale!r} * (q {sign} {offset})"
    if tensor.dtype is DType.BITS:
        text += ", packed signs"
    return text


def _arena_words(program: Program) -> int:
    """An array has at least one element."""
    return max(1, program.arena_bytes // ALIGNMENT)


def _listing(files: Sequence[str]) -> tuple[str, ...]:
    """Names in lines of a comment."""
    return tuple(textwrap.wrap(" ".join(files), 110, break_long_words=False, break_on_hyphens=False))


def _macros(program: Program, upper: str, arena: Arena) -> tuple[tuple[str, str], ...]:
    x, y = program.source.input, program.source.output
    macros = [
        ("INPUT_SIZE", str(x.nbytes // x.dtype.numpy.itemsize)),
        ("OUTPUT_SIZE", str(y.nbytes // y.dtype.numpy.itemsize)),
        ("ARENA_BYTES", str(program.arena_bytes)),
        ("ARENA_WORDS", str(_arena_words(program))),
        ("ARENA_ALIGNMENT", str(ALIGNMENT)),
        ("CALLERS_ARENA", str(int(arena == "caller"))),
        ("WEIGHT_BYTES", str(program.weight_bytes)),
    ]
    if len(x.shape) == 4:
        for axis, size in zip(("HEIGHT", "WIDTH"), x.shape[1:3], strict=True):
            macros.append((f"INPUT_{axis}", str(size)))
    macros.append(("INPUT_CHANNELS", str(x.shape[-1])))
    for label, tensor in (("INPUT", x), ("OUTPUT", y)):
        if tensor.dtype is DType.INT8:
            macros.append((f"{label}_SCALE", float_literal(tensor.quant.scale)))
            macros.append((f"{label}_ZERO_POINT", f"({tensor.quant.zero_point})"))
    return tuple((f"{upper}_{key}", value) for key, value in macros)


def _layer(program: Program, step: Step, name: str) -> LayerText:
    params: list[ParamsText] = []

    def constant(arg: Constant | Pitch) -> str:
        return _argument(program, step, arg, name)

    def argument(arg: Arg) -> str:
        if not isinstance(arg, Struct):
            return _argument(program, step, arg, name)
        params.append(ParamsText(arg.ctype, f"params_{len(params)}", _struct_fields(arg.fields, constant)))
        return f"&{params[-1].name}"

    calls = tuple(CallText(call.function, tuple(argument(arg) for arg in call.args)) for call in step.calls)
    signs = "" if step.signs is None else f", and its signs {step.signs.tensor.describe()}"
    return LayerText(
        function=f"{name}_layer_{step.index:02d}",
        comment=comment_text(f"{step.node.op.name}: {step.output.tensor.describe()} {step.output.layout.value}{signs}"),
        params=tuple(params),
        calls=calls,
        values=tuple(_value(buffer) for buffer in step.values),
        index=step.index,
    )


def _value(buffer: Buffer) -> ValueText:
    count, size = buffer.runs
    return ValueText(_pointer(buffer, const=True), count, size, size + buffer.gap)


def _argument(program: Program, step: Step, arg: Arg, name: str) -> str:
    if isinstance(arg, Input):
        return _pointer(step.inputs[arg.index], const=True, first=arg.offset)
    if isinstance(arg, Output):
        return _pointer(step.output, const=False, first=arg.offset)
    if isinstance(arg, Signs):
        assert step.signs is not None
        return _pointer(step.signs, const=False)
    if isinstance(arg, Pitch):
        return str(step.output.pitch // step.output.tensor.dtype.numpy.itemsize)
    if isinstance(arg, Constant):
        return constant_name(*program.arrays[array_key(arg)], name)
    if isinstance(arg, Scratch):
        return f"({arg.ctype} *)(void *)(arena + {step.scratch_offset // ALIGNMENT})"
    assert isinstance(arg, Literal)
    return float_literal(arg.value) if isinstance(arg.value, float) else int_literal(arg.value)


def _pointer(buffer: Buffer, *, const: bool, first: int = 0) -> str:
    """The buffer's place, from its element `first` on."""
    itemsize = buffer.tensor.dtype.numpy.itemsize
    buffer = replace(buffer, offset=buffer.offset + first * itemsize)
    elements = buffer.offset // itemsize
    if buffer.memory is not Memory.ARENA:
        return f"{buffer.memory.value} + {elements}" if elements else buffer.memory.value
    qualifier = "const " if const else ""
    cast = f"({qualifier}{ELEMENT_TYPES[buffer.tensor.dtype]} *)({qualifier}void *)"
    if buffer.offset % ALIGNMENT == 0:
        return f"{cast}(arena + {buffer.offset // ALIGNMENT})"
    return f"{cast}arena + {elements}"


def constant_name(step: Step, constant: Constant, name: str) -> str:
    """C name of a step's constant array. Steps that read equal arrays share that of the first."""
    return f"{name}_{step.index:02d}_{constant.role}"


def _constant(step: Step, constant: Constant, name: str) -> ArrayText:
    ctype = ARRAY_TYPES[constant.data.dtype.name]
    declaration = f"static const OB_ALIGNED {ctype} {constant_name(step, constant, name)}[{constant.data.size}]"
    comment = f"{step.node.op.name} {step.output.tensor.name}: {constant.comment or list(constant.data.shape)}"
    return array_text(declaration, constant.data.reshape(-1), comment_text(comment))


def _pixel_rows(preprocessing: Preprocessing, tensor: Tensor) -> int:
    """Rows of the table of pixel values: one per channel, or a single one where all channels are treated alike."""
    return 1 if len(preprocessing.mean) == len(preprocessing.std) == 1 else tensor.shape[-1]


def _preprocess_table(preprocessing: Preprocessing, tensor: Tensor, rows: int, name: str) -> ArrayText:
    if tensor.dtype is DType.INT8:
        table: Array = preprocessing.quantized_table(rows, tensor.quant.scale, tensor.quant.zero_point)
    else:
        table = preprocessing.real_table(rows)
    declaration = f"static const {name}_input_t pixel_table[{table.size}]"
    return array_text(declaration, table.reshape(-1), f"{rows} x 256 pixel values")


def _selftest_array(tensor: Tensor, declaration: str, value: Array) -> ArrayText:
    return array_text(
        declaration, as_c(np.ascontiguousarray(value), tensor).reshape(-1), comment_text(tensor.describe())
    )


def _tolerance(output: Tensor, selftest: SelfTest) -> str:
    """0 for integer outputs; a float output may differ by 1e-5 of its range (docs/architecture.md, exactness)."""
    if output.dtype is not DType.FLOAT32:
        return "0"
    return float_literal(float(1e-5 * max(1.0, float(np.ptp(selftest.y)))))


def _struct_fields(fields: Fields, text: Callable[[Constant | Pitch], str], indent: str = "") -> tuple[str, ...]:
    """Designated initialisers, one per line, commas included; `text` names an array and counts a pitch."""
    lines: list[str] = []
    for key, value in fields.items():
        if isinstance(value, Mapping):
            lines += [f"{indent}.{key} = {{", *_struct_fields(value, text, indent + "    "), f"{indent}}},"]
        elif isinstance(value, int):
            lines.append(f"{indent}.{key} = {int_literal(value)},")
        else:
            lines.append(f"{indent}.{key} = {'NULL' if value is None else text(value)},")
    return tuple(lines)


def comment_text(text: str) -> str:
    """Text from a model file as it may stand in a C comment: printable ASCII that neither ends nor continues it."""
    printable = "".join(c if " " <= c <= "~" and c not in "\\?" else "_" for c in text)
    return printable.replace("*/", "* /").replace("/*", "/ *")


def int_literal(value: int) -> str:
    """An int32 constant; the most negative one has no literal of its own."""
    return "INT32_MIN" if value == -(2**31) else str(value)


def float_literal(value: float) -> str:
    """An exact float32 constant in hexadecimal."""
    value = float(np.float32(value))
    if math.isinf(value):
        return "OB_INFINITY" if value > 0 else "-OB_INFINITY"
    mantissa, exponent = value.hex().split("p")
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    return f"{mantissa}p{exponent}f"


def array_text(declaration: str, data: Array, comment: str) -> ArrayText:
    """Values in fixed columns."""
    element, columns = _ELEMENT_FORMATS[data.dtype.name]
    values = [element(v) for v in data.tolist()]
    width = max(len(v) for v in values)
    rows = range(0, len(values), columns)
    lines = tuple(", ".join(v.rjust(width) for v in values[i : i + columns]) + "," for i in rows)
    return ArrayText(declaration, comment, lines)


#: how one element is written, and how many stand in a line
_ELEMENT_FORMATS: Final[dict[str, tuple[Callable[[Any], str], int]]] = {
    "float32": (float_literal, 6),
    "int8": (str, 20),
    "int16": (str, 16),
    "uint32": ("0x{:08X}u".format, 8),
    "int32": (int_literal, 10),
    "bool": (lambda value: str(value).lower(), 16),
}
