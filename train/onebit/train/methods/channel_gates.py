"""Squeezing: gates that switch off channels of a widened network, to be removed afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from onebit.core.errors import BadInputError
from onebit.train.channels.groups import Group, channel_graph
from onebit.train.layers import binary_layers
from onebit.train.methods.base import Attached, Method, checked_binary_layers
from onebit.train.options import option


@dataclass(frozen=True)
class ChannelGates(Method):
    """y_c = m_c BN_c(x), m = 1 at first; after each step m <- sign(m) max(|m| - rate `strength` cost, 0).

    The proximal step of the penalty strength * sum of cost |m|, which makes exact zeros; it starts at the share
    `warmup` of the run. cost of a group of channels = binary weights that one of its channels is part of, written or
    read, relative to the mean over groups. Channels that a residual sum joins share one gate. `finish` multiplies the
    gates into the batch norms; `onebit.train.channels.squeeze` then removes the channels that are 0, in multiples of
    32, and leaves the outputs as they are. Train the rest on for a third of the epochs at a tenth of the rate.
    Source: Liu, Han et al., "Widening and Squeezing", 2020 (arXiv 2002.00555), abstract only; gates after network
    slimming (Liu et al., 2017, arXiv 1708.06519) [I].
    """

    name = "channel_gates"
    summary = "gates with an L1 penalty switch off channels, which squeeze removes"
    strength: float = option(1e-2, least=0)
    warmup: float = option(0.15, least=0, below=1)

    def attach(self, net: nn.Module) -> Attached:
        checked_binary_layers(net, self)
        groups = [group for group in channel_graph(net).free() if group.readers and group.norms(net)]
        if not groups:
            raise BadInputError(
                f"method {self.name} found no channels between two layers that it could gate",
                where=type(net).__name__,
                fix="it needs batch norm behind a convolution that another layer reads",
            )
        return _Gated(self, net, groups)


class _Gated(Attached):
    def __init__(self, method: ChannelGates, net: nn.Module, groups: list[Group]) -> None:
        super().__init__(net)
        self.method = method
        self.done = 0.0
        self.gates: list[nn.Parameter] = []
        self.norms: list[nn.Module] = []
        self._hooks: list[Any] = []
        for group in groups:
            gate = nn.Parameter(torch.ones(group.size))
            self.gates.append(gate)
            for norm in group.norms(net):
                norm.register_parameter("gate", gate)
                self.norms.append(norm)
                self._hooks.append(norm.register_forward_hook(_gated))
        sizes = torch.tensor([self._weights_per_channel(net, group) for group in groups], dtype=torch.float64)
        self.costs = (sizes / sizes.mean().clamp_min(1.0)).tolist()

    @staticmethod
    def _weights_per_channel(net: nn.Module, group: Group) -> float:
        binary = binary_layers(net)
        layers = [binary[name] for name in (*group.writers, *group.readers) if name in binary]
        return sum(layer.weight.numel() for layer in layers) / group.size

    def progress(self, done: float) -> None:
        self.done = done

    def after_step(self, learning_rate: float) -> None:
        if self.done < self.method.warmup:
            return
        with torch.no_grad():
            for gate, cost in zip(self.gates, self.costs, strict=True):
                gate.copy_(torch.sign(gate) * (gate.abs() - learning_rate * self.method.strength * cost).clamp_min(0.0))

    def finish(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        with torch.no_grad():
            for norm in self.norms:
                gate = getattr(norm, "gate", None)
                if isinstance(gate, Tensor) and isinstance(norm.weight, Tensor) and isinstance(norm.bias, Tensor):
                    norm.weight.mul_(gate)
                    norm.bias.mul_(gate)
                    del norm.gate


def _gated(norm: nn.Module, _args: Any, y: Tensor) -> Tensor:
    gate = norm.gate
    assert isinstance(gate, Tensor)
    return y * (gate[:, None, None] if y.ndim == 4 else gate)
