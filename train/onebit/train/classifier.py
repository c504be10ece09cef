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
from onebit.train.methods import Step, attach_methods
from onebit.train.recipes import Recipe
from onebit.train.statistics import FlipCounter, LayerStatistics


class Classifier(pl.LightningModule):
    """Cross entropy, the recipe's optimizer and methods, a learning rate set at every step, latent weights clamped.

    `state` is the run to continue (None: a new one). After a training epoch `train_loss` holds its mean loss, after a
    validation `val_accuracy` the share of right answers (NaN after an epoch that is not measured), and `statistics`
    what the epoch did to the binary weights.
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
        compiled: bool = False,
    ) -> None:
        super().__init__()
        self.module = module
        # What training steps run; accuracy is always that of the plain module. Hidden from the state dict in a list.
        self._forward = [torch.compile(module) if compiled else module]
        self.recipe = recipe
        self.epochs = epochs
        self.batches = batches
        self.tests = tests
        self.epochs_before = len(state.rows) if state else 0
        self.train_loss = float("nan")
        self.val_accuracy = float("nan")
        self.learning_rate = recipe.schedule.peak
        self._resumed_optimizer = state.optimizer if state else None
        self.methods = attach_methods(recipe.methods, module)
        if state is not None:
            module.load_state_dict(state.module)
        self._latent = binary_weights(module)
        self.flips = FlipCounter(module, recipe.latent_clamp, [method.limit_of for method in self.methods])
        if state is not None:
            self.flips.resume(state.flipped)
        self.statistics: tuple[LayerStatistics, ...] = ()

    @property
    def run_epoch(self) -> int:
        """The epoch of the whole run, counted from 0 (Lightning counts from the resume)."""
        return self.epochs_before + int(self.current_epoch)

    def setup(self, stage: str) -> None:
        """Takes this process's share of the data."""
        for batches in (self.batches, self.tests):
            batches.shard(self.trainer.global_rank, self.trainer.world_size)

    def train_dataloader(self) -> TrainBatches:
        """The augmented batches."""
        return self.batches

    def val_dataloader(self) -> EvalBatches:
        """The test split."""
        return self.tests

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The recipe's optimizer, with the state of the run that is continued."""
        optimizer = self.recipe.optimizer.build(self.module, self.recipe.schedule.peak)
        self._decays = [group["weight_decay"] for group in optimizer.param_groups]
        if self._resumed_optimizer is not None:
            optimizer.load_state_dict(self._resumed_optimizer)
        return optimizer

    def on_train_epoch_start(self) -> None:
        """Chooses the epoch's batches."""
        self.batches.epoch = self.run_epoch
        self._loss_sum = torch.zeros((), device=self.device)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Sets the learning rate: a function of the position in the run only."""
        step = self.run_epoch * len(self.batches) + batch_idx
        position, before = self._position(step), self._position(step - 1)
        done = position / self.epochs
        schedule, optimizer = self.recipe.schedule, self.trainer.optimizers[0]
        self.learning_rate = schedule.rate(position, self.epochs)
        if step and schedule.step(done) != schedule.step(before / self.epochs):
            optimizer.state.clear()
        for group, decay in zip(optimizer.param_groups, self._decays, strict=True):
            group["lr"] = self.learning_rate * group["factor"]
            group["weight_decay"] = decay if schedule.decays(done) else 0.0
        for method in self.methods:
            method.progress(done)

    def _position(self, step: int) -> float:
        """The epoch, with its fraction, at which step number `step` of the run starts."""
        epoch, batch = divmod(step, len(self.batches))
        return epoch + batch / len(self.batches)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Mean cross entropy of one batch, and what the methods make of it."""
        images, labels = batch
        logits = self._forward[0](images).float()
        loss = F.cross_entropy(logits, labels, label_smoothing=self.recipe.label_smoothing)
        for method in self.methods:
            loss = method.loss(loss, Step(images, labels, logits))
        if not torch.isfinite(loss):
            raise BadInputError(
                f"training diverged in epoch {self.run_epoch + 1}: the loss is {float(loss.detach())}, "
                f"{first_not_finite(self.module, images)}",
                where=f"recipe {self.recipe.name}",
                fix="use another --seed, or a recipe with a lower learning rate; the last good epoch is kept",
            )
        self._loss_sum += loss.detach()
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Lets the methods change the gradients."""
        for method in self.methods:
            method.after_backward(self.learning_rate)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Clamps latent weights, lets the methods project theirs, and counts flips."""
        clamp = self.recipe.latent_clamp
        with torch.no_grad():
            if clamp is not None:
                for weight in self._latent:
                    weight.clamp_(-clamp, clamp)
            for method in self.methods:
                method.after_step(self.learning_rate)
        self.flips.observe()

    def on_validation_epoch_start(self) -> None:
        """Ends the training epoch's sums."""
        self.train_loss = float(self._over_processes(self._loss_sum)) / self.trainer.world_size / len(self.batches)
        self.statistics = self.flips.close_epoch()
        done = self.run_epoch + 1
        self.tests.skip = done % self.recipe.validate_every != 0 and done != self.epochs
        self._right = torch.zeros((), dtype=torch.int64, device=self.device)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Counts right answers, in float32 whatever the recipe's precision."""
        images, labels = batch
        with torch.autocast(self.device.type, enabled=False):
            self._right += (self.module(images).argmax(dim=1) == labels).sum()

    def on_validation_epoch_end(self) -> None:
        """The share of right answers."""
        right = int(self._over_processes(self._right))
        self.val_accuracy = float("nan") if self.tests.skip else right / len(self.tests.images)

    def _over_processes(self, value: Tensor) -> Tensor:
        """The sum of a scalar over all processes."""
        gathered = self.all_gather(value)
        assert isinstance(gathered, Tensor)
        return gathered.sum()

    def finish(self) -> None:
        """Takes the methods out of the network, the last one first."""
        for method in reversed(self.methods):
            method.finish()


def first_not_finite(module: nn.Module, images: Tensor) -> str:
    """Which layer of `module` is the first to put out NaN or infinity for `images`, in words."""
    found: list[str] = []

    def check(name: str, output: Any) -> None:
        if not found and isinstance(output, Tensor) and not bool(torch.isfinite(output).all()):
            found.append(name)

    layers = [(name, layer) for name, layer in module.named_modules() if not any(layer.children())]
    hooks = [
        layer.register_forward_hook(lambda _layer, _input, output, name=name: check(name, output))
        for name, layer in layers
    ]
    try:
        with torch.no_grad():
            module(images)
    finally:
        for hook in hooks:
            hook.remove()
    return f"the first layer that is not finite is {found[0]}" if found else "every layer's output is finite"
