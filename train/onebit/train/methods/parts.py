"""Where methods put their machinery in a binary layer, and how it becomes a plain layer again.

`parts_of` gives a layer its `TrainingParts`, a submodule that holds everything of every method: so all their state is
in the network's state dict, and `finish_layer` removes it all at once, whatever the order of the methods. What the
parts did to the layer's input and output is then in the layer's threshold, scale and bias (see
`onebit.train.layers.PerChannel`), together with those that it had before; what they did to its weight is in the weight.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from onebit.core.errors import BadInputError
from onebit.train.layers import BinaryLayer, bake_weights
from onebit.train.methods.base import Attached
from onebit.train.quantizers import Quantizer, hard_sign

INPUTS = "input_quantizer"
WEIGHTS = "kernel_quantizer"
_NAME = "training_parts"


class SurrogateSign(nn.Module):
    """The sign with a gradient that has a schedule or a state of its own; fulfils the protocol of a quantizer."""

    name: ClassVar[str] = ""
    deploys_as: ClassVar[str] = "sign"


class InputPart(nn.Module):
    """What happens to a layer's input between the layer's own threshold and its quantizer."""

    def threshold(self, layer: BinaryLayer) -> Tensor | None:
        """[channels]: in eval mode the part's result has the sign of x - threshold. None: that of x."""
        return None


class OutputPart(nn.Module, ABC):
    """What happens to a layer's result: ``forward(y, layer)``."""

    @abstractmethod
    def affine(self, layer: BinaryLayer) -> tuple[Tensor, Tensor | None]:
        """(scale, bias), [channels] each: in eval mode the part computes y * scale + bias."""


class TrainingParts(nn.Module):
    """The parts in one layer. `inputs` act in order before the quantizer, `outputs` in order behind the layer."""

    def __init__(self, layer: BinaryLayer, name: str) -> None:
        super().__init__()
        self.inputs = nn.ModuleList()
        self.outputs = nn.ModuleList()
        self.layer_name = name
        self._replaced: dict[str, tuple[Any, str]] = {}
        self._hook = layer.register_forward_hook(self._behind)
        layer.input_transform = self._before

    def _before(self, x: Tensor) -> Tensor:
        for part in self.inputs:
            x = part(x)
        return x

    def _behind(self, layer: nn.Module, _args: tuple[Any, ...], y: Tensor) -> Tensor:
        for part in self.outputs:
            y = part(y, layer)
        return y

    def replace_quantizer(self, layer: BinaryLayer, role: str, quantizer: SurrogateSign | Quantizer, by: str) -> None:
        """Puts `quantizer` in the place of the layer's; BadInputError if that is no sign, or two methods want it."""
        old = getattr(layer, role)
        if role in self._replaced:
            raise BadInputError(
                f"methods {self._replaced[role][1]} and {by} both replace the {role.replace('_', ' ')}",
                where=self.layer_name,
                fix="use one of them",
            )
        if old.deploys_as != "sign":
            raise BadInputError(
                f"method {by} needs a layer whose {role.replace('_', ' ')} is a sign, this one deploys as "
                f"{old.deploys_as!r}",
                where=self.layer_name,
                fix="use ste_sign there, or train without the method",
            )
        self._replaced[role] = (old, by)
        _set(layer, role, quantizer)

    def fold(self, layer: BinaryLayer) -> None:
        """Moves what the parts compute in eval mode into the layer, and takes the parts out of it."""
        thresholds = [t for part in self.inputs if (t := cast("InputPart", part).threshold(layer)) is not None]
        if thresholds:
            old = [] if layer.input_threshold is None else [layer.input_threshold]
            layer.input_threshold = nn.Parameter(torch.stack([*old, *thresholds]).sum(0))
        layer.input_transform = None
        for part in self.outputs:
            _append_affine(layer, *cast("OutputPart", part).affine(layer))
        bake_weights(layer)
        for role, (old, _) in self._replaced.items():
            _set(layer, role, old)
        self._hook.remove()


def parts_of(layer: BinaryLayer, name: str) -> TrainingParts:
    """The layer's parts, made where it has none; `name` is the layer's, for messages.

    BadInputError if the weight has a transform that is none of the parts', AdaBin's.
    """
    parts = getattr(layer, _NAME, None)
    if parts is None:
        if layer.weight_transform is not None:
            raise BadInputError(
                "a method changes a layer that another method has taken over",
                where=name,
                fix="give adabin last, or leave it out",
            )
        parts = TrainingParts(layer, name)
        layer.add_module(_NAME, parts)
    return cast("TrainingParts", parts)


def add_input_part(layer: BinaryLayer, name: str, part: InputPart) -> None:
    """Puts `part` in front of the quantizer; BadInputError if another one sits there."""
    parts = parts_of(layer, name)
    if len(parts.inputs):
        raise BadInputError(
            f"{type(parts.inputs[0]).__name__} and {type(part).__name__} of two methods both change the layer's input",
            where=name,
            fix="use one of the methods",
        )
    parts.inputs.append(part)


