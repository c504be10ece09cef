"""Removal of channels that are the same at every pixel of every image, with what they contributed kept exactly.

A batch norm whose factor is 0 gives its shift everywhere. Such a value passes activations and pools unchanged in kind,
and what a later layer makes of it is a constant per output channel, which goes into that layer's bias. Around the image
a binary layer sees +1 and a real-valued one 0; so a constant can leave a padded layer only if it is that very value.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, fx, nn

from onebit.core.errors import BadInputError
from onebit.train.channels.groups import LINEAR, NORMS, PER_CHANNEL, ChannelGraph, Group, channel_graph, sources
from onebit.train.layers import BinaryLayer, PerChannel
from onebit.train.quantizers import hard_sign

WORD = 32

Constants = dict[fx.Node, Tensor]
"""float64 [channels] of a node: the value where it is the same everywhere, NaN where it is not."""


def _evaluated(module: nn.Module, value: Tensor) -> Tensor:
    """What a layer with values per channel, or a pointwise one, makes of constants; NaN stays NaN."""
    given = torch.nan_to_num(value)[None, :, None, None].float()
    with torch.no_grad():
        if isinstance(module, NORMS):
            scale = torch.rsqrt(_tensor(module.running_var) + module.eps)
            weight = module.weight if module.affine else torch.ones_like(scale)
            bias = module.bias if module.affine else torch.zeros_like(scale)
            result = (given.flatten() - _tensor(module.running_mean)) * scale * weight + bias
            made = torch.where(weight == 0, bias, torch.where(value.isnan(), torch.nan, result))
            return made.double()
        result = module(given).flatten().double()
    return torch.where(value.isnan(), torch.nan, result)


def _tensor(value: Tensor | None) -> Tensor:
    assert value is not None
    return value


def node_constants(channels: ChannelGraph) -> Constants:
    """The constants of every node in a free group, by running the network on them (in eval mode)."""
    found: Constants = {}
    for node in channels.graph.nodes:
        group = channels.group_of(node)
        if group.fixed or not group.size:
            continue
        unknown = torch.full((group.size,), torch.nan, dtype=torch.float64)
        read = [found.get(source, unknown) for source in sources(node)]
        if node.op != "call_module":
            found[node] = torch.stack(read).sum(dim=0)
            continue
        module = channels.net.get_submodule(str(node.target))
        if isinstance(module, LINEAR):
            found[node] = unknown
        elif isinstance(module, (*NORMS, *PER_CHANNEL, nn.Hardtanh, nn.ReLU, nn.ReLU6)):
            found[node] = _evaluated(module, read[0])
        else:
            found[node] = read[0]  # pools, flattening, dropout: a constant stays what it is
    return found


def _pads(layer: nn.Module) -> bool:
    if not isinstance(layer, nn.Conv2d) or layer.kernel_size == (1, 1):
        return False
    return getattr(layer, "pad_mode", "") == "same" or layer.padding not in ("valid", 0, (0, 0))


def _factor(layer: nn.Module, value: Tensor) -> Tensor:
    """What the layer multiplies its weights with where its input is `value`; NaN where that depends on the pixel."""
    if not isinstance(layer, PerChannel):
        return torch.where(value == 0, 0.0, torch.nan) if _pads(layer) else value
    threshold = 0.0 if layer.input_threshold is None else layer.input_threshold.detach()
    signs = torch.where(value.isnan(), torch.nan, hard_sign((value.float() - threshold).nan_to_num()).double())
    outside = float(getattr(layer, "pad_value", 1))
    return torch.where(signs == outside, signs, torch.nan) if _pads(layer) else signs


def _reader_constants(channels: ChannelGraph, found: Constants) -> list[tuple[Group, str, Tensor]]:
    """(group read, layer's name, factors) of every layer that reads a free group."""
    result = []
    for node, module in channels.calls():
        source = sources(node)[0]
        if isinstance(module, LINEAR) and source in found:
            value = found[source]
            spatial = _inputs(module) // len(value)
            factors = _factor(module, value.repeat_interleave(spatial))
            result.append((channels.group_of(source), str(node.target), factors.reshape(-1, spatial)))
    return result


def _inputs(layer: nn.Module) -> int:
    return int(layer.in_channels if isinstance(layer, nn.Conv2d) else cast("nn.Linear", layer).in_features)


def constant_channels(net: nn.Module) -> dict[str, list[int]]:
    """Channels that can be removed without a change of any output, by the name of the group's first writer."""
    channels = channel_graph(net)
    return {group.writers[0]: removable.nonzero().flatten().tolist() for group, removable in _removable(channels)}


def _removable(channels: ChannelGraph) -> list[tuple[Group, Tensor]]:
    readers = _reader_constants(channels, node_constants(channels))
    result = []
    for group in channels.free():
        factors = [values for read, _, values in readers if read is group]
        if factors and group.writers:
            known = torch.cat([f.isnan().any(dim=1, keepdim=True) for f in factors], dim=1)
            result.append((group, ~known.any(dim=1)))
    return result


def squeeze(net: nn.Module, *, multiple: int = WORD) -> nn.Module:
    """A copy of `net` without constant channels; of each group a multiple of `multiple` channels stays.

    Outputs in eval mode are those of `net` up to float rounding of the biases. Only a group whose channels all readers
    can spare shrinks; at least `multiple` channels stay, or all of a smaller group.
    """
    channels = channel_graph(net)
    keep = {}
    for group, removable in _removable(channels):
        alive = int((~removable).sum())
        wanted = min(max(math.ceil(alive / multiple), 1) * multiple, group.size)
        order = torch.argsort(removable.int(), stable=True)  # the needed ones first
        keep[group.writers[0]] = order[:wanted].sort().values.tolist()
    return keep_channels(net, keep)


def keep_channels(net: nn.Module, keep: Mapping[str, list[int]]) -> nn.Module:
    """A copy of `net` with only these channels of these groups (named by their first writer).

    What a removed channel contributed goes into its readers' biases where it is constant, and is dropped where not.
    BadInputError for a name that is no free group's.
    """
    result = copy.deepcopy(net)
    channels = channel_graph(result)
    groups = {group.writers[0]: group for group in channels.free() if group.writers}
    for name in keep:
        if name not in groups:
            raise BadInputError(
                f"has no channels that can be removed; groups are {', '.join(groups)}",
                where=name,
                fix="name one of them",
            )
    readers = _reader_constants(channels, node_constants(channels))
    with torch.no_grad():
        for name, kept in keep.items():
            if len(kept) == groups[name].size:
                continue
            index = torch.tensor(kept, dtype=torch.long)
            for group, reader, factors in readers:
                if group is groups[name]:
                    _shrink_reader(result.get_submodule(reader), index, factors)
            for writer in groups[name].writers:
                _shrink_writer(result.get_submodule(writer), index)
            for inside in dict.fromkeys(groups[name].inside):
                _shrink_inside(result.get_submodule(inside), index)
    return result


def _shrink_reader(layer: nn.Module, index: Tensor, factors: Tensor) -> None:
    assert isinstance(layer, LINEAR)
    channels, spatial = factors.shape
    gone = torch.ones(channels, dtype=torch.bool)
    gone[index] = False
    effective = layer.quantized_weight() if isinstance(layer, BinaryLayer) else layer.weight
    taps = effective.detach().double().reshape(len(effective), channels, -1)
    each = factors[:, :1] if spatial == 1 else factors
    contribution = (taps * torch.nan_to_num(each) * gone[:, None]).sum(dim=(1, 2))
    if isinstance(layer, PerChannel) and layer.output_scale is not None:
        contribution *= layer.output_scale.detach()
    if contribution.any():
        old = torch.zeros(len(effective)) if layer.bias is None else layer.bias.detach()
        layer.bias = nn.Parameter((old + contribution).float())
    shape = layer.weight.shape
    kept = layer.weight.detach().reshape(len(effective), channels, -1)[:, index]
    layer.weight = nn.Parameter(kept.reshape(len(effective), -1, *shape[2:]), requires_grad=layer.weight.requires_grad)
    if isinstance(layer, PerChannel) and layer.input_threshold is not None:
        thresholds = layer.input_threshold.detach().reshape(channels, -1)[index].flatten()
        layer.input_threshold = nn.Parameter(thresholds)
    if isinstance(layer, nn.Conv2d):
        layer.in_channels = len(index)
    else:
        layer.in_features = len(index) * spatial


def _shrink_writer(layer: nn.Module, index: Tensor) -> None:
    assert isinstance(layer, LINEAR)
    _keep_entries(layer, index, ("weight", "bias", "output_scale"))
    if isinstance(layer, nn.Conv2d):
        layer.out_channels = len(index)
    else:
        layer.out_features = len(index)


def _keep_entries(module: nn.Module, index: Tensor, names: tuple[str, ...]) -> None:
    for name in names:
        value = getattr(module, name, None)
        if isinstance(value, nn.Parameter):
            setattr(module, name, nn.Parameter(value.detach()[index], requires_grad=value.requires_grad))


def _shrink_inside(module: nn.Module, index: Tensor) -> None:
    if isinstance(module, NORMS):
        _keep_entries(module, index, ("weight", "bias"))
        for name in ("running_mean", "running_var"):
            setattr(module, name, getattr(module, name)[index])
        module.num_features = len(index)
        return
    for owner in module.modules():
        for name, value in list(owner.named_parameters(recurse=False)):
            taken = value.detach()[index] if value.ndim == 1 else value.detach()[:, index]
            setattr(owner, name, nn.Parameter(taken, requires_grad=value.requires_grad))
