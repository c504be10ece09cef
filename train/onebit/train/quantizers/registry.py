"""What a quantizer is, and the registry that finds one by its name.

A quantizer is a callable ``Tensor -> Tensor`` with attributes that the converter reads without importing this package:

- ``name``: its key in the registry;
- ``deploys_as``: the operation that the forward pass is on the device. ``"sign"`` is x >= 0 -> +1, x < 0 -> -1; zero
  maps to +1 because LCE packs a bit as ``x < 0``. ``torch.sign`` maps 0 to 0. ``"scaled_sign"`` (kernels only) is the
  sign times one scale per output channel. Everything else stays a real-valued layer there;
- ``alternative``: where LCE has no bits for it, what to train with instead; else empty.

A new quantizer is one frozen dataclass under `register`, its fields are its parameters; its docstring gives formula,
gradient and paper.
"""

from __future__ import annotations

import ast
import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from onebit.core.errors import BadInputError

#: (x, dy) -> dx
Gradient = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Quantizer(ABC):
    """A quantizer: call it on a tensor of any shape; the result has the same shape and dtype."""

    name: ClassVar[str]

    @property
    @abstractmethod
    def deploys_as(self) -> str:
        """sign, scaled_sign, multibit, ternary, heaviside or identity (see the module)."""

    @property
    def alternative(self) -> str:
        """What LCE can deploy instead, "" where it deploys this one."""
        return ""

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """The quantized values."""

    @property
    def spec(self) -> str:
        """The text that `get_quantizer` reads back: the name, and the parameters that are not the default."""
        given = (
            f"{item.name}={getattr(self, item.name)!r}"
            for item in dataclasses.fields(self)
            if getattr(self, item.name) != item.default
        )
        parameters = ", ".join(given)
        return f"{self.name}({parameters})" if parameters else self.name

    def check(self, fits: bool, parameter: str, allowed: str) -> None:
        """BadInputError unless `parameter` fits what is `allowed`."""
        if not fits:
            value = getattr(self, parameter)
            raise BadInputError(f"{parameter}={value!r}", where=f"quantizer {self.name}", fix=f"give {allowed}")


@dataclass(frozen=True)
class ClippedQuantizer(Quantizer):
    """Base of the quantizers whose straight-through gradient is cut off beyond `clip_value` (None: nowhere)."""

    clip_value: float | None = 1.0

    def __post_init__(self) -> None:
        fits = self.clip_value is None or (is_real(self.clip_value) and self.clip_value > 0)
        self.check(fits, "clip_value", "a positive number, or None for no clipping")


_REGISTRY: dict[str, type[Quantizer]] = {}
QuantizerType = TypeVar("QuantizerType", bound=type[Quantizer])


def register(name: str) -> Callable[[QuantizerType], QuantizerType]:
    """Class decorator: puts a quantizer into the registry under `name`."""

    def add(quantizer: QuantizerType) -> QuantizerType:
        if name in _REGISTRY:
            raise ValueError(f"quantizer {name!r} is registered twice")
        quantizer.name = name
        _REGISTRY[name] = quantizer
        return quantizer

    return add


def quantizer_names() -> list[str]:
    """All registered names, sorted."""
    return sorted(_REGISTRY)


def get_quantizer(quantizer: str | Quantizer, **parameters: Any) -> Quantizer:
    """The quantizer of that name, with `parameters` or those of a text like ``swish_sign(beta=2.0)``.

    A `Quantizer` is returned as it is. BadInputError for unknown names and for parameters that it does not take.
    """
    if isinstance(quantizer, Quantizer):
        return quantizer
    name, written = _parse(quantizer)
    if name not in _REGISTRY:
        raise BadInputError(f"unknown quantizer {name!r}", fix=f"known: {', '.join(quantizer_names())}")
    kind = _REGISTRY[name]
    parameters = {**written, **parameters}
    known = [item.name for item in dataclasses.fields(kind)]
    for parameter in parameters:
        if parameter not in known:
            raise BadInputError(
                f"has no parameter {parameter!r}",
                where=f"quantizer {name}",
                fix=f"it takes: {', '.join(known) or 'none'}",
            )
    return kind(**parameters)


def _parse(spec: str) -> tuple[str, dict[str, Any]]:
    """``name`` or ``name(parameter=literal, ...)``; nothing is evaluated but literals."""
    name, bracket, _ = spec.partition("(")
    if not bracket:
        return spec, {}
    try:
        call = ast.parse(spec, mode="eval").body
        if isinstance(call, ast.Call) and not call.args:
            return name.strip(), {str(item.arg): ast.literal_eval(item.value) for item in call.keywords}
    except (SyntaxError, ValueError):
        pass
    raise BadInputError(f"quantizer {spec!r}", fix="write name or name(parameter=value, ...)")


def is_real(value: Any) -> bool:
    """Whether a parameter is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


# ----------------------------------------------------------------------------------------------------------- gradients


class _Surrogate(torch.autograd.Function):
    """`forward` of the input; in the backward pass what `gradient` makes of the input and the incoming gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, forward: Callable[[Tensor], Tensor], gradient: Gradient) -> Tensor:
        ctx.save_for_backward(x)
        ctx.gradient = gradient
        return forward(x)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        (x,) = ctx.saved_tensors
        return ctx.gradient(x, grad_outputs[0]), None, None


def with_gradient(x: Tensor, forward: Callable[[Tensor], Tensor], gradient: Gradient) -> Tensor:
    """``forward(x)``, which autograd takes to have the derivative `gradient`."""
    result: Tensor = _Surrogate.apply(x, forward, gradient)  # type: ignore[no-untyped-call]
    return result


def straight_through(clip_value: float | None) -> Gradient:
    """dx = dy where |x| <= clip_value, else 0; without a clip value dx = dy."""
    if clip_value is None:
        return lambda x, dy: dy  # noqa: ARG005 - a Gradient takes both
    return lambda x, dy: torch.where(x.abs() <= clip_value, dy, 0.0)
