"""Every layer and function that can be imported, in small networks, against the LCE interpreter running the file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name PyTorch's own documentation uses
from torch import Tensor, nn

from onebit.convert import Converted, convert
from onebit.core import read_model
from onebit.core.ops import LceBconv2d
from onebit.core.oracle import Oracle
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
)
from support.torch_nets import randomized

Shape = tuple[int, ...]


def product_of_halves(x: Tensor) -> Tensor:
    a, b = x.chunk(2, dim=1)
    return a * b


def exchanged_parts(x: Tensor) -> Tensor:
    a, b = torch.split(x, [4, 2], 1)
    return torch.cat([b, a], 1)


def squeeze_and_excite(x: Tensor, pool: nn.Module, dense: nn.Module) -> Tensor:
    """As it is mostly written."""
    b, c, _, _ = x.size()
    y = torch.sigmoid(dense(pool(x).view(b, c))).view(b, c, 1, 1)
    return x * y.expand_as(x)


class Call(nn.Module):
    """A function of the input as a module of the user's own; `layers` are what it calls."""

    def __init__(self, function: Callable[..., Tensor], *layers: nn.Module, **parameters: Tensor) -> None:
        super().__init__()
        self.function = function
        self.layers = nn.ModuleList(layers)
        for name, value in parameters.items():
            self.register_buffer(name, value)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *self.layers, *self._buffers.values())


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def with_head(layer: nn.Module, shape: Shape) -> nn.Module:
    """The layer, and a dense layer on whatever it gives."""
    found = layer.eval()(torch.zeros(1, *shape))
    features = found[0].numel()
    return nn.Sequential(layer, *([] if found.ndim == 2 else [nn.Flatten()]), nn.Linear(features, 5))


def checked(net: nn.Module, shape: Shape, out: Path, oracle: Oracle) -> Converted:
    done = convert(randomized(net), out / "m.tflite", example_input=torch.zeros(1, *shape), oracle=oracle)
    assert done.verified.samples >= 16
    assert done.verified.argmax_equal == done.verified.samples
    assert done.verified.sign_flips == 0
    return done


IMAGE = (6, 8, 10)
VECTOR = (12,)

