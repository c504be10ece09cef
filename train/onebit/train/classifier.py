"""The Lightning module: one step of training and of measuring a classifier with binary layers."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
import torch.nn.functional as F  # noqa: N812 - the name PyTorch's own documentation uses
from torch import Tensor, nn

from onebit.core.errors import BadInputError
from onebit.train.checkpoint import RunState
from onebit.train.data import EvalBatches, TrainBatches
from onebit.train.layers import binary_weights
from onebit.train.recipes import Recipe


class Classifier(pl.LightningModule):
    """Cross entropy, Adam, a learning rate set at every step, latent binary weights clamped to [-1, 1] behind it.

    `state` is the run to continue (None: a new one). After a training epoch `train_loss` holds its mean loss, after a
    validation `val_accuracy` the share of right answers.
    """

    def __init__(
        self,
        module: nn.Module,
        recipe: Recipe,
        *,
        epochs: int,
        batches: TrainBatches,
        tests: EvalBatches,
        state: RunState | None = None,
    ) -> None:
        super().__init__()
        self.module = module
        self.recipe = recipe
        self.epochs = epochs
        self.batches = batches
        self.tests = tests
        self.epochs_before = len(state.rows) if state else 0
        self.train_loss = float("nan")
        self.val_accuracy = float("nan")
        self.learning_rate = recipe.schedule.peak
        self._resumed_optimizer = state.optimizer if state else None
        self._latent = binary_weights(module)
        if state is not None:
            module.load_state_dict(state.module)

    @property
    def run_epoch(self) -> int:
        """The epoch of the whole run, counted from 0 (Lightning counts from the resume)."""
        return self.epochs_before + int(self.current_epoch)

    def train_dataloader(self) -> TrainBatches:
        """The augmented batches."""
        return self.batches

    def val_dataloader(self) -> EvalBatches:
        """The test split."""
        return self.tests

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam, with the state of the run that is continued."""
        optimizer = torch.optim.Adam(self.module.parameters(), lr=self.recipe.schedule.peak)
        if self._resumed_optimizer is not None:
            optimizer.load_state_dict(self._resumed_optimizer)
        return optimizer

    def on_train_epoch_start(self) -> None:
        """Chooses the epoch's batches."""
        self.batches.epoch = self.run_epoch
        self._loss_sum = torch.zeros((), device=self.device)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Sets the learning rate: a function of the position in the run only."""
        position = self.run_epoch + batch_idx / len(self.batches)
        self.learning_rate = self.recipe.schedule.rate(position, self.epochs)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self.learning_rate

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Mean cross entropy of one batch."""
        images, labels = batch
        loss = F.cross_entropy(self.module(images), labels, label_smoothing=self.recipe.label_smoothing)
        self._loss_sum += loss.detach()
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Clamps: beyond 1 a latent weight gets no gradient through its sign and would never come back."""
        with torch.no_grad():
            for weight in self._latent:
                weight.clamp_(-1.0, 1.0)

    def on_validation_epoch_start(self) -> None:
        """Ends the training epoch's loss, before anything is measured with a model that has diverged."""
        self.train_loss = float(self._loss_sum) / len(self.batches)
        if not torch.isfinite(self._loss_sum):
            raise BadInputError(
                f"training diverged: the loss of epoch {self.run_epoch + 1} is {self.train_loss}",
                where=f"recipe {self.recipe.name}",
                fix="use another --seed, or a recipe with a lower learning rate",
            )
        self._right = torch.zeros((), dtype=torch.int64, device=self.device)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Counts right answers."""
        images, labels = batch
        self._right += (self.module(images).argmax(dim=1) == labels).sum()

    def on_validation_epoch_end(self) -> None:
        """The share of right answers."""
        self.val_accuracy = int(self._right) / len(self.tests.images)
