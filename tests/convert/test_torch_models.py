"""PyTorch models with random weights, float and int8, against the LCE interpreter running the written file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from onebit.convert import Converted, convert
from onebit.core import DType, read_model
from onebit.core.graph import Array
from onebit.core.metadata import ModelMetadata, Preprocessing
from onebit.core.oracle import Oracle
from onebit.simulate.oracle import LceOracle
from onebit.train.layers import QuantConv2d, QuantLinear, SameConv2d
from support.torch_nets import NETS, pool_before_norm, randomized

METADATA = ModelMetadata(Preprocessing(mean=(0.5,), std=(0.3,)))


@pytest.fixture
def lce(requires_package: Callable[[str], None]) -> Oracle:
    requires_package("larq_compute_engine")
    return LceOracle()


def pixels(shape: tuple[int, ...], n: int, seed: int = 0) -> Array:
    """Random images [N, H, W, C] or vectors [N, features], for a torch shape without N."""
    ordered = shape if len(shape) == 1 else (*shape[1:], shape[0])
    return np.random.default_rng(seed).integers(0, 256, (n, *ordered), dtype=np.uint8)


def converted(name: str, out: Path, oracle: Oracle, *, int8: bool, seed: int = 0) -> Converted:
    make, shape = NETS[name]
    x = pixels(shape, 100)
    return convert(
        randomized(make(), seed), out, metadata=METADATA, example_input=torch.zeros(1, *shape), int8=int8,
        calibration=x if int8 else None, samples=x, oracle=oracle,
    )  # fmt: skip


@pytest.mark.parametrize("name", list(NETS))
def test_float_agrees_with_torch(name: str, tmp_path: Path, lce: Oracle) -> None:
    done = converted(name, tmp_path / "m.tflite", lce, int8=False)
    assert done.verified.engine == "larq-compute-engine"
    assert (done.verified.samples, done.verified.argmax_equal) == (100, 100)
    assert done.verified.sign_flips == 0
    assert (tmp_path / "m.tflite").stat().st_size == done.bytes


@pytest.mark.parametrize("name", [name for name in NETS if name != "pool_before_norm"])
def test_int8_agrees_with_the_fake_quantized_source(name: str, tmp_path: Path, lce: Oracle) -> None:
    done = converted(name, tmp_path / "m.tflite", lce, int8=True)
    assert done.dtype == "int8"
    # LiteRT rounds a fixed-point product twice, the oracle a real one once
    assert done.verified.max_abs_diff <= 1
    assert done.verified.argmax_equal == done.verified.samples == 100
    graph = read_model(tmp_path / "m.tflite")
    assert graph.metadata == METADATA
    # only a zero-padded binary convolution in front of a sign stays float32: LCE has no bits form for it
    left = {t.name for t in graph.activations() if t.dtype is DType.FLOAT32}
    assert left == ({"3"} if name == "zero_padded_float_head" else set())


def test_digits_is_bits_between_first_layer_and_logits(tmp_path: Path, lce: Oracle) -> None:
    done = converted("digits", tmp_path / "m.tflite", lce, int8=True)
    assert done.ops == {"CONV_2D": 1, "LceBMaxPool2d": 3, "LceBconv2d": 5, "LceQuantize": 1, "RESHAPE": 1}
    kinds = [t.dtype.value for t in read_model(tmp_path / "m.tflite").activations()]
    assert kinds == ["int8", *["bits"] * 8, "int8", "int8"]


def test_the_same_model_gives_the_same_bytes(tmp_path: Path, lce: Oracle) -> None:
    first, second = (converted("odd_channels", tmp_path / name, lce, int8=True) for name in ("a", "b"))
    assert first.sha256 == second.sha256


def test_pool_before_norm_with_positive_gamma_becomes_thresholds(tmp_path: Path, lce: Oracle) -> None:
    net = randomized(pool_before_norm())
    gamma = net[5].weight  # type: ignore[index]
    assert isinstance(gamma, torch.Tensor)
    with torch.no_grad():
        gamma.abs_()
    x = pixels((1, 8, 8), 100)
    done = convert(
        net, tmp_path / "m.tflite", metadata=METADATA, example_input=torch.zeros(1, 1, 8, 8), int8=True,
        calibration=x, samples=x, oracle=lce,
    )  # fmt: skip
    assert (done.verified.max_abs_diff, done.ops.get("MUL")) == (0, None)


def test_norm_that_does_not_fold_becomes_int8_arithmetic(tmp_path: Path, lce: Oracle) -> None:
    net = nn.Sequential(
        SameConv2d(1, 8, 3), nn.MaxPool2d(2), nn.BatchNorm2d(8), QuantConv2d(8, 8, 3), nn.Flatten(), QuantLinear(128, 4)
    )
    x = pixels((1, 8, 8), 100)
    done = convert(
        randomized(net), tmp_path / "m.tflite", metadata=METADATA, example_input=torch.zeros(1, 1, 8, 8),
        int8=True, calibration=x, samples=x, oracle=lce,
    )  # fmt: skip
    assert (done.ops["MUL"], done.ops["ADD"]) == (1, 1)
    assert done.verified.max_abs_diff <= 1
    assert done.int8 is not None
    assert done.int8.kept_float == ()


def test_pixels_of_an_unsigned_range_lose_nothing(tmp_path: Path) -> None:
    make, shape = NETS["digits"]
    x = pixels(shape, 8)
    convert(
        randomized(make()), tmp_path / "m.tflite", metadata=ModelMetadata(), example_input=torch.zeros(1, *shape),
        int8=True, calibration=x, samples=x,
    )  # fmt: skip
    graph = read_model(tmp_path / "m.tflite")
    quant = graph.input.quant
    assert (quant.scale, quant.zero_point) == (float(np.float32(1 / 255)), -128)
    assert graph.metadata is not None
    everything = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    q = graph.metadata.preprocessing.apply(everything, np.int8, quant.scale, quant.zero_point)
    np.testing.assert_array_equal(q.reshape(-1), np.arange(256) - 128)


def test_real_inputs_without_metadata(tmp_path: Path) -> None:
    make, shape = NETS["vectors"]
    x = np.random.default_rng(5).normal(0, 1, (50, *shape)).astype(np.float32)
    net = randomized(make())
    net.example_input = torch.zeros(3, *shape)  # type: ignore[assignment]
    done = convert(net, tmp_path / "m.tflite", int8=True, calibration=x)
    assert (done.verified.samples, done.verified.max_abs_diff) == (64, 0)
    assert read_model(tmp_path / "m.tflite").metadata is None


def test_scaled_binary_weights_and_bias_go_into_multiplier_and_bias(tmp_path: Path, lce: Oracle) -> None:
    class Scaled(QuantLinear):
        """Weights of +-0.5, as XNOR-Net's scale makes them."""

        def quantized_weight(self) -> torch.Tensor:
            return super().quantized_weight() * 0.5

    net = randomized(nn.Sequential(Scaled(20, 33), nn.BatchNorm1d(33), QuantLinear(33, 4), nn.BatchNorm1d(4)))
    x = np.random.default_rng(6).normal(0, 1, (100, 20)).astype(np.float32)
    for int8 in (False, True):
        done = convert(
            net,
            tmp_path / "m.tflite",
            example_input=torch.zeros(1, 20),
            int8=int8,
            calibration=x,
            samples=x,
            oracle=lce,
        )
        assert done.verified.argmax_equal == 100
        assert done.verified.max_abs_diff <= (0 if int8 else 1e-5)


def test_a_tflite_passes_through_unchanged(tmp_path: Path, lce: Oracle) -> None:
    done = converted("odd_channels", tmp_path / "a.tflite", lce, int8=True)
    again = convert(tmp_path / "a.tflite", tmp_path / "b.tflite", oracle=lce)
    assert again.sha256 == done.sha256
    assert (tmp_path / "a.tflite").read_bytes() == (tmp_path / "b.tflite").read_bytes()
    assert (again.verified.max_abs_diff, again.ops) == (0, done.ops)


def test_a_tflite_gets_the_metadata_that_is_given(tmp_path: Path, lce: Oracle) -> None:
    converted("odd_channels", tmp_path / "a.tflite", lce, int8=False)
    convert(str(tmp_path / "a.tflite"), tmp_path / "b.tflite", metadata=ModelMetadata(classes=("a", "b")))
    assert read_model(tmp_path / "b.tflite").metadata == ModelMetadata(classes=("a", "b"))
