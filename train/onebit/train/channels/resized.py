"""A network with other numbers of channels than its recipe gives it, as data: what a checkpoint of it has to say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from onebit.train.channels.fit import widened
from onebit.train.channels.groups import LINEAR, channel_graph
from onebit.train.channels.removal import resize_groups


@dataclass(frozen=True)
class Resized:
    """What builds the network: `base`'s with (group, channels) of `sizes`, groups named by their first writer.

    `biases` names layers that have a bias there and none in the base. Layers of another shape than the base's are
    initialized again, as torch initializes them.
    """

    base: Callable[[], nn.Module]
    sizes: tuple[tuple[str, int], ...]
    biases: tuple[str, ...] = ()

    def __call__(self) -> nn.Module:
        """An untrained network."""
        net = self.base()
        shapes = {name: layer.weight.shape for name, layer in net.named_modules() if isinstance(layer, LINEAR)}
        resize_groups(net, dict(self.sizes))
        for name in self.biases:
            layer = net.get_submodule(name)
            assert isinstance(layer, LINEAR)
            layer.bias = nn.Parameter(torch.zeros(len(layer.weight)))
        for name, shape in shapes.items():
            layer = net.get_submodule(name)
            assert isinstance(layer, LINEAR)
            if layer.weight.shape != shape:
                layer.reset_parameters()
        return net

    @staticmethod
    def of(base: Callable[[], nn.Module], net: nn.Module) -> Resized:
        """What builds a network of the shape of `net`, which was made from `base`'s by removing channels."""
        plain = base()
        layers = {name: layer for name, layer in net.named_modules() if isinstance(layer, LINEAR)}
        sizes = tuple((group.name, len(layers[group.name].weight)) for group in channel_graph(plain).free())
        biases = (n for n, layer in layers.items() if layer.bias is not None and _bias(plain, n) is None)
        return Resized(base, sizes, tuple(biases))

    @property
    def channels(self) -> dict[str, int]:
        """The number of channels by group."""
        return dict(self.sizes)


def _bias(net: nn.Module, name: str) -> object:
    return net.get_submodule(name).bias


def widened_model(base: Callable[[], nn.Module], factor: float, multiple: int) -> Resized:
    """`base` with every group that can change `factor` times as wide, rounded up to `multiple` channels.

    A group that repeats another one's channels repeats them as often as before.
    """
    channels = channel_graph(base())
    sizes: dict[str, int] = {}
    for group in channels.free():
        source = channels.base_of(group)
        if source is None:
            (sizes[group.name],) = widened([group.size], factor, multiple=multiple)
        else:
            times = group.size // source.size
            sizes[group.name] = times * (sizes[source.name] if source.writers and source.name in sizes else source.size)
    return Resized(base, tuple(sizes.items()))
