"""Trains every method on the same net, data and seeds: the runs behind the comparison in docs/results.md.

    python -m benchmarks.compare_methods --data-dir DIR --out runs/comparison [--method NAME ...] [--seeds 1 2 3]

One run folder per method and seed, `METHOD-sSEED`. Seed by seed, so that an early end leaves whole comparisons. Runs
that are finished are left alone and one that was cut off is resumed, so that the command can be given again and again.
Methods that need a teacher get `teacher`, the same net with real weights, which is trained first. The optimizer Bop is
no method: it has a recipe of its own.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields, replace
from pathlib import Path

from rich.console import Console

from onebit.core.errors import BadInputError
from onebit.train import train
from onebit.train.checkpoint import MODEL_FILE, RESUME_FILE
from onebit.train.methods import METHODS, get_method, method_names
from onebit.train.recipes import Recipe
from onebit.train.recipes.cifar import BOP, COMPARISON, TEACHER


def main() -> int:
    """Train what is missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/comparison"))
    parser.add_argument("--method", action="append", help="NAME or NAME:OPTION=VALUE; default: all that apply")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    console = Console(stderr=True)

    def run(recipe: Recipe, name: str, seed: int) -> Path:
        out: Path = options.out / name
        if not (out / MODEL_FILE).is_file():
            result = train(
                recipe,
                out=out,
                data_dir=options.data_dir,
                seed=seed,
                threads=options.threads,
                resume=(out / RESUME_FILE).is_file(),
            )
            console.print(f"{name}: {100 * result.accuracy:.2f} %, {result.seconds:.0f} s", highlight=False)
        return out / MODEL_FILE

    teacher = run(TEACHER, "teacher", 1)
    methods = [get_method(text) for text in options.method or _applicable(teacher, console)]
    for seed in options.seeds:
        for method in methods:
            run(replace(COMPARISON, methods=(method,)), f"{method.name}-s{seed}", seed)
        if not options.method:
            run(BOP, f"bop-s{seed}", seed)
    return 0


def _applicable(teacher: Path, console: Console) -> list[str]:
    """The methods that find something to work on in the recipe's network, as get_method() takes them."""
    names = []
    for name in method_names():
        teaches = any(field.name == "teacher" for field in fields(METHODS[name]))
        text = f"{name}:teacher={teacher}" if teaches else name
        try:
            get_method(text).attach(COMPARISON.model())
        except BadInputError as error:
            console.print(f"{name} is left out: {error}", highlight=False)
        else:
            names.append(text)
    return names


if __name__ == "__main__":
    sys.exit(main())
