"""What a run writes and shows while it trains: run.json, metrics.csv, layers.csv, last.ckpt, the progress bar."""

from __future__ import annotations

import csv
import io
import logging
import math
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from onebit.core.errors import OnebitError
from onebit.core.files import atomic_write_text
from onebit.train.checkpoint import RESUME_FILE, EpochRow, RunState, resized_entry, save_run_state
from onebit.train.classifier import Classifier
from onebit.train.curves import CURVES_FILE, save_curves
from onebit.train.provenance import RUN_FILE, RunRecord, save_record
from onebit.train.statistics import LayerStatistics

METRICS_FILE = "metrics.csv"
LAYERS_FILE = "layers.csv"

_log = logging.getLogger(__name__)


class RunRecorder(pl.Callback):
    """After every epoch: a row of metrics.csv, rows of layers.csv and a new last.ckpt, each file written as a whole.

    `record` is that of the run, without its accuracy, and becomes run.json as soon as training starts; `rows` are those
    of the epochs before a resume.
    """

    def __init__(self, run_dir: Path, record: RunRecord, rows: Sequence[EpochRow] = ()) -> None:
        self.run_dir = run_dir
        self.record = record
        self.rows = list(rows)
        self._started = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Says what is trained on what."""
        if trainer.is_global_zero:
            save_record(self.run_dir / RUN_FILE, self.record)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the epoch's clock."""
        self._started = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Writes the epoch, its validation included."""
        assert isinstance(pl_module, Classifier)
        if not trainer.is_global_zero:
            return
        row = EpochRow(
            epoch=len(self.rows) + 1,
            train_loss=pl_module.train_loss,
            val_accuracy=pl_module.val_accuracy,
            lr=pl_module.learning_rate,
            seconds=time.monotonic() - self._started,
            **_over_all(pl_module.statistics),
        )
        self.rows.append(row)
        atomic_write_text(self.run_dir / METRICS_FILE, metrics_text(self.rows))
        self._append_layers(row.epoch, pl_module.statistics)
        state = RunState(
            self.record,
            resized=resized_entry(pl_module.recipe.model),
            rows=tuple(self.rows),
            module=pl_module.module.state_dict(),
            optimizer=trainer.optimizers[0].state_dict(),
            flipped=pl_module.flips.state(),
        )
        save_run_state(self.run_dir / RESUME_FILE, state)
        _log.info("epoch %d: %s", row.epoch, _in_words(pl_module))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draws the curves."""
        self._draw(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Draws what there is of an interrupted run; where that fails as well, the first error is the one to tell."""
        with suppress(OSError, OnebitError):
            self._draw(trainer)

    def _draw(self, trainer: pl.Trainer) -> None:
        if self.rows and trainer.is_global_zero:
            title = f"{self.record.recipe}, seed {self.record.seed}, {len(self.rows)} epochs"
            save_curves(self.run_dir / CURVES_FILE, self.rows, title)

    def _append_layers(self, epoch: int, statistics: Sequence[LayerStatistics]) -> None:
        """Adds the epoch to layers.csv; what a run that was cut off wrote of this epoch or later ones goes."""
        path = self.run_dir / LAYERS_FILE
        kept = path.read_text(encoding="utf-8").splitlines()[1:] if path.is_file() else []
        kept = [line for line in kept if int(line.split(",", 1)[0]) < epoch]
        header = ",".join(("epoch", *(field.name for field in fields(LayerStatistics))))
        lines = [f"{epoch},{item.layer},{item.weights}," + ",".join(_digits(item)) for item in statistics]
        atomic_write_text(path, "\n".join([header, *kept, *lines]) + "\n")


def _digits(item: LayerStatistics) -> list[str]:
    return [f"{value:.6f}" for value in (item.flips, item.never_flipped, item.clamped, item.entropy)]


def _over_all(statistics: Sequence[LayerStatistics]) -> dict[str, float]:
    """The means of the layers' figures, each layer counted by its number of weights."""
    weights = sum(item.weights for item in statistics)
    names = ("flips", "never_flipped", "clamped", "entropy")
    return {name: sum(getattr(item, name) * item.weights for item in statistics) / max(weights, 1) for name in names}


def metrics_text(rows: Sequence[EpochRow]) -> str:
    """The rows as CSV with a header line."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([field.name for field in fields(EpochRow)])
    for row in rows:
        values = {**asdict(row), "train_loss": f"{row.train_loss:.6f}", "lr": f"{row.lr:.6g}"}
        values |= {
            "seconds": f"{row.seconds:.2f}",
            "val_accuracy": "" if math.isnan(row.val_accuracy) else row.val_accuracy,
        }
        values |= {name: f"{getattr(row, name):.6f}" for name in ("flips", "never_flipped", "clamped", "entropy")}
        writer.writerow(values.values())
    return text.getvalue()


def _in_words(classifier: Classifier) -> str:
    """Loss of the epoch, and the last accuracy that was measured."""
    measured = "" if math.isnan(classifier.val_accuracy) else f", test {100 * classifier.val_accuracy:.2f} %"
    return f"loss {classifier.train_loss:.3f}{measured}"


class ProgressBar(pl.Callback):
    """A bar on stderr that counts epochs and shows the last loss and accuracy."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs
        self._progress: Progress | None = None
        self._task = TaskID(0)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draws the bar."""
        assert isinstance(pl_module, Classifier)
        if not trainer.is_global_zero:
            return
        self._progress = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("epochs {task.fields[result]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._task = self._progress.add_task(
            "training", total=self.epochs, completed=pl_module.epochs_before, result=""
        )
        self._progress.start()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Moves the bar on."""
        assert isinstance(pl_module, Classifier)
        if self._progress is not None:
            self._progress.update(self._task, advance=1, result=_in_words(pl_module))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leaves the finished bar on the screen."""
        self._stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> Any:
        """Frees the terminal."""
        self._stop()

    def _stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
