"""Functions and methods of tensors -> the modules that compute the same: one maker per function.

A maker has the function's own parameters, of which some arrive as `Operand` (a value that depends on the model's
input) and all others as what they are, parameters of the model and sizes included. It returns the module and its
operands in order; `NoForm` says why there is none.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name PyTorch's own documentation uses
from torch import Tensor, fx, nn

from onebit.convert.operations import Concat, Elementwise, OverMap, Pad, Permute, Reshape, Slice


@dataclass(frozen=True)
class Operand:
    """A value that depends on the model's input: the node, and the value for the example, [N, ...]."""

    node: fx.Node
    value: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape with the batch N in front."""
        return tuple(self.value.shape)


class NoForm(Exception):  # noqa: N818 - no error of its own: it becomes one that names the layer
    """Why a call has no module form, and what to do instead."""

    def __init__(self, message: str, fix: str) -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix


Form = tuple[nn.Module, tuple[Operand, ...]]
Maker = Callable[..., Form]
_MAKERS: dict[Any, Maker] = {}


def form_of(target: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Form:
    """The module form of a call of `target`, a function or the name of a method; NoForm where there is none."""
    if target in REFUSED:
        raise NoForm(*REFUSED[target])
    maker = _MAKERS.get(target)
    if maker is None:
        raise NoForm("no counterpart", "use the operations that docs/pytorch-models.md lists, or a module in its place")
    try:
        return maker(*args, **kwargs)
    except (TypeError, AttributeError) as error:
        raise NoForm(
            f"not with these arguments ({error})", "pass constants where PyTorch's modules take them"
        ) from error


def makers() -> Mapping[Any, Maker]:
    """The functions, and names of methods, that have a module form."""
    return dict(_MAKERS)


def _makes(*targets: Any) -> Callable[[Maker], Maker]:
    def add(maker: Maker) -> Maker:
        _MAKERS.update(dict.fromkeys(targets, maker))
        return maker

    return add


def _unary(x: Operand, module: nn.Module) -> Form:
    if not isinstance(x, Operand):
        raise NoForm("its input is not computed from the model's", "")
    return module, (x,)


def _constant(value: Any) -> Any:
    if isinstance(value, Operand):
        raise NoForm("a parameter that depends on the model's input", "use a parameter of the model")
    return value


# ------------------------------------------------------------------------------------------------- element by element


def _arithmetic(name: str, a: Any, b: Any) -> Form:
    operands = tuple(v for v in (a, b) if isinstance(v, Operand))
    rank = max(len(v.shape) for v in operands)
    constants = [None if isinstance(v, Operand) else _held(v, rank) for v in (a, b)]
    return Elementwise(name, *constants), operands


def _held(value: Any, rank: int) -> Tensor:
    constant = torch.as_tensor(value, dtype=torch.float32).detach().clone()
    if constant.ndim > rank or (constant.ndim == rank and constant.shape[0] != 1):
        raise NoForm(f"a constant of shape {list(constant.shape)} that has a batch", "give it a batch of 1")
    return constant


@_makes(operator.add, operator.iadd, torch.add, "add", "add_")
def _add(a: Any, b: Any, *, alpha: float = 1) -> Form:
    if alpha != 1:
        raise NoForm("alpha", "multiply first")
    return _arithmetic("add", a, b)


@_makes(operator.sub, operator.isub, torch.sub, torch.subtract, "sub", "sub_")
def _sub(a: Any, b: Any, *, alpha: float = 1) -> Form:
    if alpha != 1:
        raise NoForm("alpha", "multiply first")
    # x - t == x + (-t) exactly, and an addition is what other operators take in
    return _arithmetic("sub", a, b) if isinstance(b, Operand) else _arithmetic("add", a, -torch.as_tensor(b))


@_makes(torch.rsub)
def _rsub(a: Any, b: Any) -> Form:
    return _sub(b, a)


@_makes(operator.mul, operator.imul, torch.mul, torch.multiply, "mul", "mul_")
def _mul(a: Any, b: Any) -> Form:
    return _arithmetic("mul", a, b)


@_makes(operator.truediv, operator.itruediv, torch.div, "div", "div_")
def _div(a: Any, b: Any) -> Form:
    if isinstance(b, Operand):
        raise NoForm("a division by a computed value", "divide by constants only")
    return _arithmetic("mul", a, 1.0 / torch.as_tensor(b, dtype=torch.float32))


@_makes(operator.neg, torch.neg, "neg")
def _neg(x: Operand) -> Form:
    return _arithmetic("mul", x, -1.0)


@_makes(torch.maximum, torch.max, "maximum", "max")
def _maximum(a: Any, b: Any) -> Form:
    return _arithmetic("maximum", a, b)


@_makes(torch.minimum, torch.min, "minimum", "min")
def _minimum(a: Any, b: Any) -> Form:
    return _arithmetic("minimum", a, b)


@_makes(torch.clamp, "clamp", "clamp_", torch.clip, "clip")
def _clamp(x: Operand, min: float | None = None, max: float | None = None) -> Form:  # noqa: A002 - torch's names
    low, high = (-math.inf if min is None else float(min)), (math.inf if max is None else float(max))
    return _unary(x, nn.ReLU() if (low, high) == (0.0, math.inf) else nn.Hardtanh(low, high))


def _activation(make: Callable[..., nn.Module]) -> Maker:
    def maker(x: Operand, *args: Any, inplace: bool = False, **kwargs: Any) -> Form:  # noqa: ARG001 - F.relu's own
        return _unary(x, make(*args, **kwargs))

    return maker


_MAKERS.update(
    {
        target: _activation(make)
        for make, targets in (
            (nn.ReLU, (torch.relu, F.relu, F.relu_, "relu", "relu_", torch.relu_)),
            (nn.ReLU6, (F.relu6,)),
            (nn.Hardtanh, (F.hardtanh, F.hardtanh_)),
            (nn.LeakyReLU, (F.leaky_relu, F.leaky_relu_)),
            (nn.Hardswish, (F.hardswish,)),
            (nn.Hardsigmoid, (F.hardsigmoid,)),
            (nn.SiLU, (F.silu,)),
            (nn.Sigmoid, (torch.sigmoid, F.sigmoid, "sigmoid")),
            (nn.Tanh, (torch.tanh, F.tanh, "tanh")),
        )
        for target in targets
    }
)


@_makes(F.prelu, torch.prelu)
def _prelu(x: Operand, weight: Tensor) -> Form:
    layer = nn.PReLU(_constant(weight).numel())
    layer.weight = nn.Parameter(weight.detach().reshape(-1).clone())
    return _unary(x, layer)


@_makes(torch.softmax, F.softmax, "softmax")
def _softmax(x: Operand, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Form:  # noqa: ARG001
    return _unary(x, nn.Softmax(dim))


@_makes(F.dropout, F.dropout2d, F.dropout1d)
def _dropout(x: Operand, p: float = 0.5, training: bool = True, inplace: bool = False) -> Form:  # noqa: ARG001
    if training:
        raise NoForm("dropout that stays active", "pass training=self.training")
    return _unary(x, nn.Identity())


@_makes("contiguous", "clone", "detach", "float", torch.clone, torch.detach, torch.Tensor.float)
def _identity(x: Operand, **_: Any) -> Form:
    return _unary(x, nn.Identity())


# ------------------------------------------------------------------------------------------------------ linear layers


def _with(layer: Any, weight: Any, bias: Any) -> Any:
    layer.weight = nn.Parameter(_constant(weight).detach().clone(), requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(_constant(bias).detach().clone(), requires_grad=False)
    return layer


@_makes(torch.conv2d, F.conv2d)
def _conv2d(
    input: Operand,  # noqa: A002 - torch's name
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Form:
    outputs, per_group, *kernel = _constant(weight).shape
    layer = nn.Conv2d(per_group * groups, outputs, tuple(kernel), stride, padding, dilation, groups, bias is not None)
    return _unary(input, _with(layer, weight, bias))


@_makes(F.linear)
def _linear(input: Operand, weight: Any, bias: Any = None) -> Form:  # noqa: A002
    outputs, inputs = _constant(weight).shape
    return _unary(input, _with(nn.Linear(inputs, outputs, bias is not None), weight, bias))


@_makes(F.batch_norm, torch.batch_norm)
def _batch_norm(
    input: Operand,  # noqa: A002
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,  # noqa: ARG001
    eps: float = 1e-5,
    cudnn_enabled: bool = False,  # noqa: ARG001 - torch.batch_norm's last
) -> Form:
    if training or running_mean is None:
        raise NoForm("batch norm with the batch's statistics", "use running statistics (training=False)")
    make = nn.BatchNorm2d if len(input.shape) == 4 else nn.BatchNorm1d
    layer = make(len(running_mean), eps=eps)
    layer.load_state_dict(
        {
            "running_mean": running_mean,
            "running_var": running_var,
            "weight": torch.ones_like(running_mean) if weight is None else weight,
            "bias": torch.zeros_like(running_mean) if bias is None else bias,
        },
        strict=False,
    )
    return _unary(input, layer)


# ------------------------------------------------------------------------------------------------------------- pooling


@_makes(torch.max_pool2d, F.max_pool2d, F.max_pool2d_with_indices)
def _max_pool(
    input: Operand,  # noqa: A002
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Form:
    return _unary(input, nn.MaxPool2d(kernel_size, stride or None, padding, dilation, return_indices, ceil_mode))


@_makes(F.avg_pool2d)
def _avg_pool(input: Operand, *args: Any, **kwargs: Any) -> Form:  # noqa: A002
    return _unary(input, nn.AvgPool2d(*args, **kwargs))


@_makes(F.adaptive_avg_pool2d)
def _adaptive_avg_pool(input: Operand, output_size: Any) -> Form:  # noqa: A002
    return _unary(input, nn.AdaptiveAvgPool2d(output_size))


@_makes(F.adaptive_max_pool2d, F.adaptive_max_pool2d_with_indices)
def _adaptive_max_pool(input: Operand, output_size: Any, return_indices: bool = False) -> Form:  # noqa: A002
    return _unary(input, nn.AdaptiveMaxPool2d(output_size, return_indices))


def _over_map(name: str, x: Operand, dim: Any, keepdim: bool) -> Form:
    rank = len(x.shape)
    dims = tuple(range(rank)) if dim is None else (dim,) if isinstance(dim, int) else tuple(dim)
    if rank != 4 or sorted(d % rank for d in dims) != [2, 3]:
        raise NoForm(f"{name} over the dimensions {list(dims)} of {rank}", "reduce height and width, dim=(2, 3)")
    return _unary(x, OverMap(name, keepdim=keepdim))


@_makes(torch.mean, "mean")
def _mean(x: Operand, dim: Any = None, keepdim: bool = False) -> Form:
    return _over_map("mean", x, dim, keepdim)


@_makes(torch.amax, "amax")
def _amax(x: Operand, dim: Any = None, keepdim: bool = False) -> Form:
    return _over_map("max", x, dim, keepdim)


# -------------------------------------------------------------------------------------------------------------- moving


@_makes(torch.cat, torch.concat, torch.concatenate)
def _cat(tensors: Sequence[Any], dim: int = 0) -> Form:
    operands = tuple(tensors)
    if not all(isinstance(x, Operand) for x in operands):
        raise NoForm("a constant among what is joined", "join computed tensors only")
    dim %= len(operands[0].shape)
    if dim == 0:
        raise NoForm("joining along the batch", "join along dim=1")
    return Concat(dim), operands


@_makes("repeat", torch.tile, "tile")
def _repeat(x: Operand, *repeats: Any) -> Form:
    times = tuple(repeats[0]) if len(repeats) == 1 and not isinstance(repeats[0], int) else repeats
    grown = [dim for dim, count in enumerate(times) if count != 1]
    if len(times) != len(x.shape) or len(grown) > 1 or grown == [0]:
        raise NoForm(f"repeating {list(times)} times", "repeat along one dimension behind the batch")
    return (Concat(grown[0]), (x,) * times[grown[0]]) if grown else (nn.Identity(), (x,))


@_makes(operator.getitem)
def _getitem(x: Operand, index: Any) -> Form:
    parts = list(index) if isinstance(index, tuple) else [index]
    rank = len(x.shape)
    if Ellipsis in parts:
        at = parts.index(Ellipsis)
        parts[at : at + 1] = [slice(None)] * (rank - len(parts) + 1)
    parts += [slice(None)] * (rank - len(parts))
    if len(parts) != rank or not all(isinstance(part, slice) for part in parts):
        raise NoForm(f"the index {index}", "use slices only, as x[:, 2:4]")
    bounds = [part.indices(size) for part, size in zip(parts, x.shape, strict=True)]
    if bounds[0] != (0, x.shape[0], 1):
        raise NoForm("slicing the batch", "leave the batch as it is")
    return _unary(x, Slice(tuple(bounds[1:])))


@_makes("narrow", torch.narrow)
def _narrow(x: Operand, dim: int, start: int, length: int) -> Form:
    parts = [slice(None)] * len(x.shape)
    parts[dim] = slice(start, start + length)
    return _getitem(x, tuple(parts))


def piece_of(x: Operand, pieces: Sequence[Tensor], index: int) -> Form:
    """The module that computes one of the `pieces` that chunk or split made of `x`."""
    shapes = [tuple(piece.shape) for piece in pieces]
    whole = x.shape
    axes = [i for i, size in enumerate(whole) if size != sum(s[i] for s in shapes[:1])]
    if len(pieces) == 1:
        return _unary(x, nn.Identity())
    start = sum(shape[axes[0]] for shape in shapes[:index])
    return _narrow(x, axes[0], start, shapes[index][axes[0]])


#: functions that return a tuple of pieces
PIECES: frozenset[Any] = frozenset({torch.chunk, torch.split, torch.functional.split, "chunk", "split"})


@_makes(F.pad)
def _pad(input: Operand, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Form:  # noqa: A002
    if mode != "constant":
        raise NoForm(f"padding with mode '{mode}'", "pad with a constant")
    rank = len(input.shape)
    pairs = [(0, 0)] * rank
    for i in range(len(pad) // 2):
        pairs[rank - 1 - i] = (int(pad[2 * i]), int(pad[2 * i + 1]))
    if pairs[0] != (0, 0) or min(min(pair) for pair in pairs) < 0:
        raise NoForm(f"padding by {list(pad)}", "use widths from 0, none of the batch")
    return _unary(input, Pad(tuple(pairs[1:]), 0.0 if value is None else float(value)))


@_makes(torch.flatten, "flatten", torch.reshape, "reshape", "view", "unflatten", torch.unflatten,
        "squeeze", torch.squeeze, "unsqueeze", torch.unsqueeze)  # fmt: skip
def _reshape(x: Operand, *_: Any, **__: Any) -> Form:
    return _unary(x, Reshape(()))  # the shape is known from the call's result, see `reshaped`


def reshaped(module: nn.Module, result: Tensor) -> nn.Module:
    """A `Reshape` with the shape of the call's result, flattening in most cases; any other module as it is."""
    if not isinstance(module, Reshape):
        return module
    return nn.Flatten() if result.ndim == 2 else Reshape(tuple(result.shape[1:]))


