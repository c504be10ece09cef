"""Quantizers: the step from real values to -1 / +1, with a surrogate gradient for training.

A quantizer is a callable ``Tensor -> Tensor`` with two attributes that the converter reads:

- ``name``: its key in the registry (`get_quantizer`), stored in recipes;
- ``deploys_as``: the operation the forward pass is on the device. ``"sign"`` is x >= 0 -> +1, x < 0 -> -1; zero maps
  to +1 because LCE packs a bit as ``x < 0``. ``torch.sign`` maps 0 to 0 and is never used here.

A new quantizer is one `torch.autograd.Function` under `register`; its docstring gives formula, gradient and paper.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from onebit.core.errors import BadInputError

FunctionType = TypeVar("FunctionType", bound=type[torch.autograd.Function])


class Quantizer:
    """A registered quantizer: call it on a tensor of any shape; the result has the same shape and dtype."""

    def __init__(self, function: type[torch.autograd.Function], name: str, deploys_as: str) -> None:
        self.function = function
        self.name = name
        self.deploys_as = deploys_as
        self.__doc__ = function.__doc__

    def __call__(self, x: Tensor) -> Tensor:
        apply = cast("Callable[[Tensor], Tensor]", self.function.apply)
        return apply(x)

    def __repr__(self) -> str:
        return f"Quantizer({self.name!r})"

    def __reduce__(self) -> tuple[Callable[[str], Quantizer], tuple[str]]:
        # Copies and pickles go through the registry, so that one name stays one object.
        return get_quantizer, (self.name,)


_REGISTRY: dict[str, Quantizer] = {}


def register(name: str, *, deploys_as: str) -> Callable[[FunctionType], FunctionType]:
    """Class decorator: puts an autograd function into the registry under `name`."""

    def add(function: FunctionType) -> FunctionType:
        if name in _REGISTRY:
            raise ValueError(f"quantizer {name!r} is registered twice")
        _REGISTRY[name] = Quantizer(function, name, deploys_as)
        return function

    return add


def get_quantizer(quantizer: str | Quantizer) -> Quantizer:
    """The quantizer of that name (a `Quantizer` is returned as it is). Unknown name: BadInputError."""
    if isinstance(quantizer, Quantizer):
        return quantizer
    if quantizer not in _REGISTRY:
        raise BadInputError(f"unknown quantizer {quantizer!r}", fix=f"known: {', '.join(quantizer_names())}")
    return _REGISTRY[quantizer]


def quantizer_names() -> list[str]:
    """All registered names, sorted."""
    return sorted(_REGISTRY)


def hard_sign(x: Tensor) -> Tensor:
    """-1 where x < 0, +1 elsewhere (also for 0, -0.0 and NaN); same shape and dtype as `x`."""
    return torch.where(x < 0, -1.0, 1.0).to(x.dtype)


@register("ste_sign", deploys_as="sign")
class SteSign(torch.autograd.Function):
    """Sign with a clipped straight-through estimator.

    Forward: q(x) = -1 for x < 0, +1 for x >= 0. Gradient: dq/dx = 1 for |x| <= 1, else 0.
    Source: Hubara, Courbariaux, Soudry, El-Yaniv, Bengio, "Binarized Neural Networks", 2016 (arXiv 1602.02830).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return hard_sign(x)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        (x,) = ctx.saved_tensors
        return torch.where(x.abs() <= 1, grad_outputs[0], 0.0)


@register("approx_sign", deploys_as="sign")
class ApproxSign(torch.autograd.Function):
    """Sign with the gradient of a piecewise quadratic approximation.

    Forward: q(x) = -1 for x < 0, +1 for x >= 0. Gradient: dq/dx = 2 - 2|x| for |x| <= 1, else 0.
    Source: Liu, Wu, Luo, Yang, Liu, Cheng, "Bi-Real Net", 2018 (arXiv 1808.00278).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return hard_sign(x)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        (x,) = ctx.saved_tensors
        return grad_outputs[0] * (2.0 - 2.0 * x.abs()).clamp_min(0.0)


ste_sign = get_quantizer("ste_sign")
approx_sign = get_quantizer("approx_sign")
