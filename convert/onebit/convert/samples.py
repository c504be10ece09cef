"""Samples in the three forms that conversion needs: real values, the file's input, and torch's layout."""

from __future__ import annotations

import numpy as np

from onebit.core import DType, Graph, Tensor
from onebit.core.errors import BadInputError
from onebit.core.fixed_point import round_half_away
from onebit.core.graph import Array
from onebit.core.metadata import ModelMetadata

RANDOM_SAMPLES = 64
"""How many seeded random inputs stand in for samples that were not given; fewer where the model has large maps."""

LEAST_SAMPLES = 16

LAYER_ELEMENTS = 2**25
"""Elements of all tensors, of all samples together, that a check compares layer by layer (128 MiB of float32)."""

CALIBRATION_ELEMENTS = 220_000_000
"""Elements of all tensors, of all samples together, that ranges are taken from."""

RANDOM_SEED = 0

RANGE_SLACK = 0.01
"""How far calibration data may lie outside the range of the model's pixels, relative to that range."""


def fitting_samples(graph: Graph, elements: int = LAYER_ELEMENTS) -> int:
    """How many samples have so many elements in all tensors of the graph together; at least LEAST_SAMPLES."""
    return max(LEAST_SAMPLES, elements // sum(t.elements for t in graph.activations()))


def spread(x: Array, count: int) -> Array:
    """`count` of the samples `x`, evenly spaced (a data set may be sorted by class); all if there are no more."""
    return x if len(x) <= count else x[np.linspace(0, len(x) - 1, count).astype(np.intp)]


def random_samples(input_shape: tuple[int, ...], metadata: ModelMetadata | None, count: int) -> Array:
    """Seeded inputs [count, ...] for a model input [1, ...]: uint8 pixels if there is metadata, else normal."""
    rng = np.random.default_rng(RANDOM_SEED)
    shape = (count, *input_shape[1:])
    if metadata is not None:
        return rng.integers(0, 256, shape, dtype=np.uint8)
    return rng.standard_normal(shape).astype(np.float32)


def check_samples(x: Array, tensor: Tensor, metadata: ModelMetadata | None, what: str) -> None:
    """BadInputError unless `x` is uint8 pixels (with metadata) or finite real inputs, [N, H, W, C] or [N, features]."""
    wanted = ["N", *tensor.shape[1:]]
    if x.ndim != len(wanted) or x.shape[1:] != tensor.shape[1:] or len(x) == 0:
        raise BadInputError(f"{what} of shape {list(x.shape)}", fix=f"give {wanted}".replace("'", ""))
    if x.dtype == np.uint8:
        if metadata is None:
            raise BadInputError(
                f"{what} are pixels, and the model does not say how they become its input",
                fix="give --input-range LO,HI or --mean and --std (metadata in Python)",
            )
    elif x.dtype.kind != "f":
        raise BadInputError(f"{what} of dtype {x.dtype}", fix="give uint8 pixels or real values")
    elif not np.isfinite(x).all():
        raise BadInputError(f"{what} have NaN or infinite values", fix="give uint8 pixels or finite real values")


def check_calibration(x: Array, tensor: Tensor, metadata: ModelMetadata | None) -> None:
    """`check_samples`, and BadInputError for values that no range can be learned from.

    All equal; or real values beyond those that the model's metadata gives the pixels 0 to 255 (a model that takes 0 to
    1 calibrated with 0 to 255 is saturated everywhere).
    """
    check_samples(x, tensor, metadata, "calibration samples")
    low, high = float(x.min()), float(x.max())
    if low == high:
        raise BadInputError(f"calibration samples are all {low:g}", fix="give samples that the model was made for")
    if metadata is None or x.dtype == np.uint8:
        return
    table = metadata.preprocessing.real_table(tensor.shape[-1] if len(tensor.shape) == 4 else 1)
    least, most = float(table.min()), float(table.max())
    slack = RANGE_SLACK * (most - least)
    if low < least - slack or high > most + slack:
        raise BadInputError(
            f"calibration samples reach from {low:g} to {high:g}, the model's input from {least:g} to {most:g}",
            fix="preprocess them as the model's metadata says, or give uint8 pixels",
        )


def real_values(x: Array, metadata: ModelMetadata | None) -> Array:
    """Checked samples as float32 real inputs, same shape."""
    if x.dtype == np.uint8:
        assert metadata is not None
        return metadata.preprocessing.apply(x, np.float32)
    return x.astype(np.float32)


def file_input(x: Array, tensor: Tensor, metadata: ModelMetadata | None) -> Array:
    """Checked samples in the dtype of the file's input; real values are quantized with halves away from zero."""
    if tensor.dtype is DType.FLOAT32:
        return real_values(x, metadata)
    quant = tensor.quant
    if x.dtype == np.uint8:
        assert metadata is not None
        return metadata.preprocessing.apply(x, np.int8, quant.scale, quant.zero_point)
    steps = round_half_away(x.astype(np.float64) / quant.scale) + quant.zero_point
    return np.clip(steps, -128, 127).astype(np.int8)


def channels_first(x: Array) -> Array:
    """[N, H, W, C] as [N, C, H, W]; [N, features] as it is."""
    # a copy: a view of one channel keeps the strides by which torch tells channels last, and .view() then fails
    return np.array(x.transpose(0, 3, 1, 2), order="C") if x.ndim == 4 else x
