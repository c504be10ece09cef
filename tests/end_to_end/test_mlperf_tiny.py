"""MLPerf Tiny's reference models: files that TensorFlow's converter wrote, without metadata of onebit.

A part of what was run by hand: 1,000 random inputs each with every tensor, and all 10,000 CIFAR-10 images, under both
roundings.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from onebit.core import DType, Rounding, read_model
from onebit.core.errors import BadInputError
from onebit.core.metadata import Preprocessing
from onebit.simulate import simulate

RequiresData = Callable[[str], Path]
RequiresPackage = Callable[[str], None]

RESNET, RESNET_FLOAT, DSCNN = "ic_resnet8_int8", "ic_resnet8_fp32", "kws_dscnn_int8"
#: the input of both ResNets is the pixel itself
PIXELS = Preprocessing(scale=1.0)
ENGINES = {Rounding.LITERT: "larq-compute-engine", Rounding.TFLM: "tflite-micro"}


@pytest.fixture
def model(request: pytest.FixtureRequest, requires_data: RequiresData, requires_package: RequiresPackage) -> Path:
    """The file whose name the test is parametrized with; the interpreters are needed too."""
    requires_package("larq_compute_engine")
    requires_package("tflite_micro")
    return requires_data("mlperf_tiny") / f"{request.param}.tflite"


@pytest.mark.parametrize("rounding", ENGINES, ids=lambda rounding: rounding.value)
@pytest.mark.parametrize("model", [RESNET, RESNET_FLOAT, DSCNN], indirect=True, ids=str)
def test_every_tensor_equals_the_interpreters(model: Path, rounding: Rounding) -> None:
    result = simulate(model, "random:30" if "int8" in model.stem else "random:3", layers=True, rounding=rounding)
    assert result.engine == ENGINES[rounding]
    assert result.as_dict()["rounding"] == rounding.value
    assert result.ok, result.first_mismatch
    assert result.layers is not None
    assert len(result.layers) == len(read_model(model).nodes)
    for layer in result.layers:
        assert layer.eliminated_by is None, layer
        assert layer.outputs_equal == layer.outputs_compared > 0, layer
    if "int8" in model.stem:
        assert {tensor.dtype for tensor in read_model(model).activations()} == {DType.INT8}
        assert result.outputs_bit_identical == result.outputs_compared


@pytest.mark.parametrize("rounding", ENGINES, ids=lambda rounding: rounding.value)
@pytest.mark.parametrize("model", [RESNET], indirect=True, ids=str)
def test_accuracy_on_images_is_the_interpreters(model: Path, rounding: Rounding, requires_data: RequiresData) -> None:
    folder = requires_data("cifar10").parent
    result = simulate(model, "cifar10", data_dir=folder, limit=100, preprocessing=PIXELS, rounding=rounding)
    assert result.ok, result.first_mismatch
    assert result.outputs_equal == result.outputs_compared == 100 * 10
    assert result.generated_accuracy == result.reference_accuracy
    assert result.generated_accuracy is not None
    assert result.generated_accuracy > 0.8


@pytest.mark.parametrize("model", [RESNET], indirect=True, ids=str)
def test_without_metadata_the_message_says_which_range_the_input_spans(model: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "images.npz", x=np.zeros((1, 32, 32, 3), np.uint8))
    with pytest.raises(BadInputError, match="does not say how pixels") as caught:
        simulate(model, str(tmp_path / "images.npz"))
    assert "(0,255 spans the whole int8 input)" in caught.value.fix


@pytest.mark.parametrize("model", [DSCNN], indirect=True, ids=str)
def test_keyword_spotting_on_an_emulated_core(model: Path) -> None:
    result = simulate(model, "random:1", target="cortex-m4", layers=True)
    assert result.ok, result.first_mismatch
    assert result.arena_bytes == result.arena_lower_bound_bytes
