"""``onebit train --fit``: what a budget is, and how much of it a network takes."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onebit.cli.console import emit_json, stderr_console, stdout_console
from onebit.codegen import Target, find_target, generate
from onebit.core.datasets import load_dataset
from onebit.core.errors import BadInputError

if TYPE_CHECKING:
    from onebit.train import Recipe
    from onebit.train.fitting import Budget, Fitted, Footprint

DEFAULT_TARGET = "cortex-m4"
CALIBRATION_IMAGES = 16
"""Enough to convert a network; what it takes on the device hardly depends on them."""

UNITS = {"": 1, "k": 1024, "m": 1024 * 1024}
LARGEST = 2.0**40
"""More than any device has; a size beyond is a mistake."""

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([km]?)(?:i?b)?", re.IGNORECASE)
_ALLOWED = "use ram=SIZE, flash=SIZE (64k is 65,536 bytes) or the name of a target, separated by commas"


@dataclass(frozen=True)
class FitRequest:
    """What ``--fit`` asks for: limits in bytes (None: no limit) for code of `target`."""

    target: Target
    flash_bytes: int | None
    ram_bytes: int | None


def parse_fit(text: str) -> FitRequest:
    """``ram=16k,flash=64k``, ``cortex-m0plus`` (the memory of its example chip) or both; BadInputError says what is."""
    sizes: dict[str, int] = {}
    target: Target | None = None
    for part in (part.strip() for part in text.split(",")):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals and target is None and part:
            target = find_target(part)
        elif equals and name.lower() in ("ram", "flash") and name.lower() not in sizes:
            sizes[name.lower()] = _bytes(value, name)
        else:
            raise BadInputError(f"--fit {text!r}: {part!r}", fix=_ALLOWED)
    chosen = target or find_target(DEFAULT_TARGET)
    example = (target.flash_bytes, target.ram_bytes) if target is not None else (None, None)
    flash, ram = (sizes.get(name, size) for name, size in zip(("flash", "ram"), example, strict=True))
    if flash is None and ram is None:
        raise BadInputError(f"--fit {text!r} has no limit", fix=_ALLOWED)
    return FitRequest(chosen, flash, ram)


def _bytes(text: str, name: str) -> int:
    match = _SIZE.fullmatch(text)
    size = float(match[1]) * UNITS[match[2].lower()] if match else 0.0
    if not 1 <= size < LARGEST:
        raise BadInputError(f"--fit: {name} of {text[:40]!r}", fix=_ALLOWED)
    return int(size)


def meter(recipe: Recipe, target: Target, data_dir: Path | None, *, download: bool) -> Callable[[Any], Footprint]:
    """What tells the footprint of a network of `recipe`: converted to int8, generated and compiled for `target`.

    Flash is that of functions and constants, RAM the arena; stack and the caller's buffers are not counted.
    """
    from onebit.convert import convert
    from onebit.simulate.footprint import FlashMeter
    from onebit.simulate.toolchain import find_compiler
    from onebit.train.fitting import Footprint

    flash = FlashMeter(find_compiler(target))
    images = load_dataset(f"{recipe.dataset}:train", data_dir=data_dir, download=download).take(CALIBRATION_IMAGES).x
    metadata = recipe.metadata()

    def measure(net: Any) -> Footprint:
        parameter = next(net.parameters())
        with tempfile.TemporaryDirectory() as folder:
            model = Path(folder) / "network.tflite"
            convert(
                net, model, metadata=metadata, example_input=parameter.new_zeros((1, *recipe.input_shape)),
                int8=True, calibration=images, samples=images,
            )  # fmt: skip
            generated = generate(model, target.name, Path(folder) / "c")
            return Footprint(flash.flash_bytes(generated), generated.arena_bytes)

    return measure


def train_to_fit(
    recipe: Recipe,
    request: FitRequest,
    *,
    out: Path,
    start: Path | None,
    widen: float,
    epochs: int | None,
    resume: bool,
    settings: dict[str, Any],
    as_json: bool,
) -> None:
    """Runs `onebit.train.fitting.train_to_fit` for a device and prints what came out."""
    from onebit.train import fitting

    console = stderr_console()
    measure = meter(recipe, request.target, settings["data_dir"], download=settings["download"])
    budget = fitting.Budget(request.flash_bytes, request.ram_bytes, request.target.name)
    fitted = fitting.train_to_fit(
        recipe, budget, measure, out=out, start=start, widen=widen, epochs=epochs, resume=resume,
        settings=fitting.Settings(**settings, say=lambda text: console.print(text, soft_wrap=True)),
    )  # fmt: skip
    if as_json:
        emit_json(_as_dict(recipe, request, fitted))
        return
    from rich.text import Text

    for line in _lines(recipe, request, budget, fitted):
        stdout_console().print(Text(line), soft_wrap=True)


def _lines(recipe: Recipe, request: FitRequest, budget: Budget, fitted: Fitted) -> list[str]:
    result = fitted.result
    lines = [
        f"{result.checkpoint}: {100 * result.accuracy:.2f} % on {recipe.dataset}:test",
        f"{request.target.name}: {fitted.fitted} (stack not counted); the budget is {budget}",
    ]
    removed = [f"{name} {before} to {after}" for name, (before, after) in fitted.channels.items() if before != after]
    if removed:
        reached = "not measured" if fitted.whole_accuracy is None else f"{100 * fitted.whole_accuracy:.2f} %"
        lines.append(f"before: {reached}, {fitted.whole}; channels {', '.join(removed)}")
    return lines


def _as_dict(recipe: Recipe, request: FitRequest, fitted: Fitted) -> dict[str, Any]:
    return {
        "recipe": recipe.name,
        "target": request.target.name,
        "run_dir": fitted.result.run_dir,
        "checkpoint": fitted.result.checkpoint,
        "accuracy": fitted.result.accuracy,
        "whole_accuracy": fitted.whole_accuracy,
        "epochs": fitted.result.epochs,
        "seconds": fitted.result.seconds,
        "budget": {"flash_bytes": request.flash_bytes, "ram_bytes": request.ram_bytes},
        "whole": fitted.whole,
        "fitted": fitted.fitted,
        "channels": fitted.channels,
    }
