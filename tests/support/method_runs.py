"""A small binary network, and training steps with methods in the order that the engine calls them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from onebit.train.layers import QuantConv2d, QuantLinear, SameConv2d
from onebit.train.methods import Attached, Method, Step, attach_methods, get_method
from onebit.train.optimizers import SGD

SIZE = (1, 8, 8)
CLASSES = 5


def small_net(seed: int = 1) -> nn.Sequential:
    """All kinds of layers that a method may meet, with a pool behind a batch norm."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        SameConv2d(1, 32, 3, bias=False),
        nn.BatchNorm2d(32),
        QuantConv2d(32, 32, 3),
        nn.BatchNorm2d(32),
        nn.MaxPool2d(2),
        QuantConv2d(32, 32, 3, stride=2),
        nn.BatchNorm2d(32),
        nn.Flatten(),
        QuantLinear(4 * 32, 32),
        nn.BatchNorm1d(32),
        nn.Linear(32, CLASSES),
    )
    net.example_input = torch.zeros(1, *SIZE)
    return net


def batch(seed: int, count: int = 16) -> tuple[Tensor, Tensor]:
    """Images [count, 1, 8, 8] and labels."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, *SIZE, generator=generator)
    return x, torch.randint(CLASSES, (count,), generator=generator)


def teacher_net() -> nn.Module:
    """A teacher of the small net's topology."""
    return small_net(seed=7)


def make(text: str) -> Method:
    """`get_method`, with a teacher for the methods that need one."""
    method = get_method(text)
    return dataclasses.replace(method, teacher=teacher_net) if hasattr(method, "teacher") else method


class Run:
    """A network under training by `methods`."""

    def __init__(self, methods: Sequence[Method], net: nn.Module | None = None, rate: float = 0.05) -> None:
        self.net = small_net() if net is None else net
        self.attached: list[Attached] = attach_methods(methods, self.net)
        self.rate = rate
        self.optimizer = SGD().build(self.net, rate)

    def step(self, done: float, seed: int = 0) -> Tensor:
        """One step at the share `done` of the run; the loss."""
        self.net.train()
        x, labels = batch(seed)
        for method in self.attached:
            method.progress(done)
        logits = self.net(x)
        loss = F.cross_entropy(logits, labels)
        for method in self.attached:
            loss = method.loss(loss, Step(x, labels, logits))
        self.optimizer.zero_grad()
        loss.backward()
        for method in self.attached:
            method.after_backward(self.rate)
        self.optimizer.step()
        for method in self.attached:
            method.after_step(self.rate)
        return loss.detach()

    def steps(self, first: int, last: int, of: int) -> None:
        """Steps number `first` to `last` - 1 of a run of `of`, each on other images."""
        for i in range(first, last):
            self.step(i / of, seed=i)

    def outputs(self, count: int = 32) -> Tensor:
        """The logits of seeded images in eval mode."""
        self.net.eval()
        with torch.no_grad():
            y: Tensor = self.net(batch(99, count)[0])
        return y

    def finish(self) -> None:
        """The last method leaves first, as in the engine."""
        for method in reversed(self.attached):
            method.finish()
