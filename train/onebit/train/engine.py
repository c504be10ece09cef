"""Training: a recipe becomes a run folder.

It holds `model.pt` (the trained model), `run.json` (what was trained on what), `metrics.csv` and `layers.csv` (per
epoch), `curves.png`, and `last.ckpt`, from which an interrupted run continues.

Lightning runs the loop. Repeatable to the bit on the CPU for a seed and a number of threads, whether the run was
interrupted and resumed or not.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import lightning.pytorch as pl
import torch
from torch import nn

from onebit.core.datasets import load_dataset
from onebit.core.errors import BadInputError
from onebit.train.checkpoint import (
    MODEL_FILE,
    RESUME_FILE,
    EpochRow,
    LoadedModel,
    RunState,
    load_checkpoint,
    load_run_state,
    recipe_sha256,
    save_model,
    with_sizes,
)
from onebit.train.classifier import Classifier
from onebit.train.consistency import check_consistent
from onebit.train.data import EvalBatches, TensorImages, TrainBatches, check_shares, epoch_seed
from onebit.train.layers import binary_weights
from onebit.train.process import training_process
from onebit.train.provenance import (
    RUN_FILE,
    RunIdentity,
    RunRecord,
    data_facts,
    file_sha256,
    processor,
    save_record,
    teacher_hashes,
)
from onebit.train.recipes import Recipe, get_recipe
from onebit.train.recording import ProgressBar, RunRecorder

DEFAULT_THREADS = 2
FINISHED = (RUN_FILE, MODEL_FILE)
"""What a run leaves at its end."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainResult:
    """What a run left: `accuracy` is the share (0 to 1) of the recipe's test split, after the last epoch.

    No epoch is picked by its accuracy. `seconds` is the wall time of all epochs, those before a resume included.
    """

    run_dir: Path
    checkpoint: Path
    accuracy: float
    epochs: int
    seconds: float


