"""``onebit convert``: a trained model to a verified ``.tflite``."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onebit.cli.console import JsonOption, emit_json, stdout_console
from onebit.cli.options import DataDirOption, MeanOption, RangeOption, StdOption
from onebit.core.errors import BadInputError, OnebitError, ToolMissingError
from onebit.core.files import check_place_for_file
from onebit.core.metadata import ModelMetadata, Preprocessing

if TYPE_CHECKING:
    from onebit.convert import Converted
    from onebit.convert.int8 import Int8Report
    from onebit.core.graph import Array

#: how many samples of a data set calibrate the ranges, and how many the check compares on
MAX_SAMPLES = 1000

log = logging.getLogger("onebit.cli.convert")


@dataclass(frozen=True)
class _Source:
    """What SRC turned out to be. `input_shape` is the file's, (1, H, W, C) or (1, features); None for a .tflite."""

    model: Any
    metadata: ModelMetadata | None
    example_input: Any = None
    input_shape: tuple[int, ...] | None = None


def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SRC",
            help="model.pt of onebit train, .keras, .h5, a SavedModel, a .tflite, or package.module:function.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="M.tflite", help="The file to write.")],
    int8: Annotated[bool, typer.Option("--int8", help="int8 input, output and real-valued layers.")] = False,
    calibration: Annotated[
        str | None,
        typer.Option(
            metavar="DATASET",
            help="Data for int8 ranges and the check: name[:split], .npz, random:N.",
        ),
    ] = None,
    ranges: Annotated[
        str,
        typer.Option("--range", metavar="R", help="int8 ranges: minmax, or percentile:P (cuts 100-P % at each end)."),
    ] = "minmax",
    data_dir: DataDirOption = None,
    input_shape: Annotated[str | None, typer.Option(metavar="N,H,W,C", help="Input of the function's model.")] = None,
    mean: MeanOption = None,
    std: StdOption = None,
    input_range: RangeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Turn a trained model into a .tflite with LCE operators, verified against its source before it is written.

    The check runs the file in the LCE interpreter where larq-compute-engine is installed, else in onebit's own
    semantics, on the test images of the model's data set, of DATASET, or on seeded random inputs.
    """
    from onebit.cli.preprocessing import parse_preprocessing
    from onebit.convert import convert as convert_model
    from onebit.convert.int8 import RangeMethod
    from onebit.simulate.oracle import find_oracle

    check_place_for_file(out)
    method = RangeMethod.parse(ranges)
    found = _resolve(source, input_shape, parse_preprocessing(mean, std, input_range))
    with _held(found.model):
        samples = _samples(found, calibration, data_dir)
        result = convert_model(
            found.model,
            out,
            metadata=found.metadata,
            example_input=found.example_input,
            int8=int8,
            calibration=_calibration(found, calibration, data_dir) if int8 else None,
            ranges=method,
            samples=None if samples is None else samples.x,
            labels=None if samples is None else samples.y,
            oracle=find_oracle(),
        )
    if as_json:
        emit_json(_payload(result))
    else:
        _show(result)


# -------------------------------------------------------------------------------------------------------------- source


def _held(model: Any) -> AbstractContextManager[Any]:
    """Ends the child process of a Keras source."""
    from onebit.convert import KerasSource

    return model if isinstance(model, KerasSource) else nullcontext()


def _resolve(source: str, input_shape: str | None, preprocessing: Preprocessing | None) -> _Source:
    from onebit.convert import is_callable_spec, is_keras_file, is_keras_model, load_callable, open_keras

    path = Path(source)
    metadata = None if preprocessing is None else ModelMetadata(preprocessing)
    if not path.exists() and is_callable_spec(source):
        model = load_callable(source)
        shape = None if input_shape is None else _shape(input_shape)
        if is_keras_model(model):
            opened = open_keras(model, shape)
            return _Source(opened, metadata, None, opened.description.input_shape)
        example: Any = getattr(model, "example_input", None) if shape is None else _zeros(shape)
        if shape is None and getattr(example, "ndim", 0) in (2, 4):
            dims = tuple(int(d) for d in example.shape)
            shape = (1, *dims[2:], dims[1])
        return _Source(model, metadata, example, shape)
    if input_shape is not None:
        raise BadInputError("--input-shape is for package.module:function", where=source, fix="leave it out")
    if is_keras_file(path):
        opened = open_keras(path)
        return _Source(opened, metadata, None, opened.description.input_shape)
    if path.suffix.lower() == ".tflite":
        return _Source(path, metadata)
    if preprocessing is not None:
        raise BadInputError(
            "a checkpoint brings its own preprocessing", where=source, fix="leave out --mean, --std and --input-range"
        )
    if not path.exists():
        raise BadInputError(
            "no such file", where=source, fix="give model.pt, a Keras file, a .tflite or package.module:function"
        )
    from onebit.train import load_checkpoint

    loaded = load_checkpoint(path)
    _, channels, height, width = loaded.example_input.shape
    return _Source(loaded.module, loaded.metadata, loaded.example_input, (1, height, width, channels))


def _zeros(shape: tuple[int, ...]) -> Any:
    import numpy as np

    return np.zeros(shape if len(shape) == 2 else (1, shape[3], *shape[1:3]), np.float32)


def _shape(text: str) -> tuple[int, ...]:
    try:
        shape = tuple(int(part) for part in text.split(","))
    except ValueError:
        shape = ()
    if len(shape) not in (2, 4) or min(shape) < 1:
        raise BadInputError(f"--input-shape {text}", fix="give 1,H,W,C or 1,FEATURES, all positive")
    if shape[0] != 1:
        raise BadInputError(f"--input-shape {text} has a batch of {shape[0]}", fix="the batch must be 1")
    return shape


# ---------------------------------------------------------------------------------------------------------------- data


@dataclass(frozen=True)
class _Samples:
    """Inputs, and their classes where they are known."""

    x: Array
    y: Array | None = None


def _calibration(found: _Source, spec: str | None, data_dir: Path | None) -> Array | None:
    """Data that calibrates int8 ranges; None leaves it to `convert` to say that there is none."""
    name = _dataset_of(found) if spec is None else None
    if name is not None:
        spec = f"{name}:train"
    return None if spec is None else _load(found, spec, data_dir).x


def _samples(found: _Source, spec: str | None, data_dir: Path | None) -> _Samples | None:
    """Data for the check: never what calibrated, where there is a test split; None stands for random inputs."""
    if spec is not None:
        is_name = not spec.lower().endswith(".npz") and not spec.startswith("random:")
        return _load(found, f"{spec.partition(':')[0]}:test" if is_name else spec, data_dir)
    name = _dataset_of(found)
    if name is None:
        return None
    try:
        return _load(found, f"{name}:test", data_dir)
    except (BadInputError, ToolMissingError) as error:
        log.warning("the check uses random inputs, because the model's data set cannot be read: %s", _line(error))
        return None


def _dataset_of(found: _Source) -> str | None:
    """The data set that the model names as its own."""
    metadata = found.metadata
    if metadata is None and isinstance(found.model, Path) and found.model.suffix.lower() == ".tflite":
        from onebit.core import read_model

        metadata = read_model(found.model).metadata
    return None if metadata is None else metadata.dataset


def _line(error: OnebitError) -> str:
    return " ".join(str(error).split())


def _load(found: _Source, spec: str, data_dir: Path | None) -> _Samples:
    if spec.startswith("random:"):
        return _Samples(_random(found, spec))
    from onebit.core.datasets import load_dataset

    data = load_dataset(spec, data_dir=data_dir).take(MAX_SAMPLES)
    return _Samples(data.x, data.y)


def _random(found: _Source, spec: str) -> Array:
    from onebit.convert.samples import random_samples

    count = spec.partition(":")[2]
    if not count.isdecimal() or int(count) < 1:
        raise BadInputError(f"data set {spec!r}", fix="give random:N with N of 1 or more")
    shape = found.input_shape
    if shape is None:
        if not isinstance(found.model, Path):
            raise BadInputError(f"data set {spec!r} needs the shape of the input", fix="give --input-shape N,H,W,C")
        from onebit.core import read_model

        shape = read_model(found.model).input.shape
    return random_samples(shape, found.metadata, int(count))


# -------------------------------------------------------------------------------------------------------------- result


def _payload(result: Converted) -> dict[str, Any]:
    verified = result.verified
    return {
        "output": result.output,
        "sha256": result.sha256,
        "bytes": result.bytes,
        "dtype": result.dtype,
        "verified": {
            "samples": verified.samples,
            "max_abs_diff": verified.max_abs_diff,
            "argmax_equal": verified.argmax_equal,
            "sign_flips": verified.sign_flips,
            "engine": verified.engine,
        },
        "ops": result.ops,
        **({} if result.int8 is None else {"int8": _int8_payload(result.int8)}),
    }


def _int8_payload(report: Int8Report) -> dict[str, Any]:
    return {
        "calibration_samples": report.calibration_samples,
        "range": report.range,
        "samples": report.samples,
        "layer_samples": report.layer_samples,
        "accuracy_float": report.accuracy_float,
        "accuracy_int8": report.accuracy_int8,
        "same_class": report.same_class,
        "layers": [asdict(loss) for loss in report.layers],
        "kept_float": [
            {"op": kept.node.op.name, "tensor": kept.node.output, "why": kept.reason} for kept in report.kept_float
        ],
    }


def _show(result: Converted) -> None:
    from rich.text import Text

    console, verified = stdout_console(), result.verified
    ops = ", ".join(f"{count} {name}" for name, count in result.ops.items())
    console.print(Text(f"{result.output}: {result.bytes:,} bytes, {result.dtype}; {ops}"))
    flips = f", {verified.sign_flips} with a sign flipped at zero" if verified.sign_flips else ""
    against, of_what = ("", "") if result.int8 is None else (" against the fake-quantized model", " of any layer")
    unit = "of int8" if result.dtype == "int8" else "in the logits"
    console.print(
        Text(
            f"verified{against} with {verified.engine} on {verified.samples:,} samples: argmax equal on "
            f"{verified.argmax_equal:,}, largest difference{of_what} {verified.max_abs_diff:g} {unit}{flips}"
        )
    )
    if result.int8 is not None:
        _show_int8(result.int8)


def _show_int8(report: Int8Report) -> None:
    """What quantization cost, and where."""
    from rich.text import Text

    console = stdout_console()
    layers = f"every layer compared on {report.layer_samples:,} samples"
    console.print(Text(f"ranges: {report.range} over {report.calibration_samples:,} samples; {layers}"))
    same = f"the same class on {report.same_class:,} of {report.samples:,} samples"
    if report.accuracy_float is not None and report.accuracy_int8 is not None:
        points = 100 * (report.accuracy_int8 - report.accuracy_float)
        accuracy = f"{report.accuracy_float:.2%} in float, {report.accuracy_int8:.2%} in int8 ({points:+.2f} points)"
        console.print(Text(f"accuracy: {accuracy}; {same}"))
    else:
        console.print(Text(f"float and int8 model choose {same}"))
    worst = [(loss.op, loss.tensor, _decibels(loss.own_db), _decibels(loss.total_db)) for loss in report.worst_layers()]
    _table(("layers that lose most", "", "signal to own noise", "to all noise"), worst)
    signs = [(loss.op, loss.tensor, f"{loss.flips:.2%}") for loss in report.worst_signs()]
    _table(("signs that differ most", "", "differ"), signs)
    for kept in report.kept_float:
        console.print(Text(f"in float: {kept.node.describe()}: {kept.reason}"))


def _decibels(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} dB"


def _table(headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """A table with its first two columns as text and the others as numbers; nothing without rows."""
    from rich.table import Table
    from rich.text import Text

    if not rows:
        return
    table = Table(box=None, pad_edge=False, title_justify="left")
    for i, heading in enumerate(headings):
        # a converter may have joined many names to one
        table.add_column(heading, justify="left" if i < 2 else "right", no_wrap=True, overflow="ellipsis")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console = stdout_console()
    console.print()
    console.print(table)
