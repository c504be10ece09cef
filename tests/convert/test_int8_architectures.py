"""Every architecture in int8 with random weights: verified, nothing left in float, and the generated C equal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from onebit.convert import convert
from onebit.core import DType, read_model
from onebit.core.oracle import Oracle
from onebit.simulate import simulate
from onebit.train.models import architecture_names, build_architecture
from support.torch_nets import SMALL_ARCHITECTURES, randomized


@pytest.mark.parametrize("name", architecture_names())
def test_int8_file_and_generated_c_agree(name: str, tmp_path: Path, interpreter: Oracle) -> None:
    torch.manual_seed(0)
    side = 32 if name == "binary-alexnet" else 24
    net = randomized(build_architecture(name, input_shape=(3, side, side), **SMALL_ARCHITECTURES[name]))
    out = tmp_path / "m.tflite"
    x = np.random.default_rng(0).normal(0, 1, (32, side, side, 3)).astype(np.float32)
    done = convert(net, out, int8=True, calibration=x, samples=x, oracle=interpreter)
    assert done.verified.argmax_equal == done.verified.samples == 32
    assert done.verified.max_abs_diff <= 1
    report = done.int8
    assert report is not None
    assert report.kept_float == ()
    graph = read_model(out)
    assert {t.dtype for t in (graph.input, graph.output)} == {DType.INT8}
    result = simulate(out, "random:2", reference=interpreter)
    assert result.outputs_bit_identical == result.outputs_compared
