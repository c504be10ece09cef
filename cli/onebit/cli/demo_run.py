"""The demo's chain: train, convert, generate, simulate. What `onebit demo` shows is made from the `Outcome`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from onebit.cli.convert import MAX_SAMPLES
from onebit.cli.progress import Stages
from onebit.cli.train import wait_asleep
from onebit.codegen import Generated, find_target, generate
from onebit.core import Graph, read_model
from onebit.core.datasets import Dataset, load_dataset
from onebit.core.errors import BadInputError
from onebit.core.files import atomic_write_bytes
from onebit.core.graph import Array
from onebit.core.pretrained import pretrained_path
from onebit.simulate import Oracle, Samples, SimulationResult, find_oracle, simulate
from onebit.simulate.harness import choose_emulator
from onebit.simulate.inputs import samples_of
from onebit.simulate.report import Run, Witness
from onebit.simulate.toolchain import find_compiler

if TYPE_CHECKING:
    from onebit.convert import Converted
    from onebit.train import LoadedModel, Recipe, TrainResult

HOST, DEVICE = "host", "cortex-m4"
EMULATED_SAMPLES = 100
"""How many images run on the emulated core."""
PICK_SEED = 1
"""Chooses the images for the emulated core where no seed is given."""
BATCH = 250

CompilerChoice = Literal["auto", "gcc", "zig"]
EmulatorChoice = Literal["auto", "unicorn", "qemu"]
ReferenceChoice = Literal["lce", "numpy"]


@dataclass(frozen=True)
class Chain:
    """One demo: the recipe it trains and that recipe's data set; the shipped model and the data set it was trained on.

    The data sets are named here because a demo of the shipped model must do without torch, which recipes need.
    """

    recipe: str
    dataset: str
    pretrained: str
    official: str


CHAINS: Mapping[str, Chain] = {
    "digits": Chain("digits", "mnist5k", "digits", "mnist"),
    "fashion": Chain("fashion", "fashion_mnist", "fashion", "fashion_mnist"),
    "cifar10": Chain("cifar10", "cifar10", "cifar10", "cifar10"),
}


@dataclass(frozen=True)
class Options:
    """What was asked for on the command line."""

    name: str
    out: Path
    pretrained: bool = False
    data_dir: Path | None = None
    epochs: int | None = None
    seed: int | None = None
    emulated_samples: int = EMULATED_SAMPLES
    compiler: CompilerChoice = "auto"
    emulator: EmulatorChoice = "auto"
    reference: ReferenceChoice = "lce"
    resume: bool = False
    download: bool = False

    @property
    def chain(self) -> Chain:
        """The demo of that name; BadInputError lists those that exist."""
        if self.name not in CHAINS:
            raise BadInputError(f"unknown demo {self.name!r}", where="onebit demo", fix=f"known: {', '.join(CHAINS)}")
        return CHAINS[self.name]

    @property
    def model(self) -> Path:
        """Where the converted model goes."""
        return self.out / f"{self.name}.tflite"

    @property
    def run_dir(self) -> Path:
        """Where the training run goes."""
        return self.out / "run"

    @property
    def pick_seed(self) -> int:
        """Chooses the images for the emulated core."""
        return PICK_SEED if self.seed is None else self.seed


@dataclass(frozen=True)
class Trained:
    """The trained model as the first witness: its answers [N] on the held-out images."""

    result: TrainResult
    loaded: LoadedModel
    answers: Array


@dataclass(frozen=True)
class Outcome:
    """Everything the chain made. `runs` are host and emulated core; the model is shipped where `trained` is None."""

    options: Options
    data: Dataset
    data_note: str
    graph: Graph
    trained: Trained | None
    converted: Converted | None
    generated: Mapping[str, Generated]
    runs: tuple[Run, ...]
    source: Witness | None
    source_link: str
    seconds: Mapping[str, float]

    @property
    def results(self) -> list[SimulationResult]:
        """The simulations, host first."""
        return [run.result for run in self.runs]

    @property
    def ok(self) -> bool:
        """Whether every comparison held."""
        return all(result.ok for result in self.results)


def run_chain(options: Options, stages: Stages) -> Outcome:
    """Run the whole chain into ``options.out``. What is missing or wrong is said before the training, not after it."""
    chain = options.chain
    if options.out.exists() and not options.out.is_dir():
        raise BadInputError("is a file, not a folder", where=str(options.out), fix="use another --out")
    oracle = find_oracle(options.reference)
    for target in (HOST, DEVICE):
        find_compiler(find_target(target), options.compiler)
    choose_emulator(find_target(DEVICE), options.emulator)
    if options.pretrained:
        _refuse_training_options(options)
        shipped = pretrained_path(chain.pretrained)
        data, note = _unseen_data(chain, options)
        picked = data.pick_per_class(options.emulated_samples, options.pick_seed)
        with stages.stage("model", "copying the pretrained model") as stage:
            content = shipped.read_bytes()
            atomic_write_bytes(options.model, content)
            stage.result = f"pretrained {options.model.name}, {len(content):,} bytes"
        trained, converted = None, None
    else:
        wait_asleep()
        from onebit.train import get_recipe

        recipe = get_recipe(chain.recipe)
        data = load_dataset(f"{chain.dataset}:test", data_dir=options.data_dir, download=options.download)
        note = data.note
        picked = data.pick_per_class(options.emulated_samples, options.pick_seed)
        trained = _train(recipe, options, data, stages)
        converted = _convert(trained, options, data, oracle, stages)
    graph = read_model(options.model)
    generated = _generate(options, stages)
    on_host = _simulate(HOST, samples_of(data, graph), options, oracle, stages)
    on_device = _simulate(DEVICE, samples_of(picked, graph), options, oracle, stages)
    source, link = _source(trained, converted, on_host)
    return Outcome(
        options, data, note, graph, trained, converted, generated, (on_host, on_device), source, link,
        dict(stages.seconds),
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------- data


def _refuse_training_options(options: Options) -> None:
    given = {"--epochs": options.epochs is not None, "--resume": options.resume}
    wrong = [name for name, is_given in given.items() if is_given]
    if wrong:
        raise BadInputError(f"{' and '.join(wrong)} with --pretrained", fix="nothing is trained; leave it out")


def _unseen_data(chain: Chain, options: Options) -> tuple[Dataset, str]:
    """The official test set, which the shipped model has never seen; if it is not here, held-out images it may have."""
    try:
        data = load_dataset(f"{chain.official}:test", data_dir=options.data_dir, download=options.download)
    except BadInputError as error:
        # An error about a file that is there names it; then the data must be mended, not replaced.
        if error.where or options.download:
            raise
    else:
        return data, f"{data.name}, {data.note}; the model was trained on the official training set only"
    data = load_dataset(f"{chain.dataset}:test", data_dir=options.data_dir)
    seen = f"the pretrained model may have seen these images: pass --data-dir with {chain.official} for a true test"
    return data, f"{data.note}; {seen}"


# -------------------------------------------------------------------------------------------------------------- stages


def _train(recipe: Recipe, options: Options, data: Dataset, stages: Stages) -> Trained:
    from onebit.train import load_checkpoint
    from onebit.train import train as run_training
    from onebit.train.checkpoint import RESUME_FILE

    epochs = options.epochs or recipe.epochs
    with stages.stage("train", f"{recipe.name}, {epochs} epochs on {recipe.dataset}:train", draws=False) as stage:
        result = run_training(
            recipe,
            out=options.run_dir,
            data_dir=options.data_dir,
            epochs=options.epochs,
            seed=options.seed,
            # a demo that was stopped before its first epoch ended has nothing to resume yet
            resume=options.resume and (options.run_dir / RESUME_FILE).is_file(),
            download=options.download,
        )
        loaded = load_checkpoint(result.checkpoint)
        answers = _answers(loaded, data.x)
        accuracy = float(np.mean(answers == data.y))
        stage.result = f"{100 * accuracy:.1f} % of {len(data):,} held-out images after {result.epochs} epochs"
    return Trained(result, loaded, answers)


def _answers(loaded: LoadedModel, images: Array) -> Array:
    """The trained model's answers int64 [N] for pixels uint8 [N, H, W, C]."""
    x = loaded.metadata.preprocessing.apply(images, np.float32).transpose(0, 3, 1, 2)
    parts = []
    for start in range(0, len(x), BATCH):
        batch: Any = loaded.example_input.new_tensor(np.ascontiguousarray(x[start : start + BATCH]))
        parts.append(loaded.module(batch).detach().numpy().argmax(axis=1))
    return np.concatenate(parts)