def train(
    recipe: Recipe | str,
    *,
    out: Path | str,
    data_dir: Path | str | None = None,
    epochs: int | None = None,
    seed: int | None = None,
    devices: int = 1,
    nodes: int = 1,
    compiled: bool = False,
    resume: bool = False,
    progress: bool = True,
    download: bool = False,
    threads: int | None = None,
    start: Path | str | None = None,
) -> TrainResult:
    """Trains `recipe` (or the recipe of that name) into the folder `out`.

    `epochs` and `seed` replace the recipe's. `resume` continues the run in `out` after its last finished epoch; recipe,
    data, teachers and number of devices must be those it was started with, and so must epochs, seed, threads and start,
    where they are given. `progress` draws a bar on stderr. `threads` is the number of CPU threads of a process (default
    2); results depend on it in the last bits. `compiled` runs training steps through torch.compile. The weights of the
    `model.pt` at `start`, which must be of this recipe, take the place of random ones; so do its numbers of channels.

    `devices` GPUs (CPU processes where there is no GPU) on each of `nodes` computers share every batch (Lightning's
    "ddp": it starts this program once more for every further device; those end here, with SystemExit 0). Batch norm
    then sees each process's share alone.

    KeyboardInterrupt passes through; `last.ckpt` of the last finished epoch stays. BadInputError: an unknown recipe or
    option, missing data, an `out` that holds another run, a loss that is not finite.
    """
    recipe = get_recipe(recipe) if isinstance(recipe, str) else recipe
    run_dir = Path(out)
    check_options(epochs, devices, nodes, threads)
    check_shares(recipe.batch_size, devices * nodes)
    state = _state_to_resume(run_dir, recipe) if resume else None
    begun = None if start is None else load_start(Path(start), recipe)
    started_from = None if begun is None else f"{start}, {begun.epochs} epochs"
    start_sha256 = None if start is None else file_sha256(start)
    if begun is not None:
        recipe = replace(recipe, model=begun.recipe.model)
    if state is None:
        check_unused(run_dir)
        epochs, threads = epochs or recipe.epochs, threads or DEFAULT_THREADS
        seed = recipe.seed if seed is None else seed
    else:
        started = state.identity
        if begun is None:
            recipe = with_sizes(recipe, state.resized, run_dir / RESUME_FILE)
            started_from, start_sha256 = started.started_from, started.start_sha256
        _check_start(run_dir, started, start, start_sha256)
        _check_recipe(run_dir, started, recipe)
        _check_numbers(run_dir, started, epochs=epochs, seed=seed, threads=threads, devices=devices * nodes)
        epochs, seed, threads = started.epochs, started.seed, started.threads
    if state is not None and len(state.rows) == epochs and all((run_dir / name).is_file() for name in FINISHED):
        return _result(run_dir, load_checkpoint(run_dir / MODEL_FILE, recipe=recipe).accuracy, state.rows)

    train_set = load_dataset(f"{recipe.dataset}:train", data_dir=data_dir, download=download).take(recipe.train_images)
    test_set = load_dataset(f"{recipe.dataset}:test", data_dir=data_dir, download=download)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with training_process(threads):
        images = TensorImages(train_set, recipe.preprocessing, device)
        batches = TrainBatches(images, recipe.batch_size, recipe.augmentation, seed, epochs)
        tests = EvalBatches(TensorImages(test_set, recipe.preprocessing, device))
        module = _channels_last(_untrained(recipe, seed) if begun is None else begun.module.train())
        check_consistent(recipe, module, train_set, test_set)
        classifier = Classifier(
            module, recipe, epochs=epochs, batches=batches, tests=tests, state=state, compiled=compiled
        )
        record = RunRecord(
            recipe.name, recipe_sha256(recipe), epochs, seed, threads, devices * nodes, _method_words(recipe),
            started_from=started_from, start_sha256=start_sha256, teacher_sha256=teacher_hashes(recipe.methods),
            description=recipe.description, dataset=recipe.dataset, **data_facts(train_set, test_set),
            processor=processor(device), torch=torch.__version__,
        )  # fmt: skip
        if state is not None:
            _check_content(run_dir, state.identity, record)
        recorder = RunRecorder(run_dir, record, state.rows if state else ())
        _log.info("%s: %d train, %d test images (%s)", recipe.name, len(train_set), len(test_set), test_set.note)
        callbacks = [recorder, *([ProgressBar(epochs)] if progress else [])]
        _fit(classifier, epochs - len(recorder.rows), device, devices, nodes, callbacks)
        accuracy = recorder.rows[-1].val_accuracy
        classifier.finish()
        seconds = sum(row.seconds for row in recorder.rows)
        # The model comes last: a run that has one is finished, and whatever was lost before is made by a resume.
        save_record(run_dir / RUN_FILE, replace(record, accuracy=accuracy, seconds=round(seconds, 1)))
        save_model(run_dir / MODEL_FILE, module, recipe, accuracy=accuracy, epochs=epochs, seed=seed)
    return _result(run_dir, accuracy, recorder.rows)


def check_options(epochs: int | None, devices: int, nodes: int, threads: int | None) -> None:
    """BadInputError for a number that is not positive, and for more GPUs than there are."""
    for value, name in ((epochs, "epochs"), (devices, "devices"), (nodes, "nodes"), (threads, "threads")):
        if value is not None and value < 1:
            raise BadInputError(f"{value} {name}", fix="give 1 or more")
    if torch.cuda.is_available() and devices > torch.cuda.device_count():
        raise BadInputError(f"{devices} devices, this computer has {torch.cuda.device_count()}", fix="give fewer")


def check_unused(run_dir: Path) -> None:
    """Makes the folder `run_dir`; BadInputError if it holds a run or cannot be a folder."""
    held = [name for name in (MODEL_FILE, RESUME_FILE) if (run_dir / name).exists()]
    if held:
        raise BadInputError(
            f"already holds a run ({', '.join(held)})",
            where=str(run_dir),
            fix="use --resume to continue it, or another --out",
        )
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInputError(
            f"cannot be used as a folder: {error.strerror}", where=str(run_dir), fix="use another --out"
        ) from error


def _state_to_resume(run_dir: Path, recipe: Recipe) -> RunState:
    """The state in `run_dir`; BadInputError if there is none, or one of another recipe."""
    path = run_dir / RESUME_FILE
    if not path.is_file():
        raise BadInputError("holds no run to resume", where=str(run_dir), fix="leave out --resume to start one")
    state = load_run_state(path)
    started = state.identity.recipe
    if started != recipe.name:
        raise _other_run(run_dir, f"with recipe {started}, not {recipe.name}", f"resume it with recipe {started}")
    return state


