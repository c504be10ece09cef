"""Trains every method on the same net, data and seeds: the runs behind the comparison in docs/results.md.

    python -m benchmarks.compare_methods --data-dir DIR --out runs/comparison [--method NAME ...] [--seeds 1 2 3]

One run folder per method and seed, `METHOD-sSEED`. Seed by seed, so that an early end leaves whole comparisons. Runs
that are finished are left alone and one that was cut off is resumed, so that the command can be given again and again.
`--worker 0/2` and `--worker 1/2` share the runs between two processes.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from onebit.core.errors import BadInputError
from onebit.train import get_recipe, train
from onebit.train.methods import get_method, method_names
from onebit.train.provenance import RUN_FILE

RECIPE = "cifar10-comparison"


def main() -> int:
    """Train what is missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/comparison"))
    parser.add_argument("--method", action="append", help="NAME or NAME:OPTION=VALUE; default: all that apply")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--worker", default="0/1", metavar="I/N", help="take every N-th run, from the I-th on")
    options = parser.parse_args()
    worker, workers = (int(part) for part in options.worker.split("/"))
    console = Console(stderr=True)
    methods = [get_method(text) for text in options.method or _applicable(console)]
    runs = [(seed, method) for seed in options.seeds for method in methods]
    for seed, method in runs[worker::workers]:
        out = options.out / f"{method.name}-s{seed}"
        if (out / RUN_FILE).is_file():
            continue
        result = train(
            replace(get_recipe(RECIPE), methods=(method,)),
            out=out,
            data_dir=options.data_dir,
            seed=seed,
            threads=options.threads,
            resume=(out / "last.ckpt").is_file(),
        )
        console.print(f"{out.name}: {100 * result.accuracy:.2f} %, {result.seconds:.0f} s")
    return 0


def _applicable(console: Console) -> list[str]:
    """The methods that need no teacher and find something to work on in the recipe's network."""
    names = []
    for name in method_names():
        try:
            get_method(name).attach(get_recipe(RECIPE).model())
        except BadInputError as error:
            console.print(f"{name} is left out: {error}", highlight=False)
        else:
            names.append(name)
    return names


if __name__ == "__main__":
    sys.exit(main())
