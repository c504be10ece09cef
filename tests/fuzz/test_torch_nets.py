"""Random PyTorch networks are converted exactly, in float and int8, or refused in one line; nothing else happens.

12 networks in the ordinary run, `TORCH_NETS` in the large one. The file is also run on inputs that the conversion never
saw, and compared with the network itself.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings

from onebit.convert import convert
from onebit.convert.samples import channels_first
from onebit.core import read_model
from onebit.core.errors import BadInputError, OnebitError
from onebit.core.graph import Array
from onebit.core.oracle import NumpyOracle
from onebit.simulate.oracle import _without_kernel
from support.fuzz.torch_nets import Net, torch_nets
from support.lce import LceRefusedError, LceSession, SessionOracle

TORCH_NETS = int(os.environ.get("ONEBIT_FUZZ_NETS", "300"))
SEED = int(os.environ.get("ONEBIT_FUZZ_SEED", "1"))
#: samples of a conversion, and those that it never saw
SAMPLES = 16
#: of the unseen samples, how many may have a sign that flips at zero
MOST_FLIPPED = 2
#: share of the networks that may be refused
MOST_REFUSED = 0.3


class FuzzOracle(SessionOracle):
    """The interpreter, and what it has no kernel for by onebit's semantics."""

    def run(self, model: bytes, x: Array, tensors: Sequence[str]) -> list[Array]:
        """See `Oracle.run`."""
        try:
            return super().run(model, x, tensors)
        except LceRefusedError:
            assert _without_kernel(read_model(model))
            return NumpyOracle().run(model, x, tensors)


def images(net: Net, seed: int) -> Array:
    """Samples [N, H, W, C] or [N, features]."""
    shape = net.example_input.shape
    lying = (*shape[2:], shape[1]) if len(shape) == 4 else shape[1:]
    return np.random.default_rng(seed).standard_normal((SAMPLES, *lying)).astype(np.float32)


def refusal(net: Net, out: Path, x: Array, oracle: FuzzOracle, *, int8: bool) -> OnebitError | None:
    """Why the network is not converted to the file `out`."""
    try:
        convert(net, out, samples=x, int8=int8, calibration=x if int8 else None, oracle=oracle)
    except OnebitError as error:
        return error
    return None


def verdict(net: Net, out: Path, oracle: FuzzOracle) -> str:
    """What became of the network: "converted" or why not; AssertionError with the network where that is wrong."""
    x, unseen = images(net, 0), images(net, 1)
    error = refusal(net, out, x, oracle, int8=False)
    if error is None:
        with torch.no_grad():
            wanted = net(torch.from_numpy(channels_first(unseen))).numpy()
        (got,) = oracle.run(out.read_bytes(), unseen, [read_model(out).output.name])
        off = np.abs(got.reshape(wanted.shape) - wanted).max(axis=1)
        assert (off > 1e-3 * np.ptp(wanted)).sum() <= MOST_FLIPPED, net
        error = refusal(net, out, x, oracle, int8=True)
    if error is None:
        return "converted"
    assert "\n" not in str(error), f"{error}\n{net}"
    # a sum of whole numbers that is zero, though the network's own arithmetic gives a tiny number, has either sign
    zeros = "signs of values near zero flip" in str(error)
    assert zeros or (isinstance(error, BadInputError) and error.where and error.fix), f"{error}\n{net}"
    return str(error)


def judge(count: int, out: Path, lce: LceSession) -> None:
    """Draw `count` networks and judge them; hypothesis shrinks one that fails."""
    oracle, verdicts = FuzzOracle(lce), Counter[str]()

    @seed(SEED)
    @settings(
        max_examples=count,
        phases=(Phase.generate, Phase.shrink),
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(torch_nets())
    def draw(net: Net) -> None:
        verdicts[verdict(net, out, oracle)] += 1

    draw()
    assert verdicts["converted"] >= (1 - MOST_REFUSED) * verdicts.total(), verdicts


def test_random_networks(tmp_path: Path, lce: LceSession) -> None:
    judge(12, tmp_path / "m.tflite", lce)


@pytest.mark.large
def test_many_random_networks(tmp_path: Path, lce: LceSession) -> None:
    judge(TORCH_NETS, tmp_path / "m.tflite", lce)
