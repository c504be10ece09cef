"""What every training method costs while training, and what it leaves on the device.

    python -m benchmarks.methods                       measure everything
    python -m benchmarks.methods --method NAME [...]   measure these again
    python -m benchmarks.methods --only step [...]     only the time of training steps (or: --only left)

Records go to train/onebit/train/methods/measured.json, which `onebit train --list` shows.

Each method trains two small nets for a few steps on random images and leaves them; each is converted to int8 (to float
where the converter refuses int8) and run on an emulated Cortex-M4. Operators, bytes and instructions of a method
without layers of its own are those of the baseline, up to what the values of thresholds and multipliers decide. The
time of a training step is processor time on one thread, the smallest of some steps of a VGG of width 16 on 128 images
of 32x32 pixels, relative to `ste` next to it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from onebit.codegen import find_target
from onebit.convert import convert
from onebit.core.errors import BadInputError, VerificationError
from onebit.core.files import atomic_write_text
from onebit.simulate import simulate
from onebit.simulate.toolchain import find_compiler
from onebit.train.methods import MEASURED, Method, Step, get_method, method_names
from onebit.train.models.residual import bireal_resnet
from onebit.train.models.vgg import vgg_small
from onebit.train.optimizers import SGD

RECORDS = MEASURED
BASELINE = "ste"
TARGET = "cortex-m4"
SHAPE = (3, 16, 16)
CLASSES = 10
BATCH = 32
TIMED_SHAPE = (3, 32, 32)
TIMED_BATCH = 128
STEPS = 3
TIMED_STEPS = 6
#: methods with an option that leaves more
VARIANTS = ("dynamic_distribution:refine=true",)

#: a chain, in which only bits travel between binary layers, and a net with a shortcut around every binary convolution
NETS: Mapping[str, Callable[[], nn.Module]] = {
    "chain": partial(vgg_small, SHAPE, CLASSES, widths=(32, 64)),
    "residual": partial(bireal_resnet, SHAPE, CLASSES, blocks=(1, 1), widths=(32, 64)),
}

TIMED_NET: Callable[[], nn.Module] = partial(vgg_small, TIMED_SHAPE, CLASSES, widths=(16, 32, 64))

Record = dict[str, Any]


def cases() -> tuple[str, ...]:
    """Every method as text for `get_method`."""
    return (*method_names(), *VARIANTS)


def method_of(text: str, net: Callable[[], nn.Module]) -> Method:
    """The method; one that needs a teacher gets an untrained net of the same topology."""
    method = get_method(text)
    return replace(method, teacher=net) if hasattr(method, "teacher") else method  # type: ignore[call-arg]


def trained(
    text: str,
    build: Callable[[], nn.Module],
    *,
    steps: int = STEPS,
    shape: tuple[int, int, int] = SHAPE,
    batch: int = BATCH,
) -> tuple[nn.Module, float]:
    """A net that `text` trained for `steps` steps and left, and the processor time of the fastest step in seconds."""
    torch.manual_seed(1)
    net = build().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    attached = method_of(text, build).attach(net)
    optimizer = SGD().build(net, 0.02)
    fastest = float("inf")
    for i in range(steps):
        x, y = torch.randn(batch, *shape), torch.randint(CLASSES, (batch,))
        started = time.process_time()
        attached.progress(i / steps)
        logits = net(x.contiguous(memory_format=torch.channels_last))
        loss = attached.loss(F.cross_entropy(logits, y), Step(x, y, logits))
        optimizer.zero_grad()
        loss.backward()
        attached.after_backward(0.02)
        optimizer.step()
        attached.after_step(0.02)
        fastest = min(fastest, time.process_time() - started)
    attached.progress(1.0)
    attached.finish()
    return net.eval(), fastest


def left(text: str, build: Callable[[], nn.Module], folder: Path, *, count: bool = True) -> Record:
    """Operators, bytes and, with `count`, emulated instructions per inference of the model that a method leaves."""
    try:
        net, _ = trained(text, build)
    except BadInputError as error:
        return {"refused": str(error)}
    images = np.random.default_rng(1).normal(size=(BATCH, *SHAPE[1:], SHAPE[0])).astype(np.float32)
    out = folder / "model.tflite"
    example = torch.zeros(1, *SHAPE)
    try:
        done = convert(net, out, example_input=example, int8=True, calibration=images, samples=images)
    except VerificationError:
        done = convert(net, out, example_input=example, samples=images)
    record: Record = {"form": done.dtype, "ops": done.ops, "bytes": done.bytes}
    if count:
        result = simulate(out, "random:1", target=TARGET, reference="numpy")
        if not result.ok:
            raise SystemExit(f"{text}: the generated code does not compute what the reference computes")
        record["instructions"] = result.instructions
    return record


def relative_step(text: str) -> float:
    """Processor time of a training step relative to the baseline's."""
    timed = partial(trained, build=TIMED_NET, steps=TIMED_STEPS, shape=TIMED_SHAPE, batch=TIMED_BATCH)
    pairs = [[timed(name)[1] for name in (text, BASELINE)] for _ in range(2)]
    return min(pair[0] for pair in pairs) / min(pair[1] for pair in pairs)


def measure(text: str, only: str | None = None) -> Record:
    """Everything about one method, or `only` the time of its "step", or what it has "left"."""
    record: Record = {} if only == "left" else {"step": round(relative_step(text), 2)}
    if only != "step":
        with tempfile.TemporaryDirectory() as folder:
            record |= {name: left(text, build, Path(folder)) for name, build in NETS.items()}
    return record


def main() -> int:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--method", action="append")
    parser.add_argument("--only", choices=("step", "left"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    compiler, flags = find_compiler(find_target(TARGET)).identity
    old = json.loads(RECORDS.read_text("utf-8")) if RECORDS.is_file() else {"methods": {}}
    known = old["methods"]
    for text in options.method or cases():
        known[text] = {**known.get(text, {}), **measure(text, options.only)}
        print(f"{text}: {known[text]}", file=sys.stderr)
        ordered = {name: known[name] for name in cases() if name in known}
        content = {"target": TARGET, "compiler": compiler, "flags": flags, "methods": ordered}
        atomic_write_text(RECORDS, json.dumps(content, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
