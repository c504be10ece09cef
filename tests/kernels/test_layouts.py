"""Two layouts of packed signs: the conversion kernels, and conversions where a kernel wants pixels in lanes."""

from __future__ import annotations

import ctypes
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onebit.codegen import compile_graph, emit, find_target, generate, kernel
from onebit.codegen.kernel import KERNELS, Arg, Input, Kernel, Layout, Literal, Output, Struct, stored_bytes
from onebit.codegen.kernels.common import window_fields
from onebit.codegen.ops import ConvertLayout
from onebit.codegen.templates_path import templates_root
from onebit.core import DType, Graph, Node, Tensor, evaluate, write_model
from onebit.core.bits import pack
from onebit.core.graph import Array
from onebit.core.ops import Add, LceBMaxPool2d, LceDequantize, Padding, PoolWindow, View
from onebit.simulate import simulate
from onebit.simulate.toolchain import find_compiler
from support.host_code import build
from support.nets import Net

SIZES = (1, 31, 32, 33, 64, 100)
LANES, PACKED = Layout.PIXEL_LANES, Layout.CHANNEL_PACKED
GUARD = 0xA5A5A5A5


# --------------------------------------------------------------------------------------------------------- the kernels


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    kernels = templates_root() / "kernels"
    sources = [kernels / "ob_lanes_from_packed.c", kernels / "ob_packed_from_lanes.c"]
    out = tmp_path_factory.mktemp("layouts") / "layouts.so"
    return ctypes.CDLL(str(find_compiler(find_target("host")).link_shared(sources, out)))


def call(function: Callable[..., None], words: Array, pixels: int, channels: int, outputs: int) -> Array:
    """Run a conversion on an exactly sized input; the output was garbage, and what follows it must stay."""
    words = np.ascontiguousarray(words)
    out = np.full(outputs + 4, GUARD, np.uint32)
    function(ctypes.c_void_p(words.ctypes.data), pixels, channels, ctypes.c_void_p(out.ctypes.data))
    assert (out[outputs:] == GUARD).all()
    return out[:outputs].view(np.int32)


@pytest.mark.parametrize("channels", SIZES)
@pytest.mark.parametrize("pixels", SIZES)
def test_a_conversion_is_a_transposition_of_bits(
    pixels: int, channels: int, library: ctypes.CDLL, rng: np.random.Generator
) -> None:
    signs = rng.random((pixels, channels)) < 0.5
    packed, lanes = pack(signs), pack(signs.T)
    there = call(library.ob_lanes_from_packed, packed, pixels, channels, lanes.size)
    np.testing.assert_array_equal(there.reshape(lanes.shape), lanes)
    back = call(library.ob_packed_from_lanes, lanes, pixels, channels, packed.size)
    np.testing.assert_array_equal(back.reshape(packed.shape), packed)


