"""Every architecture in int8 with random weights: verified, nothing left in float, and the generated C equal."""

from __future__ import annotations

import logging
import resource
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from onebit.convert import convert
from onebit.convert.samples import LEAST_SAMPLES
from onebit.core import DType, read_model
from onebit.core.oracle import Oracle
from onebit.simulate import simulate
from onebit.simulate.oracle import LceOracle
from onebit.train.models import architecture_names, build_architecture
from support.torch_nets import SMALL_ARCHITECTURES, randomized

#: half as much again as two free cores need
MAX_SECONDS = 15


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


@pytest.mark.large
@pytest.mark.parametrize("name", architecture_names())
def test_default_size_with_labelled_images(name: str, tmp_path: Path) -> None:
    """1,000 images calibrate, 1,000 others with labels are checked: about 10 s at most on two free cores (logged).

    Counted in processor time, which grows too on a busy machine; the interpreter's child processes run in pairs.
    """
    rng = np.random.default_rng(0)
    x, calibration = (rng.normal(0, 1, (1000, 32, 32, 3)).astype(np.float32) for _ in range(2))
    labels = rng.integers(0, 10, len(x))
    net = randomized(build_architecture(name), seed=1)
    before = _processor_time()
    done = convert(
        net, tmp_path / "m.tflite", int8=True, calibration=calibration, samples=x, labels=labels, oracle=LceOracle()
    )  # fmt: skip
    seconds = _processor_time() - before
    logging.getLogger(__name__).info("%s: %.1f s", name, seconds)
    assert seconds < MAX_SECONDS
    assert done.int8 is not None
    assert done.int8.layer_samples >= LEAST_SAMPLES
    assert done.verified.max_abs_diff <= 1
    assert done.verified.samples == len(x)
    assert done.verified.argmax_equal >= 0.999 * len(x)


def _processor_time() -> float:
    """Seconds of this process, and half of those of its ended children."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + (children.ru_utime + children.ru_stime) / 2
