"""Model metadata: arithmetic of the preprocessing tables, and a strict, deterministic JSON form."""

from __future__ import annotations

import json
import math
from fractions import Fraction

import numpy as np
import pytest

from onebit.core.errors import BadInputError
from onebit.core.metadata import METADATA_NAME, ModelMetadata, Preprocessing

RGB = Preprocessing(scale=1 / 255, offset=0.25, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def test_real_table_is_the_formula() -> None:
    table = RGB.real_table(3)
    assert (table.dtype, table.shape) == (np.float32, (3, 256))
    for channel, pixel in ((0, 0), (1, 128), (2, 255)):
        exact = (pixel * RGB.scale + RGB.offset - RGB.mean[channel]) / RGB.std[channel]
        assert table[channel, pixel] == np.float32(exact)


def test_default_maps_pixels_to_0_1_and_losslessly_to_int8() -> None:
    pre = Preprocessing()
    assert pre.real_table(1)[0, [0, 255]].tolist() == [0.0, 1.0]
    assert np.array_equal(pre.quantized_table(1, 1 / 255, -128)[0], np.arange(-128, 128))


def test_halves_round_away_from_zero() -> None:
    # real / scale = (pixel - 2) / 2: -1, -0.5, 0, 0.5, 1, 1.5
    pre = Preprocessing(scale=1.0, offset=-2.0)
    assert pre.quantized_table(1, 2.0, 0)[0, :6].tolist() == [-1, -1, 0, 1, 1, 2]
    # The zero point is added behind the rounding, so that it does not change which way a half goes.
    assert pre.quantized_table(1, 2.0, 3)[0, :6].tolist() == [2, 2, 3, 4, 4, 5]


def test_quantized_table_against_exact_fractions() -> None:
    scale, zero_point = 0.0187, -14
    table = RGB.quantized_table(3, scale, zero_point)
    for channel in range(3):
        for pixel in range(256):
            real = (
                Fraction(pixel) * Fraction(RGB.scale) + Fraction(RGB.offset) - Fraction(RGB.mean[channel])
            ) / Fraction(RGB.std[channel])
            steps = real / Fraction(scale)
            rounded = math.floor(abs(steps) + Fraction(1, 2)) * (1 if steps >= 0 else -1)
            assert table[channel, pixel] == min(max(rounded + zero_point, -128), 127)


def test_table_clamps_at_both_ends() -> None:
    table = Preprocessing(scale=1.0, offset=-128.0).quantized_table(1, 0.5, 0)
    assert (table[0, 0], table[0, 255], table.dtype) == (-128, 127, np.int8)


@pytest.mark.parametrize("channels", [1, 3])
def test_apply_looks_up_per_channel(rng: np.random.Generator, channels: int) -> None:
    pre = RGB if channels == 3 else Preprocessing(mean=(0.5,), std=(0.25,))
    x = rng.integers(0, 256, (2, 4, 5, channels), dtype=np.uint8)
    real = pre.apply(x, np.float32)
    quantized = pre.apply(x, np.int8, 0.02, 3)
    assert (real.dtype, quantized.dtype, real.shape, quantized.shape) == (np.float32, np.int8, x.shape, x.shape)
    for index in np.ndindex(*x.shape):
        assert real[index] == pre.real_table(channels)[index[-1], x[index]]
        assert quantized[index] == pre.quantized_table(channels, 0.02, 3)[index[-1], x[index]]


def test_one_value_serves_all_channels() -> None:
    assert np.array_equal(Preprocessing().real_table(3), np.repeat(Preprocessing().real_table(1), 3, axis=0))
    mixed = Preprocessing(mean=(0.1, 0.2), std=(0.5,))
    assert mixed.real_table(2).shape == (2, 256)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scale": 0.0}, "loses the image"),
        ({"std": (0.0,)}, "loses the image"),
        ({"std": (-1.0,)}, "loses the image"),
        ({"offset": float("nan")}, "not finite"),
        ({"mean": (float("inf"),)}, "not finite"),
        ({"mean": ()}, "0 means"),
        ({"mean": (0.0, 0.0), "std": (1.0, 1.0, 1.0)}, "2 means and 3 standard deviations"),
    ],
)
def test_unusable_preprocessing(arguments: dict, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        Preprocessing(**arguments)


def test_unusable_use() -> None:
    pixels = np.zeros((1, 2, 2, 1), np.uint8)
    with pytest.raises(BadInputError, match="3 means, the image has 1 channels"):
        RGB.apply(pixels, np.float32)
    with pytest.raises(BadInputError, match="pixels of dtype float32"):
        Preprocessing().apply(pixels.astype(np.float32), np.float32)
    with pytest.raises(BadInputError, match="input dtype float64; allowed: float32, int8"):
        Preprocessing().apply(pixels, np.float64)
    with pytest.raises(BadInputError, match=r"input scale 0\.0"):
        Preprocessing().apply(pixels, np.int8, 0.0, 0)


FULL = ModelMetadata(RGB, "NHWC", ("T-shirt", "zwölf"), "fashion_mnist")


@pytest.mark.parametrize("metadata", [ModelMetadata(), FULL])
def test_json_round_trip_is_exact_and_deterministic(metadata: ModelMetadata) -> None:
    data = metadata.to_json_bytes()
    assert ModelMetadata.from_json_bytes(data) == metadata
    assert ModelMetadata.from_json_bytes(data).to_json_bytes() == data
    assert json.loads(data)["format"] == 1


def test_the_written_form_is_fixed() -> None:
    assert METADATA_NAME == "onebit"
    assert ModelMetadata(classes=("a",)).to_json_bytes() == (
        b'{"classes":["a"],"dataset":null,"format":1,"layout":"NHWC","preprocessing":'
        b'{"mean":[0.0],"offset":0.0,"scale":0.00392156862745098,"std":[1.0]}}'
    )


def changed(**changes: object) -> bytes:
    return json.dumps({**json.loads(FULL.to_json_bytes()), **changes}).encode()


def changed_preprocessing(**changes: object) -> bytes:
    return changed(preprocessing={**json.loads(FULL.to_json_bytes())["preprocessing"], **changes})


MALFORMED = {
    "empty": b"",
    "no utf-8": b"\xff\xfe",
    "no json": b"{",
    "no object": b"[]",
    "deep": b"[" * 100_000,
    "missing entry": b'{"format":1}',
    "extra entry": changed(more=1),
    "other format": changed(format=2),
    "format true": changed(format=True),
    "layout": changed(layout="NCHW"),
    "layout type": changed(layout=3),
    "classes type": changed(classes="ab"),
    "class type": changed(classes=[1]),
    "dataset type": changed(dataset=5),
    "preprocessing type": changed(preprocessing=[]),
    "scale type": changed_preprocessing(scale="1"),
    "scale bool": changed_preprocessing(scale=True),
    "scale huge": changed_preprocessing(scale=10**400),
    "scale zero": changed_preprocessing(scale=0),
    "mean nan": changed_preprocessing(mean=[float("nan")]),
    "mean type": changed_preprocessing(mean=0.5),
    "std empty": changed_preprocessing(std=[]),
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_malformed_json_is_one_clear_error(data: bytes) -> None:
    with pytest.raises(BadInputError) as caught:
        ModelMetadata.from_json_bytes(data)
    assert "\n" not in str(caught.value)
