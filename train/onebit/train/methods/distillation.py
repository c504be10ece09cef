"""Learning from a real-valued teacher: ReActNet's distributional loss and its two steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812 - the name PyTorch's own documentation uses
from torch import Tensor, nn

from onebit.core.errors import BadInputError
from onebit.train.layers import BinaryLayer
from onebit.train.methods.base import Attached, Method, Step, checked_binary_layers
from onebit.train.methods.parts import WEIGHTS, LayerMethod, SurrogateSign, parts_of
from onebit.train.methods.scale import MeanMagnitude, add_mean_magnitude
from onebit.train.options import option
from onebit.train.quantizers import get_quantizer

Teacher: TypeAlias = str | Callable[[], nn.Module]
"""The path of a teacher's `model.pt`, or what builds the trained teacher."""


class TeacherNet:
    """A teacher, held outside the network it teaches: it neither learns nor gets into the student's checkpoint."""

    def __init__(self, teacher: Teacher, method: str) -> None:
        if not teacher:
            raise BadInputError(
                f"method {method} needs a teacher", fix=f"give {method}:teacher=PATH of a model.pt that onebit trained"
            )
        self.net = _loaded(teacher).eval().requires_grad_(False)
        self._method = method

    def __call__(self, images: Tensor) -> Tensor:
        """Logits [B, K] for images on any device; BadInputError if the teacher was made for other images."""
        net = self.net.to(images.device)
        try:
            with torch.no_grad():
                logits: Tensor = net(images)
        except RuntimeError as error:
            raise BadInputError(
                f"the teacher cannot take images of {list(images.shape[1:])}: {str(error).splitlines()[0]}",
                where=f"method {self._method}",
                fix="use a teacher that was trained on such images",
            ) from error
        return logits.float()


def _loaded(teacher: Teacher) -> nn.Module:
    if not isinstance(teacher, str):
        return teacher()
    from onebit.train.checkpoint import load_checkpoint  # it imports the recipes, which import the methods

    return load_checkpoint(teacher).module


def distributional_loss(logits: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """T^2 CE(softmax(student / T), softmax(teacher / T)), mean over the batch."""
    target = F.softmax(teacher / temperature, dim=1)
    return temperature**2 * F.cross_entropy(logits / temperature, target)


@dataclass(frozen=True)
class Distillation(Method):
    """loss = (1 - weight) loss + weight T^2 CE(softmax(student / T), softmax(teacher / T)).

    With weight = 1 and T = 1 the labels are not used at all, ReActNet's distributional loss.
    Source: Liu, Shen, Savvides, Cheng, "ReActNet", 2020 (arXiv 2003.03488), loss from the public code; the temperature
    is Hinton, Vinyals, Dean, 2015 (arXiv 1503.02531).
    """

    name = "distillation"
    summary = "the loss against a trained teacher's distribution"
    teacher: Teacher = ""
    weight: float = option(1.0, least=0, most=1)
    temperature: float = option(1.0, above=0)

    def attach(self, net: nn.Module) -> Attached:
        checked_binary_layers(net, self)
        return _Distilled(self, net)


class _Distilled(Attached):
    def __init__(self, method: Distillation, net: nn.Module) -> None:
        super().__init__(net)
        self.method = method
        self.teacher = TeacherNet(method.teacher, method.name)

    def loss(self, loss: Tensor, step: Step) -> Tensor:
        target = self.teacher(step.images)
        if target.shape != step.logits.shape:
            raise BadInputError(
                f"the teacher gives {target.shape[1]} logits, the network {step.logits.shape[1]}",
                where=f"method {self.method.name}",
                fix="use a teacher that was trained on the same classes",
            )
        learned = distributional_loss(step.logits, target, self.method.temperature)
        return (1.0 - self.method.weight) * loss + self.method.weight * learned


class _TwoStepSign(SurrogateSign):
    """The real weight in step 1, its sign with the clipped straight-through gradient in step 2."""

    name = "two_step_sign"
    binary: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("binary", torch.zeros(()))
        self._sign = get_quantizer("ste_sign")

    def forward(self, weight: Tensor) -> Tensor:
        """Latent weight -> what the layer multiplies with."""
        return torch.where(self.binary > 0, self._sign(weight), weight)


class _ScaleInStepTwo(MeanMagnitude):
    def __init__(self, sign: _TwoStepSign) -> None:
        super().__init__(learned=False)
        self._sign = [sign]  # a list: the sign is a submodule elsewhere

    def scale(self, layer: BinaryLayer) -> Tensor:
        return torch.where(self._sign[0].binary > 0, super().scale(layer), 1.0)


@dataclass(frozen=True)
class TwoStep(Method):
    """Step 1, up to the share `share` of the run: binary inputs, real weights. Step 2: weights a sign(w) as well.

    a = mean |w| per filter, a constant in the gradient; it keeps the size of the results where the steps meet. ReActNet
    restarts schedule and optimizer for step 2 and has weight decay in step 1 only, as `TwoStepSchedule` does; in other
    recipes both steps share one schedule [I]. Combine with `Distillation`.
    Source: Liu, Shen, Savvides, Cheng, "ReActNet", 2020 (arXiv 2003.03488), after Martinez, Yang, Bulat, Tzimiropoulos,
    2020 (arXiv 2003.11535).
    """

    name = "two_step"
    summary = "real weights under binary inputs first, then binary weights"
    share: float = option(0.5, above=0, below=1)

    def attach(self, net: nn.Module) -> Attached:
        layers = checked_binary_layers(net, self)
        signs = []
        for name, layer in layers.items():
            sign = _TwoStepSign()
            parts_of(layer, name).replace_quantizer(layer, WEIGHTS, sign, self.name)
            add_mean_magnitude(layer, name, _ScaleInStepTwo(sign))
            signs.append(sign)
        attached = _TwoSteps(net, layers)
        attached.share, attached.signs = self.share, signs
        return attached


class _TwoSteps(LayerMethod):
    share: float
    signs: list[_TwoStepSign]

    def progress(self, done: float) -> None:
        for sign in self.signs:
            sign.binary.fill_(float(done >= self.share))

    def finish(self) -> None:
        self.progress(1.0)  # a run that stopped in step 1 still leaves binary weights
        super().finish()
