"""How each layer of a PyTorch model becomes operators: one importer per module class or ``onebit_kind``.

Weights go from OIHW to OHWI, and a dense layer behind a flattened map from the order C, H, W of its inputs to H, W, C.
A binary dense layer is a binary convolution whose kernel is as large as the map. PyTorch's symmetric padding is
accepted only where it is TensorFlow's SAME padding for this input, never turned into something close to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from onebit.convert.builder import GraphBuilder, Value
from onebit.core import DType
from onebit.core.errors import BadInputError, UnsupportedError
from onebit.core.graph import Array
from onebit.core.ops import (
    Activation,
    Add,
    BinaryWindow,
    Conv2d,
    FullyConnected,
    LceBconv2d,
    MaxPool2d,
    Mul,
    Padding,
    PoolWindow,
    Softmax,
)
from onebit.core.ops.window import Axis

#: how far |w| of a binary layer may be from its channel's scale, relative to it
SCALE_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Layer:
    """One call of a module: its name in the model, and the torch shapes (batch 1) of its input and output."""

    name: str
    module: Any
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    #: whether only binary layers, which take the sign, read the result
    only_signed: bool
    #: whether this is the only reader of its input
    sole_reader: bool

    def unsupported(self, what: str, fix: str) -> UnsupportedError:
        """The error for a setting of this layer that has no counterpart."""
        return UnsupportedError(what, where=f"{type(self.module).__name__} '{self.name}'", fix=fix)


Importer = Callable[[GraphBuilder, Layer, Value], Value]
ImporterT = TypeVar("ImporterT", bound=Importer)
_IMPORTERS: dict[type[nn.Module] | str, Importer] = {}


def imports(*keys: type[nn.Module] | str) -> Callable[[ImporterT], ImporterT]:
    """Register an importer for module classes, or for values of the attribute ``onebit_kind``."""

    def add(importer: ImporterT) -> ImporterT:
        _IMPORTERS.update(dict.fromkeys(keys, importer))
        return importer

    return add


def find_importer(module: nn.Module) -> Importer | None:
    """The importer of a module: by its ``onebit_kind``, else by its exact class (a subclass may compute otherwise)."""
    kind = getattr(module, "onebit_kind", None)
    return _IMPORTERS.get(kind if kind is not None else type(module))


def supported_modules() -> list[str]:
    """What `find_importer` knows, for messages."""
    return sorted(key if isinstance(key, str) else key.__name__ for key in _IMPORTERS)


def to_numpy(tensor: torch.Tensor) -> Array:
    """A detached copy on the CPU."""
    return np.array(tensor.detach().cpu().numpy())


def _pair(value: Any) -> tuple[int, int]:
    return (int(value), int(value)) if isinstance(value, int) else (int(value[0]), int(value[1]))


# ------------------------------------------------------------------------------------------------------- convolutions


def _same_or_valid(layer: Layer, kernel: tuple[int, int], stride: Any, dilation: Any, padding: Any) -> Padding:
    """SAME or VALID for PyTorch's symmetric `padding`; UnsupportedError where it is neither for this input."""
    symmetric = _pair(padding)
    if symmetric == (0, 0):
        return Padding.VALID
    axes = [
        Axis(size, k, s, d, Padding.SAME)
        for size, k, s, d in zip(layer.in_shape[2:], kernel, _pair(stride), _pair(dilation), strict=True)
    ]
    wanted = [(axis.before, axis.total_padding - axis.before, axis.out) for axis in axes]
    if wanted == [(p, p, out) for p, out in zip(symmetric, layer.out_shape[2:], strict=True)]:
        return Padding.SAME
    raise layer.unsupported(
        f"padding={symmetric} with stride {_pair(stride)} on a map of {list(layer.in_shape[2:])} pads "
        f"{[(p, p) for p in symmetric]}, TensorFlow's SAME pads {[w[:2] for w in wanted]}",
        fix="use onebit.train.layers.SameConv2d, or F.pad by TensorFlow's rule and train again",
    )


