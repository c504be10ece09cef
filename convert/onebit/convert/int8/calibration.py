"""Ranges of a float graph's tensors over calibration samples: the extremes, or percentiles from histograms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from onebit.core import DType, Graph, Node, evaluate
from onebit.core.errors import BadInputError
from onebit.core.evaluate import CHUNK
from onebit.core.graph import Array
from onebit.core.ops import Logistic, PadV2, Reshape, Softmax, Squeeze
from onebit.core.ops.window import LARGEST

Ranges = Mapping[str, tuple[float, float]]

BINS = 4096
"""Bins of a histogram. Its width doubles when a value lies outside, so that at least half of them are in use."""


@dataclass(frozen=True)
class RangeMethod:
    """How a range follows from the values: `percentile` P cuts 100 - P percent of them at either end, None cuts none.

    The input and what becomes the model's output are never cut: a saturated logit is a wrong answer.
    """

    percentile: float | None = None

    @classmethod
    def parse(cls, text: str) -> RangeMethod:
        """``minmax`` or ``percentile:P`` with 50 < P <= 100."""
        kind, colon, number = text.partition(":")
        if kind == "minmax" and not colon:
            return cls()
        try:
            percentile = float(number) if kind == "percentile" else 0.0
        except ValueError:
            percentile = 0.0
        if not 50 < percentile <= 100:
            raise BadInputError(f"range method {text!r}", fix="give minmax or percentile:P with 50 < P <= 100")
        return cls(percentile)

    def __str__(self) -> str:
        return "minmax" if self.percentile is None else f"percentile:{self.percentile:g}"


MINMAX = RangeMethod()


def calibrate(graph: Graph, x: Array, method: RangeMethod = MINMAX) -> dict[str, tuple[float, float]]:
    """The range of the input and of every float32 activation, for real inputs `x` float32 [N, ...].

    A border of the lowest number, which stands for no pixel in front of a max pool, has no part in it.

    BadInputError without samples, and where a tensor is not finite for one of them.
    """
    if len(x) == 0:
        raise BadInputError("no calibration samples", fix="give at least one, better some hundred")
    bordered = {node.output: node.inputs[0] or "" for node in graph.nodes if has_lowest_border(graph, node)}
    names = [t.name for t in graph.activations() if t.dtype is DType.FLOAT32 and t.name not in bordered]
    whole = {graph.input.name, *_answers(graph)}
    spreads = {
        name: _Histogram() if method.percentile is not None and name not in whole else _Extremes()
        for name in (graph.input.name, *names)
    }
    for start in range(0, len(x), CHUNK):
        part = x[start : start + CHUNK]
        for name, value in {graph.input.name: part, **evaluate(graph, part, names)}.items():
            if not np.isfinite(value).all():
                node = graph.producer(name)
                raise BadInputError(
                    "its values are not all finite for the calibration samples",
                    where=f"'{name}'" if node is None else node.describe(),
                    fix="check the samples' range and the model's weights",
                )
            spreads[name].add(value)
    ranges = {name: spread.range(method.percentile or 100.0) for name, spread in spreads.items()}
    for name, source in bordered.items():  # in execution order
        ranges[name] = ranges[source]
    return ranges


def has_lowest_border(graph: Graph, node: Node) -> bool:
    """Whether the node adds a border of the lowest float32 number or of minus infinity."""
    value = graph.tensor(node.inputs[2]) if isinstance(node.op, PadV2) else None
    return value is not None and value.dtype is DType.FLOAT32 and float(value.constant().max()) <= -LARGEST


def _answers(graph: Graph) -> set[str]:
    """The model's outputs, and what a softmax, a sigmoid or a reshape makes them from."""
    found, open_names = set[str](), [*graph.outputs]
    while open_names:
        name = open_names.pop()
        found.add(name)
        node = graph.producer(name)
        if node is not None and isinstance(node.op, Softmax | Logistic | Reshape | Squeeze):
            open_names.append(node.inputs[0] or "")
    return found


class _Extremes:
    """The least and the largest value."""

    def __init__(self) -> None:
        self.low, self.high = np.inf, -np.inf

    def add(self, values: Array) -> None:
        self.low = min(self.low, float(values.min()))
        self.high = max(self.high, float(values.max()))

    def range(self, _percentile: float) -> tuple[float, float]:
        return self.low, self.high


class _Histogram(_Extremes):
    """Counts over [-width, width) in BINS bins; `width` is a power of two times the first largest magnitude."""

    def __init__(self) -> None:
        super().__init__()
        self.width = 0.0
        self.counts = np.zeros(BINS, np.int64)

    def add(self, values: Array) -> None:
        super().add(values)
        largest = max(abs(self.low), abs(self.high))
        if self.width == 0:
            self.width = largest
        while self.width and largest > self.width:
            halves = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.concatenate([np.zeros(BINS // 4, np.int64), halves, np.zeros(BINS // 4, np.int64)])
            self.width *= 2
        if self.width:
            self.counts += np.histogram(values, BINS, (-self.width, self.width))[0]

    def range(self, percentile: float) -> tuple[float, float]:
        """Edges of the bins between which the values remain, never beyond the extremes."""
        if not self.width:
            return self.low, self.high
        cut = (100 - percentile) / 100 * self.counts.sum()
        below = np.cumsum(self.counts)
        first = int(np.searchsorted(below, cut, side="right"))
        last = int(np.searchsorted(below, self.counts.sum() - cut, side="left"))
        edges = np.linspace(-self.width, self.width, BINS + 1)
        return max(self.low, float(edges[first])), min(self.high, float(edges[last + 1]))
