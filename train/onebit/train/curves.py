"""curves.png: how a run went, epoch by epoch."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path

from onebit.core.files import atomic_write_bytes
from onebit.train.checkpoint import EpochRow

CURVES_FILE = "curves.png"


def save_curves(path: Path, rows: Sequence[EpochRow], title: str) -> None:
    """Four panels over the epochs: loss, accuracy in percent, learning rate, and what happens to the binary weights."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(9, 6), layout="constrained")
    FigureCanvasAgg(figure)
    (loss, accuracy), (rate, weights) = figure.subplots(2, 2, sharex=True)
    epochs = [row.epoch for row in rows]
    loss.plot(epochs, [row.train_loss for row in rows])
    loss.set_ylabel("training loss")
    measured = [row for row in rows if not math.isnan(row.val_accuracy)]
    accuracy.plot([row.epoch for row in measured], [100 * row.val_accuracy for row in measured], marker=".")
    accuracy.set_ylabel("test accuracy, %")
    rate.plot(epochs, [row.lr for row in rows])
    rate.set_ylabel("learning rate")
    weights.plot(epochs, [row.flips for row in rows], label="flips per weight and epoch")
    weights.plot(epochs, [row.never_flipped for row in rows], label="share never flipped")
    weights.plot(epochs, [row.clamped for row in rows], label="share at the clamp")
    weights.set_yscale("symlog", linthresh=1e-3)
    weights.set_ylim(bottom=0)
    weights.set_ylabel("binary weights")
    weights.legend(fontsize="small")
    for panel in (rate, weights):
        panel.set_xlabel("epoch")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.suptitle(title)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=110)
    atomic_write_bytes(path, image.getvalue())
