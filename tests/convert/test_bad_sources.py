"""What cannot be converted: one clear line each, with the layer's name, and nothing written."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name PyTorch's own documentation uses
from torch import Tensor, nn

from onebit.convert import convert, load_callable
from onebit.core.errors import BadInputError, OnebitError, UnsupportedError
from onebit.core.metadata import ModelMetadata, Preprocessing
from onebit.train.layers import QuantConv2d, QuantLinear, SameConv2d

IMAGE = (1, 3, 8, 8)


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) if x.sum() > 0 else -x.flatten(1)


class TwoNeededInputs(nn.Module):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return (x * mask).flatten(1)


class TwoOutputs(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.flatten(1), x


class Function(nn.Module):
    """One function of the input, then a dense layer."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.dense = nn.LazyLinear(4)
        self.forward(torch.zeros(IMAGE))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.dense(self.function(x).flatten(1))
        return result


class OneSample(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(1, -1)


class Overwriting(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = x * 2
        return (F.relu(y, inplace=True) + y).flatten(1)


class SignSte(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: Any, x: Tensor) -> Tensor:
        return torch.where(x < 0, -1.0, 1.0)


class OwnQuantizer(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return SignSte.apply(x).flatten(1)  # type: ignore[no-any-return, no-untyped-call]


def no_counterpart(function: Callable[[Tensor], Tensor], message: str) -> tuple[Callable[[], nn.Module], Any, str]:
    return lambda: Function(function), UnsupportedError, rf"^forward\(\): unsupported: {message}"


class Ternary(QuantConv2d):
    def quantized_weight(self) -> Tensor:
        return torch.sign(torch.round(self.weight * 3))


class NotSigned(QuantConv2d):
    def __init__(self) -> None:
        super().__init__(3, 4, 3)
        self.input_quantizer = lambda x: x  # type: ignore[assignment]


def head(channels: int, pixels: int) -> list[nn.Module]:
    return [nn.Flatten(), QuantLinear(channels * pixels, 4)]


def with_weight(value: float) -> nn.Module:
    net = nn.Sequential(SameConv2d(3, 4, 3), *head(4, 64))
    with torch.no_grad():
        net[0].weight[0, 0, 0, 0] = value
    return net


def ternary() -> nn.Module:
    net = nn.Sequential(Ternary(3, 4, 3), *head(4, 64))
    with torch.no_grad():
        net[0].weight.fill_(0.5)
        net[0].weight[2, 1, 0, 0] = 0.0
    return net


CASES: dict[str, tuple[Callable[[], nn.Module], type[OnebitError], str]] = {
    "branches on values": (Branching, BadInputError, r"^Branching.*: torch.fx cannot trace .*must not branch"),
    "two inputs, both needed": (TwoNeededInputs, BadInputError, r"^TwoNeededInputs: the model takes 2 inputs"),
    "two outputs": (TwoOutputs, BadInputError, r"^TwoOutputs: the model does not return one tensor"),
    "a batch of one only": (OneSample, BadInputError, r"^OneSample: the model returns \[1, 384\] for 2 samples"),
    "a value that is overwritten and read": (
        Overwriting, UnsupportedError, r"relu \(relu\): overwrites a value that is read again; use inplace=False"
    ),
    "a quantizer of the user's own": (
        OwnQuantizer, UnsupportedError, r"where \(where\): a quantizer written with sign\(\) or where\(\)"
    ),
    "sign": no_counterpart(torch.sign, r"sign .*a quantizer written with sign.*use onebit.train.layers.QuantConv2d"),
    "where": no_counterpart(lambda x: torch.where(x < 0, -1.0, 1.0), r".*where .*sign\(0\) is 0 here but \+1 on bits"),
    "round": no_counterpart(lambda x: (x * 3).round() / 3, r"round .*a quantizer of several bits.*--int8"),
    "an activation without an operator": no_counterpart(F.gelu, r"gelu .*an activation without a TFLite operator"),
    "a logarithm of the softmax": no_counterpart(
        lambda x: F.log_softmax(x.flatten(1), 1), r"log_softmax .*leave it out: the logits choose the same class"
    ),
    "a layer that has no shape yet": (
        lambda: nn.Sequential(nn.LazyConv2d(4, 3), *head(4, 36)), BadInputError, r"^0\.weight: has no shape yet"
    ),
    "a product of computed tensors": no_counterpart(lambda x: x @ x, r"matmul .*a product of two computed tensors"),
    "a parameter that is computed": no_counterpart(
        lambda x: F.prelu(x, x.mean((0, 2, 3))), r".*prelu .*a parameter that depends on the model's input"
    ),
    "a division by a computed value": no_counterpart(lambda x: x / x.mean((2, 3), keepdim=True), r"truediv .*computed"),
    "dropout that stays active": no_counterpart(F.dropout, r"dropout .*stays active"),
    "padding that repeats": no_counterpart(lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect"), r"pad .*mode 'reflect'"),
    "joining samples": no_counterpart(lambda x: torch.cat([x, x]).reshape(-1, 384), r"cat .*along the batch"),
    "an index": no_counterpart(lambda x: x[:, 0], r"getitem .*an index other than slices; use slices only"),
    "a mean over channels": no_counterpart(lambda x: x.mean(1), r"mean .*mean over the dimensions \[1\]"),
    "several functions at once": no_counterpart(lambda x: F.gelu(torch.sign(x)), r"sign .*, gelu "),
    "one value per pixel as a factor": (
        lambda: Function(lambda x: x * x[:, :1]), UnsupportedError,
        r"^Elementwise 'mul': operands of shapes .*one value per channel",
    ),
    "unsupported modules, all of them": (
        lambda: nn.Sequential(nn.GELU(), nn.ConvTranspose2d(3, 3, 1), nn.Flatten()),
        UnsupportedError, r"unsupported: GELU '0', ConvTranspose2d '1'; supported are ",
    ),
    "symmetric zeros of an even binary kernel": (
        lambda: nn.Sequential(QuantConv2d(3, 4, 2, padding=1, pad_value=0), *head(4, 81)),
        UnsupportedError, r"^QuantConv2d '0': padding \(1, 1\) with zeros, which have no bit; use pad_value=1",
    ),
    "dilation of a pool": (
        lambda: nn.Sequential(nn.MaxPool2d(2, dilation=2), *head(3, 9)),
        UnsupportedError, r"^MaxPool2d '0': dilation and return_indices",
    ),
    "an average that does not count its padding": (
        lambda: nn.Sequential(nn.AvgPool2d(3, 2, 1, count_include_pad=False), *head(3, 16)),
        UnsupportedError, r"^AvgPool2d '0': a mean of what lies inside the map, with padding 1",
    ),
    "an average beyond the map": (
        lambda: nn.Sequential(nn.AvgPool2d(3, 2, 1, ceil_mode=True), *head(3, 25)),
        UnsupportedError, r"^AvgPool2d '0': ceil_mode with padding that counts",
    ),
    "adaptive windows of different sizes": (
        lambda: nn.Sequential(nn.AdaptiveAvgPool2d(3), *head(3, 9)),
        UnsupportedError, r"^AdaptiveAvgPool2d '0': windows of different sizes, \[8, 8\] to \[3, 3\]",
    ),
    "reflecting padding": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), *head(4, 64)),
        UnsupportedError, r"^Conv2d '0': padding_mode 'reflect'",
    ),
    "weights that are not binary": (
        ternary, BadInputError, r"^Ternary '0': output channel 2 has weights other than \+-1",
    ),
    "inputs that are not signed": (
        lambda: nn.Sequential(NotSigned(), *head(4, 64)), UnsupportedError, r"^NotSigned '0': its input quantizer"
    ),
    "NaN": (lambda: with_weight(np.nan), BadInputError, r"^0.weight: has NaN or infinite values"),
    "infinite weights": (lambda: with_weight(-np.inf), BadInputError, r"^0.weight: has NaN or infinite values"),
    "an expanded value that is no operand": (
        lambda: Function(lambda x: F.max_pool2d(x.mean((2, 3), keepdim=True).expand_as(x), 2)),
        UnsupportedError, r"^'max_pool2d': reads an expanded value",
    ),
    "bilinear interpolation": (
        lambda: nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), *head(3, 256)),
        UnsupportedError, r"^Upsample '0': mode 'bilinear'",
    ),
    "batch norm without statistics": (
        lambda: nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False), *head(3, 64)),
        UnsupportedError, r"^BatchNorm2d '0': batch norm without running statistics",
    ),
    "a map as output": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 1)),
        UnsupportedError, r"^the model's output: .*found a result of shape \[1, 4, 8, 8\]",
    ),
    "a dense layer on a map": (
        lambda: nn.Sequential(nn.Linear(8, 4)),
        UnsupportedError, r"^Linear '0': an input of shape \[1, 3, 8, 8\].*Flatten",
    ),
    "softmax over another axis": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 4), nn.Softmax(dim=0)),
        UnsupportedError, r"^Softmax '2': .*axis 0",
    ),
    "an example that does not fit": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(7, 4)),
        BadInputError, r"^Sequential: the model does not run on .*192",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", list(CASES))
