"""The registry of importers, and what each of them is told about its layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from onebit.convert.builder import Value
from onebit.core.errors import UnsupportedError
from onebit.core.graph import Array


@dataclass(frozen=True)
class Layer:
    """One call of a module: its name in the model, and the torch shapes (batch 1) of its inputs and its output."""

    name: str
    module: Any
    in_shapes: tuple[tuple[int, ...], ...]
    out_shape: tuple[int, ...]
    #: whether only binary layers, which take the sign, read the result
    only_signed: bool

    @property
    def in_shape(self) -> tuple[int, ...]:
        """The shape of the first input."""
        return self.in_shapes[0]

    def unsupported(self, what: str, fix: str) -> UnsupportedError:
        """The error for a setting of this layer that has no counterpart."""
        return UnsupportedError(what, where=f"{type(self.module).__name__} '{self.name}'", fix=fix)


#: (builder, layer, the value of each input) -> the value of the output
Importer = Callable[..., Value]
ImporterT = TypeVar("ImporterT", bound=Importer)
_IMPORTERS: dict[type[nn.Module] | str, Importer] = {}


def imports(*keys: type[nn.Module] | str) -> Callable[[ImporterT], ImporterT]:
    """Register an importer for module classes, or for values of the attribute ``onebit_kind``."""

    def add(importer: ImporterT) -> ImporterT:
        _IMPORTERS.update(dict.fromkeys(keys, importer))
        return importer

    return add


def importers() -> Mapping[type[nn.Module] | str, Importer]:
    """All importers by module class or ``onebit_kind``."""
    return dict(_IMPORTERS)


def find_importer(module: nn.Module) -> Importer | None:
    """The importer of a module: by its ``onebit_kind``, else by its exact class (a subclass may compute otherwise)."""
    kind = getattr(module, "onebit_kind", None)
    return _IMPORTERS.get(kind if kind is not None else type(module))


def supported_modules() -> list[str]:
    """What `find_importer` knows of PyTorch and of onebit's protocol, for messages."""
    known = (key if isinstance(key, str) else key.__name__ for key in _IMPORTERS if not _is_operation(key))
    return sorted(known)


def _is_operation(key: type[nn.Module] | str) -> bool:
    return not isinstance(key, str) and key.__module__ == "onebit.convert.operations"


def to_numpy(tensor: torch.Tensor) -> Array:
    """A detached copy on the CPU."""
    return np.array(tensor.detach().cpu().numpy())


def pair(value: Any) -> tuple[int, int]:
    """A size that PyTorch takes as one number or as two."""
    if isinstance(value, int):
        return value, value
    first, second = (*value, *value)[:2]
    return int(first), int(second)