@_makes("permute", torch.permute)
def _permute(x: Operand, *order: Any) -> Form:
    dims = tuple(order[0]) if len(order) == 1 else order
    dims = tuple(int(d) % len(x.shape) for d in dims)
    if dims[0] != 0:
        raise NoForm("moving the batch", "leave the batch in front")
    return _unary(x, Permute(dims))


@_makes("transpose", torch.transpose, "swapaxes")
def _transpose(x: Operand, dim0: int, dim1: int) -> Form:
    dims = list(range(len(x.shape)))
    dims[dim0], dims[dim1] = dims[dim1], dims[dim0]
    return _permute(x, dims)


# ------------------------------------------------------------------------------------------------------------- refused

_BINARY_FIX = "use onebit.train.layers.QuantConv2d or QuantLinear, or a module with their attributes (onebit_kind)"
_SIGN = "a quantizer written with sign() or where(): LCE has no such operator, and sign(0) is 0 here but +1 on bits"

#: call target -> (why it is refused, what to do)
REFUSED: dict[Any, tuple[str, str]] = {
    **dict.fromkeys((torch.sign, "sign", "sign_", torch.sgn, "sgn"), (_SIGN, _BINARY_FIX)),
    **dict.fromkeys((torch.where, "where", torch.heaviside), (_SIGN, _BINARY_FIX)),
    **dict.fromkeys(
        (torch.round, "round", torch.floor, "floor", torch.fake_quantize_per_tensor_affine),
        ("a quantizer of several bits: LCE has bits or floats", f"use no quantizer and --int8, or {_BINARY_FIX}"),
    ),
    **dict.fromkeys(
        (F.gelu, F.elu, F.selu, F.softplus, F.mish, torch.exp, "exp"),
        ("an activation without a TFLite operator", "use ReLU, ReLU6, PReLU, Hardswish, Sigmoid, SiLU or Tanh"),
    ),
    **dict.fromkeys(
        (torch.matmul, operator.matmul, torch.bmm, "matmul", "bmm", F.scaled_dot_product_attention),
        ("a product of two computed tensors", "use layers with constant weights"),
    ),
    **dict.fromkeys(
        (F.layer_norm, F.group_norm, F.instance_norm), ("statistics of the input at run time", "use batch norm")
    ),
    torch.stack: ("a new dimension", "use torch.cat along dim=1"),
}
