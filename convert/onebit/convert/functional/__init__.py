"""Functions and methods of tensors -> the modules that compute the same: one maker per function.

A maker has the function's own parameters, of which some arrive as `Operand` (a value that depends on the model's
input) and all others as what they are, parameters of the model and sizes included. It returns the module and its
operands in order; `NoForm` says why there is none.
"""

from collections.abc import Sequence
from typing import Any

from onebit.convert.functional import arithmetic, layers, moving
from onebit.convert.functional.base import Form, NoForm, Operand, find_maker, makers
from onebit.convert.functional.moving import PIECES, piece_of, shaped
from onebit.convert.functional.refused import REFUSED

__all__ = [
    "PIECES", "REFUSED", "NoForm", "Operand", "arithmetic", "form_of", "layers", "makers", "moving", "piece_of",
    "shaped",
]  # fmt: skip


def form_of(target: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Form:
    """The module form of a call of `target`, a function or the name of a method; NoForm where there is none."""
    if target in REFUSED:
        raise NoForm(*REFUSED[target])
    maker = find_maker(target)
    if maker is None:
        raise NoForm("no counterpart", "use the operations that docs/pytorch-models.md lists, or a module in its place")
    try:
        return maker(*args, **kwargs)
    except (TypeError, AttributeError) as error:
        raise NoForm(
            f"not with these arguments ({error})", "pass constants where PyTorch's modules take them"
        ) from error
