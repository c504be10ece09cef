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


class TwoInputs(nn.Module):
    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return x.flatten(1) if y is None else y.flatten(1)


class TwoOutputs(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.flatten(1), x


class Arithmetic(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(F.avg_pool2d(x, 8).flatten(1) * 2)


class Ternary(QuantConv2d):
    def quantized_weight(self) -> Tensor:
        return torch.sign(torch.round(self.weight * 3))


class NotSigned(QuantConv2d):
    def __init__(self) -> None:
        super().__init__(3, 4, 3)
        self.input_quantizer = lambda x: x  # type: ignore[assignment]


def head(channels: int, pixels: int) -> list[nn.Module]:
    return [nn.Flatten(), QuantLinear(channels * pixels, 4)]


def with_nan() -> nn.Module:
    net = nn.Sequential(SameConv2d(3, 4, 3), *head(4, 64))
    with torch.no_grad():
        net[0].weight[0, 0, 0, 0] = float("nan")
    return net


def ternary() -> nn.Module:
    net = nn.Sequential(Ternary(3, 4, 3), *head(4, 64))
    with torch.no_grad():
        net[0].weight.fill_(0.5)
        net[0].weight[2, 1, 0, 0] = 0.0
    return net


CASES: dict[str, tuple[Callable[[], nn.Module], type[OnebitError], str]] = {
    "branches on values": (Branching, BadInputError, r"^Branching.*: torch.fx cannot trace .*must not branch"),
    "two inputs": (TwoInputs, BadInputError, r"^TwoInputs: the model takes 2 inputs"),
    "two outputs": (TwoOutputs, BadInputError, r"^TwoOutputs: the model does not return one tensor"),
    "functions without module form": (Arithmetic, UnsupportedError, r"unsupported: avg_pool2d .*mul .*sigmoid "),
    "unsupported modules, all of them": (
        lambda: nn.Sequential(nn.AvgPool2d(2), nn.Sigmoid(), nn.ConvTranspose2d(3, 3, 1), nn.Flatten()),
        UnsupportedError, r"unsupported: AvgPool2d '0', Sigmoid '1', ConvTranspose2d '2'; supported are ",
    ),
    "symmetric padding at stride 2": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), *head(4, 16)),
        UnsupportedError, r"^Conv2d '0': padding=\(1, 1\) with stride \(2, 2\) .*use onebit.train.layers.SameConv2d",
    ),
    "symmetric padding of a pool": (
        lambda: nn.Sequential(nn.MaxPool2d(3, stride=2, padding=1), *head(3, 16)),
        UnsupportedError, r"^MaxPool2d '0': padding=\(1, 1\)",
    ),
    "ceil mode": (
        lambda: nn.Sequential(nn.MaxPool2d(3, ceil_mode=True), *head(3, 9)),
        UnsupportedError, r"^MaxPool2d '0': .*ceil_mode",
    ),
    "reflecting padding": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), *head(4, 64)),
        UnsupportedError, r"^Conv2d '0': padding_mode 'reflect'",
    ),
    "depthwise": (
        lambda: nn.Sequential(nn.Conv2d(3, 3, 3, groups=3), *head(3, 36)), UnsupportedError, r"^Conv2d '0': 3 groups"
    ),
    "small binary groups": (
        lambda: nn.Sequential(QuantConv2d(3, 3, 3, groups=3), *head(3, 64)),
        UnsupportedError, r"^QuantConv2d '0': 3 groups of 1 channels",
    ),
    "weights that are not binary": (
        ternary, BadInputError, r"^Ternary '0': output channel 2 has weights other than \+-1",
    ),
    "inputs that are not signed": (
        lambda: nn.Sequential(NotSigned(), *head(4, 64)), UnsupportedError, r"^NotSigned '0': its input quantizer"
    ),
    "NaN": (with_nan, BadInputError, r"^0.weight: has NaN or infinite values"),
    "batch norm without statistics": (
        lambda: nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False), *head(3, 64)),
        UnsupportedError, r"^BatchNorm2d '0': batch norm without running statistics",
    ),
    "an activation with nothing to fuse into": (
        lambda: nn.Sequential(nn.ReLU(), *head(3, 64)), UnsupportedError, r"^ReLU '0': an activation that does not"
    ),
    "an activation of other limits": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.Hardtanh(-2, 2), *head(4, 64)), UnsupportedError, r"^Hardtanh '1'"
    ),
    "a map as output": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 1)),
        UnsupportedError, r"^the model's output: .*found the map \[1, 8, 8, 4\]",
    ),
    "a flattened map as output": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten()),
        UnsupportedError, r"^the model's output: needs a vector",
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
    (tmp_path / "model.keras").write_bytes(b"")
    for source, message in (
        ("missing.tflite", "cannot read the model"),
        ("broken.tflite", "broken.tflite"),
        ("model.keras", "use larq_compute_engine.convert_keras_model and give the .tflite"),
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
