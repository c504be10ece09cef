"""What each recipe costs: time per epoch on this computer, and bytes on a Cortex-M4 of what it trains.

    python -m benchmarks.recipes --data-dir DIR [RECIPE ...]
    python -m benchmarks.recipes --data-dir DIR --only bytes     (or: --only time)

Writes train/onebit/train/recipes/measured.json, which `onebit train --list` shows. Time is that of some steps after
warm-up, scaled to an epoch: measure on an idle machine. It is also taken on the GPU where there is one. Bytes are those
of a network with random weights, converted to int8 with training images for calibration: training changes them little.
Constants are weights and tables in flash, code is that of the model and its kernels as compiled; the arena is the RAM
for activations. All are bytes on any machine, so that they can be measured while others work on it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name PyTorch's own documentation uses
from rich.console import Console
from torch import Tensor

from onebit.codegen import find_target, generate
from onebit.convert import convert
from onebit.core.datasets import Dataset, load_dataset
from onebit.core.errors import UnsupportedError
from onebit.core.files import atomic_write_text
from onebit.simulate.footprint import FlashMeter
from onebit.simulate.toolchain import find_compiler
from onebit.train.cost import as_if_trained
from onebit.train.data import TensorImages, TrainBatches
from onebit.train.methods import attach_methods
from onebit.train.process import training_process
from onebit.train.provenance import processor
from onebit.train.recipes import MEASURED, Recipe, get_recipe, recipe_names

WARM_UP, STEPS = 2, 6
CALIBRATION = 16
TARGET = "cortex-m4"


def main() -> int:
    """Measure the recipes named, or all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("recipes", nargs="*", default=recipe_names(), metavar="RECIPE")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", choices=("bytes", "time"))
    options = parser.parse_args()
    console = Console(stderr=True)
    for name in options.recipes:
        recipe = get_recipe(name)
        data = load_dataset(f"{recipe.dataset}:train", data_dir=options.data_dir).take(recipe.train_images)
        records = json.loads(MEASURED.read_text("utf-8")) if MEASURED.is_file() else {}
        figures = dict(records.get(name, {}))
        if options.only != "bytes":
            figures |= _time(recipe, data, options.threads, torch.device("cpu"))
        if options.only != "bytes" and torch.cuda.is_available():
            gpu = _time(recipe, data, options.threads, torch.device("cuda"))
            figures |= {"gpu_epoch_seconds": gpu["epoch_seconds"], "gpu": gpu["machine"]}
        if options.only != "time":
            try:
                figures |= _bytes(recipe, data)
            except UnsupportedError as error:  # a teacher, which is not made for a device
                console.print(f"{name}: no bytes: {error}")
        atomic_write_text(MEASURED, json.dumps(records | {name: figures}, indent=2, sort_keys=True) + "\n")
        console.print(f"{name}: {figures}")
    return 0


def _time(recipe: Recipe, data: Dataset, threads: int, device: torch.device) -> dict[str, Any]:
    """Seconds per epoch of whole-size images, and the share of it that loading and changing images takes."""
    with training_process(threads):
        images = TensorImages(data, recipe.preprocessing, device)
        batches = TrainBatches(images, recipe.batch_size, recipe.augmentation, seed=1)
        batches.epoch = batches.epochs  # the end of the run, where crops have their whole size
        net = recipe.model().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        attached = attach_methods(recipe.methods, net)
        optimizer = recipe.optimizer.build(net, recipe.schedule.peak)
        loading, whole = 0.0, 0.0
        for i, (seconds, (x, y)) in enumerate(_timed(batches)):
            start = time.monotonic()
            for method in attached:
                method.progress(0.5)
            with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16-mixed"):
                loss = F.cross_entropy(net(x).float(), y)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if i >= WARM_UP:
                loading += seconds
                whole += seconds + time.monotonic() - start
            if i + 1 == WARM_UP + STEPS:
                break
        return {
            "epoch_seconds": round(whole / STEPS * len(batches), 1),
            "data_share": round(loading / whole, 4),
            "machine": processor(device),
        }


def _timed(batches: TrainBatches) -> Iterator[tuple[float, tuple[Tensor, Tensor]]]:
    """The batches, each with the seconds it took to make."""
    iterator = iter(batches)
    while True:
        start = time.monotonic()
        batch = next(iterator)
        yield time.monotonic() - start, batch


def _bytes(recipe: Recipe, data: Dataset) -> dict[str, int]:
    """Size of the int8 file, of its constants and code in C, and of the arena."""
    net = as_if_trained(recipe.model())
    metadata = recipe.metadata()
    calibration = data.take(CALIBRATION).x
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "net.tflite"
        converted = convert(
            net, file, metadata=metadata, example_input=torch.zeros(1, *recipe.input_shape), int8=True,
            calibration=calibration, samples=calibration,
        )  # fmt: skip
        generated = generate(file, TARGET, Path(folder) / "c")
        flash = FlashMeter(find_compiler(find_target(TARGET))).flash_bytes(generated)
        return {
            "tflite_bytes": converted.bytes,
            "constant_bytes": generated.weight_bytes,
            "flash_bytes": flash,
            "arena_bytes": generated.arena_bytes,
        }


if __name__ == "__main__":
    sys.exit(main())
