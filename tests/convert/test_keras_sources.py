"""Keras, Larq and SavedModel sources: what converts, what LCE's converter alone gets wrong, and what is refused.

One child process builds all models and runs LCE's converter as it is; another one, shared by all tests, is onebit's.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from onebit.cli.main import main
from onebit.convert import Converted, convert, open_keras
from onebit.convert.int8.fake_quant import real_values
from onebit.convert.keras import process as keras_process
from onebit.convert.keras.process import KerasProcess, RawFile
from onebit.convert.samples import file_input
from onebit.core import DType, Graph, read_model, write_model
from onebit.core.errors import BadInputError, ToolMissingError, UnsupportedError, VerificationError
from onebit.core.graph import Array
from onebit.core.ops import LceBconv2d
from onebit.core.oracle import Oracle
from onebit.simulate.oracle import LceOracle

BUILDER = Path(__file__).resolve().parents[1] / "support" / "keras_models.py"
#: allowed difference, relative to the range of the outputs
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with all models (see `support/keras_models.py`)."""
    for package in keras_process.PACKAGES:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"package: the Python module {package} is not installed")
    folder = tmp_path_factory.mktemp("models")
    done = subprocess.run([sys.executable, str(BUILDER), str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def process(models: Path) -> Iterator[KerasProcess]:
    with KerasProcess() as child:
        yield child


@dataclass(frozen=True)
class Case:
    """A model's inputs, what Keras computes, what the raw file gives by default, and ours from the LCE interpreter."""

    result: Converted
    graph: Graph
    y: Array
    raw: Array | None
    ours: Array

    def error(self, found: Array) -> float:
        """Largest difference from Keras, relative to the range."""
        return float(np.abs(found - self.y).max() / np.ptp(self.y))


@pytest.fixture
def converted(models: Path, process: KerasProcess, tmp_path: Path) -> Callable[[str], Case]:
    def run(name: str) -> Case:
        with np.load(models / f"{name}.npz") as archive:
            given = dict(archive)
        out = tmp_path / f"{name}.tflite"
        result = convert(open_keras(models / f"{name}.keras", None, process), out, oracle=LceOracle())
        graph = read_model(out)
        ours = LceOracle().run(out.read_bytes(), given["x"], [graph.output.name])[0]
        return Case(result, graph, given["y"], given.get("raw"), ours.reshape(given["y"].shape))

    return run


def operators(graph: Graph) -> list[str]:
    return [node.op.name for node in graph.nodes]


# ------------------------------------------------------------------------------------------------------------- sources


def test_a_keras_file(converted: Callable[[str], Case]) -> None:
    case = converted("small")
    assert case.error(case.ours) < TOLERANCE
    assert (case.result.verified.argmax_equal, case.result.verified.sign_flips) == (case.result.verified.samples, 0)
    assert case.result.ops["LceBconv2d"] == 3
    assert DType.BITS in {t.dtype for t in case.graph.activations()}
    # tensors are named after the layers, not by the converter
    assert {"input", "prelu", "sum", "conv_3/signs", "classes"} <= set(case.graph.tensors)


@pytest.mark.parametrize("name", ["small.h5", "small_saved"])
def test_the_same_model_from_another_format(
    name: str, models: Path, process: KerasProcess, tmp_path: Path, converted: Callable[[str], Case]
) -> None:
    case = converted("small")
    result = convert(open_keras(models / name, None, process), tmp_path / "m.tflite", oracle=LceOracle())
    graph = read_model(result.output)
    assert operators(graph) == operators(case.graph)
    with np.load(models / "small.npz") as archive:
        y = LceOracle().run(result.output.read_bytes(), archive["x"], [graph.output.name])[0]
    assert case.error(y) < TOLERANCE


@pytest.mark.parametrize("name", ["keras_3.keras", "keras_3.h5", "keras_3_saved"])
def test_files_of_keras_3(name: str, models: Path, process: KerasProcess, tmp_path: Path) -> None:
    result = convert(open_keras(models / name, None, process), tmp_path / "m.tflite", oracle=LceOracle())
    assert operators(read_model(result.output)) == ["PAD", "CONV_2D", "MEAN"]
    assert result.verified.argmax_equal == result.verified.samples


def test_an_lce_file_passes_through_verification_unchanged(models: Path, tmp_path: Path) -> None:
    raw = models / "small.raw.tflite"
    result = convert(raw, tmp_path / "m.tflite", oracle=LceOracle())
    assert (tmp_path / "m.tflite").read_bytes() == raw.read_bytes()
    assert result.verified.argmax_equal == result.verified.samples


def test_the_command_line(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "m.tflite"
    code = main(
        ["convert", str(models / "small.keras"), "--out", str(out), "--int8", "--calibration", "random:200", "--json"]
    )  # fmt: skip
    printed = json.loads(capsys.readouterr().out)
    assert code == 0
    assert {"output", "sha256", "bytes", "dtype", "verified", "ops"} <= set(printed)
    assert (printed["bytes"], printed["dtype"]) == (out.stat().st_size, "int8")
    assert printed["verified"]["samples"] == printed["verified"]["argmax_equal"] == 200


FUNCTION = """
import tensorflow as tf
import larq as lq

def build():
    layers = tf.keras.layers
    return tf.keras.Sequential([
        layers.Lambda(lambda x: x * 2 - 1),
        lq.layers.QuantConv2D(8, 3, input_quantizer="ste_sign", kernel_quantizer="ste_sign", use_bias=False),
        layers.GlobalAveragePooling2D(),
    ])
"""


def test_a_function_of_the_users_may_use_code_and_needs_no_input_layer(models: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(FUNCTION)
    command = [
        sys.executable,
        "-m",
        "onebit.cli",
        "convert",
        "mine:build",
        "--input-shape",
        "1,6,6,3",
        "--out",
        "m.tflite",
    ]
    done = subprocess.run([*command, "--json"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    printed = json.loads(done.stdout)
    assert printed["ops"]["LceBconv2d"] == 1
    assert printed["verified"]["argmax_equal"] == printed["verified"]["samples"] == 64


# --------------------------------------------------------------------------------------------------------------- traps


@pytest.mark.parametrize("name", ["t1_float_3x3", "t1_float_7x7", "t1_depthwise", "t1_binary"])
def test_t1_symmetric_padding_with_a_stride_of_two(name: str, converted: Callable[[str], Case]) -> None:
    case = converted(name)
    assert case.raw is not None
    assert case.error(case.raw) > 0.3
    assert case.error(case.ours) < 1e-6
    pads = [op for op in operators(case.graph) if op in ("PAD", "PADV2")]
    assert len(pads) == 1
    # a border of +1 behind the sign stays binary
    assert ("LceBconv2d" in operators(case.graph)) == (name == "t1_binary")


def test_t1_padding_in_front_of_the_sign_is_left_as_it_is(converted: Callable[[str], Case]) -> None:
    case = converted("t1_binary_in_front")
    assert case.raw is not None
    assert max(case.error(case.raw), case.error(case.ours)) < 1e-6
    assert operators(case.graph)[:3] == ["PAD", "LceQuantize", "LceBconv2d"]


def test_t2_ternary_activations(converted: Callable[[str], Case], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    case = converted("t2")
    assert case.raw is not None
    assert case.error(case.raw) > 0.3
    assert case.error(case.ours) < 1e-6
    (note,) = caplog.messages
    assert note.startswith("layer 'ternary': its input quantizer SteTern is not binary in LCE")
    assert "train it with ste_sign" in note


def test_t3_exact_ties_at_a_border_of_zeros(converted: Callable[[str], Case]) -> None:
    case = converted("t3")
    assert case.raw is not None
    # LCE's default kernel takes sums that are exactly 0 for a little more or less
    assert case.error(case.raw) > 0.05
    assert case.error(case.ours) < 1e-6


def test_t4_dense_layers_take_a_bit_per_weight(converted: Callable[[str], Case], models: Path) -> None:
    case = converted("t4")
    assert "FULLY_CONNECTED" in operators(read_model(models / "t4.raw.tflite"))
    assert case.error(case.ours) < TOLERANCE
    assert operators(case.graph) == ["LceQuantize", "LceBconv2d", "LceBconv2d", "RESHAPE"]
    # 1024 inputs, 10 outputs: 40 KB in float
    without = converted("t4_without").result.bytes
    assert (models / "t4.raw.tflite").stat().st_size - without > 40_000
    assert case.result.bytes - without <= 1536
    # with Keras's own names of layers, which are long
    assert converted("default_names").result.bytes - without <= 1536


def test_t4_a_dense_layer_behind_a_dense_layer(converted: Callable[[str], Case]) -> None:
    case = converted("t4_twice")
    assert case.error(case.ours) < TOLERANCE
    assert operators(case.graph) == ["LceQuantize", *3 * ["LceBconv2d"], "RESHAPE"]
    assert [t.dtype for t in case.graph.activations()][:3] == 3 * [DType.BITS]


def test_t5_groups_that_the_default_kernel_refuses(converted: Callable[[str], Case], models: Path) -> None:
    case = converted("t5")
    assert case.raw is None
    with np.load(models / "t5.npz") as archive:
        assert "refused" in archive.files
    assert case.error(case.ours) < 1e-6
    assert case.result.ops["LceBconv2d"] == 1


@pytest.mark.parametrize("name", ["t6", "t7"])
def test_t6_t7_int8(
    name: str, models: Path, process: KerasProcess, tmp_path: Path, converted: Callable[[str], Case]
) -> None:
    """T6: LCE's default kernel refuses int8 with zero padding. T7: without training, one range serves all tensors."""
    case = converted(name)
    raw = read_model(models / f"{name}.raw_int8.tflite")
    with np.load(models / f"{name}.raw_int8.npz") as archive:
        theirs = dict(archive)
    data = np.random.default_rng(1).normal(0, 1, (200, *case.graph.input.shape[1:])).astype(np.float32)
    source = open_keras(models / f"{name}.keras", None, process)
    out = tmp_path / "int8.tflite"
    result = convert(source, out, int8=True, calibration=data, samples=data, oracle=LceOracle())
    graph = read_model(out)
    assert {t.dtype for t in graph.activations()} == {DType.INT8, DType.BITS}
    assert (result.dtype, graph.output.dtype) == ("int8", DType.INT8)
    assert result.verified.max_abs_diff <= 1
    assert result.verified.argmax_equal >= 0.999 * len(data)
    with np.load(models / f"{name}.npz") as archive:
        found = LceOracle().run(out.read_bytes(), file_input(archive["x"], graph.input, None), [graph.output.name])[0]
    ours = real_values(graph.output, found).reshape(case.y.shape)
    assert case.error(ours) < 0.1
    assert (ours.argmax(axis=1) == case.y.argmax(axis=1)).all()
    if name == "t6":
        assert [n.op.window.zero_padded for n in raw.nodes if isinstance(n.op, LceBconv2d)] == [True]
        assert {t.dtype for t in raw.activations()} == {DType.INT8, DType.BITS}
        assert "AllocateTensors" in str(theirs["refused"])
    else:
        assert case.error(theirs["raw"]) > 0.3
        assert (theirs["raw"].argmax(axis=1) == case.y.argmax(axis=1)).mean() < 0.75
        assert "float32" in {t.dtype.value for t in raw.activations()}


# ---------------------------------------------------------------------------------------------------------- quantizers


@pytest.mark.parametrize(("name", "count"), [("scaled", 1), ("dorefa", 1)])
def test_kernels_that_lce_deploys_in_bits(name: str, count: int, converted: Callable[[str], Case]) -> None:
    case = converted(name)
    assert case.result.ops["LceBconv2d"] == count
    assert case.error(case.ours) < TOLERANCE


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "heaviside",
            "layer 'steps': its input quantizer SteHeaviside is not binary in LCE, the layer stays real-valued",
        ),
        ("dorefa", "layer 'two_bits': its kernel quantizer DoReFa is not binary in LCE, the layer stays real-valued"),
        ("separable", "layer 'separable': LCE has no binary depthwise convolution, it stays real-valued"),
    ],
)
def test_what_stays_real_valued_is_said_with_the_alternative(
    name: str, message: str, converted: Callable[[str], Case], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    case = converted(name)
    (note,) = caplog.messages
    said, _, alternative = note.partition("; ")
    assert said == message
    assert "ste_sign" in alternative or "groups" in alternative
    assert case.error(case.ours) < TOLERANCE
    assert {"CONV_2D", "DEPTHWISE_CONV_2D"} & set(operators(case.graph))


# -------------------------------------------------------------------------------------------------------- verification


class Perturbed(Oracle):
    """The LCE interpreter on inputs whose smallest values have the other sign."""

    engine = "perturbed"

    def __init__(self, below: float) -> None:
        self._below = below

    def run(self, model: bytes, x: Array, tensors: Sequence[str]) -> list[Array]:
        return LceOracle().run(model, np.where(np.abs(x) < self._below, -x, x), tensors)


def near_zero(models: Path, value: float, samples: int) -> Array:
    """Inputs of the model `scaled`, whose first layer signs them; one value of the first `samples` is `value`."""
    with np.load(models / "scaled.npz") as archive:
        x = np.asarray(archive["x"], np.float32)
    x[np.abs(x) < 0.02] = 0.02
    x[:samples, 2, 2, 0] = value
    return x


def test_a_sign_that_flips_at_zero_is_rounding(models: Path, process: KerasProcess, tmp_path: Path) -> None:
    source = open_keras(models / "scaled.keras", None, process)
    result = convert(source, tmp_path / "m.tflite", samples=near_zero(models, 1e-7, 1), oracle=Perturbed(1e-6))
    assert result.verified.sign_flips == 1


def test_a_sign_of_zero_that_is_always_wrong_is_an_error(models: Path, process: KerasProcess, tmp_path: Path) -> None:
    source = open_keras(models / "scaled.keras", None, process)
    with pytest.raises(VerificationError, match="signs of values near zero flip in 16 of 16 samples"):
        convert(source, tmp_path / "m.tflite", samples=near_zero(models, 1e-7, 16), oracle=Perturbed(1e-6))
    assert list(tmp_path.iterdir()) == []


def test_a_sign_that_flips_elsewhere_is_an_error(models: Path, process: KerasProcess, tmp_path: Path) -> None:
    source = open_keras(models / "scaled.keras", None, process)
    with pytest.raises(VerificationError, match="ste_sign.*' differs in"):
        convert(source, tmp_path / "m.tflite", samples=near_zero(models, 0.01, 1), oracle=Perturbed(0.015))
    assert list(tmp_path.iterdir()) == []


def flipped_weight(raw: RawFile, number: int) -> RawFile:
    """A file whose binary convolution of that number has another sign in one weight per output channel."""
    graph = read_model(raw.model)
    node = [n for n in graph.nodes if isinstance(n.op, LceBconv2d)][number]
    weights = graph.tensors[str(node.inputs[1])]
    data = weights.constant().copy()
    data[:, 1, 1, 0] ^= 2
    tensors = {**graph.tensors, weights.name: replace(weights, data=data)}
    return replace(raw, model=write_model(replace(graph, tensors=tensors)))


@pytest.mark.parametrize(("number", "layer"), [(0, "norm_1"), (1, "conv_3"), (2, "norm_3")])
def test_a_wrong_weight_is_found_and_the_layer_named(
    number: int, layer: str, models: Path, process: KerasProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_keras(models / "small.keras", None, process)
    raw = process.convert()
    monkeypatch.setattr(KerasProcess, "convert", lambda _: flipped_weight(raw, number))
    with pytest.raises(VerificationError, match="the file does not compute what the source computes") as caught:
        convert(source, tmp_path / "m.tflite", oracle=LceOracle())
    # that of the first tensor behind the weight: batch norm and sign are folded into the convolution
    assert caught.value.where == f"layer '{layer}'"
    assert list(tmp_path.iterdir()) == []


# ----------------------------------------------------------------------------------------------------------- bad input

BAD: dict[str, tuple[type[Exception], str]] = {
    "nan.keras": (BadInputError, r"^layer 'broken': its weight 'broken/kernel:0' has NaN or infinite values"),
    "infinite.keras": (BadInputError, r"^layer 'broken': its weight 'broken/kernel:0' has NaN or infinite values"),
    "not_binary.keras": (BadInputError, r"^layer 'claims': output channel 0 has weights other than .* NoOp is binary"),
    "batch_dependent.keras": (UnsupportedError, r"^layer 'batchwise': its input quantizer magnitude_aware_sign takes"),
    "two_inputs.keras": (BadInputError, r"has 2 inputs \('left', 'right'\), supported is 1"),
    "two_outputs.keras": (BadInputError, r"has 2 outputs \('one/BiasAdd:0', 'two/BiasAdd:0'\), supported is 1"),
    "two_outputs_saved": (BadInputError, r"^two_outputs_saved: has 2 outputs \('.*', '.*'\), supported is 1"),
    "dynamic.keras": (BadInputError, r"its input has the dynamic shape \[\?, \?, \?, 3\]; give Input a shape without"),
    "dynamic_saved": (BadInputError, r"its input has the dynamic shape \(\?, \?, \?, 3\); save it with a fixed shape"),
    "batch_of_4.keras": (BadInputError, r"its input has a batch of 4; use batch 1"),
    "integers.keras": (UnsupportedError, r"its input is int32; use float32"),
    "unbuilt.keras": (BadInputError, r"the shape of the model's input is not known; .*Input layer"),
    "mixed_precision.keras": (UnsupportedError, r"^layer 'half': computes in float16"),
    "erf.keras": (UnsupportedError, r"unsupported: .*'Erfc' \(output 'sequential_.*/dense.*/Gelu/Erfc'\)"),
    "conv3d.keras": (UnsupportedError, r"unsupported: CONV_3D \(output 'sequential_.*conv3d"),
    "lambda.keras": (BadInputError, r"^lambda.keras: layer 'code': is a Lambda, .*package.module:function"),
    "lambda.h5": (BadInputError, r"^lambda.h5: layer 'code': is a Lambda, .*package.module:function"),
    "module.keras": (BadInputError, r"^module.keras: layer 'plain': names the Python module 'subprocess'"),
    "pickled.keras": (BadInputError, r"^pickled.keras: holds 'model.weights.npz'"),
    "python_saved": (BadInputError, r"^python_saved: .*EagerPyFunc, which reaches outside of the model"),
    "writes_saved": (BadInputError, r"^writes_saved: .*SaveV2, which reaches outside of the model"),
    "weights.h5": (BadInputError, r"^weights.h5: has weights but no model"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_source_that_cannot_be_converted(name: str, models: Path, process: KerasProcess, tmp_path: Path) -> None:
    kind, message = BAD[name]
    with pytest.raises(kind, match=message) as caught:
        convert(open_keras(models / name, None, process), tmp_path / "m.tflite")
    assert type(caught.value) is kind
    assert list(models.glob("written*")) == []
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("text.keras", b"no archive", "text.keras: cannot be read as a Keras model"),
        ("text.h5", b"no archive", "text.h5: cannot be read as a Keras model"),
        ("broken_saved/saved_model.pb", b"\xff\xff", "broken_saved: cannot be read as a SavedModel"),
        ("folder/other", b"", "is a folder without saved_model.pb"),
        (None, b"", "missing.keras: no such file"),
    ],
)
def test_a_damaged_file(name: str | None, content: bytes, message: str, process: KerasProcess, tmp_path: Path) -> None:
    path = tmp_path / (name or "missing.keras")
    if name is not None:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    with pytest.raises(BadInputError, match=message):
        open_keras(path if path.parent == tmp_path else path.parent, None, process)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros((2, 3, 12, 12)), r"samples of shape \[2, 3, 12, 12\]; give \[N, 12, 12, 3\]"),
        (np.full((2, 12, 12, 3), np.inf), "finite real values"),
        (np.zeros((2, 12, 12, 3), np.uint8), "samples are pixels, and the model"),
    ],
)
def test_samples_that_do_not_fit(
    samples: Array, message: str, models: Path, process: KerasProcess, tmp_path: Path
) -> None:
    source = open_keras(models / "small.keras", None, process)
    with pytest.raises(BadInputError, match=message):
        convert(source, tmp_path / "m.tflite", samples=samples)
    assert list(tmp_path.iterdir()) == []


def test_a_converter_that_crashes_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras_process, "_COMMAND", "import os; os.abort()")
    with KerasProcess() as child, pytest.raises(UnsupportedError, match="TensorFlow .*ended with signal 6"):
        child.convert()


def test_without_tensorflow_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras_process.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ToolMissingError, match=r"not installed: tensorflow, .*pip install 'onebit\[keras\]'"):
        KerasProcess()
