"""Every architecture with random weights: file, verification, and the generated C equal to the interpreter."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from onebit.convert import convert
from onebit.core.oracle import Oracle
from onebit.simulate import simulate
from onebit.train.models import ARCHITECTURES, architecture_names, build_architecture
from support.torch_nets import SMALL_ARCHITECTURES, randomized


@pytest.mark.parametrize("name", architecture_names())
def test_float_file_and_generated_c_agree(name: str, tmp_path: Path, interpreter: Oracle) -> None:
    torch.manual_seed(0)
    shape = (3, 24, 24) if name != "binary-alexnet" else (3, 32, 32)
    net = randomized(build_architecture(name, input_shape=shape, **SMALL_ARCHITECTURES[name]))
    out = tmp_path / "m.tflite"
    done = convert(net, out, oracle=interpreter)
    assert done.verified.engine == "larq-compute-engine"
    assert done.verified.argmax_equal == done.verified.samples >= 16
    result = simulate(out, "random:3", reference=interpreter)
    assert result.outputs_compared == 3 * ARCHITECTURES[name].classes
    assert result.outputs_equal == result.outputs_compared


@pytest.mark.large
@pytest.mark.parametrize("name", architecture_names())
def test_default_size_on_an_emulated_core(name: str, tmp_path: Path, interpreter: Oracle) -> None:
    """Also that a conversion takes less than 10 seconds, its check included."""
    torch.manual_seed(1)
    net = randomized(build_architecture(name), seed=1)
    out = tmp_path / "m.tflite"
    start = time.monotonic()
    done = convert(net, out, oracle=interpreter)
    assert time.monotonic() - start < 10
    assert done.verified.argmax_equal == done.verified.samples
    result = simulate(out, "random:1", target="cortex-m7", emulator="unicorn", reference=interpreter, layers=True)
    assert result.ok


@pytest.mark.large
@pytest.mark.parametrize("shape", [(1, 40, 48), (3, 33, 31)])
@pytest.mark.parametrize("name", architecture_names())
def test_other_sizes_of_maps(name: str, shape: tuple[int, int, int], tmp_path: Path, interpreter: Oracle) -> None:
    torch.manual_seed(2)
    net = randomized(build_architecture(name, input_shape=shape, classes=3, **SMALL_ARCHITECTURES[name]), seed=2)
    done = convert(net, tmp_path / "m.tflite", oracle=interpreter)
    assert done.verified.argmax_equal == done.verified.samples
