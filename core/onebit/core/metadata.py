"""What a model file says about its use: preprocessing of the input, layout, class labels, data set.

The metadata travels in the flatbuffer as the metadata buffer named `METADATA_NAME`, as JSON (UTF-8). Everything that
feeds pixels to the model (verification, simulation, generated firmware, boards) takes its arithmetic from here.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from onebit.core.errors import BadInputError

METADATA_NAME = "onebit"
"""Name of the metadata buffer in the `.tflite` file."""

FORMAT = 1
"""Version of the JSON form; a reader refuses any other."""

LAYOUTS = ("NHWC", "NC")
"""Input layouts: images, and plain vectors."""


@dataclass(frozen=True)
class Preprocessing:
    """real = (pixel * scale + offset - mean[c]) / std[c], for a pixel in 0..255 of channel c.

    `mean` and `std` have one entry per channel, or one entry that serves all channels.
    """

    scale: float = 1.0 / 255.0
    offset: float = 0.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        values = (self.scale, self.offset, *self.mean, *self.std)
        if not all(math.isfinite(value) for value in values):
            raise BadInputError(f"preprocessing {self} has a value that is not finite", fix="use finite numbers")
        if self.scale == 0.0 or any(value <= 0.0 for value in self.std):
            raise BadInputError(f"preprocessing {self} loses the image", fix="scale must not be 0, std must be > 0")
        lengths = {len(self.mean), len(self.std)}
        if 0 in lengths or len(lengths - {1}) > 1:
            raise BadInputError(
                f"preprocessing has {len(self.mean)} means and {len(self.std)} standard deviations",
                fix="give one of each, or one per channel",
            )

    def _exact_table(self, channels: int) -> npt.NDArray[np.float64]:
        for name, values in (("means", self.mean), ("standard deviations", self.std)):
            if len(values) not in (1, channels):
                raise BadInputError(
                    f"preprocessing has {len(values)} {name}, the image has {channels} channels",
                    fix="give one value, or one per channel",
                )
        mean = np.broadcast_to(np.asarray(self.mean, np.float64), (channels,))[:, None]
        std = np.broadcast_to(np.asarray(self.std, np.float64), (channels,))[:, None]
        pixels = np.arange(256, dtype=np.float64)[None, :]
        table: npt.NDArray[np.float64] = (pixels * self.scale + self.offset - mean) / std
        return table

    def real_table(self, channels: int) -> npt.NDArray[np.float32]:
        """The real value of every pixel value, float32 [channels, 256]; computed in float64, rounded once."""
        return self._exact_table(channels).astype(np.float32)

    def quantized_table(self, channels: int, scale: float, zero_point: int) -> npt.NDArray[np.int8]:
        """int8 [channels, 256] with q = clamp(round(real / scale) + zero_point, -128, 127).

        `scale` and `zero_point` are the input tensor's. Computed in float64 throughout; halves round away from zero,
        as TFLite's quantizer does.
        """
        if not (math.isfinite(scale) and scale > 0.0):
            raise BadInputError(f"input scale {scale} of an int8 model", fix="a quantized input needs a scale > 0")
        steps = self._exact_table(channels) / scale
        rounded = np.copysign(np.floor(np.abs(steps) + 0.5), steps) + zero_point
        return np.clip(rounded, -128, 127).astype(np.int8)

    def apply(
        self, x: npt.NDArray[np.uint8], dtype: npt.DTypeLike, scale: float = 1.0, zero_point: int = 0
    ) -> npt.NDArray[Any]:
        """Pixels [N, H, W, C] (the channel is the last axis) to the model's input of the same shape.

        `dtype` float32 gives real values, int8 gives values quantized with `scale` and `zero_point`. Both are looked up
        in the tables above, so that a device with the same table computes the same.
        """
        if x.dtype != np.uint8 or x.ndim < 2:
            raise BadInputError(f"pixels of dtype {x.dtype}, shape {x.shape}", fix="give uint8 pixels [N, H, W, C]")
        channels = x.shape[-1]
        table: npt.NDArray[Any]
        if np.dtype(dtype) == np.float32:
            table = self.real_table(channels)
        elif np.dtype(dtype) == np.int8:
            table = self.quantized_table(channels, scale, zero_point)
        else:
            raise BadInputError(f"input dtype {np.dtype(dtype)}", fix="allowed: float32, int8")
        if channels == 1:
            return np.asarray(table[0][x])
        return np.asarray(table[np.arange(channels), x])


@dataclass(frozen=True)
class ModelMetadata:
    """What travels with a model. `classes` may be empty (no labels known); `dataset` names the training data."""

    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    layout: str = "NHWC"
    classes: tuple[str, ...] = ()
    dataset: str | None = None

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise BadInputError(f"unknown layout {self.layout!r}", fix=f"allowed: {', '.join(LAYOUTS)}")

    def to_json_bytes(self) -> bytes:
        """Deterministic UTF-8 JSON: sorted keys, no spaces, shortest exact form of every number."""
        text = json.dumps(
            {"format": FORMAT, **asdict(self)},
            sort_keys=True,
            separators=(",", ":"),
            ensure_ascii=False,
            allow_nan=False,
        )
        return text.encode("utf-8")

    @classmethod
    def from_json_bytes(cls, data: bytes) -> ModelMetadata:
        """Reads what `to_json_bytes` wrote. Missing, extra or wrongly typed entries raise BadInputError."""
        try:
            parsed = json.loads(data.decode("utf-8"))
        except (UnicodeDecodeError, ValueError, RecursionError) as error:
            raise _malformed(f"is no JSON: {error}") from error
        top = _entries(parsed, {"format", "preprocessing", "layout", "classes", "dataset"}, "metadata")
        if type(top["format"]) is not int or top["format"] != FORMAT:
            raise _malformed(f"has format {top['format']!r}, known is {FORMAT}")
        pre = _entries(top["preprocessing"], {"scale", "offset", "mean", "std"}, "preprocessing")
        dataset = top["dataset"]
        return cls(
            preprocessing=Preprocessing(
                scale=_number(pre["scale"], "scale"),
                offset=_number(pre["offset"], "offset"),
                mean=tuple(_number(value, "mean") for value in _list(pre["mean"], "mean")),
                std=tuple(_number(value, "std") for value in _list(pre["std"], "std")),
            ),
            layout=_text(top["layout"], "layout"),
            classes=tuple(_text(value, "classes") for value in _list(top["classes"], "classes")),
            dataset=None if dataset is None else _text(dataset, "dataset"),
        )


def _malformed(what: str) -> BadInputError:
    return BadInputError(
        f"metadata buffer {METADATA_NAME!r} {what}", fix="convert the model again with this version of onebit"
    )


def _entries(value: Any, names: set[str], where: str) -> dict[str, Any]:
    if not isinstance(value, dict) or set(value) != names:
        raise _malformed(f"must have in {where} exactly: {', '.join(sorted(names))}")
    return value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise _malformed(f"has {where} that is no list")
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise _malformed(f"has {value!r} in {where}, where a text belongs")
    return value


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _malformed(f"has {value!r} in {where}, where a number belongs")
    try:
        return float(value)
    except OverflowError as error:
        raise _malformed(f"has a number in {where} that is too large") from error
