"""What an option of a method or a schedule may be: declared beside its default, checked in one place.

For example ``share: float = option(0.5, above=0, below=1)``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from onebit.core.errors import BadInputError
from onebit.train.quantizers.registry import is_real

_KEY = "allowed"


@dataclass(frozen=True)
class Allowed:
    """One of the texts `one_of`, or a finite number within the bounds given: `above` and `below` exclude their end,
    `least` and `most` include it. A `whole` number is an int.
    """

    above: float | None = None
    least: float | None = None
    below: float | None = None
    most: float | None = None
    one_of: tuple[str, ...] = ()
    whole: bool = False

    def admits(self, value: Any) -> bool:
        """Whether an option may have this value."""
        if self.one_of:
            return value in self.one_of
        return (
            is_real(value)
            and (isinstance(value, int) or not self.whole)
            and (self.above is None or value > self.above)
            and (self.least is None or value >= self.least)
            and (self.below is None or value < self.below)
            and (self.most is None or value <= self.most)
        )

    def __str__(self) -> str:
        if self.one_of:
            return ", ".join(self.one_of)
        bounds = {"above": self.above, "of at least": self.least, "below": self.below, "at most": self.most}
        given = [f"{words} {bound:.4g}" for words, bound in bounds.items() if bound is not None]
        return " ".join(("a whole number" if self.whole else "a finite number", " and ".join(given))).strip()


def option(default: Any, *, one_of: tuple[str, ...] = (), **bounds: float) -> Any:
    """A dataclass field with this default; `bounds` and `one_of` as in `Allowed`. An int as default: whole numbers."""
    return field(default=default, metadata={_KEY: Allowed(one_of=one_of, whole=isinstance(default, int), **bounds)})


def allowed_values(owner: Any) -> dict[str, Allowed]:
    """What the options of a dataclass, or of one of its objects, may be; only those declared by `option`."""
    return {item.name: item.metadata[_KEY] for item in fields(owner) if _KEY in item.metadata}


def check_options(owner: Any, what: str) -> None:
    """BadInputError, beginning with `what`, for the first option of `owner` that has a value it must not have."""
    for name, allowed in allowed_values(owner).items():
        value = getattr(owner, name)
        if not allowed.admits(value):
            raise BadInputError(f"{what}: {name}={value!r}", fix=f"use {allowed}")
