"""What a maker is told, what it returns, and the registry of makers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import fx, nn


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


def makers() -> Mapping[Any, Maker]:
    """The functions, and names of methods, that have a module form."""
    return dict(_MAKERS)


def find_maker(target: Any) -> Maker | None:
    """The maker of a function, or of the method of that name."""
    return _MAKERS.get(target)


def makes(*targets: Any) -> Callable[[Maker], Maker]:
    """Register a maker for functions, and names of methods of tensors."""

    def add(maker: Maker) -> Maker:
        _MAKERS.update(dict.fromkeys(targets, maker))
        return maker

    return add


def unary(x: Operand, module: nn.Module) -> Form:
    """The form of a function of one operand."""
    if not isinstance(x, Operand):
        raise NoForm("its input is not computed from the model's", "")
    return module, (x,)


def constant_of(value: Any) -> Any:
    """A parameter of a function, which must not be an operand."""
    if isinstance(value, Operand):
        raise NoForm("a parameter that depends on the model's input", "use a parameter of the model")
    return value