def test_every_single_bit_finds_its_place(library: ctypes.CDLL) -> None:
    pixels, channels = 40, 37
    for n in range(pixels):
        for c in (0, 1, 30, 31, 32, 36):
            signs = np.zeros((pixels, channels), np.bool_)
            signs[n, c] = True
            lanes = call(library.ob_lanes_from_packed, pack(signs), pixels, channels, channels * 2)
            assert lanes.view(np.uint32).reshape(channels, 2)[c, n // 32] == 1 << (n % 32)
            assert np.count_nonzero(lanes) == 1


# ------------------------------------------------------------------------------------------------- the scheduled form

POOL_C = """
#include "ob_bmaxpool2d_lanes.h"

static uint32_t bit(const uint32_t *plane, int32_t n) { return plane[n / 32] >> (uint32_t)(n % 32) & 1u; }

void ob_bmaxpool2d_lanes(const ob_window *window, const uint32_t *input, int32_t channels, uint32_t *output) {
  const int32_t in_words = (window->in_h * window->in_w + 31) / 32;
  const int32_t out_words = (window->out_h * window->out_w + 31) / 32;
  for (int32_t i = 0; i < channels * out_words; ++i) {
    output[i] = 0u;
  }
  for (int32_t c = 0; c < channels; ++c) {
    for (int32_t n = 0; n < window->out_h * window->out_w; ++n) {
      uint32_t best = 1u;
      for (int32_t ky = 0; ky < window->kernel_h; ++ky) {
        for (int32_t kx = 0; kx < window->kernel_w; ++kx) {
          const int32_t y = n / window->out_w * window->stride_h - window->pad_h + ky;
          const int32_t x = n % window->out_w * window->stride_w - window->pad_w + kx;
          if (y >= 0 && y < window->in_h && x >= 0 && x < window->in_w) {
            best &= bit(input + c * in_words, y * window->in_w + x);
          }
        }
      }
      output[c * out_words + n / 32] |= best << (uint32_t)(n % 32);
    }
  }
}
"""
POOL_H = """
#ifndef OB_BMAXPOOL2D_LANES_H
#define OB_BMAXPOOL2D_LANES_H
#include "ob_common.h"
void ob_bmaxpool2d_lanes(const ob_window *window, const uint32_t *input, int32_t channels, uint32_t *output);
#endif
"""


def lower(view: View) -> tuple[Arg, ...]:
    op = view.node.op
    assert isinstance(op, LceBMaxPool2d)
    window = Struct("ob_window", window_fields(*op.window.axes(view.input(0))))
    return window, Input(), Literal(view.input(0).shape[3]), Output()


@pytest.fixture
def lanes_pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool on pixel lanes that costs nothing, so that it is selected, in a copy of the templates."""
    probe = Kernel(
        "ob_bmaxpool2d_lanes", "ob_bmaxpool2d_lanes.h", ("ob_bmaxpool2d_lanes.c",), LceBMaxPool2d, lower,
        cost=lambda _: 0.0, layouts=(LANES, LANES),
    )  # fmt: skip
    monkeypatch.setattr(kernel, "KERNELS", [*KERNELS, probe])
    root = tmp_path / "templates"
    shutil.copytree(templates_root(), root)
    (root / "kernels" / "ob_bmaxpool2d_lanes.c").write_text(POOL_C)
    (root / "kernels" / "ob_bmaxpool2d_lanes.h").write_text(POOL_H)
    monkeypatch.setitem(generate.__globals__, "templates_root", lambda: root)
    monkeypatch.setattr(emit, "templates_root", lambda: root)


def chain() -> Graph:
    """Two pools in a row between two convolutions; 37 channels, maps of 5x7 and smaller."""
    net = Net((1, 9, 13, 5)).quantize().bconv(37, to=DType.BITS, stride=(2, 2))
    return net.bpool(2, 1, Padding.SAME).bpool(2, padding=Padding.SAME).bconv(7).graph()


def pool_at_the_end() -> Graph:
    return Net((1, 6, 7, 40)).quantize().bpool(3, 2, Padding.SAME).graph()


def readers() -> Graph:
    """The same bits read twice in lanes and once packed."""
    net = Net((1, 6, 6, 40)).quantize()
    signs = net.now.name
    net.bpool(2, 1, Padding.SAME).dequantize()
    for name, dtype in (("other", DType.BITS), ("other_f", DType.FLOAT32), ("all", DType.FLOAT32)):
        net.tensors[name] = Tensor(name, (1, 6, 6, 40), dtype)
    net.nodes.append(Node(LceBMaxPool2d(PoolWindow((3, 3), (1, 1), Padding.SAME)), (signs,), ("other",)))
    net.nodes.append(Node(LceDequantize(), ("other",), ("other_f",)))
    net.nodes.append(Node(LceDequantize(), (signs,), ("all",)))
    return net.node(Add(), "other_f", dtype=DType.FLOAT32).node(Add(), "all", dtype=DType.FLOAT32).graph()


def kinds(graph: Graph) -> list[str]:
    program = compile_graph(graph, find_target("host"))
    return [step.node.op.name.rpartition(".")[2] for step in program.steps]


def test_no_conversion_where_all_kernels_agree() -> None:
    assert kinds(chain()) == ["LceQuantize", "LceBconv2d", "LceBMaxPool2d", "LceBMaxPool2d", "LceBconv2d"]


@pytest.mark.usefixtures("lanes_pool")
def test_conversions_stand_where_layouts_change_and_nowhere_else() -> None:
    pools = ["LceBMaxPool2d", "LceBMaxPool2d"]
    assert kinds(chain()) == ["LceQuantize", "LceBconv2d", "ConvertLayout", *pools, "ConvertLayout", "LceBconv2d"]
    assert kinds(pool_at_the_end()) == ["LceQuantize", "ConvertLayout", "LceBMaxPool2d", "ConvertLayout"]
    assert kinds(readers()).count("ConvertLayout") == 3  # into lanes once, back for each pool


@pytest.mark.usefixtures("lanes_pool")
def test_buffers_have_the_size_of_their_layout() -> None:
    program = compile_graph(chain(), find_target("host"))
    into, first, second, back = program.steps[2:6]
    assert [s.output.layout for s in (into, first, second, back)] == [LANES, LANES, LANES, PACKED]
    assert [s.inputs[0].layout for s in (into, first, second, back)] == [PACKED, LANES, LANES, LANES]
    # 37 channels, 5x7 = 35 pixels and then 3x4
    assert [s.output.nbytes for s in (into, first, second, back)] == [37 * 2 * 4, 37 * 2 * 4, 37 * 4, 12 * 2 * 4]
    assert [s.kernel.function for s in (into, back)] == ["ob_lanes_from_packed", "ob_packed_from_lanes"]


@pytest.mark.usefixtures("lanes_pool")
def test_a_tensor_may_already_have_the_name_that_a_conversion_would_take() -> None:
    graph = chain()
    signs, taken = graph.nodes[1].output, f"{graph.nodes[1].output}/{LANES.value}"
    old = graph.nodes[0].output
    tensors = {taken if k == old else k: v for k, v in graph.tensors.items()}
    tensors[taken] = Tensor(taken, graph.tensors[old].shape, DType.BITS)

    def renamed(names: tuple[str | None, ...]) -> tuple[Any, ...]:
        return tuple(taken if name == old else name for name in names)

    nodes = [Node(n.op, renamed(n.inputs), renamed(n.outputs)) for n in graph.nodes]
    program = compile_graph(Graph(tensors, tuple(nodes), graph.inputs, graph.outputs), find_target("host"))
    (converted,) = [s.node.output for s in program.steps if s.node.inputs[0] == signs]
    assert converted == f"{taken}_1"


def test_bytes_of_a_layout() -> None:
    tensor = Tensor("x", (1, 5, 7, 33), DType.BITS)
    assert stored_bytes(tensor, PACKED) == 35 * 2 * 4
    assert stored_bytes(tensor, LANES) == 33 * 2 * 4


@pytest.mark.usefixtures("lanes_pool")
def test_the_values_are_the_same_in_every_layout(tmp_path: Path) -> None:
    nets = {"chain": chain(), "pool_at_the_end": pool_at_the_end(), "readers": readers()}
    code = build(nets, tmp_path, find_compiler(find_target("host")))
    for name, graph in nets.items():
        x = np.random.default_rng(3).normal(size=(5, *graph.input.shape[1:])).astype(np.float32)
        tensors = [tensor.name for tensor in graph.activations()]
        expected = evaluate(graph, x, tensors)
        got = code.run(name, x)
        assert set(got) == set(tensors)
        for tensor, value in got.items():
            np.testing.assert_array_equal(value, expected[tensor], err_msg=f"{name}: {tensor}")


@pytest.mark.usefixtures("lanes_pool")
def test_a_simulation_compares_tensors_that_lie_in_lanes() -> None:
    result = simulate(write_model(chain()), "random:20", layers=True)
    assert result.ok, result.first_mismatch
    assert [layer.kernel for layer in result.layers or ()].count("ob_bmaxpool2d_lanes") == 2
    assert all(layer.outputs_equal == layer.outputs_compared > 0 for layer in result.layers or ())
    conversions = [step for step in result.steps if step.op == ConvertLayout.name]
    assert len(conversions) == 2


def test_the_conversion_kernels_are_registered_both_ways() -> None:
    found = {k.layouts for k in KERNELS if k.op is ConvertLayout}
    assert found == {(PACKED, LANES), (LANES, PACKED)}
