"""Layers: TensorFlow's SAME rule and padding behind the sign, against explicit loops in NumPy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from onebit.core.errors import BadInputError
from onebit.train.layers import (
    ChannelGate,
    ChannelPReLU,
    ChannelScale,
    QuantConv2d,
    QuantLinear,
    RepeatChannels,
    RPReLU,
    RSign,
    SameConv2d,
    XnorConv2d,
    binary_weights,
    same_padding,
)

Array = npt.NDArray[np.float64]


def explicit_conv(x: Array, w: Array, *, stride: int, dilation: int, groups: int, same: bool, pad: float) -> Array:
    """x [N, I, H, W], w [O, I/groups, kh, kw]; the position of every tap is computed from TensorFlow's definition."""
    count, _, height, width = x.shape
    out_channels, per_group, kh, kw = w.shape
    spans = ((kh - 1) * dilation + 1, (kw - 1) * dilation + 1)
    if same:
        sizes = [int(np.ceil(size / stride)) for size in (height, width)]
        before = [
            max((out - 1) * stride + span - size, 0) // 2
            for out, span, size in zip(sizes, spans, (height, width), strict=True)
        ]
    else:
        sizes = [(size - span) // stride + 1 for size, span in zip((height, width), spans, strict=True)]
        before = [0, 0]
    y = np.zeros((count, out_channels, *sizes))
    for o in range(out_channels):
        first = o // (out_channels // groups) * per_group
        for row, column in np.ndindex(*sizes):
            for i, u, v in np.ndindex(per_group, kh, kw):
                r, c = row * stride - before[0] + u * dilation, column * stride - before[1] + v * dilation
                inside = 0 <= r < height and 0 <= c < width
                y[:, o, row, column] += (x[:, first + i, r, c] if inside else pad) * w[o, i, u, v]
    return y


def signs(x: Array) -> Array:
    return np.where(x < 0, -1.0, 1.0)


CASES = {
    "same": {},
    "same, stride 2, even size": {"stride": 2, "size": (6, 8)},
    "same, stride 2, odd size": {"stride": 2, "size": (7, 5)},
    "same, kernel 2": {"kernel": 2},
    "same, kernel 5, stride 3": {"kernel": 5, "stride": 3, "size": (8, 9)},
    "same, dilation 2": {"dilation": 2, "size": (7, 6)},
    "same, 1x1 kernel, stride 2": {"kernel": 1, "stride": 2},
    "same, groups": {"groups": 2},
    "valid": {"padding": "valid"},
    "valid, stride 2": {"padding": "valid", "stride": 2, "size": (7, 6)},
}


@pytest.mark.parametrize("pad_value", [1, 0])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_quant_conv_is_the_explicit_convolution_of_signs(case: dict, pad_value: int) -> None:
    torch.manual_seed(3)
    stride, dilation, groups = case.get("stride", 1), case.get("dilation", 1), case.get("groups", 1)
    padding = case.get("padding", "same")
    layer = QuantConv2d(
        4, 6, case.get("kernel", 3),
        stride=stride, padding=padding, dilation=dilation, groups=groups, pad_value=pad_value,
    )  # fmt: skip
    x = torch.randn(2, 4, *case.get("size", (5, 4)))
    x[0, 0, 0, 0] = 0.0  # counts as +1
    expected = explicit_conv(
        signs(x.double().numpy()), signs(layer.weight.detach().double().numpy()),
        stride=stride, dilation=dilation, groups=groups, same=padding == "same", pad=pad_value,
    )  # fmt: skip
    assert np.array_equal(layer(x).detach().numpy(), expected)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_same_conv_is_the_explicit_convolution(case: dict) -> None:
    torch.manual_seed(4)
    stride, dilation, groups = case.get("stride", 1), case.get("dilation", 1), case.get("groups", 1)
    padding = case.get("padding", "same")
    layer = SameConv2d(
        4, 6, case.get("kernel", 3), stride=stride, padding=padding, dilation=dilation, groups=groups, bias=False
    )
    x = torch.randn(2, 4, *case.get("size", (5, 4)))
    expected = explicit_conv(
        x.double().numpy(), layer.weight.detach().double().numpy(),
        stride=stride, dilation=dilation, groups=groups, same=padding == "same", pad=0.0,
    )  # fmt: skip
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, atol=1e-5)


def test_same_rule_puts_the_odd_pixel_behind() -> None:
    assert same_padding(28, 3, 2, 1) == (0, 1)
    assert same_padding(28, 5, 2, 1) == (1, 2)
    assert same_padding(7, 3, 2, 1) == (1, 1)
    assert same_padding(7, 1, 2, 1) == (0, 0)


