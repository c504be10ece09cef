"""Every quantizer against the larq package: forward and gradient, element by element."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from onebit.train.quantizers import get_quantizer, quantizer_names

Array = NDArray[Any]
CHILD = Path(__file__).resolve().parents[1] / "support" / "larq_quantizers.py"

#: of the largest value: sums and transcendental functions are not rounded the same way in TensorFlow and torch
ROUNDING = 1e-6


def around(*values: float) -> list[float]:
    """Each value of either sign, with its float32 neighbours."""
    at = np.array([sign * value for value in values for sign in (-1, 1)], np.float32)
    return np.concatenate([at, np.nextafter(at, np.float32(np.inf)), np.nextafter(at, np.float32(-np.inf))]).tolist()


def inputs() -> dict[str, Array]:
    """In Larq's layouts: the channels are the last axis."""
    rng = np.random.default_rng(11)
    ties = [(2 * i + 1) / (2 * n) for n in (1, 3, 7) for i in range(n)]
    # no neighbours of 0, which are denormal: TensorFlow takes them for 0
    corners = [0.0, -0.0, 1e-30, -1e-30, 7.0, -7.0, 40.0, -40.0, *around(1.0, 0.5, 0.3, 0.05, 2.0, *ties)]
    return {
        "points": np.array([*corners, *rng.normal(0, 0.7, 2000)], np.float32),
        "kernel": rng.uniform(-1.2, 1.2, (3, 3, 20, 12)).astype(np.float32),
        "dense": rng.normal(0, 0.4, (40, 9)).astype(np.float32),
        "activations": rng.normal(0, 1.1, (4, 5, 6, 8)).astype(np.float32),
        "zeros": np.zeros((3, 3, 2, 4), np.float32),
    }


@dataclass(frozen=True)
class Case:
    """A Larq class with arguments, ours by name with arguments, and the input."""

    larq: str
    ours: str
    arguments: dict[str, Any] = field(default_factory=dict)
    key: str = "points"
    ours_only: dict[str, Any] = field(default_factory=dict)
    tolerance: float = 0.0

    def __str__(self) -> str:
        given = "-".join(f"{name}={value}" for name, value in self.arguments.items())
        return "-".join(part for part in (self.ours, given, self.key) if part)


def clipped(larq: str, ours: str) -> list[Case]:
    return [Case(larq, ours), *(Case(larq, ours, {"clip_value": value}) for value in (0.3, 2.0, None))]


def magnitude_aware(key: str, **arguments: Any) -> Case:
    axis = {"channel_axis": 1} if key == "activations" else {}
    return Case("MagnitudeAwareSign", "magnitude_aware_sign", arguments, key, axis, ROUNDING)


def ternary(key: str = "points", **arguments: Any) -> Case:
    return Case("SteTern", "ste_tern", arguments, key)


def dorefa(key: str, k_bit: int, mode: str) -> Case:
    exact = mode == "activations" or key == "zeros"
    arguments = {"k_bit": k_bit, "mode": mode}
    return Case("DoReFa", "dorefa_quantizer", arguments, key, tolerance=0.0 if exact else ROUNDING)


CASES = [
    *clipped("SteSign", "ste_sign"),
    Case("SteSign", "ste_sign", key="kernel"),
    Case("ApproxSign", "approx_sign"),
    Case("ApproxSign", "approx_sign", key="activations"),
    *(Case("SwishSign", "swish_sign", {"beta": beta}, tolerance=ROUNDING) for beta in (5.0, 1.0, 10.0)),
    Case("SwishSign", "swish_sign", key="kernel", tolerance=ROUNDING),
    *(magnitude_aware(key) for key in ("kernel", "dense", "activations", "zeros")),
    magnitude_aware("kernel", clip_value=0.3),
    magnitude_aware("kernel", clip_value=None),
    *clipped("SteTern", "ste_tern"),
    ternary(threshold_value=0.5),
    ternary(threshold_value=0.0),
    *(ternary(key, ternary_weight_networks=True) for key in ("points", "kernel", "dense", "zeros")),
    *clipped("SteHeaviside", "ste_heaviside"),
    *(dorefa("points", k_bit, "activations") for k_bit in (1, 2, 3, 8)),
    dorefa("activations", 2, "activations"),
    *(dorefa("kernel", k_bit, "weights") for k_bit in (1, 2, 3, 8)),
    dorefa("dense", 1, "weights"),
    dorefa("zeros", 1, "weights"),
    dorefa("zeros", 2, "weights"),
    Case("NoOp", "no_op", {"precision": 1}),
]


def to_torch(x: Array) -> Array:
    """HWIO to OIHW, NHWC to NCHW (told apart by the first axis), [in, out] to [out, in]."""
    if x.ndim == 4:
        return x.transpose(3, 2, 0, 1) if x.shape[0] == 3 else x.transpose(0, 3, 1, 2)
    return x.T


def incoming(x: Array) -> Array:
    return np.random.default_rng(x.size).normal(0, 1, x.shape).astype(np.float32)


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Array]:
    """What Larq computes for every case: one process for all, because TensorFlow takes seconds to import."""
    for package in ("tensorflow", "tf_keras", "larq"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"package: the Python module {package} is not installed")
    folder = tmp_path_factory.mktemp("larq")
    (folder / "cases.json").write_text(json.dumps([[case.larq, case.arguments, case.key] for case in CASES]))
    given = inputs()
    np.savez(folder / "inputs.npz", **given, **{f"dy:{key}": incoming(x) for key, x in given.items()})
    command = [sys.executable, str(CHILD), *(str(folder / name) for name in ("cases.json", "inputs.npz", "out.npz"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(folder / "out.npz") as results:
        return dict(results)


def test_every_quantizer_is_compared() -> None:
    assert {case.ours for case in CASES} == set(quantizer_names())


@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward_and_gradient_are_larqs(case: Case, truth: dict[str, Array]) -> None:
    number = CASES.index(case)
    given = inputs()[case.key]
    x = torch.tensor(to_torch(given), requires_grad=True)
    q = get_quantizer(case.ours, **case.arguments, **case.ours_only)(x)
    q.backward(torch.tensor(to_torch(incoming(given))))
    assert x.grad is not None
    assert q.dtype is torch.float32
    for got, want in ((q.detach(), truth[f"q:{number}"]), (x.grad, truth[f"dx:{number}"])):
        largest = float(np.abs(want).max())
        np.testing.assert_allclose(got.numpy(), to_torch(want), rtol=0, atol=case.tolerance * largest)
