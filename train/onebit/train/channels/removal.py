"""Removal of channels that are the same at every pixel of every image, with what they contributed kept exactly.

A batch norm whose factor is 0 gives its shift everywhere. Such a value passes activations and pools unchanged in kind,
and what a later layer makes of it is a constant per output channel, which goes into that layer's bias. Around the image
a binary layer sees +1 and a real-valued one 0; so a constant can leave a padded layer only if it is that very value.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import cast

import torch
from torch import Tensor, fx, nn

from onebit.train.channels.choice import check_copies, choose_channels
from onebit.train.channels.groups import LINEAR, NORMS, PER_CHANNEL, ChannelGraph, Group, channel_graph, sources
from onebit.train.layers import BinaryLayer, PerChannel, RepeatChannels
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


def _free_nodes(channels: ChannelGraph) -> Iterator[tuple[fx.Node, Group]]:
    for node in channels.graph.nodes:
        group = channels.group_of(node)
        if group.size and not group.fixed:
            yield node, group


def node_constants(channels: ChannelGraph) -> Constants:
    """The constants of every node in a free group, by running the network on them (in eval mode)."""
    found: Constants = {}
    for node, group in _free_nodes(channels):
        unknown = torch.full((group.size,), torch.nan, dtype=torch.float64)
        read = [found.get(source, unknown) for source in sources(node)]
        if node.op != "call_module":
            found[node] = torch.stack(read).sum(dim=0)
            continue
        module = channels.net.get_submodule(str(node.target))
        if isinstance(module, LINEAR):
            found[node] = unknown
        elif isinstance(module, RepeatChannels):
            found[node] = read[0].repeat(module.times) if len(read[0]) * module.times == group.size else unknown
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
    removable = _removable(channel_graph(net))
    return {name: mask.nonzero().flatten().tolist() for name, mask in removable.items()}


def _removable(channels: ChannelGraph) -> dict[str, Tensor]:
    """bool [channels] by group. A channel that others repeat can go only with all of its copies."""
    readers = _reader_constants(channels, node_constants(channels))
    result: dict[str, Tensor] = {}
    for group in reversed(channels.free()):
        factors = [values for read, _, values in readers if read is group]
        copies = [result.get(copy.name) for copy in channels.copies(group)]
        if factors or copies:
            unknown = [values.isnan().any(dim=1) for values in factors]
            unknown += [_needed(copy, group.size) for copy in copies]
            result[group.name] = ~torch.stack(unknown).any(dim=0)
    return dict(reversed(result.items()))


def _needed(removable: Tensor | None, base_size: int) -> Tensor:
    """bool [base_size]: which channels of a base have copies that stay."""
    if removable is None:
        return torch.ones(base_size, dtype=torch.bool)
    return (~removable).reshape(-1, base_size).any(dim=0)


def squeeze(net: nn.Module, *, multiple: int = WORD) -> nn.Module:
    """A copy of `net` without constant channels; of each group a multiple of `multiple` channels stays.

    Outputs in eval mode are those of `net` up to float rounding of the biases. Only a group whose channels all readers
    can spare shrinks; at least `multiple` channels stay, or all of a smaller group.
    """
    channels = channel_graph(net)
    needed = {name: ~removable for name, removable in _removable(channels).items()}
    return keep_channels(net, choose_channels(channels, needed, {}, multiple))


def keep_channels(net: nn.Module, keep: Mapping[str, list[int]]) -> nn.Module:
    """A copy of `net` with only these channels of these groups (named by their first writer), in this order.

    What a removed channel contributed goes into its readers' biases where it is constant, and is dropped where not. A
    group that repeats another's channels keeps all copies of those that stay there, or those that `keep` names.
    BadInputError for a name that is no free group's, and for channels that are no such copies.
    """
    result = copy.deepcopy(net)
    channels = channel_graph(result)
    whole = check_copies(channels, keep)
    _take(result, channels, whole, _reader_constants(channels, node_constants(channels)))
    return result


def resize_groups(net: nn.Module, sizes: Mapping[str, int]) -> None:
    """Gives groups of `net` (named by their first writer) other numbers of channels; what the layers hold is arbitrary.

    BadInputError for a name that is no free group's.
    """
    channels = channel_graph(net)
    free = {group.name: group for group in channels.free()}
    check_copies(channels, {name: list(range(free[name].size)) if name in free else [] for name in sizes})
    keep = {name: [i % free[name].size for i in range(size)] for name, size in sizes.items()}
    nothing = {node: torch.full((group.size,), torch.nan) for node, group in _free_nodes(channels)}
    _take(net, channels, keep, _reader_constants(channels, nothing))


def _take(
    net: nn.Module, channels: ChannelGraph, keep: Mapping[str, list[int]], readers: list[tuple[Group, str, Tensor]]
) -> None:
    groups = {group.name: group for group in channels.free()}
    with torch.no_grad():
        for name, kept in keep.items():
            group = groups[name]
            if kept != list(range(group.size)):
                index = torch.tensor(kept, dtype=torch.long)
                for read, reader, factors in readers:
                    if read is group:
                        _shrink_reader(net.get_submodule(reader), index, factors)
                for writer in group.writers:
                    _shrink_writer(net.get_submodule(writer), index)
                for inside in dict.fromkeys(group.inside):
                    _shrink_inside(net.get_submodule(inside), index)
            base = channels.base_of(group)
            if base is not None:
                size = len(keep[base.name]) if base.writers and base.name in keep else base.size
                for repeat in group.repeats:
                    layer = net.get_submodule(repeat)
                    assert isinstance(layer, RepeatChannels)
                    layer.times, layer.rest = divmod(len(kept), size)


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
