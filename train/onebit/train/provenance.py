"""run.json: what a reader of an accuracy figure has to know about the run behind it."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from onebit.core.datasets import Dataset
from onebit.core.errors import BadInputError
from onebit.core.files import atomic_write_text
from onebit.train.methods import Method

RUN_FILE = "run.json"


@dataclass(frozen=True)
class RunIdentity:
    """What decides a run to the bit: a resume must find the same.

    `methods` are those of the recipe with their settings, as text; `started_from` names the model that the run started
    from and its epochs, None for random weights, and `start_sha256` is the hash of its file. `train_sha256` and
    `test_sha256` are those of `onebit.core.datasets.Dataset`: equal hashes mean the same samples in the same order.
    `teacher_sha256` are the hashes of the files that methods learn from. What has a default here is missing in files of
    earlier versions; `train_sha256` is empty there.
    """

    recipe: str
    recipe_sha256: str
    epochs: int
    seed: int
    threads: int
    devices: int
    methods: tuple[str, ...] = ()
    train_sha256: str = ""
    test_sha256: str = ""
    started_from: str | None = None
    start_sha256: str | None = None
    teacher_sha256: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RunRecord(RunIdentity):
    """`accuracy` is the share (0 to 1) of the test split after the last epoch, `seconds` the wall time; None before."""

    description: str
    dataset: str
    train_images: int
    test_images: int
    data_note: str
    processor: str
    torch: str
    accuracy: float | None = None
    seconds: float | None = None


def data_facts(train: Dataset, test: Dataset) -> dict[str, Any]:
    """The entries of a `RunRecord` that the data decides."""
    return {
        "train_images": len(train),
        "train_sha256": train.sha256,
        "test_images": len(test),
        "test_sha256": test.sha256,
        "data_note": test.note,
    }


def file_sha256(path: Path | str) -> str:
    """The hash of the file's bytes."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def teacher_hashes(methods: tuple[Method, ...]) -> tuple[str, ...]:
    """The hashes of the teachers that are files, in the order of the methods."""
    teachers = (getattr(method, "teacher", None) for method in methods)
    return tuple(file_sha256(teacher) for teacher in teachers if isinstance(teacher, str))


def processor(device: torch.device) -> str:
    """The GPU's name, or the processor's with its number of cores."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    count = torch.get_num_threads()
    return f"{_cpu_name()}, {count} {'thread' if count == 1 else 'threads'}"


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def save_record(path: Path, record: RunRecord) -> None:
    """Writes run.json."""
    atomic_write_text(path, json.dumps(asdict(record), indent=2) + "\n")


def load_record(path: Path) -> RunRecord:
    """Reads run.json; BadInputError if it is missing or not one."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        return RunRecord(**{**values, **lists})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BadInputError(
            f"is no record of a run: {error}", where=str(path), fix="pass a folder that onebit train wrote"
        ) from error
