"""Files of a run: `model.pt`, the trained model, and `last.ckpt`, all that a resumed run needs.

Both are `torch.save` archives of plain dictionaries of tensors, numbers and texts, and are only ever read with
``weights_only=True``: a file from elsewhere cannot run code.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from onebit.core.errors import BadInputError
from onebit.core.files import atomic_write_bytes
from onebit.core.metadata import ModelMetadata
from onebit.train.channels import Resized
from onebit.train.methods import Method, get_method, method_text
from onebit.train.provenance import RunIdentity
from onebit.train.recipes import Recipe, get_recipe

FORMAT = 1
MODEL_FILE = "model.pt"
RESUME_FILE = "last.ckpt"

_MODEL_KIND = "onebit-model"
_RESUME_KIND = "onebit-run"


@dataclass(frozen=True)
class LoadedModel:
    """A trained model: `module` in eval mode, on the CPU; `example_input` float32 [1, C, H, W] of zeros.

    `accuracy` is the share of the recipe's test split (0 to 1) that the run measured at its end, after `epochs` epochs
    from `seed`; -1.0 if it was never measured. `recipe.model` builds a network of this one's shape, which is not the
    recipe's own if channels were removed. `left_by` names the methods that left layers of their own in it.
    """

    module: nn.Module
    recipe: Recipe
    metadata: ModelMetadata
    example_input: Tensor
    accuracy: float
    epochs: int
    seed: int
    left_by: tuple[str, ...] = ()


@dataclass(frozen=True)
class EpochRow:
    """One line of metrics.csv. `lr` is the rate of the epoch's last step, `seconds` its wall time.

    `val_accuracy` is NaN for an epoch that was not measured. `flips`, `never_flipped`, `clamped` and `entropy` are
    those of `onebit.train.statistics.LayerStatistics`, over all binary weights.
    """

    epoch: int
    train_loss: float
    val_accuracy: float
    lr: float
    seconds: float
    flips: float
    never_flipped: float
    clamped: float
    entropy: float


@dataclass(frozen=True)
class RunState:
    """A run at the end of an epoch: enough to continue it exactly.

    Batches and augmentation are drawn from (seed, epoch) and the learning rate is a function of the step, so that no
    generator or scheduler has a state of its own. `flipped` tells of every binary weight whether it ever flipped;
    `resized` is what `with_sizes` needs for the numbers of channels of the model that the run started from.
    """

    identity: RunIdentity
    resized: dict[str, Any] | None = None
    rows: tuple[EpochRow, ...] = ()
    module: dict[str, Tensor] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    flipped: dict[str, Tensor] = field(default_factory=dict)


def recipe_sha256(recipe: Recipe) -> str:
    """A fingerprint of all that decides the recipe's run; the model counts by its factory's name and arguments."""
    values = {item.name: getattr(recipe, item.name) for item in dataclasses.fields(recipe)}
    for name in ("description", "expected_accuracy", "expected_source"):
        del values[name]
    values["model"] = _factory_text(recipe.model)
    return hashlib.sha256(repr(sorted(values.items())).encode()).hexdigest()


def _factory_text(build: Callable[[], nn.Module]) -> str:
    if isinstance(build, Resized):
        return f"{_factory_text(build.base)} resized to {build.sizes} with biases {build.biases}"
    if isinstance(build, partial):
        return f"{_factory_text(build.func)} of {build.args} and {sorted(build.keywords.items())}"
    return f"{build.__module__}.{build.__qualname__}"


def save_model(path: Path, module: nn.Module, recipe: Recipe, *, accuracy: float, epochs: int, seed: int) -> None:
    """Writes `model.pt`: one dictionary, its entries are those that `load_checkpoint` reads."""
    _save(
        path,
        {
            "format": FORMAT,
            "kind": _MODEL_KIND,
            "recipe": recipe.name,
            "left_by": [method_text(method) for method in recipe.methods if leaves_layers(method)],
            "resized": resized_entry(recipe.model),
            "state_dict": _plain(module.state_dict()),
            "metadata": recipe.metadata().to_json_bytes().decode("utf-8"),
            "accuracy": accuracy,
            "epochs": epochs,
            "seed": seed,
        },
    )


def leaves_layers(method: Method) -> bool:
    """Whether the method leaves layers of its own in a network."""
    return type(method).leaves is not Method.leaves


def resized_entry(model: Callable[[], nn.Module]) -> dict[str, Any] | None:
    """The numbers of channels as a file holds them; None where they are the recipe's own."""
    return {"sizes": dict(model.sizes), "biases": list(model.biases)} if isinstance(model, Resized) else None


