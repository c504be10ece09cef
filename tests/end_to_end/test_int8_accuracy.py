"""What int8 costs on trained networks and real images: at most half a point.

The large tests take all 10,000 test images of CIFAR-10; a plain run takes some hundred of them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from onebit.convert import convert
from onebit.convert.int8 import Int8Report, RangeMethod
from onebit.core.datasets import load_dataset
from onebit.core.metadata import ModelMetadata, Preprocessing
from onebit.core.oracle import Oracle
from onebit.simulate.oracle import LceOracle

RequiresData = Callable[[str], Path]
RequiresPackage = Callable[[str], None]

RESIDUAL = Path(__file__).parents[1] / "data" / "residual_cifar10.tflite"
MAX_LOSS = 0.005


@pytest.fixture
def oracle(requires_package: RequiresPackage) -> Oracle:
    requires_package("larq_compute_engine")
    return LceOracle()


def quantized(
    model: Path, metadata: ModelMetadata | None, folder: Path, out: Path, oracle: Oracle, images: int, ranges: str
) -> Int8Report:
    train, test = (load_dataset(f"cifar10:{split}", data_dir=folder) for split in ("train", "test"))
    part = test.take(images)
    done = convert(
        model, out, metadata=metadata, int8=True, calibration=train.x[:256], ranges=RangeMethod.parse(ranges),
        samples=part.x, labels=part.y, oracle=oracle,
    )  # fmt: skip
    assert done.verified.max_abs_diff <= 1
    assert done.verified.argmax_equal == done.verified.samples == min(images, 1000)
    assert done.int8 is not None
    assert done.int8.kept_float == ()
    return done.int8


def test_a_residual_network_keeps_its_signs(requires_data: RequiresData, tmp_path: Path, oracle: Oracle) -> None:
    """The signs of the stream flip where its noise reaches, not where int8 rounds to its zero point."""
    report = quantized(RESIDUAL, None, requires_data("cifar10").parent, tmp_path / "m.tflite", oracle, 100, "minmax")
    flips = {loss.tensor: loss.flips for loss in report.layers if loss.flips is not None}
    first = min(flips.values())
    # 1.98 % of the stem's signs and 8.6 % of the last ones with values on the zero point
    assert first < 0.004
    assert max(flips.values()) < 0.08


@pytest.mark.large
@pytest.mark.parametrize("ranges", ["minmax", "percentile:99.99"])
def test_a_residual_network_loses_little(
    ranges: str, requires_data: RequiresData, tmp_path: Path, oracle: Oracle
) -> None:
    folder = requires_data("cifar10").parent
    report = quantized(RESIDUAL, None, folder, tmp_path / "m.tflite", oracle, 10_000, ranges)
    assert report.accuracy_float == 0.6238
    assert report.accuracy_int8 is not None
    assert report.accuracy_int8 >= report.accuracy_float - MAX_LOSS


@pytest.mark.large
def test_mlperf_tinys_float_resnet_loses_little(requires_data: RequiresData, tmp_path: Path, oracle: Oracle) -> None:
    """MLPerf's own int8 file has 86.99 %, its float file 87.21 %."""
    model = requires_data("mlperf_tiny") / "ic_resnet8_fp32.tflite"
    pixels = ModelMetadata(Preprocessing(scale=1.0))
    folder = requires_data("cifar10").parent
    report = quantized(model, pixels, folder, tmp_path / "m.tflite", oracle, 10_000, "minmax")
    assert report.accuracy_float == 0.8721
    assert report.accuracy_int8 is not None
    assert report.accuracy_int8 >= report.accuracy_float - MAX_LOSS