def test_a_source_that_cannot_be_converted(case: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    make, kind, message = CASES[case]
    with pytest.raises(kind, match=message) as caught:
        convert(make(), tmp_path / "m.tflite", example_input=torch.zeros(IMAGE))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_the_source_stays_as_it_was(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 4)).double().train()
    convert(net, tmp_path / "m.tflite", example_input=torch.zeros(IMAGE))
    assert net.training
    assert net[1].weight.dtype is torch.float64


ARGUMENTS: dict[str, tuple[dict[str, Any], str]] = {
    "no example": ({"example_input": None}, "shape of the model's input is not known"),
    "three dimensions": ({"example_input": torch.zeros(1, 3, 8)}, "supported are images"),
    "no tensor": ({"example_input": [1, 2]}, "example_input is no tensor"),
    "int8 without data": ({"int8": True}, "int8 needs data to calibrate"),
    "pixels without metadata": ({"samples": np.zeros((2, 8, 8, 3), np.uint8)}, "samples are pixels, and the model"),
    "samples of another shape": (
        {"samples": np.zeros((2, 3, 8, 8))}, r"samples of shape \[2, 3, 8, 8\]; give \[N, 8, 8, 3\]"
    ),
    "no samples": ({"samples": np.zeros((0, 8, 8, 3))}, r"samples of shape \[0, 8, 8, 3\]"),
    "samples that are not finite": ({"samples": np.full((2, 8, 8, 3), np.nan)}, "finite real values"),
    "integer samples": ({"samples": np.zeros((2, 8, 8, 3), np.int64)}, "samples of dtype int64"),
    "two means for three channels": (
        {"metadata": ModelMetadata(Preprocessing(mean=(0.0, 1.0))), "samples": np.zeros((2, 8, 8, 3), np.uint8)},
        "2 means",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", list(ARGUMENTS))
def test_arguments_that_do_not_fit(case: str, tmp_path: Path) -> None:
    arguments, message = ARGUMENTS[case]
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    with pytest.raises(BadInputError, match=message):
        convert(net, tmp_path / "m.tflite", **{"example_input": torch.zeros(IMAGE), **arguments})
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_no_source(tmp_path: Path) -> None:
    (tmp_path / "broken.tflite").write_bytes(b"no flatbuffer")
    for source, message in (
        ("missing.tflite", "cannot read the model"),
        ("broken.tflite", "broken.tflite"),
    ):
        with pytest.raises(BadInputError, match=message):
            convert(tmp_path / source, tmp_path / "out.tflite")
    with pytest.raises(BadInputError, match="cannot convert a dict"):
        convert({}, tmp_path / "out.tflite")  # type: ignore[arg-type]
    assert not (tmp_path / "out.tflite").exists()


def test_int8_without_calibration_data(tmp_path: Path) -> None:
    convert(nn.Sequential(nn.Flatten(), nn.Linear(192, 4)), tmp_path / "a.tflite", example_input=torch.zeros(IMAGE))
    with pytest.raises(BadInputError, match="int8 needs data to calibrate"):
        convert(tmp_path / "a.tflite", tmp_path / "b.tflite", int8=True)


def test_an_output_that_is_a_folder(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="is a folder, not a file"):
        convert(nn.Sequential(nn.Flatten(), nn.Linear(192, 4)), tmp_path, example_input=torch.zeros(IMAGE))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("no colon", "names no function"),
        ("no_such_module_at_all:f", "there is no module 'no_such_module_at_all'"),
        ("math:no_such_function", "has no function"),
        ("builtins:chr", r"chr\(\) raised TypeError"),
    ],
)
def test_callables_that_cannot_be_loaded(spec: str, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        load_callable(spec)


def test_importing_convert_does_not_import_torch() -> None:
    code = "import sys, onebit.convert; sys.exit(any(m in sys.modules for m in ('torch', 'tensorflow', 'larq')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