def load_checkpoint(path: Path | str, *, recipe: Recipe | None = None) -> LoadedModel:
    """Reads a `model.pt`. A missing, damaged or foreign file, or an unknown recipe: BadInputError.

    `recipe` is needed only for a recipe of one's own, which `get_recipe` does not know.
    """
    file = Path(path)
    stored = _load(file, _MODEL_KIND)
    name = _entry(file, stored, "recipe", str)
    if recipe is None:
        recipe = get_recipe(name)
    elif recipe.name != name:
        raise BadInputError(f"was trained with recipe {name}, not {recipe.name}", where=str(file))
    recipe = with_sizes(recipe, stored.get("resized"), file)
    module = recipe.model()
    left_by = tuple(stored.get("left_by", ()))
    for text in left_by:
        get_method(text).leaves(module)
    try:
        module.load_state_dict(_entry(file, stored, "state_dict", dict))
    except (RuntimeError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise BadInputError(
            f"does not fit the model of recipe {recipe.name}: {reason}", where=str(file), fix="train it again"
        ) from error
    return LoadedModel(
        module=module.eval(),
        recipe=recipe,
        metadata=ModelMetadata.from_json_bytes(_entry(file, stored, "metadata", str).encode("utf-8")),
        example_input=torch.zeros(1, *recipe.input_shape),
        accuracy=_entry(file, stored, "accuracy", float),
        epochs=_entry(file, stored, "epochs", int),
        seed=_entry(file, stored, "seed", int),
        left_by=left_by,
    )


def with_sizes(recipe: Recipe, entry: Any, file: Path) -> Recipe:
    """The recipe with the numbers of channels that `entry` of `file` holds (see `resized_entry`), if it has its own."""
    if entry is None or isinstance(recipe.model, Resized):
        return recipe
    try:
        model = Resized(recipe.model, tuple(entry["sizes"].items()), tuple(entry["biases"]))
        model()
    except (BadInputError, KeyError, TypeError, AttributeError) as error:
        raise _foreign(file, f"has channels that do not fit the model of recipe {recipe.name}") from error
    return replace(recipe, model=model)


def save_run_state(path: Path, state: RunState) -> None:
    """Writes `last.ckpt`."""
    stored = {item.name: getattr(state.identity, item.name) for item in dataclasses.fields(RunIdentity)}
    stored |= {name: getattr(state, name) for name in ("resized", "optimizer", "flipped")}
    stored["rows"] = [dataclasses.asdict(row) for row in state.rows]
    stored["module"] = _plain(state.module)
    _save(path, {"format": FORMAT, "kind": _RESUME_KIND, **stored})


def load_run_state(path: Path) -> RunState:
    """Reads a `last.ckpt`; BadInputError if it is missing, damaged or foreign."""
    stored = _load(path, _RESUME_KIND)
    try:
        rows = tuple(EpochRow(**row) for row in _entry(path, stored, "rows", list))
    except TypeError as error:
        raise _foreign(path, "has malformed metrics") from error
    kinds = {"recipe": str, "recipe_sha256": str, "epochs": int, "seed": int, "threads": int, "devices": int}
    later = {item.name for item in dataclasses.fields(RunIdentity)} & stored.keys() - kinds.keys()
    always = {name: _entry(path, stored, name, kind) for name, kind in kinds.items()}
    return RunState(
        RunIdentity(**always, **{name: stored[name] for name in later}),
        resized=stored.get("resized"),
        rows=rows,
        module=_entry(path, stored, "module", dict),
        optimizer=_entry(path, stored, "optimizer", dict),
        flipped=_entry(path, stored, "flipped", dict),
    )


def _plain(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors on the CPU, in plain row-major memory, without the module's bookkeeping attributes."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}


def _save(path: Path, content: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    atomic_write_bytes(path, buffer.getvalue())


def _load(path: Path, kind: str) -> dict[str, Any]:
    if not path.is_file():
        raise BadInputError(
            "no such file", where=str(path), fix="pass the path of a checkpoint that onebit train wrote"
        )
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch.load documents no set of exceptions for damaged files: zip, pickle, key, index and runtime errors occur.
        raise _foreign(path, "cannot be read as a checkpoint") from error
    if not isinstance(stored, dict) or stored.get("kind") != kind:
        raise _foreign(path, f"is no {kind} file")
    if stored.get("format") != FORMAT:
        raise _foreign(path, f"has format {stored.get('format')!r}, known is {FORMAT}")
    return stored


def _entry(path: Path, stored: dict[str, Any], name: str, kind: type) -> Any:
    if not isinstance(stored.get(name), kind):
        raise _foreign(path, f"has no usable entry {name!r}")
    return stored[name]


def _foreign(path: Path, what: str) -> BadInputError:
    return BadInputError(what, where=str(path), fix="it must be a file that this version of onebit train wrote")
