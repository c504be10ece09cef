"""What a training method is: a small plug-in that changes how a network learns, and nothing of what is deployed.

A `Method` is a frozen dataclass of hyperparameters; recipes hold a tuple of them. ``attach`` hooks it into an untrained
network and returns an `Attached`, whose calls the engine makes in this order at every step:

    progress -> (forward) -> loss -> (backward) -> after_backward -> (optimizer) -> after_step

and ``finish`` once at the end. Several methods run in the order of the recipe.

Rules, which `tests/train/test_methods.py` holds every registered method to:

- state that a resumed run needs lives in buffers or parameters of the network, so that it is in the state dict;
- after ``finish`` the network is made of plain layers: its outputs in eval mode are those before ``finish``, and a
  checkpoint loads into the network that the recipe's ``model`` builds, without the method;
- all of that holds for a network that the method has finished before (a run that starts from a trained model): what it
  left is still in effect, and its weights can flip. `bake_weights` therefore keeps latent weights;
- a layer it does not apply to is an error at ``attach``, not a silent no-op.

A method whose layers cost something on the device (AdaBin's second convolution) puts them into a fresh network in
``leaves``; its checkpoint then loads into what the recipe's ``model`` builds after a call of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from onebit.core.errors import BadInputError
from onebit.train.layers import BinaryLayer, binary_layers
from onebit.train.options import check_options


@dataclass(frozen=True)
class Step:
    """One training step, as a loss term sees it: `images` float32 [B, C, H, W], `labels` int64 [B], `logits` [B, K]."""

    images: Tensor
    labels: Tensor
    logits: Tensor


class Attached:
    """A method at work in one network. The calls do nothing unless a method overrides them."""

    def __init__(self, net: nn.Module) -> None:
        self.net = net
        self.layers = binary_layers(net)

    def progress(self, done: float) -> None:
        """Called before every step with the finished share of the run, 0 <= done < 1: schedules go here."""

    def loss(self, loss: Tensor, step: Step) -> Tensor:
        """The loss (a scalar) with this method's term added, or replaced by another one."""
        return loss

    def after_backward(self, learning_rate: float) -> None:
        """Changes gradients before the optimizer sees them."""

    def after_step(self, learning_rate: float) -> None:
        """Projects weights after the optimizer's step, under no_grad."""

    def limit_of(self, layer: BinaryLayer) -> float | None:
        """The largest magnitude that the last step left to latent weights of `layer`; None: this method sets none."""
        return None

    def finish(self) -> None:
        """Removes the method from the network, leaving its outputs as they are."""


@dataclass(frozen=True)
class Method(ABC):
    """Base of all methods: ``name`` is its key in recipes and results, ``summary`` a line for `train --list`.

    What an option may be stands beside its default (`onebit.train.options.option`); a method with another value cannot
    be made: BadInputError.
    """

    name: ClassVar[str] = ""
    summary: ClassVar[str] = ""

    def __post_init__(self) -> None:
        check_options(self, f"method {self.name}")

    @abstractmethod
    def attach(self, net: nn.Module) -> Attached:
        """Hooks into `net` before its optimizer is made. BadInputError names a layer that the method cannot treat."""

    def leaves(self, net: nn.Module) -> None:  # noqa: B027 - most methods leave nothing
        """Gives a fresh network the layers that this method leaves in it for good; nothing for most methods."""


def checked_binary_layers(net: nn.Module, method: Method) -> dict[str, BinaryLayer]:
    """The binary layers of `net` by name; BadInputError if there are none for the method to work on."""
    layers = binary_layers(net)
    if not layers:
        raise BadInputError(
            f"method {method.name} needs binary layers and {type(net).__name__} has none",
            fix="use QuantConv2d or QuantLinear, or train without the method",
        )
    return layers