class _Transforms(nn.Sequential):
    """Weight transforms one after the other; see `bake_weights` for `latent`."""

    def latent(self, weight: Tensor) -> Tensor:
        """The same, with the ``latent`` of those that have one."""
        for transform in self:
            weight = getattr(transform, "latent", transform)(weight)
        return weight


def add_weight_transform(layer: BinaryLayer, name: str, transform: nn.Module) -> None:
    """Puts `transform` between the latent weight, as earlier methods transform it, and its quantizer."""
    parts_of(layer, name)
    earlier = layer.weight_transform
    steps = list(earlier) if isinstance(earlier, _Transforms) else []
    _set(layer, "weight_transform", _Transforms(*steps, transform))


def changes_results(layer: BinaryLayer) -> bool:
    """Whether a method's part acts on the layer's input or output."""
    parts = getattr(layer, _NAME, None)
    return parts is not None and bool(len(parts.inputs) or len(parts.outputs))


def finish_layer(layer: BinaryLayer) -> None:
    """Makes the layer plain: its outputs in eval mode are what they were. A plain layer stays as it is."""
    parts = getattr(layer, _NAME, None)
    if parts is None:
        return
    with torch.no_grad():
        parts.fold(layer)
    delattr(layer, _NAME)


def replace_module(net: nn.Module, name: str, module: nn.Module) -> None:
    """Puts `module` in the place of the submodule of that qualified name."""
    parent, _, attribute = name.rpartition(".")
    setattr(net.get_submodule(parent), attribute, module)


class LayerMethod(Attached):
    """A method that works through the parts of binary layers (all of the network's, or those given by name)."""

    def __init__(self, net: nn.Module, layers: Mapping[str, BinaryLayer]) -> None:
        super().__init__(net)
        self.layers = dict(layers)

    def finish(self) -> None:
        for layer in self.layers.values():
            finish_layer(layer)


def transformed_weight(layer: BinaryLayer) -> Tensor:
    """The latent weight as its quantizer sees it."""
    return layer.weight if layer.weight_transform is None else layer.weight_transform(layer.weight)


def per_filter(values: Tensor, like: Tensor) -> Tensor:
    """`values` [O] in a shape that broadcasts over `like` [O, ...]."""
    return values.reshape(-1, *(1,) * (like.ndim - 1))


def filter_mean(weight: Tensor) -> Tensor:
    """The mean of each filter, [O, 1, ...]."""
    return weight.mean(dim=tuple(range(1, weight.ndim)), keepdim=True)


def input_channels(layer: BinaryLayer) -> int:
    """The number of channels (or features) that the layer reads."""
    return int(layer.in_channels if isinstance(layer, nn.Conv2d) else layer.in_features)


def along_channels(values: Tensor, like: Tensor) -> Tensor:
    """`values` [C] in a shape that broadcasts over `like` [N, C, H, W] or [N, C]."""
    return values[:, None, None] if like.ndim == 4 else values


def sample_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """(mean, variance by n) of each sample, float32 [N] each, without a temporary of the size of `x`."""
    dims = tuple(range(1, x.ndim))
    mean = x.mean(dim=dims, dtype=torch.float32)
    square = torch.linalg.vector_norm(x, dim=dims, dtype=torch.float32).square() / x[0].numel()
    return mean, (square - mean.square()).clamp_min(0.0)


class _IdentitySign(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: Any, x: Tensor) -> Tensor:
        return hard_sign(x)

    @staticmethod
    def backward(_ctx: Any, *grad_outputs: Any) -> Any:
        return grad_outputs[0]


class IdentitySign(SurrogateSign):
    """Forward: the sign, +1 for 0. Gradient: dq/dx = 1 everywhere (a straight-through estimator without clipping)."""

    name = "identity_sign"

    def forward(self, x: Tensor) -> Tensor:
        """The signs of `x`."""
        return cast("Tensor", _IdentitySign.apply(x))  # type: ignore[no-untyped-call]


def _append_affine(layer: BinaryLayer, scale: Tensor, bias: Tensor | None) -> None:
    old_scale, old_bias = layer.output_scale, layer.bias
    layer.output_scale = nn.Parameter(scale.clone() if old_scale is None else old_scale * scale)
    shifts = [term for term in (None if old_bias is None else old_bias * scale, bias) if term is not None]
    if shifts:
        layer.bias = nn.Parameter(torch.stack(shifts).sum(0))


def _set(layer: nn.Module, name: str, value: Any) -> None:
    """Sets an attribute that may change between a plain object and a module."""
    delattr(layer, name)
    setattr(layer, name, value)
