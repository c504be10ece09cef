"""Makes a finished run the demo model that ships as package data: the int8 file and its model card.

    python -m benchmarks.ship RUN NAME --data-dir DIR [--range percentile:99.99]

Converts RUN/model.pt to int8, runs the generated C on the whole test split on this computer, compares every output with
LCE's interpreter, and only then writes NAME.tflite and NAME.md to core/onebit/core/models/. After that,
`python -m benchmarks.run --update` records what the model costs on the emulated cores, and
`python -m docs.results --add RUN` records the run.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from onebit.cli.convert import MAX_SAMPLES
from onebit.convert import Converted, convert
from onebit.convert.int8 import MINMAX, RangeMethod
from onebit.core import pretrained
from onebit.core.datasets import load_dataset
from onebit.core.errors import BadInputError, VerificationError
from onebit.core.files import atomic_write_bytes, atomic_write_text
from onebit.simulate import SimulationResult, find_oracle, simulate
from onebit.train import load_checkpoint
from onebit.train.checkpoint import MODEL_FILE, LoadedModel
from onebit.train.cost import model_cost
from onebit.train.provenance import RUN_FILE, RunRecord, load_record

MODELS = Path(pretrained.__file__).with_name("models")
LARGEST = 64 * 1024
SOURCES = {
    "mnist": "MNIST: LeCun, Cortes and Burges; CC BY-SA 3.0 as stated in the Keras documentation.",
    "fashion_mnist": "Fashion-MNIST: Xiao, Rasul and Vollgraf (Zalando Research); MIT licence.",
    "cifar10": "CIFAR-10: Krizhevsky, Nair and Hinton; no licence stated, free for research with citation.",
}
"""Whose data set it is and under which terms, by name."""


def ship(
    run: Path, name: str, data_dir: Path | None, ranges: RangeMethod = MINMAX, models: Path = MODELS
) -> SimulationResult:
    """Convert, check and write; VerificationError if the C differs, BadInputError if the file is above 64 KB."""
    record = load_record(run / RUN_FILE)
    loaded = load_checkpoint(run / MODEL_FILE)
    train = load_dataset(f"{record.dataset}:train", data_dir=data_dir).take(MAX_SAMPLES)
    test = load_dataset(f"{record.dataset}:test", data_dir=data_dir)
    oracle = find_oracle("lce")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{name}.tflite"
        converted = convert(
            loaded.module, file, metadata=loaded.metadata, example_input=loaded.example_input, int8=True,
            calibration=train.x, samples=test.x[:MAX_SAMPLES], oracle=oracle, ranges=ranges,
        )  # fmt: skip
        if converted.bytes > LARGEST:
            raise BadInputError(f"{converted.bytes:,} bytes", where=name, fix=f"a demo model has at most {LARGEST:,}")
        result = simulate(file, f"{record.dataset}:test", data_dir=data_dir, reference=oracle)
        if not result.ok:
            raise VerificationError(f"{name}: {result.outputs_equal:,} of {result.outputs_compared:,} outputs equal")
        atomic_write_bytes(models / file.name, file.read_bytes())
    atomic_write_text(models / f"{name}.md", card(name, record, loaded, converted, result, ranges))
    return result


def card(
    name: str,
    record: RunRecord,
    loaded: LoadedModel,
    converted: Converted,
    result: SimulationResult,
    ranges: RangeMethod,
) -> str:
    """The model card, Markdown."""
    cost = model_cost(loaded.recipe)
    accuracy = result.generated_accuracy or 0.0
    methods = "; ".join(record.methods) or "straight-through estimator"
    optimizer = type(loaded.recipe.optimizer).__name__
    schedule = type(loaded.recipe.schedule).__name__.removesuffix("Schedule").lower()
    rows = {
        "task": f"{', '.join(loaded.recipe.classes)}; {'x'.join(map(str, loaded.recipe.input_shape[1:]))} pixels",
        "net": loaded.recipe.description,
        "weights": f"{cost.weights:,}, of which {cost.binary_weights:,} binary",
        "MACs": f"{cost.macs:,}, of which {100 * cost.binary_macs / cost.macs:.1f} % binary",
        "data": f"{record.train_images:,} training images of {record.dataset}; accuracy on {record.data_note}",
        "method": f"{methods}; {optimizer}, {schedule} schedule with a peak of {loaded.recipe.schedule.peak:g}; "
        f"recipe `{record.recipe}`, {record.epochs} epochs, seed {record.seed}; no epoch chosen by accuracy",
        "accuracy": f"{100 * accuracy:.2f} % of {result.samples:,} test images as int8 `.tflite` and as generated C "
        f"({result.outputs_equal:,} of {result.outputs_compared:,} outputs equal); {100 * loaded.accuracy:.2f} % in "
        "PyTorch",
        "size": f"{converted.bytes:,} bytes",
        "trained on": f"{record.processor}, {(record.seconds or 0) / 60:.0f} minutes",
        "sha256": converted.sha256,
    }
    lines = "".join(f"| {key} | {value} |\n" for key, value in rows.items())
    run = f"runs/{record.recipe}"
    chosen = "" if ranges == MINMAX else f"--range {ranges} "
    return (
        f"# {name}.tflite\n\n| | |\n|---|---|\n{lines}\n"
        f"    onebit train {record.recipe} --seed {record.seed} --data-dir DATA --out {run}\n"
        f"    onebit convert {run}/{MODEL_FILE} --int8 --calibration {record.dataset}:train --data-dir DATA "
        f"{chosen}--out {name}.tflite\n\n{SOURCES[record.dataset]}\n"
    )


def main() -> int:
    """Ship one run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("name")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--range", type=RangeMethod.parse, default=MINMAX, help="as for onebit convert")
    options = parser.parse_args()
    result = ship(options.run, options.name, options.data_dir, options.range)
    print(f"{options.name}: {100 * (result.generated_accuracy or 0):.2f} %", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