#: name -> (layer, shape of its input, operators expected beside those of the head)
REAL: dict[str, tuple[Callable[[], nn.Module], Shape, dict[str, int]]] = {
    "depthwise": (lambda: nn.Conv2d(6, 6, 3, groups=6), IMAGE, {"DEPTHWISE_CONV_2D": 1}),
    "depthwise, two per channel": (lambda: nn.Conv2d(6, 12, 3, groups=6), IMAGE, {"DEPTHWISE_CONV_2D": 1}),
    "depthwise SAME, stride 2": (lambda: SameConv2d(6, 6, 3, stride=2, groups=6), IMAGE, {"DEPTHWISE_CONV_2D": 1}),
    "separable": (
        lambda: nn.Sequential(nn.Conv2d(6, 6, 3, groups=6, padding=1), nn.Conv2d(6, 9, 1)), IMAGE,
        {"DEPTHWISE_CONV_2D": 1, "CONV_2D": 1},
    ),
    "symmetric padding, stride 2": (lambda: nn.Conv2d(6, 4, 3, 2, 1), IMAGE, {"PAD": 1, "CONV_2D": 1}),
    "symmetric padding, stride 2, odd map": (lambda: nn.Conv2d(6, 4, 3, 2, 1), (6, 7, 9), {"CONV_2D": 1}),
    "symmetric padding 3, stride 2": (lambda: nn.Conv2d(6, 4, 7, 2, 3), IMAGE, {"PAD": 1, "CONV_2D": 1}),
    "symmetric padding, depthwise, stride 2": (
        lambda: nn.Conv2d(6, 6, 3, 2, 1, groups=6), IMAGE, {"PAD": 1, "DEPTHWISE_CONV_2D": 1}
    ),
    "more padding than the kernel": (lambda: nn.Conv2d(6, 4, 1, padding=(2, 0)), IMAGE, {"PAD": 1, "CONV_2D": 1}),
    "groups": (lambda: nn.Conv2d(6, 8, 3, groups=2), IMAGE, {"SLICE": 2, "CONV_2D": 2, "CONCATENATION": 1}),
    "dilation": (lambda: nn.Conv2d(6, 4, 3, dilation=(2, 1), padding="same"), IMAGE, {"CONV_2D": 1}),
    "F.conv2d": (
        lambda: Call(lambda x, w, b: F.conv2d(x, w, b, 2, 1), w=randn(4, 6, 3, 3), b=randn(4)), IMAGE,
        {"PAD": 1, "CONV_2D": 1},
    ),
    "F.linear": (lambda: Call(F.linear, w=randn(7, 12)), VECTOR, {"FULLY_CONNECTED": 1}),
    "weights computed from parameters": (
        lambda: Call(lambda x, w: F.conv2d(x, (w - w.mean()) / w.std()), w=randn(4, 6, 3, 3)), IMAGE, {"CONV_2D": 1},
    ),
    "F.batch_norm": (
        lambda: Call(lambda x, m, v: F.batch_norm(x, m, v.abs() + 1), m=randn(6), v=randn(6)), IMAGE,
        {"MUL": 1, "ADD": 1},
    ),
    "a view of one channel": (
        lambda: Call(lambda x, f: f(x).view(x.size(0), -1), nn.Conv2d(1, 4, 1)), (1, 7, 6), {"CONV_2D": 1, "RESHAPE": 1}
    ),
    "the only element of a dimension": (
        lambda: Call(lambda x: F.adaptive_avg_pool2d(x, 1)[..., 0, -1][:, :, None, None]), IMAGE, {"MEAN": 1}
    ),
    "batch norm first": (lambda: nn.BatchNorm2d(6), IMAGE, {"MUL": 1, "ADD": 1}),
    "batch norm of a flattened map": (
        lambda: nn.Sequential(nn.Flatten(), nn.BatchNorm1d(480)), IMAGE, {"MUL": 1, "ADD": 1, "RESHAPE": 1}
    ),
    "batch norm into a depthwise convolution": (
        lambda: nn.Sequential(nn.Conv2d(6, 6, 3, groups=6, bias=False), nn.BatchNorm2d(6), nn.ReLU6()), IMAGE,
        {"DEPTHWISE_CONV_2D": 1},
    ),
    "relu": (nn.ReLU, IMAGE, {"RELU": 1}),
    "relu6": (lambda: Call(F.relu6), IMAGE, {"RELU6": 1}),
    "hardtanh": (nn.Hardtanh, VECTOR, {"RELU_N1_TO_1": 1}),
    "hardtanh of other limits": (lambda: nn.Hardtanh(-2, 0.5), IMAGE, {"MAXIMUM": 1, "MINIMUM": 1}),
    "clamp from below": (lambda: Call(lambda x: x.clamp(min=-0.25)), IMAGE, {"MAXIMUM": 1}),
    "leaky relu": (lambda: nn.LeakyReLU(0.1), IMAGE, {"LEAKY_RELU": 1}),
    "prelu": (lambda: nn.PReLU(6), IMAGE, {"PRELU": 1}),
    "prelu of one slope": (nn.PReLU, VECTOR, {"PRELU": 1}),
    "prelu of a flattened map": (lambda: nn.Sequential(nn.Flatten(), nn.PReLU(480)), IMAGE,
                                 {"TRANSPOSE": 1, "RESHAPE": 1, "PRELU": 1}),
    "F.prelu": (lambda: ChannelPReLU(6), IMAGE, {"PRELU": 1}),
    "hardswish": (nn.Hardswish, IMAGE, {"HARD_SWISH": 1}),
    "hardsigmoid": (nn.Hardsigmoid, IMAGE, {"ADD": 1, "MUL": 1}),
    "silu": (lambda: Call(F.silu), IMAGE, {"LOGISTIC": 1, "MUL": 1}),
    "sigmoid": (lambda: Call(torch.sigmoid), VECTOR, {"LOGISTIC": 1}),
    "tanh": (nn.Tanh, IMAGE, {"TANH": 1}),
    "softmax over channels": (lambda: nn.Softmax(dim=1), IMAGE, {"SOFTMAX": 1}),
    "max pool": (lambda: nn.MaxPool2d(2), IMAGE, {"MAX_POOL_2D": 1}),
    "max pool, SAME by itself": (lambda: nn.MaxPool2d(3, 1, 1), IMAGE, {"MAX_POOL_2D": 1}),
    "max pool, symmetric at stride 2": (lambda: nn.MaxPool2d(3, 2, 1), IMAGE, {"MAX_POOL_2D": 2}),
    "max pool, ceil mode": (lambda: nn.MaxPool2d(3, 2, ceil_mode=True), (6, 8, 9), {"PADV2": 1, "MAX_POOL_2D": 1}),
    "max pool, even kernel, padded": (lambda: nn.MaxPool2d(2, 2, 1), IMAGE, {"PADV2": 1, "MAX_POOL_2D": 1}),
    "average pool": (lambda: Call(lambda x: F.avg_pool2d(x, (2, 5))), IMAGE, {"AVERAGE_POOL_2D": 1}),
    "average pool that counts its padding": (lambda: nn.AvgPool2d(3, 2, 1), IMAGE, {"PAD": 1, "AVERAGE_POOL_2D": 1}),
    "average pool that does not": (
        lambda: nn.AvgPool2d(3, 1, 1, count_include_pad=False), IMAGE, {"AVERAGE_POOL_2D": 1}
    ),
    "average pool, ceil mode": (lambda: nn.AvgPool2d(2, ceil_mode=True), (6, 7, 9), {"AVERAGE_POOL_2D": 1}),
    "average pool of another divisor": (
        lambda: nn.AvgPool2d(2, divisor_override=3), IMAGE, {"AVERAGE_POOL_2D": 1, "MUL": 1}
    ),
    "average pool of the map": (
        lambda: Call(lambda x: F.avg_pool2d(x, x.shape[2:])), IMAGE, {"AVERAGE_POOL_2D": 1}
    ),
    "global average": (lambda: nn.AdaptiveAvgPool2d(1), IMAGE, {"MEAN": 1}),
    "global maximum": (lambda: nn.AdaptiveMaxPool2d((1, 1)), IMAGE, {"REDUCE_MAX": 1}),
    "adaptive average": (lambda: nn.AdaptiveAvgPool2d((4, 2)), IMAGE, {"AVERAGE_POOL_2D": 1}),
    "adaptive maximum": (lambda: Call(lambda x: F.adaptive_max_pool2d(x, (2, 5))), IMAGE, {"MAX_POOL_2D": 1}),
    "mean": (lambda: Call(lambda x: x.mean((2, 3))), IMAGE, {"MEAN": 1}),
    "mean, dimensions kept": (lambda: Call(lambda x: torch.mean(x, [-1, -2], keepdim=True)), IMAGE, {"MEAN": 1}),
    "amax": (lambda: Call(lambda x: x.amax(dim=(2, 3))), IMAGE, {"REDUCE_MAX": 1}),
    "add": (lambda: Call(lambda x, f: x + f(x), nn.Conv2d(6, 6, 3, padding=1)), IMAGE, {"CONV_2D": 1, "ADD": 1}),
    "subtract": (lambda: Call(lambda x, f: f(x) - x, nn.Linear(12, 12)), VECTOR, {"FULLY_CONNECTED": 1, "SUB": 1}),
    "in place": (lambda: Call(lambda x, f: f(x).add_(x), nn.Conv2d(6, 6, 1)), IMAGE, {"CONV_2D": 1, "ADD": 1}),
    "constants": (
        lambda: Call(lambda x, c: (3 - x / 2) * c + 1, c=randn(1, 6, 1, 1)), IMAGE, {"SUB": 1, "MUL": 2, "ADD": 1}
    ),
    "a constant per pixel": (lambda: Call(lambda x, c: x + c, c=randn(8, 10)), (1, 8, 10), {"ADD": 1}),
    "a constant per value": (lambda: Call(lambda x, c: x * c, c=randn(6, 8, 10)), IMAGE, {"MUL": 1}),
    "extrema": (lambda: Call(lambda x: torch.maximum(x, -x).min(torch.tensor(1.0))), IMAGE,
                {"MUL": 1, "MAXIMUM": 1, "MINIMUM": 1}),
    "a sum of flattened maps": (
        lambda: Call(lambda x, f: f(x).flatten(1) + x.flatten(1), nn.Conv2d(6, 6, 1)), IMAGE,
        {"CONV_2D": 1, "ADD": 1, "RESHAPE": 1},
    ),
    "a gate": (lambda: Call(lambda x, f: x * f(x), ChannelGate(6, 6, reduction=2)), IMAGE,
               {"MEAN": 1, "CONV_2D": 2, "LOGISTIC": 1, "MUL": 1}),
    "a gate of dense layers": (
        lambda: Call(lambda x, f: x * torch.sigmoid(f(x.mean((2, 3)))).view(-1, 6, 1, 1), nn.Linear(6, 6)), IMAGE,
        {"MEAN": 1, "FULLY_CONNECTED": 1, "LOGISTIC": 1, "RESHAPE": 1, "MUL": 1},
    ),
    "squeeze and excite": (
        lambda: Call(squeeze_and_excite, nn.AdaptiveAvgPool2d(1), nn.Linear(6, 6)), IMAGE,
        {"MEAN": 1, "FULLY_CONNECTED": 1, "LOGISTIC": 1, "RESHAPE": 2, "MUL": 1},
    ),
    "doubled": (lambda: nn.Upsample(scale_factor=2), IMAGE, {"RESIZE_NEAREST_NEIGHBOR": 1}),
    "interpolated": (
        lambda: Call(lambda x: F.interpolate(x, (24, 10))), IMAGE, {"RESIZE_NEAREST_NEIGHBOR": 1}
    ),
    "concatenation of channels": (lambda: Call(lambda x: torch.cat([x, x * 2, x], 1)), IMAGE,
                                  {"MUL": 1, "CONCATENATION": 1}),
    "concatenation of rows": (lambda: Call(lambda x: torch.cat([x, -x], dim=-2)), IMAGE,
                              {"MUL": 1, "CONCATENATION": 1}),
    "concatenation of vectors": (lambda: Call(lambda x: torch.cat((x, -x), 1)), VECTOR,
                                 {"MUL": 1, "CONCATENATION": 1}),
    "repeated channels": (lambda: RepeatChannels(3), IMAGE, {"CONCATENATION": 1}),
    "repeat": (lambda: Call(lambda x: x.repeat(1, 2, 1, 1)), IMAGE, {"CONCATENATION": 1}),
    "chunk": (lambda: Call(product_of_halves), IMAGE, {"SLICE": 2, "MUL": 1}),
    "split": (lambda: Call(exchanged_parts), IMAGE,
              {"SLICE": 2, "CONCATENATION": 1}),
    "slices": (lambda: Call(lambda x: x[:, 1:5, :-2]), IMAGE, {"SLICE": 1}),
    "every second pixel": (lambda: Call(lambda x: x[..., ::2, 1::2]), IMAGE, {"STRIDED_SLICE": 1}),
    "narrow": (lambda: Call(lambda x: x.narrow(1, 2, 7)), VECTOR, {"SLICE": 1}),
    "F.pad": (lambda: Call(lambda x: F.pad(x, (1, 0, 2, 3), value=0.5)), IMAGE, {"PADV2": 1}),
    "zero pad": (lambda: nn.ZeroPad2d((1, 0, 2, 3)), IMAGE, {"PAD": 1}),
    "padded channels": (lambda: Call(lambda x: F.pad(x, (0, 0, 0, 0, 2, 3))), IMAGE, {"PAD": 1}),
    "flattened twice": (lambda: Call(lambda x: torch.flatten(x, 2).reshape(x.size(0), -1)), IMAGE,
                        {"TRANSPOSE": 1, "RESHAPE": 2}),
    "channels last": (lambda: Call(lambda x: x.permute(0, 2, 3, 1).reshape(x.shape[0], -1)), IMAGE, {"RESHAPE": 1}),
    "height and width exchanged": (lambda: Call(lambda x: x.transpose(2, 3)), IMAGE, {"TRANSPOSE": 2, "RESHAPE": 1}),
    "shuffled channels": (
        lambda: Call(lambda x: x.view(-1, 2, 3, 8, 10).transpose(1, 2).reshape(-1, 6, 8, 10)), IMAGE,
        {"TRANSPOSE": 2, "RESHAPE": 3},
    ),
    "channel shuffle": (lambda: nn.ChannelShuffle(2), IMAGE, {"TRANSPOSE": 1, "RESHAPE": 3}),
    "unflattened": (lambda: nn.Sequential(nn.Unflatten(1, (3, 2, 2)), nn.Conv2d(3, 4, 2)), VECTOR,
                    {"RESHAPE": 1, "TRANSPOSE": 1, "CONV_2D": 1}),
    "squeezed": (lambda: Call(lambda x: x.mean((2, 3), keepdim=True).squeeze(3).squeeze(2)), IMAGE, {"MEAN": 1}),
}  # fmt: skip


