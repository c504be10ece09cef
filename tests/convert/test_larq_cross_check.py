"""The same network through two converters: ours from PyTorch, and larq_compute_engine's from a Keras/Larq twin.

Both files are run by the LCE interpreter. The converters share nothing but the weights, and for int8 the ranges.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from onebit.convert import convert
from onebit.core import DType, Graph, read_model
from onebit.core.datasets import load_dataset
from onebit.core.graph import Array, Quantization
from onebit.core.metadata import ModelMetadata
from onebit.core.ops import LceBconv2d
from onebit.simulate.oracle import LceOracle
from support.torch_nets import digits, randomized

TWIN = Path(__file__).resolve().parents[1] / "support" / "larq_twin.py"


@dataclass(frozen=True)
class Pair:
    """The two files, and the images to compare them on."""

    ours: Path
    theirs: Path
    x: Array


@dataclass(frozen=True)
class Result:
    """What the interpreter computed: logits, and the bits that each binary convolution reads."""

    graph: Graph
    logits: Array
    bits: list[Array]


def real_range(quant: Quantization) -> Array:
    return np.array([(q - quant.zero_point) * quant.scale for q in (-128, 127)])


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    for package in ("tensorflow", "tf_keras", "larq", "larq_compute_engine"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"package: the Python module {package} is not installed")
    folder = tmp_path_factory.mktemp("twin")
    net = randomized(digits(), seed=7)
    images = load_dataset("mnist5k").take(300).x
    for kind in ("float", "int8"):
        convert(
            net, folder / f"ours_{kind}.tflite", metadata=ModelMetadata(), example_input=torch.zeros(1, 1, 28, 28),
            int8=kind == "int8", calibration=images, samples=images[:50],
        )  # fmt: skip
    graph = read_model(folder / "ours_int8.tflite")
    ranges = {
        f"range:{key}": real_range(graph.tensors[name].quant)
        for key, name in (("input", "input"), ("first", "stem.1"), ("logits", "head.4"))
    }
    np.savez(folder / "weights.npz", **weights_of(net), **ranges)
    command = [
        sys.executable,
        str(TWIN),
        *(str(folder / name) for name in ("weights.npz", "float.tflite", "int8.tflite")),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return {kind: Pair(folder / f"ours_{kind}.tflite", folder / f"{kind}.tflite", images) for kind in ("float", "int8")}


def weights_of(net: nn.Module) -> dict[str, Array]:
    return {name: value.numpy() for name, value in net.state_dict().items()}


def run(path: Path, images: Array) -> Result:
    graph = read_model(path)
    quant = graph.input.quant
    x = ModelMetadata().preprocessing.apply(images, graph.input.dtype.numpy, quant.scale, quant.zero_point)
    inputs = [node.inputs[0] or "" for node in graph.nodes if isinstance(node.op, LceBconv2d)]
    logits, *bits = LceOracle().run(path.read_bytes(), x, [graph.output.name, *inputs])
    return Result(graph, logits.reshape(len(x), -1), bits)


def test_float_files_agree(pairs: dict[str, Pair]) -> None:
    pair = pairs["float"]
    ours, theirs = run(pair.ours, pair.x), run(pair.theirs, pair.x)
    assert len(ours.bits) == len(theirs.bits) == 5
    for mine, other in zip(ours.bits, theirs.bits, strict=True):
        np.testing.assert_array_equal(mine, other)
    assert np.abs(ours.logits - theirs.logits).max() <= 1e-4 * np.ptp(theirs.logits)
    np.testing.assert_array_equal(ours.logits.argmax(axis=1), theirs.logits.argmax(axis=1))


def test_int8_files_agree(pairs: dict[str, Pair]) -> None:
    pair = pairs["int8"]
    ours, theirs = run(pair.ours, pair.x), run(pair.theirs, pair.x)
    for graph in (ours.graph, theirs.graph):
        assert (graph.input.dtype, graph.output.dtype) == (DType.INT8, DType.INT8)
        assert DType.FLOAT32 not in {t.dtype for t in graph.activations()}
    assert ours.graph.output.quant.zero_point == theirs.graph.output.quant.zero_point
    for mine, other in zip(ours.bits, theirs.bits, strict=True):
        np.testing.assert_array_equal(mine, other)
    assert np.abs(ours.logits.astype(int) - theirs.logits.astype(int)).max() <= 1
    np.testing.assert_array_equal(ours.logits.argmax(axis=1), theirs.logits.argmax(axis=1))


def test_the_files_have_the_same_operators_but_for_our_reshape_to_a_vector(pairs: dict[str, Pair]) -> None:
    for pair in pairs.values():
        ours, theirs = ([node.op.name for node in read_model(path).nodes] for path in (pair.ours, pair.theirs))
        assert sorted(ours) == sorted([*theirs, "RESHAPE"])
