"""Deep and shallow enhancement: details of early feature maps follow a teacher's, late features separate the classes.

Source: chapter 3 of source 1 of the project, abstract only: a penalty on detail features of shallow layers and a
semantic regularization that keeps the activation function from passing shallow information on. All formulas and weights
here are inferred [I].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name PyTorch's own documentation uses
from torch import Tensor, nn

from onebit.core.errors import BadInputError
from onebit.train.layers import ChannelShift
from onebit.train.methods.base import Attached, Method, Step, checked_binary_layers
from onebit.train.methods.distillation import Teacher, TeacherNet, distributional_loss
from onebit.train.options import option

_LAPLACE = ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0))


def edges(features: Tensor) -> Tensor:
    """The Laplacian of the channels' mean map, of unit length per sample: [N, C, H, W] -> [N, 1, H, W]."""
    mean = features.float().mean(dim=1, keepdim=True)
    unit = mean / mean.flatten(1).norm(dim=1).clamp_min(1e-6).reshape(-1, 1, 1, 1)
    kernel = torch.tensor(_LAPLACE, device=features.device).reshape(1, 1, 3, 3)
    return F.conv2d(F.pad(unit, (1, 1, 1, 1), mode="replicate"), kernel)


def detail_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """||edges(student) - edges(teacher)||_1, mean over the batch."""
    return (edges(student) - edges(teacher)).abs().sum(dim=(1, 2, 3)).mean()


def contrastive_loss(features: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Supervised contrast of unit feature vectors [N, C]: samples of one class together, of others apart.

    L_i = -mean over others p of i's class of log(exp(z_i z_p / T) / sum over a != i of exp(z_i z_a / T)); samples whose
    class occurs once are left out. Source: Khosla et al., 2020 (arXiv 2004.11362).
    """
    z = F.normalize(features.float(), dim=1)
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    similar = (z @ z.T / temperature).masked_fill(itself, float("-inf"))
    log_share = (similar - similar.logsumexp(dim=1, keepdim=True)).masked_fill(itself, 0.0)
    same = (labels[:, None] == labels[None, :]) & ~itself
    count = same.sum(dim=1)
    per_sample = -(log_share * same).sum(dim=1) / count.clamp_min(1)
    return per_sample.sum() / (count > 0).sum().clamp_min(1)


@dataclass(frozen=True)
class DetailSemantic(Method):
    """loss += `knowledge` KD + `detail` sum_l |Lap(N(F_l)) - Lap(N(T_l))| + `semantic` L_con + `shifts` sum ||b||^2.

    KD: CE(softmax(student), softmax(teacher)); F_l, T_l: maps of student and teacher at `shallow`; N: mean over
    channels, of unit length; L_con: supervised contrast of the pooled map at `deep`; b: the shifts of `ChannelShift`
    layers in the second half of the network. `shallow` and `deep` are names of modules that both networks have, several
    joined by "+"; default: batch norms at a quarter and at half of the network, and the last one. Nothing is left.
    """

    name = "detail_semantic"
    summary = "teacher's edges in shallow maps, class contrast in deep ones"
    teacher: Teacher = ""
    shallow: str = ""
    deep: str = ""
    knowledge: float = option(1.0, least=0)
    detail: float = option(0.5, least=0)
    semantic: float = option(0.1, least=0)
    shifts: float = option(1e-4, least=0)
    temperature: float = option(0.1, above=0)

    def attach(self, net: nn.Module) -> Attached:
        checked_binary_layers(net, self)
        return _Enhanced(self, net)


class _Enhanced(Attached):
    def __init__(self, method: DetailSemantic, net: nn.Module) -> None:
        super().__init__(net)
        self.method = method
        self.teacher = TeacherNet(method.teacher, method.name)
        theirs = dict(self.teacher.net.named_modules())
        norms = [name for name, m in net.named_modules() if isinstance(m, nn.BatchNorm2d) and name in theirs]
        if not norms and not (method.shallow and method.deep):
            raise BadInputError(
                f"method {method.name} found no batch norm on maps that student and teacher share",
                fix="name modules in shallow= and deep=",
            )
        self.shallow = method.shallow.split("+") if method.shallow else [norms[len(norms) // 4], norms[len(norms) // 2]]
        self.deep = method.deep or norms[-1]
        self._maps: dict[str, Tensor] = {}
        self._taught: dict[str, Tensor] = {}
        self._hooks = [self._watch(net, name, self._maps) for name in dict.fromkeys((*self.shallow, self.deep))]
        for name in self.shallow:
            self._watch(self.teacher.net, name, self._taught)
        modules = list(net.modules())
        self.late_shifts = [m.shift for m in modules[len(modules) // 2 :] if isinstance(m, ChannelShift)]

    def _watch(self, net: nn.Module, name: str, into: dict[str, Tensor]) -> Any:
        found = dict(net.named_modules()).get(name)
        if found is None:
            raise BadInputError(
                f"method {self.method.name}: no module {name!r} in {type(net).__name__}",
                fix="name modules that student and teacher both have",
            )

        def keep(module: nn.Module, _args: Any, y: Tensor) -> None:
            if module.training or into is self._taught:
                into[name] = y

        return found.register_forward_hook(keep)

    def loss(self, loss: Tensor, step: Step) -> Tensor:
        method = self.method
        target = self.teacher(step.images)
        for name in self.shallow:
            student, teacher = self._maps[name], self._taught[name]
            if student.shape[2:] != teacher.shape[2:]:
                raise BadInputError(
                    f"method {method.name}: maps of {list(student.shape[2:])} and {list(teacher.shape[2:])} pixels",
                    where=name,
                    fix="use a teacher of the same topology",
                )
            loss = loss + method.detail * detail_loss(student, teacher)
        pooled = self._maps[self.deep].mean(dim=(2, 3))
        loss = loss + method.semantic * contrastive_loss(pooled, step.labels, method.temperature)
        if self.late_shifts:
            loss = loss + method.shifts * torch.stack([shift.square().sum() for shift in self.late_shifts]).sum()
        self._maps.clear()
        self._taught.clear()
        return loss + method.knowledge * distributional_loss(step.logits, target)

    def finish(self) -> None:
        for hook in self._hooks:
            hook.remove()
