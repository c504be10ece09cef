"""Data for a simulation: a data set through the model's own preprocessing, or seeded random inputs."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onebit.codegen.generate import preprocess, random_inputs
from onebit.core.datasets import Dataset, load_dataset
from onebit.core.errors import BadInputError
from onebit.core.graph import Array, DType, Graph

RANDOM_SEED = 0


@dataclass(frozen=True, eq=False)
class Samples:
    """Model inputs `x` ``[N, ...]`` in stored form, labels `y` int64 [N] or None, and where they come from."""

    name: str
    sha256: str
    x: Array
    y: Array | None
    pixels: Array | None = None

    def subset(self, indices: Array) -> Samples:
        """The chosen samples, in that order."""

        def pick(values: Array | None) -> Array | None:
            return None if values is None else values[indices]

        return Samples(self.name, self.sha256, self.x[indices], pick(self.y), pick(self.pixels))


def load_samples(
    spec: str, graph: Graph, *, data_dir: Path | None = None, download: bool = False, limit: int | None = None
) -> Samples:
    """Samples for ``random:N``, a data set name with optional split, or an .npz file with `x` and optionally `y`.

    uint8 images go through the preprocessing that the model carries; an .npz may also hold inputs in the model's own
    dtype. Raises BadInputError where shape, dtype or labels do not fit the model.
    """
    if limit is not None and limit < 1:
        raise BadInputError(f"a limit of {limit} samples", where="--limit", fix="use at least 1")
    if spec.startswith("random:"):
        return _random(spec, graph, limit)
    return samples_of(load_dataset(spec, data_dir=data_dir, download=download), graph, limit)


def _random(spec: str, graph: Graph, limit: int | None) -> Samples:
    count = re.fullmatch(r"random:([1-9]\d{0,6})", spec)
    if count is None:
        raise BadInputError(f"'{spec}' is no number of random inputs", where="--data", fix="use random:N, N >= 1")
    n = min(int(count.group(1)), limit or 10**7)
    x = random_inputs(graph, n, RANDOM_SEED)
    return Samples(spec, hashlib.sha256(x.tobytes()).hexdigest(), x, None)


def samples_of(dataset: Dataset, graph: Graph, limit: int | None = None) -> Samples:
    """A data set as inputs of the model."""
    where = f"data set {dataset.name}"
    images, labels = dataset.x[:limit], None if dataset.y is None else dataset.y[:limit]
    if images.ndim == len(graph.input.shape) - 1 and graph.input.shape[-1] == 1:
        images = images[..., np.newaxis]
    if len(images) == 0 or images.shape[1:] != graph.input.stored_shape[1:]:
        raise BadInputError(
            f"samples have shape {list(images.shape[1:])}, the model takes {list(graph.input.stored_shape[1:])}",
            where=where, fix="give data of the model's input shape",
        )  # fmt: skip
    classes = graph.output.elements
    if labels is not None and (labels.min() < 0 or labels.max() >= classes):
        raise BadInputError(
            f"labels run from {labels.min()} to {labels.max()}, the model has {classes} outputs", where=where,
            fix="give data whose labels fit the model's outputs",
        )  # fmt: skip
    x, pixels = _model_inputs(images, graph, where)
    name = f"{dataset.name}:{dataset.split}" if dataset.split else dataset.name
    return Samples(name, dataset.sha256, x, labels, pixels)


def _model_inputs(images: Array, graph: Graph, where: str) -> tuple[Array, Array | None]:
    wanted = graph.input.dtype.numpy
    if images.dtype == np.uint8:
        if graph.metadata is None or graph.input.dtype is DType.BITS:
            raise BadInputError(
                "the model does not say how pixels 0..255 become its input", where=where,
                fix=f"give --input-range LO,HI{_span(graph)} or --mean and --std, or an .npz of the model's dtype",
            )  # fmt: skip
        return preprocess(graph, images), images
    if images.dtype != wanted:
        raise BadInputError(
            f"x has dtype {images.dtype}", where=where, fix=f"allowed are uint8 images or {wanted} model inputs"
        )
    return images, None


def _span(graph: Graph) -> str:
    """The real values at the ends of an int8 input, as advice in a message: often what training scaled pixels to."""
    if graph.input.dtype is not DType.INT8:
        return ""
    quant = graph.input.quant
    low, high = (quant.scale * (end - quant.zero_point) for end in (-128, 127))
    return f" ({low:.6g},{high:.6g} spans the whole int8 input)"