def _conv_padding(layer: Layer) -> Padding:
    conv = layer.module
    if getattr(conv, "onebit_kind", None) is not None:
        return Padding.SAME if conv.pad_mode == "same" else Padding.VALID
    if conv.padding_mode != "zeros":
        raise layer.unsupported(f"padding_mode '{conv.padding_mode}'", fix="use padding_mode='zeros'")
    if isinstance(conv.padding, str):
        return Padding.SAME if conv.padding == "same" else Padding.VALID
    return _same_or_valid(layer, conv.kernel_size, conv.stride, conv.dilation, conv.padding)


@imports(nn.Conv2d, "same_conv2d")
def import_conv2d(build: GraphBuilder, layer: Layer, x: Value) -> Value:
    """Real-valued convolution: CONV_2D."""
    conv = layer.module
    if conv.groups != 1:
        raise layer.unsupported(f"{conv.groups} groups of a real-valued convolution", fix="use groups=1")
    if getattr(conv, "pad_value", 0) != 0:
        raise layer.unsupported("padding of a real-valued convolution with other values than 0", fix="pad with 0")
    weight = to_numpy(conv.weight).transpose(0, 2, 3, 1)
    bias = np.zeros(len(weight), np.float32) if conv.bias is None else to_numpy(conv.bias)
    op = Conv2d(stride=_pair(conv.stride), dilation=_pair(conv.dilation), padding=_conv_padding(layer))
    inputs = (
        x.tensor,
        build.constant(f"{layer.name}/weight", weight),
        build.constant(f"{layer.name}/bias", bias),
    )
    return Value(build.node(op, inputs, layer.name), flat=False)


def binary_weight(layer: Layer) -> tuple[Array, Array]:
    """Signs (bool, True is -1) in torch's order, and the scale per output channel, of a layer said to be binary."""
    module = layer.module
    _refuse_quantizer(layer, "input_quantizer", ("sign",))
    _refuse_quantizer(layer, "kernel_quantizer", ("sign", "scaled_sign"))
    weight = to_numpy(module.quantized_weight()).astype(np.float64)
    size = np.abs(weight.reshape(len(weight), -1))
    scale = size[:, 0]
    off = np.abs(size - scale[:, None]).max(axis=1) > SCALE_TOLERANCE * scale
    if (scale == 0).any() or off.any():
        channel = int(np.argmax((scale == 0) | off))
        raise BadInputError(
            f"output channel {channel} has weights other than +-{scale[channel]:g}",
            where=f"{type(module).__name__} '{layer.name}'",
            fix="quantized_weight() must give one magnitude (not 0) per output channel",
        )
    return weight < 0, scale


def _refuse_quantizer(layer: Layer, role: str, deployable: tuple[str, ...]) -> None:
    """UnsupportedError for a quantizer that LCE has no bits for; kernels that name none are judged by their weights."""
    quantizer = getattr(layer.module, role, None)
    deployed = getattr(quantizer, "deploys_as", None)
    if deployed in deployable or (deployed is None and role == "kernel_quantizer"):
        return
    name = getattr(quantizer, "spec", None)
    raise layer.unsupported(
        f"its {role.replace('_', ' ')}{f' {name}' if name else ''} deploys as {deployed!r}, which LCE has no bits for",
        fix=f"train it with {getattr(quantizer, 'alternative', '') or 'one that deploys as sign, as ste_sign'}",
    )


def _binary_conv(build: GraphBuilder, layer: Layer, signs: str, negative: Array, scale: Array, **window: Any) -> str:
    """LceBconv2d with float output; `negative` is OHWI."""
    bias = getattr(layer.module, "bias", None)
    shift = np.zeros(len(scale), np.float32) if bias is None else to_numpy(bias)
    inputs = (
        signs,
        build.constant(f"{layer.name}/filter", negative, DType.BITS),
        build.constant(f"{layer.name}/multiplier", scale.astype(np.float32)),
        build.constant(f"{layer.name}/bias", shift),
        None,
    )
    op = LceBconv2d(BinaryWindow(build.shape(signs)[3], **window))
    return build.node(op, inputs, layer.name)


