"""Training to a budget of flash and RAM: train with gates, remove channels until the network fits, train it on.

The run folder holds `fit.json` (the budget, and what became of it), `whole/` (the run of the whole network),
`squeezed.pt` (the network that fits, not yet trained on), and the files of the last run, as `onebit.train.train` leaves
them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from onebit.core.errors import BadInputError
from onebit.core.files import atomic_write_text
from onebit.train.channels import Resized, channel_graph, fit_channels, judged_groups, narrowest, widened_model
from onebit.train.channels.removal import WORD
from onebit.train.checkpoint import RESUME_FILE, LoadedModel, leaves_layers, load_checkpoint, save_model
from onebit.train.cost import as_if_trained
from onebit.train.engine import TrainResult, check_options, check_unused, load_start, train
from onebit.train.layers import binary_layers
from onebit.train.methods import ChannelGates, LatentScale, Method, TwoStep
from onebit.train.recipes import LinearSchedule, Recipe, TwoStepSchedule

_log = logging.getLogger(__name__)

FIT_FILE = "fit.json"
WHOLE = "whole"
SQUEEZED_FILE = "squeezed.pt"

LEFT_OUT = ("start", "epochs", "seed", "threads")
"""Options that may be left out at a resume."""

FINE_TUNE_SHARE = 1 / 3
"""Epochs of the last run, as a share of the first one's."""
FINE_TUNE_RATE = 0.1
"""Its learning rate, as a share of the recipe's."""


@dataclass(frozen=True)
class Footprint:
    """What a network takes on a device: flash for code and constants, RAM for its activations."""

    flash_bytes: int
    ram_bytes: int

    def __str__(self) -> str:
        return f"{self.flash_bytes:,} bytes of flash and {self.ram_bytes:,} of RAM"


@dataclass(frozen=True)
class Budget:
    """What a network may take at most on `device`; None where there is no limit."""

    flash_bytes: int | None = None
    ram_bytes: int | None = None
    device: str = ""

    def holds(self, needed: Footprint) -> bool:
        """Whether `needed` stays within both limits."""
        limits = ((self.flash_bytes, needed.flash_bytes), (self.ram_bytes, needed.ram_bytes))
        return all(limit is None or size <= limit for limit, size in limits)

    def __str__(self) -> str:
        named = ((self.flash_bytes, "of flash"), (self.ram_bytes, "of RAM"))
        return " and ".join(f"{limit:,} bytes {what}" for limit, what in named if limit is not None)


@dataclass(frozen=True)
class Fitted:
    """What became of the network: `channels` maps groups to their number before and after, `result` is the last run's.

    `whole` is what the network took before channels were removed, `whole_accuracy` (0 to 1) what it reached, None if
    that was never measured; of a network that fits as it is they are those of the result, and `channels` is empty.
    """

    result: TrainResult
    whole: Footprint
    fitted: Footprint
    whole_accuracy: float | None
    channels: dict[str, tuple[int, int]]


@dataclass(frozen=True)
class Settings:
    """What every run is given besides recipe, folder and epochs, as `train` takes it.

    `say` is told what goes on, a line at a time.
    """

    seed: int | None = None
    data_dir: Path | None = None
    compiled: bool = False
    progress: bool = True
    download: bool = False
    threads: int | None = None
    say: Callable[[str], None] = _log.info