def _convert(trained: Trained, options: Options, data: Dataset, oracle: Oracle, stages: Stages) -> Converted:
    from onebit.convert import convert

    recipe = trained.loaded.recipe
    # as many as `onebit convert` takes, so that it writes the same file
    images = load_dataset(f"{recipe.dataset}:train", data_dir=options.data_dir).take(MAX_SAMPLES).x
    with stages.stage("convert", f"to int8 with {oracle.engine} on {len(data):,} images") as stage:
        converted = convert(
            trained.loaded.module,
            options.model,
            metadata=trained.loaded.metadata,
            example_input=trained.loaded.example_input,
            int8=True,
            calibration=images,
            samples=data.x,
            oracle=oracle,
        )
        verified = converted.verified
        stage.result = (
            f"{options.model.name}, {converted.bytes:,} bytes; within {verified.max_abs_diff:g} LSB of the source on "
            f"{verified.samples:,} images"
        )
    return converted


def _generate(options: Options, stages: Stages) -> dict[str, Generated]:
    with stages.stage("generate", f"C for {HOST} and {DEVICE}") as stage:
        made = {target: generate(options.model, target, options.out / target) for target in (HOST, DEVICE)}
        for generated in made.values():
            # kernels of an earlier run that this model does not need would be compiled with it
            for old in set(generated.out.glob("ob_*")) - {generated.out / file for file in generated.files}:
                old.unlink()
        stage.result = ", ".join(f"{options.out.name}/{target} ({len(g.files)} files)" for target, g in made.items())
    return made


