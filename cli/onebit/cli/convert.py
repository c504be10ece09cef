"""``onebit convert``: a trained model to a verified ``.tflite``."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onebit.cli.console import JsonOption, emit_json, stdout_console
from onebit.core.errors import BadInputError, OnebitError, ToolMissingError
from onebit.core.metadata import ModelMetadata, Preprocessing

if TYPE_CHECKING:
    from onebit.convert import Converted
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
        str, typer.Argument(metavar="SRC", help="model.pt of onebit train, a .tflite, or package.module:function.")
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
    data_dir: Annotated[Path | None, typer.Option(metavar="D", help="Folder that holds the data set.")] = None,
    input_shape: Annotated[str | None, typer.Option(metavar="N,H,W,C", help="Input of the function's model.")] = None,
    mean: Annotated[str | None, typer.Option(metavar="M,...", help="Mean of the input, per channel.")] = None,
    std: Annotated[str | None, typer.Option(metavar="S,...", help="Standard deviation, per channel.")] = None,
    input_range: Annotated[str | None, typer.Option(metavar="LO,HI", help="What pixels 0 and 255 become.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Turn a trained model into a .tflite with LCE operators, verified against its source before it is written.

    The check runs the file in the LCE interpreter where larq-compute-engine is installed, else in onebit's own
    semantics, on the test images of the model's data set, of DATASET, or on seeded random inputs.
    """
    from onebit.convert import convert as convert_model
    from onebit.simulate.oracle import find_oracle

    found = _resolve(source, input_shape, _preprocessing(mean, std, input_range))
    result = convert_model(
        found.model,
        out,
        metadata=found.metadata,
        example_input=found.example_input,
        int8=int8,
        calibration=_calibration(found, calibration, data_dir) if int8 else None,
        samples=_samples(found, calibration, data_dir),
        oracle=find_oracle(),
    )
    if as_json:
        emit_json(_payload(result))
    else:
        _show(result)


# -------------------------------------------------------------------------------------------------------------- source


def _resolve(source: str, input_shape: str | None, preprocessing: Preprocessing | None) -> _Source:
    from onebit.convert import is_callable_spec, load_callable

    path = Path(source)
    metadata = None if preprocessing is None else ModelMetadata(preprocessing)
    if not path.exists() and is_callable_spec(source):
        model = load_callable(source)
        shape = None if input_shape is None else _shape(input_shape)
        example: Any = getattr(model, "example_input", None) if shape is None else _zeros(shape)
        if shape is None and getattr(example, "ndim", 0) in (2, 4):
            dims = tuple(int(d) for d in example.shape)
            shape = (1, *dims[2:], dims[1])
        return _Source(model, metadata, example, shape)
    if input_shape is not None:
        raise BadInputError("--input-shape is for package.module:function", where=source, fix="leave it out")
    if path.suffix.lower() in (".tflite", ".keras", ".h5", ".hdf5") or path.is_dir():
        return _Source(path, metadata)
    if preprocessing is not None:
        raise BadInputError(
            "a checkpoint brings its own preprocessing", where=source, fix="leave out --mean, --std and --input-range"
        )
    if not path.exists():
        raise BadInputError("no such file", where=source, fix="give model.pt, a .tflite or package.module:function")
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


def _preprocessing(mean: str | None, std: str | None, input_range: str | None) -> Preprocessing | None:
    """real = (LO + (HI - LO) * pixel / 255 - mean) / std; the range is 0 to 1 by default."""
    if mean is None and std is None and input_range is None:
        return None
    low, high = (0.0, 1.0)
    if input_range is not None:
        values = _numbers("--input-range", input_range)
        if len(values) != 2 or not values[0] < values[1]:
            raise BadInputError(f"--input-range {input_range}", fix="give LO,HI with LO < HI")
        low, high = values
    return Preprocessing(
        scale=(high - low) / 255,
        offset=low,
        mean=(0.0,) if mean is None else _numbers("--mean", mean),
        std=(1.0,) if std is None else _numbers("--std", std),
    )


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if not values or not all(math.isfinite(value) for value in values):
        raise BadInputError(f"{option} {text}", fix="give finite numbers separated by commas")
    return values


# ---------------------------------------------------------------------------------------------------------------- data


def _calibration(found: _Source, spec: str | None, data_dir: Path | None) -> Array | None:
    """Data that calibrates int8 ranges; None leaves it to `convert` to say that there is none."""
    if spec is None and found.metadata is not None and found.metadata.dataset is not None:
        spec = f"{found.metadata.dataset}:train"
    return None if spec is None else _load(found, spec, data_dir)


def _samples(found: _Source, spec: str | None, data_dir: Path | None) -> Array | None:
    """Data for the check: never what calibrated, where there is a test split; None stands for random inputs."""
    if spec is not None:
        is_name = not spec.lower().endswith(".npz") and not spec.startswith("random:")
        return _load(found, f"{spec.partition(':')[0]}:test" if is_name else spec, data_dir)
    if found.metadata is None or found.metadata.dataset is None:
        return None
    try:
        return _load(found, f"{found.metadata.dataset}:test", data_dir)
    except (BadInputError, ToolMissingError) as error:
        log.warning("the check uses random inputs, because the model's data set cannot be read: %s", _line(error))
        return None


def _line(error: OnebitError) -> str:
    return " ".join(str(error).split())


def _load(found: _Source, spec: str, data_dir: Path | None) -> Array:
    if spec.startswith("random:"):
        return _random(found, spec)
    from onebit.core.datasets import load_dataset

    return load_dataset(spec, data_dir=data_dir).take(MAX_SAMPLES).x


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
    }


def _show(result: Converted) -> None:
    from rich.text import Text

    console, verified = stdout_console(), result.verified
    unit = "steps" if result.dtype == "int8" else "in the logits"
    ops = ", ".join(f"{count} {name}" for name, count in result.ops.items())
    console.print(Text(f"{result.output}: {result.bytes:,} bytes, {result.dtype}; {ops}"))
    flips = f", {verified.sign_flips} with a sign flipped at zero" if verified.sign_flips else ""
    console.print(
        Text(
            f"verified with {verified.engine} on {verified.samples:,} samples: argmax equal on "
            f"{verified.argmax_equal:,}, largest difference {verified.max_abs_diff:g} {unit}{flips}"
        )
    )