def train_to_fit(
    recipe: Recipe,
    budget: Budget,
    measure: Callable[[nn.Module], Footprint],
    *,
    out: Path,
    start: Path | None = None,
    widen: float = 1.0,
    epochs: int | None = None,
    resume: bool = False,
    settings: Settings | None = None,
) -> Fitted:
    """Trains `recipe` into `out` so that what `measure` says of the network stays within `budget`.

    A network that fits as it is is trained as always. Else it is trained with `ChannelGates` (or taken from the
    `model.pt` at `start`), its layers `widen` times as wide as the recipe's; channels go in multiples of 32 until it
    fits; the rest is trained on for a third of the epochs at a tenth of the rate. `epochs` are those of the first run.
    `resume` continues wherever `out` was left; recipe, budget and `widen` must be the same, and so must `start`,
    `epochs`, seed and threads, where they are given.

    BadInputError, before anything is trained or written: a bad option; not even the narrowest network fits, or no
    channels can be removed; at the end: training on made the network larger than the budget (other thresholds, other
    constants).
    """
    settings = settings or Settings()
    check_options(epochs, 1, 1, settings.threads)
    request = _request(recipe, budget, widen, start, epochs, settings)
    if resume:
        request = _resumed(out, request)
        start, epochs = None if request["start"] is None else Path(request["start"]), request["epochs"]
        settings = replace(settings, seed=request["seed"], threads=request["threads"])
    _check(recipe, widen, start)
    model = recipe.model if widen == 1.0 else widened_model(recipe.model, widen, WORD)
    untrained = as_if_trained(model()) if start is None else load_start(start, recipe).module
    whole = measure(untrained)
    fits = budget.holds(whole) and widen == 1.0
    if not fits:
        _check_narrowest(untrained, recipe, budget, measure)
    if not resume:
        _begin(out, request)
    if fits:
        settings.say(f"{recipe.name} fits as it is: {whole}")
        result = _run(recipe, out, settings, epochs=epochs, start=start)
        return _finished(out, request, Fitted(result, whole, whole, result.accuracy, {}))
    settings.say(f"{recipe.name} takes {whole}; the budget is {budget}")
    if start is None:
        settings.say("1/3 train the whole network, with gates on its channels")
        gated = replace(recipe, model=model, methods=_with_gates(recipe.methods))
        start = _run(gated, out / WHOLE, settings, epochs=epochs).checkpoint
    before = load_checkpoint(start, recipe=recipe)
    squeezed = _squeezed(before, recipe, budget, measure, out / SQUEEZED_FILE, settings)
    fine = max(1, round((epochs or before.epochs) * FINE_TUNE_SHARE))
    settings.say(f"3/3 train the squeezed network on, epochs: {fine}")
    result = _run(_fine_tuning(squeezed.recipe), out, settings, epochs=fine, start=out / SQUEEZED_FILE)
    fitted = measure(load_checkpoint(result.checkpoint, recipe=recipe).module)
    if not budget.holds(fitted):
        raise BadInputError(
            f"takes {fitted} now that it is trained; the budget is {budget}",
            where=str(result.checkpoint),
            fix=f"give --start {start} and a slightly smaller budget",
        )
    channels = _changed(before.module, squeezed.module)
    reached = None if before.accuracy < 0 else before.accuracy
    return _finished(out, request, Fitted(result, measure(before.module), fitted, reached, channels))


def _check(recipe: Recipe, widen: float, start: Path | None) -> None:
    leaving = [method.name for method in recipe.methods if leaves_layers(method)]
    if leaving:
        raise BadInputError(
            f"method {leaving[0]} leaves layers of its own, whose channels cannot be removed",
            where=f"recipe {recipe.name}",
            fix="use --fit with other methods",
        )
    if not 1.0 <= widen <= 8.0:
        raise BadInputError(f"a network {widen:g} times as wide", fix="use a factor from 1 to 8")
    if widen != 1.0 and start is not None:
        raise BadInputError("both a model to start from and a factor to widen it by", fix="give one of them")


def _check_narrowest(net: nn.Module, recipe: Recipe, budget: Budget, measure: Callable[[nn.Module], Footprint]) -> None:
    """BadInputError if removing channels cannot help."""
    groups = channel_graph(net).groups
    binary = binary_layers(net)
    fixed = {name for group in groups if group.fixed for name in group.writers if name in binary}
    where = f"recipe {recipe.name}"
    if all(group.size <= WORD for group in judged_groups(net)):
        raise BadInputError(
            "no channels of this network can be removed",
            where=where,
            fix=f"--fit needs layers of more than {WORD} channels with batch norm, not joined by a concatenation",
        )
    least = measure(narrowest(net))
    if not budget.holds(least):
        kept = f" ({len(fixed)} of {len(binary)} binary layers keep all their channels)" if fixed else ""
        raise BadInputError(
            f"takes {least} with the fewest channels{kept}; the budget is {budget}",
            where=where,
            fix="use a smaller network, or a larger budget",
        )


def _with_gates(methods: tuple[Method, ...]) -> tuple[Method, ...]:
    return methods if any(isinstance(m, ChannelGates) for m in methods) else (*methods, ChannelGates())


def _fine_tuning(recipe: Recipe) -> Recipe:
    """Without gates and without a first step of real weights: the network has learned already."""
    methods = tuple(m for m in recipe.methods if not isinstance(m, ChannelGates | TwoStep | LatentScale))
    peak = recipe.schedule.peak * FINE_TUNE_RATE
    if isinstance(recipe.schedule, TwoStepSchedule):
        optimizer = replace(recipe.optimizer, weight_decay=0.0, binary_weight_decay=0.0)  # as in step 2
        return replace(recipe, methods=methods, schedule=LinearSchedule(peak), optimizer=optimizer)
    return replace(recipe, methods=methods, schedule=replace(recipe.schedule, peak=peak, warmup_epochs=0.0))