def _simulate(target: str, samples: Samples, options: Options, oracle: Oracle, stages: Stages) -> Run:
    with stages.stage(f"simulate on {target}", f"{len(samples.x):,} images, all layers") as stage:
        result = simulate(
            options.model,
            samples,
            target=target,
            layers=True,
            sources=options.out / target,
            compiler=options.compiler,
            emulator=options.emulator,
            reference=oracle,
            progress=stage.progress,
        )
        wrong = "" if result.ok else "; DIFFERENT from the reference"
        stage.result = f"{result.outputs_equal:,} of {result.outputs_compared:,} outputs equal{wrong}"
    return Run(result, samples)


def _source(trained: Trained | None, converted: Converted | None, host: Run) -> tuple[Witness | None, str]:
    """The trained model as a witness, and what ties the interpreter to it."""
    if trained is None or converted is None:
        return None, ""
    reference, labels = host.result.reference_outputs, host.samples.y
    assert reference is not None and labels is not None
    same = int((reference.reshape(len(reference), -1).argmax(axis=1) == trained.answers).sum())
    correct = int((trained.answers == labels).sum())
    link = (
        f"same answer as PyTorch on {same:,} of {len(labels):,}; within {converted.verified.max_abs_diff:g} LSB of its "
        "int8 form"
    )
    return Witness("PyTorch", f"float32, {trained.result.epochs} epochs", len(labels), correct), link
