"""Quantization parameters, calibration, and the int8 form of graphs operator by operator."""

from __future__ import annotations

import numpy as np
import pytest

from onebit.convert.int8 import calibrate, quantize_int8
from onebit.convert.int8.parameters import activation_quantization, weight_scales
from onebit.core import DType, Graph, evaluate
from onebit.core.errors import BadInputError
from onebit.core.graph import Array
from onebit.core.metadata import ModelMetadata, Preprocessing
from onebit.core.ops import Activation, Round
from support.nets import Net


@pytest.mark.parametrize(
    ("low", "high", "scale", "zero_point"),
    [
        (0.0, 1.0, 1 / 255, -128),
        (-1.0, 1.0, 2 / 255, 0),  # -0.5 would be exact, halves go away from zero
        (2.0, 5.0, 5 / 255, -128),  # widened to 0
        (-5.0, -2.0, 5 / 255, 127),
        (0.0, 0.0, 1.0, 0),
        (-1.0, 254.0, 1.0, -127),
    ],
)
def test_a_range_includes_zero_exactly(low: float, high: float, scale: float, zero_point: int) -> None:
    quant = activation_quantization(low, high)
    assert quant.scale == np.float32(scale)
    assert abs(quant.zero_point - zero_point) <= (1 if low == -1.0 == -high else 0)


def test_a_range_that_is_not_finite_is_refused() -> None:
    with pytest.raises(BadInputError, match="not finite"):
        activation_quantization(0.0, float("inf"))


def test_weight_scales_use_the_whole_narrow_range() -> None:
    weights = np.array([[0.5, -1.27], [0.0, 0.0], [2.54, 0.0]])
    np.testing.assert_allclose(weight_scales(weights, np.zeros(3), 0.1, axis=0), [0.01, 1.0, 0.02], rtol=1e-6)
    np.testing.assert_allclose(weight_scales(weights, np.zeros(3), 0.1, axis=None), [0.02], rtol=1e-6)


def test_a_bias_without_weights_still_fits_int32() -> None:
    (scale,) = weight_scales(np.full((1, 2), 1e-12), np.array([5.0]), 0.01, axis=0)
    assert abs(5.0 / (0.01 * scale)) <= 2**30 * 1.000001


def float_net() -> Net:
    net = Net((1, 6, 6, 3), seed=4).conv(8, activation=Activation.RELU).pool()
    return net.quantize().bconv(9).pool(3).dense(5).softmax()


def test_calibration_gives_the_extremes_over_all_chunks() -> None:
    net = float_net()
    graph, x = net.graph(), net.samples(70)
    ranges = calibrate(graph, x)
    floats = [t.name for t in graph.activations() if t.dtype is DType.FLOAT32]
    assert set(ranges) == {"input", *floats}
    for name, value in {"input": x, **evaluate(graph, x, floats)}.items():
        assert ranges[name] == (float(value.min()), float(value.max()))


def test_no_calibration_samples() -> None:
    graph = float_net().graph()
    with pytest.raises(BadInputError, match="no calibration samples"):
        calibrate(graph, np.zeros((0, 6, 6, 3), np.float32))


def quantized(net: Net, metadata: ModelMetadata | None = None) -> tuple[Graph, Graph, Array]:
    graph, x = net.graph(metadata), net.samples(64)
    return graph, quantize_int8(graph, calibrate(graph, x)).graph, x


def test_every_tensor_has_the_type_it_should_have() -> None:
    _, result, _ = quantized(float_net())
    kinds = {t.name: t.dtype.value for t in result.activations()}
    assert kinds == {
        "conv_2d_0": "int8", "max_pool_2d_1": "int8", "lcequantize_2": "bits", "lcebconv2d_3": "int8",
        "max_pool_2d_4": "int8", "fully_connected_5": "int8", "softmax_6": "int8",
    }  # fmt: skip
    assert result.tensors["conv_2d_0"].quant == result.tensors["max_pool_2d_1"].quant
    # only a sign reads them: one step is one of the convolution's accumulator
    assert result.tensors["conv_2d_0"].quant.zero_point == 0
    filters = [t for t in result.tensors.values() if t.is_constant and t.dtype is DType.INT8]
    assert {len(t.quant.scales) for t in filters} == {8, 1}
    assert all(t.constant().min() >= -127 for t in filters)


def test_the_quantized_net_computes_nearly_the_same() -> None:
    net = Net((1, 6, 6, 3), seed=4).conv(8).pool().dense(5)
    graph, result, x = quantized(net)
    quant = result.input.quant
    q = np.clip(np.rint(x / quant.scale) + quant.zero_point, -128, 127).astype(np.int8)
    wanted = evaluate(graph, x)[graph.output.name]
    out = result.output.quant
    got = (evaluate(result, q)[result.output.name].astype(float) - out.zero_point) * out.scale
    assert np.abs(got - wanted).max() < 0.05 * np.ptp(wanted)


def test_a_binary_convolution_that_is_only_signed_keeps_its_form() -> None:
    net = Net((1, 6, 6, 3)).conv(8).quantize().bconv(9).quantize().bconv(4, to=DType.BITS).bconv(4)
    _, result, _ = quantized(net)
    kinds = [t.dtype.value for t in result.activations()]
    assert kinds == ["int8", "bits", "float32", "bits", "bits", "int8"]


def test_signs_that_leave_the_binary_part() -> None:
    net = Net((1, 6, 6, 3)).conv(8).quantize().dequantize().pool().dense(4)
    _, result, _ = quantized(net)
    assert result.tensors["lcedequantize_2"].quant.scale == np.float32(1 / 127)


def test_an_image_with_mean_and_deviation_keeps_every_pixel() -> None:
    metadata = ModelMetadata(Preprocessing(mean=(0.1307,), std=(0.3081,)))
    _, result, _ = quantized(Net((1, 6, 6, 1)).conv(4), metadata)
    quant = result.input.quant
    table = metadata.preprocessing.quantized_table(1, quant.scale, quant.zero_point)[0].astype(int)
    assert np.abs(table - (np.arange(256) - 128)).max() <= 1


def test_what_has_no_int8_form_stays_in_float_and_is_reported() -> None:
    net = Net((1, 6, 6, 3)).conv(4).node(Round(), dtype=DType.FLOAT32).conv(5)
    graph, x = net.graph(), net.samples(64)
    made = quantize_int8(graph, calibrate(graph, x))
    assert [n.op.name for n in made.graph.nodes] == ["CONV_2D", "DEQUANTIZE", "ROUND", "QUANTIZE", "CONV_2D"]
    assert [(kept.node.op.name, kept.reason) for kept in made.kept_float] == [("ROUND", "it has no int8 arithmetic")]
