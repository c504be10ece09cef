"""The corrections of zero padding against sums over every tap, for every way in which windows leave the image."""

from __future__ import annotations

import numpy as np
import pytest

from onebit.codegen import find_target
from onebit.codegen.kernels.border import corrections
from onebit.codegen.schedule import compile_graph
from onebit.core.bits import signs
from onebit.core.errors import UnsupportedError
from onebit.core.ops import LceBconv2d, View
from support.nets import Net

GEOMETRIES = [
    {"kernel": (3, 3)}, {"kernel": (2, 5)}, {"kernel": (5, 5), "stride": (2, 3)},
    {"kernel": (3, 3), "dilation": (2, 3)}, {"kernel": (7, 7)}, {"kernel": (1, 1)},
    {"kernel": (3, 2), "dilation": (4, 4), "stride": (1, 2)},
]  # fmt: skip


@pytest.mark.parametrize("size", [(5, 6), (1, 1), (2, 9)], ids=str)
@pytest.mark.parametrize("options", GEOMETRIES, ids=str)
@pytest.mark.parametrize("channels", [3, 34])
def test_every_pixel_and_channel(channels: int, options: dict[str, tuple[int, int]], size: tuple[int, int]) -> None:
    graph = Net((1, *size, channels)).quantize().bconv(7, pad_value=0, **options).graph()  # type: ignore[arg-type]
    view = View.of(graph, graph.nodes[1])
    assert isinstance(view.node.op, LceBconv2d)
    rows, cols = view.node.op.window.axes(view.input(0), view.input(1))
    border = corrections(view.node.op.window, view.input(0), view.input(1))
    taps = signs(view.input(1).constant(), channels).sum(axis=3)
    if border.table.size == 0:
        assert options["kernel"] == (1, 1)
        return
    row, col, values = np.split(border.table, [rows.out, rows.out + cols.out])
    for oy, ox in np.ndindex(rows.out, cols.out):
        expected = np.zeros(7)
        outside = 0
        for ky, kx in np.ndindex(rows.kernel, cols.kernel):
            y = oy * rows.stride - rows.before + ky * rows.dilation
            x = ox * cols.stride - cols.before + kx * cols.dilation
            if not (0 <= y < rows.size and 0 <= x < cols.size):
                outside += 1
                expected += taps[:, ky, kx]
        number = int(row[oy]) * border.fields["border_cols"] + int(col[ox]) - border.fields["border_skip"]
        if outside:
            assert number >= 0
            np.testing.assert_array_equal(values.reshape(-1, 7)[number], expected)
    assert border.table.dtype == np.int16


@pytest.mark.parametrize("options", [{"pad_value": 1}, {"pad_value": 0, "kernel": (1, 1)}])
def test_without_zeros_there_is_no_table(options: dict[str, int]) -> None:
    graph = Net((1, 5, 5, 8)).quantize().bconv(4, **options).graph()  # type: ignore[arg-type]
    view = View.of(graph, graph.nodes[1])
    assert isinstance(view.node.op, LceBconv2d)
    assert corrections(view.node.op.window, view.input(0), view.input(1)).table.size == 0


def test_corrections_beyond_16_bits_are_refused() -> None:
    net = Net((1, 2, 2, 11000)).quantize().bconv(1, pad_value=0)
    net.tensors[net.nodes[1].inputs[1] or ""].constant()[:] = 0
    with pytest.raises(UnsupportedError, match="sum up to more than 16 bits"):
        compile_graph(net.graph(), find_target("host"))
