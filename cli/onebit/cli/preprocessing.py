"""``--mean``, ``--std`` and ``--input-range``: preprocessing for models that do not carry their own."""

from __future__ import annotations

from onebit.core.errors import BadInputError
from onebit.core.metadata import Preprocessing


def parse_preprocessing(mean: str | None, std: str | None, input_range: str | None) -> Preprocessing | None:
    """The preprocessing that the options describe, None without any of them.

    ``--input-range LO,HI`` maps pixels 0..255 linearly to LO..HI. ``--mean`` and ``--std`` apply to pixels / 255.
    """
    if mean is None and std is None and input_range is None:
        return None
    if input_range is None and (mean is None or std is None):
        given, missing = ("--mean", "--std") if std is None else ("--std", "--mean")
        raise BadInputError(f"{given} without {missing}", where="command line", fix="give both, or --input-range")
    if input_range is not None:
        if mean is not None or std is not None:
            raise BadInputError("both --input-range and --mean/--std", where="command line", fix="give one of them")
        low, high = _numbers("--input-range", input_range, 2)
        if not low < high:
            raise BadInputError(f"{low} is not below {high}", where="--input-range", fix="use LO,HI with LO < HI")
        return Preprocessing(scale=(high - low) / 255, offset=low)
    assert mean is not None and std is not None
    return Preprocessing(mean=_numbers("--mean", mean), std=_numbers("--std", std))


def _numbers(option: str, text: str, count: int | None = None) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if not values or (count is not None and len(values) != count):
        wanted = f"{count} numbers" if count else "numbers"
        raise BadInputError(f"'{text}' is no list of {wanted}", where=option, fix="separate them with commas")
    return values
