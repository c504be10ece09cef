"""Data for a simulation: random inputs, .npz files and data sets, and what does not fit the model."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onebit.codegen.generate import random_inputs
from onebit.core import DType, Graph, Quantization
from onebit.core.datasets import Dataset
from onebit.core.errors import BadInputError
from onebit.core.graph import Array
from onebit.core.metadata import ModelMetadata, Preprocessing
from onebit.simulate import Samples, load_samples
from onebit.simulate.inputs import samples_of
from support.nets import INT8_INPUT, Net

METADATA = ModelMetadata(Preprocessing(1 / 255, 0.0, (0.5,), (0.25,)))
QUANT = Quantization.per_tensor(0.02, 3)


def graph_of(dtype: DType = DType.INT8, metadata: ModelMetadata | None = METADATA, channels: int = 1) -> Graph:
    """Four classes from 6x6 images."""
    net = Net((1, 6, 6, channels), dtype, QUANT if dtype is DType.INT8 else None)
    return net.conv(3).dense(4).graph(metadata)


def npz(folder: Path, **arrays: Any) -> str:
    path = folder / "data.npz"
    np.savez(path, **arrays)
    return str(path)


def images(count: int = 5, channels: int = 1) -> Array:
    return np.random.default_rng(0).integers(0, 256, (count, 6, 6, channels), dtype=np.uint8)


# -------------------------------------------------------------------------------------------------------------- random


@pytest.mark.parametrize("dtype", [DType.INT8, DType.FLOAT32])
@pytest.mark.parametrize("metadata", [METADATA, None])
def test_random_inputs_are_the_same_every_time(dtype: DType, metadata: ModelMetadata | None) -> None:
    graph = graph_of(dtype, metadata)
    samples = load_samples("random:7", graph)
    assert samples.name == "random:7" and samples.y is None
    assert samples.x.shape == (7, 6, 6, 1) and samples.x.dtype == dtype.numpy
    assert samples.sha256 == hashlib.sha256(samples.x.tobytes()).hexdigest()
    again = load_samples("random:7", graph)
    np.testing.assert_array_equal(again.x, samples.x)
    np.testing.assert_array_equal(samples.x, random_inputs(graph, 7, seed=0))


def test_a_limit_takes_the_first_random_inputs() -> None:
    graph = graph_of()
    few = load_samples("random:100", graph, limit=4)
    assert few.x.shape[0] == 4
    assert load_samples("random:3", graph, limit=4).x.shape[0] == 3


@pytest.mark.parametrize(
    "spec", ["random:", "random:0", "random:-1", "random:x", "random:1.5", "random:99999999", "random:1 "]
)
def test_a_wrong_number_of_random_inputs(spec: str) -> None:
    with pytest.raises(BadInputError, match="is no number of random inputs.*use random:N"):
        load_samples(spec, graph_of())


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one(limit: int) -> None:
    with pytest.raises(BadInputError, match=rf"a limit of {limit} samples"):
        load_samples("random:5", graph_of(), limit=limit)


# ----------------------------------------------------------------------------------------------------------- .npz files


@pytest.mark.parametrize("dtype", [DType.INT8, DType.FLOAT32])
def test_images_go_through_the_preprocessing_of_the_model(dtype: DType, tmp_path: Path) -> None:
    x, y = images(), np.array([0, 3, 1, 2, 0])
    graph = graph_of(dtype)
    samples = load_samples(npz(tmp_path, x=x, y=y), graph)
    wanted = METADATA.preprocessing.apply(x, dtype.numpy, QUANT.scale, QUANT.zero_point)
    np.testing.assert_array_equal(samples.x, wanted)
    assert samples.x.dtype == dtype.numpy
    assert samples.pixels is not None and samples.y is not None
    np.testing.assert_array_equal(samples.pixels, x)
    assert samples.y.dtype == np.int64 and samples.y.tolist() == [0, 3, 1, 2, 0]
    assert samples.name == "data.npz:all"


def test_images_without_a_channel_axis_fit_a_model_with_one_channel(tmp_path: Path) -> None:
    samples = load_samples(npz(tmp_path, x=images()[..., 0]), graph_of())
    assert samples.x.shape == (5, 6, 6, 1)
    assert samples.y is None


@pytest.mark.parametrize("dtype", [DType.INT8, DType.FLOAT32])
def test_inputs_in_the_models_own_dtype_are_taken_as_they_are(dtype: DType, tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(-100, 100, (5, 6, 6, 1)).astype(dtype.numpy)
    samples = load_samples(npz(tmp_path, x=x), graph_of(dtype, metadata=None))
    np.testing.assert_array_equal(samples.x, x)
    assert samples.pixels is None


def test_a_limit_takes_the_first_samples(tmp_path: Path) -> None:
    y = np.array([0, 3, 1, 2, 0])
    samples = load_samples(npz(tmp_path, x=images(), y=y), graph_of(), limit=2)
    assert samples.x.shape[0] == 2 and samples.y is not None and samples.y.tolist() == [0, 3]
    assert samples.pixels is not None and len(samples.pixels) == 2


def refused(spec: str, graph: Graph, message: str) -> None:
    with pytest.raises(BadInputError, match=message) as caught:
        load_samples(spec, graph)
    assert caught.value.exit_code == 2 and caught.value.fix


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, 2, 3, 4], "labels run from 0 to 4, the model has 4 outputs"),
        ([0, -1, 2, 3, 1], "labels run from -1 to 3, the model has 4 outputs"),
        ([0, 1], "x has 5 samples, y has 2 labels"),
        ([[0], [1], [2], [3], [0]], "y is int64 of shape"),
        ([0.0, 1.0, 2.0, 3.0, 0.0], "y is float64"),
    ],
)
def test_labels_that_do_not_fit(labels: list[Any], message: str, tmp_path: Path) -> None:
    refused(npz(tmp_path, x=images(), y=np.array(labels)), graph_of(), message)


@pytest.mark.parametrize("shape", [(5, 7, 6, 1), (5, 6, 6, 3), (5, 36), (5, 1, 6, 6), (5, 6), (5, 6, 6, 1, 1)])
def test_samples_of_another_shape(shape: tuple[int, ...], tmp_path: Path) -> None:
    x = np.zeros(shape, np.uint8)
    refused(npz(tmp_path, x=x), graph_of(), "samples have shape .*, the model takes \\[6, 6, 1\\]")


@pytest.mark.parametrize("dtype", ["float64", "int16", "int32", "float32"])
def test_samples_of_another_dtype(dtype: str, tmp_path: Path) -> None:
    x = np.zeros((5, 6, 6, 1), dtype)
    refused(npz(tmp_path, x=x), graph_of(DType.INT8), f"x has dtype {dtype}.*uint8 images or int8")


def test_images_for_a_model_that_does_not_say_how_to_read_them(tmp_path: Path) -> None:
    refused(npz(tmp_path, x=images()), graph_of(metadata=None), "does not say how pixels.*--input-range")


def test_a_preprocessing_for_another_number_of_channels(tmp_path: Path) -> None:
    metadata = ModelMetadata(Preprocessing(mean=(0.1, 0.2), std=(1.0, 1.0)))
    refused(npz(tmp_path, x=images(channels=3)), graph_of(metadata=metadata, channels=3), "2 means, the image has 3")


def test_what_is_no_data_set(tmp_path: Path) -> None:
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 not really")
    refused(str(tmp_path / "broken.npz"), graph_of(), "cannot be read as .npz")
    refused(str(tmp_path / "none.npz"), graph_of(), "no such file")
    refused(npz(tmp_path, images=images()), graph_of(), "has no array x")
    refused(npz(tmp_path, x=np.zeros((0, 6, 6, 1), np.uint8)), graph_of(), "shape \\(0, 6, 6, 1\\)")
    refused(npz(tmp_path, x=np.full((1, 6, 6, 1), np.nan, np.float32)), graph_of(DType.FLOAT32), "not finite")
    refused("imagenet", graph_of(), "unknown data set 'imagenet'.*known: .*mnist5k")
    refused("digits:validation", graph_of(), "has no split 'validation'")


# ------------------------------------------------------------------------------------------------------------ data sets


def dataset(x: Array, y: Array | None = None, split: str = "test") -> Dataset:
    return Dataset("planted", split, x, y, (), "0" * 64)


def test_a_data_set_by_name() -> None:
    graph = Net((1, 8, 8, 1), DType.INT8, INT8_INPUT).conv(3).dense(10).graph(METADATA)
    samples = load_samples("digits", graph, limit=20)
    assert samples.name == "digits:test"
    assert samples.x.shape == (20, 8, 8, 1)
    assert samples.y is not None and set(samples.y) <= set(range(10))
    train = load_samples("digits:train", graph, limit=20)
    assert train.sha256 != samples.sha256


def test_a_data_set_of_another_size_is_refused() -> None:
    refused("digits", graph_of(), r"data set digits: samples have shape \[8, 8, 1\], the model takes \[6, 6, 1\]")


def test_labels_may_be_fewer_than_the_outputs() -> None:
    samples = samples_of(dataset(images(3), np.array([1, 1, 0])), graph_of())
    assert samples.y is not None and samples.y.tolist() == [1, 1, 0]


def test_a_subset_keeps_samples_labels_and_pixels_together() -> None:
    samples = samples_of(dataset(images(), np.array([0, 3, 1, 2, 0])), graph_of())
    part = samples.subset(np.array([3, 1]))
    assert part.y is not None and part.pixels is not None and samples.pixels is not None
    assert part.y.tolist() == [2, 3]
    np.testing.assert_array_equal(part.x, samples.x[[3, 1]])
    np.testing.assert_array_equal(part.pixels, samples.pixels[[3, 1]])
    bare = Samples("s", "0", samples.x, None).subset(np.array([0]))
    assert bare.y is None and bare.pixels is None and bare.x.shape[0] == 1
