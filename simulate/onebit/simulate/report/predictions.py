"""Answers of the generated C: some right ones, the wrong ones, and the confusion matrix.

Legend: N samples, K classes; answers and labels int64 [N], outputs [N, K].
"""

from __future__ import annotations

import numpy as np

from onebit.core.graph import Array
from onebit.simulate.inputs import Samples
from onebit.simulate.report.context import (
    Confusion,
    ConfusionCell,
    ConfusionRow,
    OutputBar,
    Prediction,
    PredictionGroup,
)
from onebit.simulate.report.figures import count, data_uri, is_picture, length, percent

MAX_RIGHT = 20
MAX_WRONG = 30
MAX_CLASSES = 20
"""More classes than this have neither a confusion matrix nor bars for every output."""
STRONG = 0.55
"""From this heat on a cell needs light text."""


def prediction_groups(samples: Samples, outputs: Array, names: tuple[str, ...]) -> tuple[PredictionGroup, ...]:
    """Right answers, the first of every class, and wrong ones; without labels the first samples."""
    flat = outputs.reshape(len(outputs), -1)
    answers = flat.argmax(axis=1)

    def show(chosen: Array) -> tuple[Prediction, ...]:
        return tuple(_prediction(samples, flat, int(i), names) for i in chosen)

    if samples.y is None:
        shown = np.arange(min(len(flat), MAX_RIGHT))
        return (PredictionGroup("Answers", _of(len(shown), len(flat), "samples"), show(shown)),)
    right, wrong = np.flatnonzero(answers == samples.y), np.flatnonzero(answers != samples.y)
    first_of_class = [right[samples.y[right] == label][:1] for label in np.unique(samples.y)]
    examples = np.concatenate(first_of_class)[:MAX_RIGHT]
    groups = [
        PredictionGroup("Right", _of(len(examples), len(right), "right answers"), show(examples)),
        PredictionGroup("Wrong", _of(min(len(wrong), MAX_WRONG), len(wrong), "wrong answers"), show(wrong[:MAX_WRONG])),
    ]
    return tuple(group for group in groups if group.predictions)


def _of(shown: int, total: int, what: str) -> str:
    return f"all {total:,} {what}" if shown == total else f"{shown:,} of {total:,} {what}"


def _prediction(samples: Samples, outputs: Array, i: int, names: tuple[str, ...]) -> Prediction:
    values = outputs[i].astype(np.float64)
    answer = int(values.argmax())
    truth = None if samples.y is None else int(samples.y[i])
    pixels = samples.pixels
    return Prediction(
        index=f"#{i}",
        picture=data_uri(pixels[i]) if pixels is not None and is_picture(pixels) else None,
        predicted=names[answer],
        truth=None if truth is None else names[truth],
        right=truth is None or truth == answer,
        bars=_bars(values, answer, truth, names) if len(values) <= MAX_CLASSES else (),
    )


def _bars(values: Array, answer: int, truth: int | None, names: tuple[str, ...]) -> tuple[OutputBar, ...]:
    low, high = values.min(), values.max()
    short = all(len(name) <= 2 for name in names)
    bars = []
    for i, value in enumerate(values):
        role = "other"
        if i == answer:
            role = "right" if truth in (None, answer) else "wrong"
        elif i == truth:
            role = "truth"
        bars.append(
            OutputBar(names[i] if short else "", f"{names[i]}: {value:g}", length(value - low, high - low), role)
        )
    return tuple(bars)


def confusion(labels: Array | None, outputs: Array, names: tuple[str, ...]) -> Confusion | None:
    """The matrix of labels against answers; None without labels or with too many classes to read."""
    classes = len(names)
    if labels is None or not 2 <= classes <= MAX_CLASSES:
        return None
    answers = outputs.reshape(len(outputs), -1).argmax(axis=1)
    table = np.bincount(labels * classes + answers, minlength=classes * classes).reshape(classes, classes)
    most_wrong = int((table - np.diag(np.diag(table))).max())
    rows = []
    for label in range(classes):
        total = int(table[label].sum())
        cells = tuple(_cell(label, answer, table, total, most_wrong, names) for answer in range(classes))
        recall = float(table[label, label]) / total if total else None
        rows.append(ConfusionRow(names[label], cells, percent(recall)))
    wrong = len(labels) - int(np.trace(table))
    return Confusion(names, tuple(rows), f"{wrong:,} of {len(labels):,} samples off the diagonal")


def _cell(label: int, answer: int, table: Array, total: int, most_wrong: int, names: tuple[str, ...]) -> ConfusionCell:
    found = int(table[label, answer])
    title = f"{names[label]} taken for {names[answer]}: {found:,} of {total:,}"
    if found == 0:
        return ConfusionCell("", title, "0", "none")
    # mistakes are rare: their colour is relative to the most frequent one, or none of them could be seen
    heat = found / total if label == answer else 0.25 + 0.75 * found / most_wrong
    tone = "right" if label == answer else "wrong"
    return ConfusionCell(count(found), title, f"{heat:.2f}", f"{tone} strong" if heat > STRONG else tone)