def _squeezed(
    before: LoadedModel,
    recipe: Recipe,
    budget: Budget,
    measure: Callable[[nn.Module], Footprint],
    path: Path,
    settings: Settings,
) -> LoadedModel:
    """The network that fits, made from `before` where there is no file `path` yet."""
    if not path.is_file():
        settings.say("2/3 remove channels")

        def fits(net: nn.Module) -> bool:
            needed = measure(net)
            settings.say(f"    {needed}: {'fits' if budget.holds(needed) else 'too much'}")
            return budget.holds(needed)

        small = fit_channels(before.module, fits)
        resized = replace(recipe, model=Resized.of(recipe.model, small))
        save_model(path, small, resized, accuracy=-1.0, epochs=before.epochs, seed=before.seed)
    return load_checkpoint(path, recipe=recipe)


def _changed(before: nn.Module, after: nn.Module) -> dict[str, tuple[int, int]]:
    sizes = {group.name: group.size for group in channel_graph(before).free()}
    layers = dict(after.named_modules())
    return {name: (size, len(_weight(layers[name]))) for name, size in sizes.items()}


def _weight(layer: nn.Module) -> Tensor:
    assert isinstance(layer.weight, Tensor)
    return layer.weight


# ------------------------------------------------------------------------------------------------------------- folder


def _request(
    recipe: Recipe, budget: Budget, widen: float, start: Path | None, epochs: int | None, settings: Settings
) -> dict[str, Any]:
    """What a run is asked for, as fit.json holds it."""
    return {
        "recipe": recipe.name,
        "device": budget.device,
        "flash": budget.flash_bytes,
        "ram": budget.ram_bytes,
        "widen": widen,
        "start": None if start is None else str(start),
        "epochs": epochs,
        "seed": settings.seed,
        "threads": settings.threads,
    }


def _resumed(out: Path, request: dict[str, Any]) -> dict[str, Any]:
    """The request that the run in `out` was started with; BadInputError if `request` asks for something else."""
    stored = dict.fromkeys(LEFT_OUT) | _load(out / FIT_FILE)
    for name, value in request.items():
        if stored.get(name) != value and not (name in LEFT_OUT and value is None):
            raise BadInputError(
                f"was started with {name} {stored.get(name)}, not {value}",
                where=str(out),
                fix="resume with the same options, or use another --out",
            )
    return stored


def _begin(out: Path, request: dict[str, Any]) -> None:
    """Writes fit.json with the request; BadInputError if `out` holds a run."""
    path = out / FIT_FILE
    if path.exists():
        raise BadInputError(
            f"already holds a run ({FIT_FILE})",
            where=str(out),
            fix="use --resume to continue it, or another --out",
        )
    check_unused(out)
    _save(path, {"request": request})


def _load(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise BadInputError("holds no run to resume", where=str(path.parent), fix="leave out --resume to start one")
    try:
        request: dict[str, Any] = json.loads(path.read_text("utf-8"))["request"]
    except (ValueError, TypeError, KeyError) as error:
        raise BadInputError("cannot be read", where=str(path), fix="start a new run in another --out") from error
    return request


def _save(path: Path, content: dict[str, Any]) -> None:
    atomic_write_text(path, json.dumps(content, indent=2) + "\n")


def _run(
    recipe: Recipe, out: Path, settings: Settings, *, epochs: int | None = None, start: Path | None = None
) -> TrainResult:
    """A new run, or what an earlier one left to be done."""
    return train(
        recipe, out=out, epochs=epochs, start=start, seed=settings.seed, data_dir=settings.data_dir,
        compiled=settings.compiled, progress=settings.progress, download=settings.download, threads=settings.threads,
        resume=(out / RESUME_FILE).is_file(),
    )  # fmt: skip


def _finished(out: Path, request: dict[str, Any], fitted: Fitted) -> Fitted:
    figures = {
        "accuracy": fitted.result.accuracy,
        "whole_accuracy": fitted.whole_accuracy,
        "whole": asdict(fitted.whole),
        "fitted": asdict(fitted.fitted),
        "channels": fitted.channels,
    }
    _save(out / FIT_FILE, {"request": request, **figures})
    return fitted