def _check_start(run_dir: Path, started: RunIdentity, start: Path | str | None, sha256: str | None) -> None:
    if started.train_sha256 and sha256 != started.start_sha256:
        origin = started.started_from or "random weights"
        raise _other_run(run_dir, f"from {origin}, and {start} is another model", "leave out --start")


def _check_recipe(run_dir: Path, started: RunIdentity, recipe: Recipe) -> None:
    if started.recipe_sha256 == recipe_sha256(recipe):
        return
    methods = _method_words(recipe)
    if started.train_sha256 and started.methods != methods:
        before, now = (", ".join(words) or "none" for words in (started.methods, methods))
        raise _other_run(run_dir, f"with other methods: {before}; now {now}", "give the same --method")
    raise BadInputError(
        f"recipe {recipe.name} has changed since this run was started",
        where=str(run_dir),
        fix="start a new run in another --out",
    )


def _check_numbers(run_dir: Path, started: RunIdentity, **wanted: int | None) -> None:
    for name, value in wanted.items():
        before = getattr(started, name)
        if value is not None and value != before:
            raise _other_run(run_dir, f"with {name} {before}, not {value}", f"resume with {name} {before}")


def _check_content(run_dir: Path, started: RunIdentity, now: RunIdentity) -> None:
    """BadInputError if data or teachers are not those of the start; a file of an earlier version does not name them."""
    if not started.train_sha256:
        return
    for name, what, fix in (
        ("train_sha256", "training images", "give the --data-dir that it was started with"),
        ("test_sha256", "test images", "give the --data-dir that it was started with"),
        ("teacher_sha256", "content of the teacher's file", "put the teacher's file back"),
    ):
        if getattr(started, name) != getattr(now, name):
            raise _other_run(run_dir, f"with other {what}", fix)


def _other_run(run_dir: Path, how: str, fix: str) -> BadInputError:
    return BadInputError(f"was started {how}", where=str(run_dir), fix=f"{fix}, or use another --out")


def _method_words(recipe: Recipe) -> tuple[str, ...]:
    """The recipe's methods with all their settings, as a record names them."""
    return tuple(map(repr, recipe.methods))


def load_start(path: Path, recipe: Recipe) -> LoadedModel:
    """The model to start from; BadInputError if it is no network that the recipe's methods can be put into."""
    begun = load_checkpoint(path, recipe=recipe)
    if begun.left_by:
        raise BadInputError(
            f"has layers that method {begun.left_by[0]} left",
            where=str(path),
            fix="start from a model that was trained without it",
        )
    return begun


def _untrained(recipe: Recipe, seed: int) -> nn.Module:
    """The recipe's network with initial weights drawn from `seed`; the caller's random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(epoch_seed(seed, -1))
        module = recipe.model()
    with torch.no_grad():
        for weight in binary_weights(module):
            weight.mul_(recipe.latent_scale)
    return module


def _channels_last(module: nn.Module) -> nn.Module:
    """The module, with channels last in memory: convolutions of this size run 1.3 to 1.9 times as fast."""
    moved: nn.Module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return moved


def _fit(
    classifier: Classifier,
    epochs: int,
    device: torch.device,
    devices: int,
    nodes: int,
    callbacks: list[pl.Callback],
) -> None:
    if epochs == 0:
        return
    trainer = pl.Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=devices,
        num_nodes=nodes,
        strategy="ddp" if devices * nodes > 1 else "auto",
        use_distributed_sampler=False,
        precision=classifier.recipe.precision,
        max_epochs=epochs,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    try:
        trainer.fit(classifier)
    except SystemExit as error:
        # Lightning turns Ctrl-C into sys.exit(1); the caller is to see what happened.
        if trainer.interrupted:
            raise KeyboardInterrupt from error
        raise
    if trainer.global_rank:
        raise SystemExit(0)


def _result(run_dir: Path, accuracy: float, rows: Sequence[EpochRow]) -> TrainResult:
    return TrainResult(run_dir, run_dir / MODEL_FILE, accuracy, len(rows), sum(row.seconds for row in rows))
