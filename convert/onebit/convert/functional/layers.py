"""Layers with their weights as arguments, and pools."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name PyTorch's own documentation uses
from torch import nn

from onebit.convert.functional.base import Form, NoForm, Operand, constant_of, makes, unary
from onebit.convert.operations import OverMap


def _with(layer: Any, weight: Any, bias: Any) -> Any:
    layer.weight = nn.Parameter(constant_of(weight).detach().clone(), requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(constant_of(bias).detach().clone(), requires_grad=False)
    return layer


@makes(torch.conv2d, F.conv2d)
def _conv2d(
    input: Operand,  # noqa: A002 - torch's name
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Form:
    outputs, per_group, *kernel = constant_of(weight).shape
    layer = nn.Conv2d(per_group * groups, outputs, tuple(kernel), stride, padding, dilation, groups, bias is not None)
    return unary(input, _with(layer, weight, bias))


@makes(F.linear)
def _linear(input: Operand, weight: Any, bias: Any = None) -> Form:  # noqa: A002
    outputs, inputs = constant_of(weight).shape
    return unary(input, _with(nn.Linear(inputs, outputs, bias is not None), weight, bias))


@makes(F.batch_norm, torch.batch_norm)
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
    return unary(input, layer)


@makes(torch.max_pool2d, F.max_pool2d, F.max_pool2d_with_indices)
def _max_pool(
    input: Operand,  # noqa: A002
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Form:
    return unary(input, nn.MaxPool2d(kernel_size, stride or None, padding, dilation, return_indices, ceil_mode))


@makes(F.avg_pool2d)
def _avg_pool(input: Operand, *args: Any, **kwargs: Any) -> Form:  # noqa: A002
    return unary(input, nn.AvgPool2d(*args, **kwargs))


@makes(F.adaptive_avg_pool2d)
def _adaptive_avg_pool(input: Operand, output_size: Any) -> Form:  # noqa: A002
    return unary(input, nn.AdaptiveAvgPool2d(output_size))


@makes(F.adaptive_max_pool2d, F.adaptive_max_pool2d_with_indices)
def _adaptive_max_pool(input: Operand, output_size: Any, return_indices: bool = False) -> Form:  # noqa: A002
    return unary(input, nn.AdaptiveMaxPool2d(output_size, return_indices))


def _over_map(name: str, x: Operand, dim: Any, keepdim: bool) -> Form:
    rank = len(x.shape)
    dims = tuple(range(rank)) if dim is None else (dim,) if isinstance(dim, int) else tuple(dim)
    if rank != 4 or sorted(d % rank for d in dims) != [2, 3]:
        raise NoForm(f"{name} over the dimensions {list(dims)} of {rank}", "reduce height and width, dim=(2, 3)")
    return unary(x, OverMap(name, keepdim=keepdim))


@makes(torch.mean, "mean")
def _mean(x: Operand, dim: Any = None, keepdim: bool = False) -> Form:
    return _over_map("mean", x, dim, keepdim)


@makes(torch.amax, "amax")
def _amax(x: Operand, dim: Any = None, keepdim: bool = False) -> Form:
    return _over_map("max", x, dim, keepdim)


@makes(F.interpolate, F.upsample)
def _interpolate(
    input: Operand,  # noqa: A002
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    **_: Any,
) -> Form:
    return unary(input, nn.Upsample(size, scale_factor, mode))