@imports("quant_conv2d")
def import_quant_conv2d(build: GraphBuilder, layer: Layer, x: Value) -> Value:
    """Binary convolution: LceQuantize (shared with other readers of the same tensor) and LceBconv2d."""
    conv = layer.module
    per_group = conv.in_channels // conv.groups
    if conv.groups > 1 and per_group % 32:
        raise layer.unsupported(
            f"{conv.groups} groups of {per_group} channels", fix="use groups of a multiple of 32 channels, or groups=1"
        )
    negative, scale = binary_weight(layer)
    padding = _conv_padding(layer)
    pad_value = int(conv.pad_value) if padding is Padding.SAME else 0
    out = _binary_conv(
        build, layer, build.sign(x.tensor), negative.transpose(0, 2, 3, 1), scale,
        stride=_pair(conv.stride), dilation=_pair(conv.dilation), padding=padding, pad_value=pad_value,
    )  # fmt: skip
    return Value(out, flat=False)


# ------------------------------------------------------------------------------------------------------- dense layers


def _refuse_unflattened(layer: Layer) -> None:
    if len(layer.in_shape) != 2:
        raise layer.unsupported(f"an input of shape {list(layer.in_shape)}", fix="put nn.Flatten in front of it")


def _hwc_order(weight: Array, shape: tuple[int, ...]) -> Array:
    """Weights [O, features] of a map [1, H, W, C]: from torch's feature order C, H, W to [O, H, W, C]."""
    if len(shape) == 2:
        return weight[:, None, None, :]
    _, height, width, channels = shape
    return weight.reshape(-1, channels, height, width).transpose(0, 2, 3, 1)


@imports("quant_linear")
def import_quant_linear(build: GraphBuilder, layer: Layer, x: Value) -> Value:
    """Binary dense layer: LceBconv2d, VALID, with a kernel as large as the map; the result is [1, 1, 1, O]."""
    _refuse_unflattened(layer)
    negative, scale = binary_weight(layer)
    shape = build.shape(x.tensor)
    source = x.tensor if len(shape) == 4 else build.reshape(x.tensor, (1, 1, *shape))
    return Value(_binary_conv(build, layer, build.sign(source), _hwc_order(negative, shape), scale), flat=True)


@imports(nn.Linear)
def import_linear(build: GraphBuilder, layer: Layer, x: Value) -> Value:
    """Real-valued dense layer: RESHAPE where it reads a map, and FULLY_CONNECTED."""
    _refuse_unflattened(layer)
    weight = to_numpy(layer.module.weight)
    ordered = _hwc_order(weight, build.shape(x.tensor)).reshape(weight.shape)
    bias = np.zeros(len(weight), np.float32) if layer.module.bias is None else to_numpy(layer.module.bias)
    inputs = (
        build.reshape(x.tensor, (1, weight.shape[1])),
        build.constant(f"{layer.name}/weight", ordered),
        build.constant(f"{layer.name}/bias", bias),
    )
    return Value(build.node(FullyConnected(), inputs, layer.name), flat=True)


def as_vector(build: GraphBuilder, value: Value, layer: Layer | None = None) -> str:
    """A flat value as a tensor [1, features] in the source's order; UnsupportedError where memory has another order."""
    shape = build.shape(value.tensor)
    orders_differ = len(shape) == 4 and shape[3] > 1 and shape[1] * shape[2] > 1
    if not value.flat or orders_differ:
        raise UnsupportedError(
            f"needs a vector of one value per class, found the map {list(shape)}",
            where=f"'{layer.name}'" if layer else "the model's output",
            fix="end the model with a dense layer",
        )
    return build.reshape(value.tensor, (1, int(np.prod(shape))))


# ------------------------------------------------------------------------------------------------------------ the rest


def batch_norm_constants(module: Any) -> tuple[Array, Array]:
    """(g, c) of ``y = x*g + c``: g = gamma / sqrt(var + eps), c = beta - mean*g, in float64."""
    mean, var = (to_numpy(v).astype(np.float64) for v in (module.running_mean, module.running_var))
    gamma = np.ones_like(mean) if module.weight is None else to_numpy(module.weight).astype(np.float64)
    beta = np.zeros_like(mean) if module.bias is None else to_numpy(module.bias).astype(np.float64)
    g = gamma / np.sqrt(var + module.eps)
    return g, beta - mean * g


