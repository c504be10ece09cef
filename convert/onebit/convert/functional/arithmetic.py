"""Arithmetic and activations."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name PyTorch's own documentation uses
from torch import Tensor, nn

from onebit.convert.functional.base import Form, Maker, NoForm, Operand, constant_of, makes, unary
from onebit.convert.operations import Elementwise


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


@makes(operator.add, operator.iadd, torch.add, "add", "add_")
def _add(a: Any, b: Any, *, alpha: float = 1) -> Form:
    if alpha != 1:
        raise NoForm("alpha", "multiply first")
    return _arithmetic("add", a, b)


@makes(operator.sub, operator.isub, torch.sub, torch.subtract, "sub", "sub_")
def _sub(a: Any, b: Any, *, alpha: float = 1) -> Form:
    if alpha != 1:
        raise NoForm("alpha", "multiply first")
    # x - t == x + (-t) exactly, and an addition is what other operators take in
    return _arithmetic("sub", a, b) if isinstance(b, Operand) else _arithmetic("add", a, -torch.as_tensor(b))


@makes(torch.rsub)
def _rsub(a: Any, b: Any) -> Form:
    return _sub(b, a)


@makes(operator.mul, operator.imul, torch.mul, torch.multiply, "mul", "mul_")
def _mul(a: Any, b: Any) -> Form:
    return _arithmetic("mul", a, b)


@makes(operator.truediv, operator.itruediv, torch.div, "div", "div_")
def _div(a: Any, b: Any) -> Form:
    if isinstance(b, Operand):
        raise NoForm("a division by a computed value", "divide by constants only")
    return _arithmetic("mul", a, 1.0 / torch.as_tensor(b, dtype=torch.float32))


@makes(operator.neg, torch.neg, "neg")
def _neg(x: Operand) -> Form:
    return _arithmetic("mul", x, -1.0)


@makes(torch.maximum, torch.max, "maximum", "max")
def _maximum(a: Any, b: Any) -> Form:
    return _arithmetic("maximum", a, b)


@makes(torch.minimum, torch.min, "minimum", "min")
def _minimum(a: Any, b: Any) -> Form:
    return _arithmetic("minimum", a, b)


@makes(torch.clamp, "clamp", "clamp_", torch.clip, "clip")
def _clamp(x: Operand, min: float | None = None, max: float | None = None) -> Form:  # noqa: A002 - torch's names
    low, high = (-math.inf if min is None else float(min)), (math.inf if max is None else float(max))
    return unary(x, nn.ReLU() if (low, high) == (0.0, math.inf) else nn.Hardtanh(low, high))


def _activation(make: Callable[..., nn.Module]) -> Maker:
    def maker(x: Operand, *args: Any, inplace: bool = False, **kwargs: Any) -> Form:  # noqa: ARG001 - F.relu's own
        return unary(x, make(*args, **kwargs))

    return maker


for _make, _targets in (
    (nn.ReLU, (torch.relu, F.relu, F.relu_, "relu", "relu_", torch.relu_)),
    (nn.ReLU6, (F.relu6,)),
    (nn.Hardtanh, (F.hardtanh, F.hardtanh_)),
    (nn.LeakyReLU, (F.leaky_relu, F.leaky_relu_)),
    (nn.Hardswish, (F.hardswish,)),
    (nn.Hardsigmoid, (F.hardsigmoid,)),
    (nn.SiLU, (F.silu,)),
    (nn.Sigmoid, (torch.sigmoid, F.sigmoid, "sigmoid")),
    (nn.Tanh, (torch.tanh, F.tanh, "tanh")),
):
    makes(*_targets)(_activation(_make))


@makes(F.prelu, torch.prelu)
def _prelu(x: Operand, weight: Tensor) -> Form:
    layer = nn.PReLU(constant_of(weight).numel())
    layer.weight = nn.Parameter(weight.detach().reshape(-1).clone())
    return unary(x, layer)


@makes(torch.softmax, F.softmax, "softmax")
def _softmax(x: Operand, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Form:  # noqa: ARG001
    return unary(x, nn.Softmax(dim))


@makes(F.dropout, F.dropout2d, F.dropout1d)
def _dropout(x: Operand, p: float = 0.5, training: bool = True, inplace: bool = False) -> Form:  # noqa: ARG001
    if training:
        raise NoForm("dropout that stays active", "pass training=self.training")
    return unary(x, nn.Identity())


@makes("contiguous", "clone", "detach", "float", torch.clone, torch.detach, torch.Tensor.float)
def _identity(x: Operand, **_: Any) -> Form:
    return unary(x, nn.Identity())