@pytest.mark.parametrize("name", list(REAL))
def test_real_layers(name: str, tmp_path: Path, interpreter: Oracle) -> None:
    make, shape, expected = REAL[name]
    done = checked(with_head(make(), shape), shape, tmp_path, interpreter)
    layer = Counter(done.ops)
    layer.subtract({"FULLY_CONNECTED": 1})
    # the head flattens
    layer["RESHAPE"] = min(layer["RESHAPE"], expected.get("RESHAPE", 0))
    assert +layer == Counter(expected)


class Optional(nn.Module):
    """Parameters with defaults, on which forward() branches; the weights are those of a layer and its own."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(12, 5)
        self.shift = nn.Parameter(randn(5))

    def forward(self, x: Tensor, mask: Tensor | None = None, *, double: bool = False) -> Tensor:
        y: Tensor = self.dense(x if mask is None else x * mask) + self.shift
        return 2 * y if double else y


def test_other_parameters_of_forward_have_their_defaults(tmp_path: Path, interpreter: Oracle) -> None:
    assert checked(Optional(), VECTOR, tmp_path, interpreter).ops == {"FULLY_CONNECTED": 1}
    assert any(name.startswith("dense/weight") for name in read_model(tmp_path / "m.tflite").tensors)


# -------------------------------------------------------------------------------------------------------------- binary


def binary(*layers: nn.Module, channels: int = 32) -> Callable[[], nn.Module]:
    """A convolution, the layers under test, and a binary dense layer on what they give."""
    body = nn.Sequential(SameConv2d(3, channels, 3), nn.BatchNorm2d(channels), *layers).eval()
    features = body(torch.zeros(1, 3, 8, 10))[0].numel()
    return lambda: nn.Sequential(body, nn.Flatten(), QuantLinear(features, 7))


def chain(*layers: nn.Module) -> nn.Module:
    """Layers with a batch norm behind the first."""
    conv, *rest = layers
    assert isinstance(conv, QuantConv2d)
    return nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels), *rest)


#: name -> (network, all of its operators)
BITS = {"CONV_2D": 1, "LceQuantize": 1, "LceBconv2d": 2, "RESHAPE": 1}
FLOAT = {**BITS, "LceQuantize": 2}
BINARY: dict[str, tuple[Callable[[], nn.Module], dict[str, int]]] = {
    "one-padding": (binary(chain(QuantConv2d(32, 40, 3))), BITS),
    "one-padding, stride 2": (binary(chain(QuantConv2d(32, 40, 3, stride=2))), BITS),
    "VALID, strides 2 and 3": (binary(chain(QuantConv2d(32, 40, (2, 3), stride=(2, 3), padding="valid"))), BITS),
    "zero padding": (binary(chain(QuantConv2d(32, 40, 3, pad_value=0))), FLOAT),
    "dilation": (binary(chain(QuantConv2d(32, 40, 3, dilation=2))), BITS),
    "groups of 32": (binary(chain(QuantConv2d(64, 40, 3, groups=2)), channels=64), BITS),
    "symmetric padding at stride 1": (binary(chain(QuantConv2d(32, 40, 3, padding=1))), BITS),
    "symmetric padding 1 at stride 2": (binary(chain(QuantConv2d(32, 40, 3, stride=2, padding=1))), {**BITS, "PAD": 1}),
    "symmetric padding 3 at stride 2": (binary(chain(QuantConv2d(32, 8, 7, stride=2, padding=3))), {**BITS, "PAD": 1}),
    "symmetric padding of a kernel of 2": (binary(chain(QuantConv2d(32, 8, 2, padding=1))), {**BITS, "PAD": 1}),
    "symmetric padding behind bits": (
        binary(chain(QuantConv2d(32, 33, 3)), chain(QuantConv2d(33, 40, 3, stride=2, padding=1))),
        {**BITS, "LceBconv2d": 3, "PAD": 1},
    ),
    "symmetric zeros at stride 2": (
        binary(chain(QuantConv2d(32, 40, 3, stride=2, padding=1, pad_value=0))), {**FLOAT, "LceBMaxPool2d": 1}
    ),
    "zeros added in front of the sign": (
        binary(nn.ZeroPad2d(1), chain(QuantConv2d(32, 40, 3, stride=2, padding="valid"))), {**BITS, "PAD": 1}
    ),
    "depthwise": (
        binary(chain(QuantConv2d(32, 32, 3, stride=2, groups=32))),
        {"CONV_2D": 1, "LceQuantize": 2, "LceDequantize": 1, "PADV2": 1, "DEPTHWISE_CONV_2D": 1, "LceBconv2d": 1,
         "RESHAPE": 1},
    ),
    "groups of 16": (
        binary(chain(QuantConv2d(32, 8, 3, groups=2, pad_value=0))),
        {"CONV_2D": 3, "LceQuantize": 2, "LceDequantize": 1, "SLICE": 2, "CONCATENATION": 1, "LceBconv2d": 1,
         "MUL": 1, "ADD": 1, "RESHAPE": 2},
    ),
    "batch norm behind a max pool": (
        binary(QuantConv2d(32, 40, 3), nn.MaxPool2d(2), nn.BatchNorm2d(40)),
        {**FLOAT, "MAX_POOL_2D": 1, "MUL": 1, "ADD": 1},
    ),
    "hard tanh": (binary(chain(QuantConv2d(32, 40, 3), nn.Hardtanh())), BITS),
    "PReLU in front of a sign": (binary(chain(QuantConv2d(32, 40, 3), nn.PReLU(40))), BITS),
    "ReLU in front of a batch norm": (
        binary(QuantConv2d(32, 40, 3), nn.ReLU(), nn.BatchNorm2d(40)), BITS
    ),
    "learned threshold": (binary(chain(QuantConv2d(32, 40, 3), RSign(40))), BITS),
    "RPReLU": (binary(chain(QuantConv2d(32, 40, 3), RPReLU(40))), BITS),
    "XNOR scale": (binary(chain(XnorConv2d(32, 40, 3))), BITS),
    "learned scale": (binary(chain(QuantConv2d(32, 40, 3), ChannelScale(40))), BITS),
    "a residual sum": (
        binary(Call(lambda x, f: x + f(x), chain(QuantConv2d(32, 32, 3)))), {**FLOAT, "ADD": 1}
    ),
    "a maximum of maps": (
        binary(Call(lambda x, f, g: torch.maximum(f(x), g(x)), chain(QuantConv2d(32, 32, 3)),
                    chain(QuantConv2d(32, 32, 1)))),
        {**FLOAT, "LceBconv2d": 3, "MAXIMUM": 1},
    ),
    "channels joined": (
        binary(Call(lambda x, f: torch.cat([x, f(x)], 1), chain(QuantConv2d(32, 32, 3)))),
        {**FLOAT, "CONCATENATION": 1},
    ),
    "dense behind a map of 20 channels": (
        binary(channels=20), {"CONV_2D": 1, "LceQuantize": 1, "LceBconv2d": 1, "RESHAPE": 2}
    ),
    "dense behind a binary convolution of 20 channels": (binary(chain(QuantConv2d(32, 20, 3))), BITS),
    "dense behind a mean": (binary(Call(lambda x: x.mean((2, 3)))), {"CONV_2D": 1, "MEAN": 1, "LceQuantize": 1,
                                                                      "LceBconv2d": 1, "RESHAPE": 2}),
}  # fmt: skip


@pytest.mark.parametrize("name", list(BINARY))
def test_binary_layers(name: str, tmp_path: Path, interpreter: Oracle) -> None:
    make, expected = BINARY[name]
    assert checked(make(), (3, 8, 10), tmp_path, interpreter).ops == expected


# ----------------------------------------------------------------------------------------------------------------- int8

INT8: dict[str, Callable[[], nn.Module]] = {
    "symmetric padding of bits at stride 2": binary(chain(QuantConv2d(32, 40, 3, stride=2, padding=1))),
    "bits joined and padded": binary(
        Call(lambda x, f: torch.cat([f(x), F.pad(f(x), (0, 0, 1, 0))], 2), chain(QuantConv2d(32, 40, 3)))
    ),
    # results of -2, 0 and 2, which lie between two steps
    "two terms": lambda: nn.Sequential(nn.Flatten(), QuantLinear(240, 2), nn.Unflatten(1, (2, 1, 1)),
                                       QuantConv2d(2, 9, 1), nn.Flatten(), nn.Linear(9, 5)),
    # no SAME padding: a border of the lowest number, which is in no range
    "a max pool of 2 with padding": binary(nn.MaxPool2d(2, 2, 1)),
    "an odd number of channels, padded with zeros": binary(chain(QuantConv2d(33, 40, 3, pad_value=0)), channels=33),
}  # fmt: skip


@pytest.mark.parametrize("name", list(INT8))
def test_int8(name: str, tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((100, 8, 10, 3)).astype(np.float32)
    example = torch.zeros(1, 3, 8, 10)
    done = convert(
        randomized(INT8[name]()), tmp_path / "m.tflite", example_input=example, int8=True, calibration=x, samples=x
    )
    assert done.int8 is not None
    assert done.int8.kept_float == ()
    assert done.int8.same_class >= 75


# --------------------------------------------------------------------------------------------------- what must be exact

KERNELS = {"3x3": (3, 1), "5x5": (5, 2), "7x7": (7, 3)}


class Whole(nn.Module):
    """Rounds weights of real-valued layers to whole numbers, so that no sum is ever rounded."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        with torch.no_grad():
            conv.weight.copy_(torch.round(conv.weight * 100))
            if conv.bias is not None:
                conv.bias.zero_()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).flatten(1)  # type: ignore[no-any-return]


