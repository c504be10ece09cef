"""Calibration data that no range can be learned from, models that cannot be quantized: one line, nothing written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onebit.cli.main import main
from onebit.convert import convert
from onebit.convert.int8 import RangeMethod, calibrate, quantize_int8
from onebit.core import DType, evaluate, write_model
from onebit.core.errors import BadInputError, UnsupportedError
from onebit.core.graph import Array
from onebit.core.metadata import ModelMetadata, Preprocessing
from support.nets import INT8_INPUT, Net

METADATA = ModelMetadata(Preprocessing(mean=(0.5,), std=(0.25,)))
PIXELS = np.random.default_rng(0).integers(0, 256, (20, 6, 6, 3), dtype=np.uint8)
REAL = METADATA.preprocessing.apply(PIXELS, np.float32)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "float.tflite"
    path.write_bytes(write_model(Net((1, 6, 6, 3)).conv(4).reshape(1, 144).dense(3).graph(METADATA)))
    return path


BAD: dict[str, tuple[Array, str]] = {
    "another height": (PIXELS[:, :5], r"calibration samples of shape \[20, 5, 6, 3\]; give \[N, 6, 6, 3\]"),
    "another channel count": (PIXELS[..., :1], r"calibration samples of shape \[20, 6, 6, 1\]; give \[N, 6, 6, 3\]"),
    "no batch": (PIXELS[0], r"calibration samples of shape \[6, 6, 3\]; give \[N, 6, 6, 3\]"),
    "no samples": (PIXELS[:0], r"calibration samples of shape \[0, 6, 6, 3\]"),
    "integers": (
        PIXELS.astype(np.int64),
        "calibration samples of dtype int64; give uint8 pixels or real values",
    ),
    "NaN": (np.where(REAL > 1, np.nan, REAL), "calibration samples have NaN or infinite values"),
    "infinity": (np.where(REAL > 1, np.inf, REAL), "calibration samples have NaN or infinite values"),
    "all equal": (np.full_like(PIXELS, 7), "calibration samples are all 7; give samples that the model was made for"),
    "pixels where real values belong": (
        PIXELS.astype(np.float32),
        r"calibration samples reach from 0 to 255, the model's input from -2 to 2; preprocess them",
    ),
}


@pytest.mark.parametrize("case", list(BAD))
def test_calibration_data(case: str, model: Path, tmp_path: Path) -> None:
    x, message = BAD[case]
    with pytest.raises(BadInputError, match=message) as caught:
        convert(model, tmp_path / "int8.tflite", int8=True, calibration=x)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "int8.tflite").exists()


@pytest.mark.parametrize("x", [PIXELS, REAL, REAL.astype(np.float64)], ids=["pixels", "real", "double"])
def test_good_calibration_data(x: Array, model: Path, tmp_path: Path) -> None:
    done = convert(model, tmp_path / "int8.tflite", int8=True, calibration=x)
    assert (done.dtype, done.verified.argmax_equal) == ("int8", done.verified.samples)


@pytest.mark.parametrize("text", ["", "min", "minmax:", "percentile", "percentile:", "percentile:x", "percentile:50",
                                  "percentile:100.1", "percentile:nan"])  # fmt: skip
def test_a_range_method_that_does_not_exist(text: str) -> None:
    with pytest.raises(BadInputError, match=r"give minmax or percentile:P with 50 < P <= 100"):
        RangeMethod.parse(text)


def test_the_command_line_says_it_in_one_line(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "x.npz", x=PIXELS[:, :4])
    out = tmp_path / "int8.tflite"
    arguments = ["convert", str(model), "--out", str(out), "--int8", "--calibration", str(tmp_path / "x.npz")]
    assert main(arguments) == 2
    assert main([*arguments, "--range", "median"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 2
    assert "[20, 4, 6, 3]" in printed.err
    assert not out.exists()


def test_labels_without_their_samples(model: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="3 labels; give one for every sample"):
        convert(model, tmp_path / "int8.tflite", int8=True, calibration=PIXELS, samples=PIXELS, labels=np.zeros(3))


def test_an_operator_whose_values_are_not_finite_is_named() -> None:
    net = Net((1, 4, 4, 3)).conv(4).quantize().bconv(4, multiplier=np.full(4, 3e38))
    with pytest.raises(BadInputError, match=r"LceBconv2d 'lcebconv2d_2': its values are not all finite"):
        calibrate(net.graph(), net.samples(8))


def test_a_model_that_is_int8_already() -> None:
    graph = Net((1, 4, 4, 3), DType.INT8, INT8_INPUT).conv(4).graph()
    with pytest.raises(UnsupportedError, match="has int8 tensors already"):
        quantize_int8(graph, {})


@pytest.mark.parametrize("percentile", [99.0, 90.0])
def test_a_percentile_cuts_inner_tensors_and_neither_input_nor_output(percentile: float) -> None:
    net = Net((1, 8, 8, 3), seed=1).conv(4).conv(4).reshape(1, 256).dense(5).softmax()
    graph, x = net.graph(), net.samples(100)
    names = [t.name for t in graph.activations()]
    whole, cut = calibrate(graph, x), calibrate(graph, x, RangeMethod(percentile))
    values = evaluate(graph, x, names)
    assert {name for name in whole if whole[name] == cut[name]} == {
        "input", "fully_connected_3", "softmax_4",
    }  # fmt: skip
    for name in ("conv_2d_0", "conv_2d_1", "reshape_2"):
        expected = np.percentile(values[name], [100 - percentile, percentile])
        # within two of the histogram's bins
        assert np.abs(np.array(cut[name]) - expected).max() <= 2 * 2 * np.abs(whole[name]).max() / 2048


def test_ranges_do_not_depend_on_how_samples_are_batched() -> None:
    """The histogram widens as larger values come."""
    net = Net((1, 4, 4, 3), seed=1).conv(4).conv(3)
    x = net.samples(96) * np.geomspace(0.01, 30, 96, dtype=np.float32)[:, None, None, None]
    graph, method = net.graph(), RangeMethod(99.0)
    up, down = (calibrate(graph, part, method)["conv_2d_0"] for part in (x, x[::-1]))
    np.testing.assert_allclose(up, down, atol=4 * np.abs(up).max() / 2048)
