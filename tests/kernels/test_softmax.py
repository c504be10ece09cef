"""The exponential of ob_exp.h (float SOFTMAX, LOGISTIC, TANH): its error in units in the last place, densely."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
import pytest

from onebit.codegen import find_target
from onebit.codegen.templates_path import templates_root
from onebit.core.graph import Array
from onebit.simulate.toolchain import find_compiler

#: largest error of exp in ULP of the exact result; a search over all 260 million floats in [-87, 0] found 0.977
EXP_ULP = 0.98
#: below this, exp counts as 0: e^-87 is the last result far enough above the smallest normal number
CUTOFF = -87.0

UNIT = """
#include "ob_exp.h"
void exp_all(const float *x, int32_t n, float *y);
void exp_all(const float *x, int32_t n, float *y) {
  for (int32_t i = 0; i < n; ++i) {
    y[i] = ob_exp_negative(x[i]);
  }
}
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    folder = tmp_path_factory.mktemp("softmax")
    unit = folder / "unit.c"
    text = UNIT.replace('"ob_exp.h"', f'"{(templates_root() / "kernels" / "ob_exp.h").as_posix()}"')
    unit.write_text(text)
    compiler = find_compiler(find_target("host"))
    return ctypes.CDLL(str(compiler.link_shared([unit], Path(folder / "softmax.so"))))


def exp(library: ctypes.CDLL, x: Array) -> Array:
    x = np.ascontiguousarray(x, np.float32)
    y = np.empty_like(x)
    library.exp_all(ctypes.c_void_p(x.ctypes.data), x.size, ctypes.c_void_p(y.ctypes.data))
    return y


def ulp_error(got: Array, x: Array) -> Array:
    """|got - exp(x)| in units in the last place of the float32 next to exp(x); the reference has 53 bits."""
    exact = np.exp(x.astype(np.float64))
    return np.abs(got.astype(np.float64) - exact) / np.spacing(exact.astype(np.float32)).astype(np.float64)


def grid() -> Array:
    """Every 97th float32 in [-87, 0]: the same share of every binade, and all of the ends of each."""
    most = int(np.array(CUTOFF, np.float32).view(np.uint32))
    least = int(np.array(-0.0, np.float32).view(np.uint32))
    strided = np.arange(least, most + 1, 97, dtype=np.int64)
    exponents = np.arange(least, most, 1 << 23, dtype=np.int64)
    ends = (exponents[:, None] + np.arange(-200, 200)).reshape(-1)
    chosen = np.concatenate([strided, ends[(ends >= least) & (ends <= most)], [most]])
    return chosen.astype(np.uint32).view(np.float32)


def test_the_error_of_exp_is_bounded(library: ctypes.CDLL) -> None:
    x = grid()
    assert x.size > 11_000_000
    worst = float(ulp_error(exp(library, x), x).max())
    assert worst < EXP_ULP
    # a bound that is never approached says nothing
    assert worst > EXP_ULP - 0.25


def test_exp_at_the_ends(library: ctypes.CDLL) -> None:
    below = np.nextafter(np.float32(CUTOFF), np.float32(-np.inf))
    x = np.array([0.0, -0.0, CUTOFF, below, -1e30, -np.inf, np.nan], np.float32)
    y = exp(library, x)
    assert y[:2].tolist() == [1.0, 1.0]
    assert y[2] >= np.finfo(np.float32).tiny
    assert y[3:6].tolist() == [0.0, 0.0, 0.0]
    assert np.isnan(y[6])


def test_exp_rises(library: ctypes.CDLL) -> None:
    """A softmax must not change an order; also where the reduction goes from one power of two to the next."""
    near = np.arange(-500, 500)
    for k in range(125):
        edge = np.float32(-(k + 0.5) * np.log(2.0))
        x = (edge.view(np.int32) + near).astype(np.int32).view(np.float32)
        # the bits of negative floats rise as the values fall
        assert (np.diff(x) < 0).all()
        assert (np.diff(exp(library, x)) <= 0).all(), edge
    everywhere = np.sort(grid())
    assert (np.diff(exp(library, everywhere)) >= 0).all()