@imports(nn.BatchNorm1d, nn.BatchNorm2d)
def import_batch_norm(build: GraphBuilder, layer: Layer, x: Value) -> Value:
    """Batch norm with its running statistics: MUL (unless all factors are 1) and ADD (unless all terms are 0)."""
    if layer.module.running_mean is None:
        raise layer.unsupported("batch norm without running statistics", fix="use track_running_stats=True")
    shape = build.shape(x.tensor)
    constants = [value.astype(np.float32) for value in batch_norm_constants(layer.module)]
    if x.flat and len(shape) == 4 and shape[1] * shape[2] > 1:
        constants = [_hwc_order(value[None, :], shape) for value in constants]
    steps = [
        (op, value, name)
        for op, value, idle, name in zip((Mul(), Add()), constants, (1, 0), ("scale", "shift"), strict=True)
        if (value != idle).any()
    ]
    tensor = x.tensor
    for op, value, name in steps:
        output = layer.name if value is steps[-1][1] else f"{layer.name}/scaled"
        tensor = build.node(op, (tensor, build.constant(f"{layer.name}/{name}", value)), output)
    return Value(tensor, x.flat)


@imports(nn.MaxPool2d)
def import_max_pool(build: GraphBuilder, layer: Layer, x: Value) -> Value:
    """Max pool: MAX_POOL_2D."""
    pool = layer.module
    if _pair(pool.dilation) != (1, 1) or pool.ceil_mode or pool.return_indices:
        raise layer.unsupported(
            "dilation, ceil_mode and return_indices of a max pool", fix="leave them at their defaults"
        )
    size, stride = _pair(pool.kernel_size), _pair(pool.stride)
    padding = _same_or_valid(layer, size, stride, 1, pool.padding)
    return Value(build.node(MaxPool2d(PoolWindow(size, stride, padding)), (x.tensor,), layer.name), flat=False)


@imports(nn.Flatten)
def import_flatten(_build: GraphBuilder, layer: Layer, x: Value) -> Value:
    """Flattening moves nothing: the layers behind it reorder their weights instead."""
    if len(layer.out_shape) != 2:
        raise layer.unsupported(f"flattening to {list(layer.out_shape)}", fix="flatten to [N, features]")
    return Value(x.tensor, flat=True)


@imports(nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d)
def import_nothing(_build: GraphBuilder, _layer: Layer, x: Value) -> Value:
    """What does nothing in eval mode."""
    return x


@imports(nn.Softmax)
def import_softmax(build: GraphBuilder, layer: Layer, x: Value) -> Value:
    """Softmax over the classes."""
    if len(layer.in_shape) != 2 or layer.module.dim not in (1, -1):
        raise layer.unsupported(f"softmax over axis {layer.module.dim}", fix="use dim=1 on [N, classes]")
    return Value(build.node(Softmax(), (as_vector(build, x, layer),), layer.name), flat=True)


def activation_of(module: nn.Module) -> Activation | None:
    """The fused activation that computes what the module does, None where there is none."""
    if isinstance(module, nn.Hardtanh):  # includes ReLU6
        limits = (float(module.min_val), float(module.max_val))
        return {(-1.0, 1.0): Activation.RELU_N1_TO_1, (0.0, 6.0): Activation.RELU6}.get(limits)
    return Activation.RELU if isinstance(module, nn.ReLU) else None


@imports(nn.ReLU, nn.ReLU6, nn.Hardtanh)
def import_activation(build: GraphBuilder, layer: Layer, x: Value) -> Value:
    """An activation that the operator in front of it takes over.

    In front of binary layers only, a hard tanh is left out: sign(hardtanh(x)) == sign(x).
    """
    activation = activation_of(layer.module)
    if activation is Activation.RELU_N1_TO_1 and layer.only_signed:
        return x
    fused = None
    if activation is not None and layer.sole_reader:
        fused = build.fuse(activation, x.tensor, layer.name)
    if fused is None:
        raise layer.unsupported(
            "an activation that does not directly follow a convolution, dense layer or batch norm of its own",
            fix="use nn.ReLU, nn.ReLU6 or nn.Hardtanh(-1, 1) there, or remove it",
        )
    return Value(fused, x.flat)