@pytest.mark.parametrize("size", [(8, 10), (9, 8), (7, 7)])
@pytest.mark.parametrize("kernel", list(KERNELS))
@pytest.mark.parametrize("kind", ["real", "depthwise", "binary one-padded", "binary zero-padded"])
def test_symmetric_padding_at_stride_two_is_exact(
    kind: str, kernel: str, size: tuple[int, int], tmp_path: Path, interpreter: Oracle
) -> None:
    """Trap T1: LCE's converter silently turns this padding into SAME, which is another one on maps of even size."""
    torch.manual_seed(2)
    extent, padding = KERNELS[kernel]
    if kind.startswith("binary"):
        conv: nn.Conv2d = QuantConv2d(32, 5, extent, stride=2, padding=padding, pad_value=int("one" in kind))
    else:
        conv = nn.Conv2d(32, 32, extent, 2, padding, groups=32 if kind == "depthwise" else 1)
    net = Whole(conv)
    x = np.random.default_rng(0).integers(-9, 10, (4, *size, 32)).astype(np.float32)
    done = convert(net, tmp_path / "m.tflite", example_input=torch.zeros(1, 32, *size), samples=x, oracle=interpreter)
    assert done.verified.max_abs_diff == 0
    even = [pixels % 2 == 0 for pixels in size]
    assert bool(done.ops.keys() & {"PAD", "LceBMaxPool2d", "MAX_POOL_2D"}) == any(even)


def test_a_binary_dense_layer_of_1024_to_10_takes_at_most_1500_bytes(tmp_path: Path, interpreter: Oracle) -> None:
    net = nn.Sequential(nn.Flatten(), QuantLinear(1024, 10), nn.BatchNorm1d(10))
    checked(net, (4, 16, 16), tmp_path, interpreter)
    graph = read_model(tmp_path / "m.tflite")
    (layer,) = (node for node in graph.nodes if isinstance(node.op, LceBconv2d))
    constants = [graph.tensors[name] for name in layer.inputs[1:] if name is not None]
    # 1,280 bytes of signs, and multiplier and bias
    assert sum(tensor.nbytes for tensor in constants) == 1280 + 2 * 40


def test_what_is_deployed_otherwise_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dead = binary(chain(QuantConv2d(32, 32, 3, groups=32)), nn.ReLU())()
    convert(randomized(dead), tmp_path / "m.tflite", example_input=torch.zeros(1, 3, 8, 10))
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    small_groups = "groups of fewer than 32 channels have no binary form in LCE"
    assert said == [
        f"0.2.0: {small_groups}: computed as a real-valued convolution of +-1",
        "0.3: never negative, so that every sign behind it is +1: remove it, or train without it",
    ]