def test_quant_linear_is_a_product_of_signs() -> None:
    torch.manual_seed(5)
    layer = QuantLinear(33, 7)
    x = torch.randn(3, 33)
    expected = signs(x.double().numpy()) @ signs(layer.weight.detach().double().numpy()).T
    assert np.array_equal(layer(x).detach().numpy(), expected)


def test_converter_protocol() -> None:
    conv = QuantConv2d(4, 8, (3, 5), stride=2, padding="valid", pad_value=0, dilation=2, groups=2)
    assert (conv.onebit_kind, conv.pad_mode, conv.pad_value) == ("quant_conv2d", "valid", 0)
    assert (conv.kernel_size, conv.stride, conv.dilation, conv.groups) == ((3, 5), (2, 2), (2, 2), 2)
    assert conv.bias is None
    assert set(conv.quantized_weight().unique().tolist()) == {-1.0, 1.0}
    assert conv.quantized_weight().shape == (8, 2, 3, 5)
    assert conv.input_quantizer.deploys_as == "sign"
    linear = QuantLinear(32, 10)
    assert (linear.onebit_kind, linear.bias) == ("quant_linear", None)
    assert linear.quantized_weight().shape == (10, 32)
    same = SameConv2d(1, 8, 3)
    assert (same.onebit_kind, same.pad_mode, same.pad_value) == ("same_conv2d", "same", 0)


def test_binary_weights_lists_only_binary_layers() -> None:
    net = nn.Sequential(SameConv2d(1, 4, 3), nn.BatchNorm2d(4), QuantConv2d(4, 4, 3), nn.Flatten(), QuantLinear(16, 2))
    assert [tuple(weight.shape) for weight in binary_weights(net)] == [(4, 4, 3, 3), (2, 16)]


def test_bad_options_say_what_is_allowed() -> None:
    with pytest.raises(BadInputError, match="same, valid"):
        QuantConv2d(1, 1, 3, padding="full")
    with pytest.raises(BadInputError, match="use 1 or 0"):
        QuantConv2d(1, 1, 3, pad_value=-1)


def random_parameters(layer: nn.Module, seed: int = 8) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(0, 1, generator=generator)
    return layer


def test_xnor_scale_is_the_mean_magnitude_of_each_filter() -> None:
    torch.manual_seed(7)
    layer = XnorConv2d(4, 6, 3)
    x = torch.randn(2, 4, 5, 4)
    weight = layer.weight.detach().double().numpy()
    integers = explicit_conv(signs(x.double().numpy()), signs(weight), stride=1, dilation=1, groups=1, same=True, pad=1)
    scale = np.abs(weight).reshape(6, -1).mean(axis=1)
    np.testing.assert_allclose(layer(x).detach().numpy(), integers * scale[:, None, None], rtol=1e-6)
    np.testing.assert_allclose(
        layer.quantized_weight().detach().numpy(), signs(weight) * scale[:, None, None, None], rtol=1e-6
    )


def test_learned_threshold_moves_the_sign() -> None:
    layer = random_parameters(RSign(3))
    x = torch.randn(2, 3, 4, 5)
    threshold = layer.threshold.detach().numpy().reshape(3, 1, 1)
    assert np.array_equal(layer(x).detach().numpy() < 0, x.numpy() < threshold)


def test_rprelu_is_a_shifted_prelu_with_slopes_of_one_sign() -> None:
    layer = random_parameters(RPReLU(3))
    before, prelu, behind = layer
    b, slope, c = (p.detach().double().numpy().reshape(3, 1, 1) for p in (before.shift, prelu.weight, behind.shift))
    x = torch.randn(2, 3, 4, 5)
    shifted = x.double().numpy() + b
    expected = np.where(shifted >= 0, shifted, np.abs(slope) * shifted) + c
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, atol=1e-6)
    assert (slope < 0).any()


def test_slopes_of_either_sign_are_an_option() -> None:
    layer = random_parameters(ChannelPReLU(8, nonnegative=False))
    x = -torch.ones(1, 8, 1, 1)
    assert torch.equal(layer(x).flatten(), -layer.weight)


def test_channel_scale_repeat_and_gate() -> None:
    x = torch.randn(2, 3, 4, 5)
    scale = random_parameters(ChannelScale(3))
    assert torch.equal(scale(x), x * scale.scale)
    repeated = RepeatChannels(3)(x)
    assert repeated.shape == (2, 9, 4, 5)
    assert torch.equal(repeated[:, 3:6], x)
    gate = random_parameters(ChannelGate(3, 7, reduction=2))(x)
    assert gate.shape == (2, 7, 1, 1)
    assert bool(((gate > 0) & (gate < 1)).all())
