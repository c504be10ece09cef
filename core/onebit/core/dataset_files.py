"""The files behind the named data sets: where they are looked for, how they are downloaded, decompressed and parsed.

Every reader checks what it reads; a damaged or foreign file raises `BadInputError` that names it.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import importlib.util
import lzma
import os
import urllib.request
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from onebit.core.errors import BadInputError, ToolMissingError
from onebit.core.files import atomic_write_bytes

DATA_DIR_VARIABLE = "ONEBIT_DATA_DIR"
DOWNLOAD_TIMEOUT_S = 60

_SUBFOLDERS = {
    "mnist": ("mnist", "MNIST/raw", "."),
    "fashion_mnist": ("fashion_mnist", "fashion-mnist", "fashion", "FashionMNIST/raw", "."),
    "cifar10": ("cifar10", "cifar-10-batches-bin", "cifar10/cifar-10-batches-bin", "."),
}
"""Where a data set may lie below --data-dir, ONEBIT_DATA_DIR and the cache, in order."""

_SYSTEM_FOLDERS = {"fashion_mnist": (Path("/usr/share/datasets/fashion-mnist"),)}
"""Folders of Debian packages (dataset-fashion-mnist)."""

_MIRRORS = {
    "mnist": "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "fashion_mnist": "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
}
"""Public addresses, for the data sets whose content hashes are known below."""

_CONTENT_SHA256 = {
    # The decompressed IDX content: a mirror may compress it in its own way. MNIST: the official files; Fashion-MNIST:
    # Debian's dataset-fashion-mnist 0.0~git20200523.55506a9-1.
    "mnist": {
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
    "fashion_mnist": {
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
}


def cache_dir() -> Path:
    """``~/.cache/onebit`` (below ``XDG_CACHE_HOME`` if that is set): where downloads go."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "onebit"


@dataclass(frozen=True)
class Search:
    """Where to look for the files of the data set `name`, and whether they may be downloaded.

    `mirror` replaces the base address of the download (any scheme of urllib, ``file://`` too).
    """

    name: str
    data_dir: Path | None = None
    download: bool = False
    mirror: str | None = None

    def folders(self) -> list[Path]:
        """All folders to look in, in order."""
        bases = [self.data_dir] if self.data_dir is not None else []
        if os.environ.get(DATA_DIR_VARIABLE):
            bases.append(Path(os.environ[DATA_DIR_VARIABLE]))
        bases.append(cache_dir())
        below = [base / sub for base in bases for sub in _SUBFOLDERS[self.name]]
        return [*below, *_SYSTEM_FOLDERS.get(self.name, ())]

    def candidates(self, *names: str) -> Iterator[Path]:
        """The existing files of these names, best place first."""
        return (folder / name for folder in self.folders() for name in names if (folder / name).is_file())

    def missing(self, file: str) -> BadInputError:
        """The error for a file that is nowhere."""
        bases = [str(self.data_dir)] if self.data_dir is not None else []
        if os.environ.get(DATA_DIR_VARIABLE):
            bases.append(f"{os.environ[DATA_DIR_VARIABLE]} ({DATA_DIR_VARIABLE})")
        bases += [str(cache_dir()), *map(str, _SYSTEM_FOLDERS.get(self.name, ()))]
        fix = f"pass --data-dir with the folder that holds it, or set {DATA_DIR_VARIABLE}"
        if self.name in _MIRRORS and not self.download:
            fix += ", or pass --download"
        elif self.name not in _MIRRORS:
            fix += f" (onebit has no verified download of {self.name})"
        return BadInputError(f"data set {self.name}: {file} is not in {', '.join(bases)}", fix=fix)


SUMS_FILE = "SHA256SUMS"


def _check_sum(path: Path, data: bytes) -> None:
    """BadInputError if a SHA256SUMS beside the file (lines of "hash  name", as sha256sum writes them) has another."""
    sums = path.parent / SUMS_FILE
    if not sums.is_file():
        return
    lines = (line.split(maxsplit=1) for line in sums.read_text("utf-8", "replace").splitlines())
    listed = {words[1].strip().lstrip("*"): words[0].lower() for words in lines if len(words) == 2}
    found = hashlib.sha256(data).hexdigest()
    if listed.get(path.name, found) != found:
        raise BadInputError(
            f"has sha256 {found}, {SUMS_FILE} beside it says {listed[path.name]}",
            where=str(path),
            fix="the file is damaged or another one: get it again",
        )


def read_compressed(path: Path) -> bytes:
    """The content of a file, decompressed if its name ends in .gz or .xz; its hash is checked if SHA256SUMS has one."""
    try:
        data = path.read_bytes()
        _check_sum(path, data)
        if path.suffix == ".gz":
            return gzip.decompress(data)
        return lzma.decompress(data) if path.suffix == ".xz" else data
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise BadInputError(f"damaged file: {error}", where=str(path), fix="get the file again") from error
    except OSError as error:
        raise BadInputError(f"cannot be read: {error.strerror or error}", where=str(path)) from error


def find_idx(search: Search, file: str) -> tuple[Path, bytes]:
    """Path and content of the IDX file `file` (its name without .gz), downloaded if it is nowhere and may be.

    MNIST and Fashion-MNIST use the same file names: a file whose content is known to be the other set's is passed over.
    """
    foreign = {hashes[file]: name for name, hashes in _CONTENT_SHA256.items() if name != search.name}
    for path in search.candidates(file, f"{file}.gz", file.replace("-idx", ".idx")):
        content = read_compressed(path)
        if hashlib.sha256(content).hexdigest() not in foreign:
            return path, content
    if not search.download:
        raise search.missing(f"{file}.gz")
    return _download_idx(search, file)


def is_official(search: Search, file: str, content: bytes) -> bool:
    """Whether the content of an IDX file is the published one."""
    return hashlib.sha256(content).hexdigest() == _CONTENT_SHA256[search.name][file]


def _download_idx(search: Search, file: str) -> tuple[Path, bytes]:
    url = (search.mirror or _MIRRORS[search.name]).rstrip("/") + f"/{file}.gz"
    try:
        with urllib.request.urlopen(url, timeout=DOWNLOAD_TIMEOUT_S) as response:  # noqa: S310 - hash checked
            packed: bytes = response.read()
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise BadInputError(
            f"data set {search.name}: download failed: {error}",
            where=url,
            fix=f"check the network, or pass --data-dir with a folder that holds {file}.gz",
        ) from error
    try:
        content = gzip.decompress(packed)
    except (OSError, EOFError, zlib.error) as error:
        raise BadInputError("the download is no gzip file", where=url, fix="try again later") from error
    found = hashlib.sha256(content).hexdigest()
    if found != _CONTENT_SHA256[search.name][file]:
        raise BadInputError(
            f"the download has content sha256 {found}, expected {_CONTENT_SHA256[search.name][file]}",
            where=url,
            fix="nothing was kept; get the file from another source and pass --data-dir",
        )
    path = cache_dir() / search.name / f"{file}.gz"
    atomic_write_bytes(path, packed)
    return path, content


def parse_idx(content: bytes, dimensions: int, path: Path) -> npt.NDArray[np.uint8]:
    """A uint8 IDX array of that many dimensions (big-endian header: magic 0x0000080n, then n sizes)."""
    header = 4 + 4 * dimensions
    if len(content) < header or content[:4] != bytes((0, 0, 8, dimensions)):
        raise BadInputError(
            f"is no IDX file of uint8 with {dimensions} dimensions", where=str(path), fix="get it again"
        )
    shape = np.frombuffer(content, ">u4", dimensions, 4).astype(np.int64)
    if len(content) - header != int(np.prod(shape)):
        raise BadInputError(
            f"IDX file of shape {tuple(map(int, shape))} holds {len(content) - header} bytes of data",
            where=str(path),
            fix="the file is truncated or damaged; get it again",
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(tuple(shape))


def parse_cifar10(content: bytes, path: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Images uint8 [N, 32, 32, 3] and labels int64 [N] of CIFAR-10's binary layout (label byte, then CHW planes)."""
    record = 1 + 3 * 32 * 32
    if not content or len(content) % record:
        raise BadInputError(
            f"{len(content)} bytes are no whole number of CIFAR-10 records of {record} bytes",
            where=str(path),
            fix="the file is truncated or damaged; get it again",
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, record)
    labels = records[:, 0].astype(np.int64)
    if labels.max() > 9:
        raise BadInputError(f"label {labels.max()} in a CIFAR-10 file", where=str(path), fix="labels are 0 to 9")
    return np.ascontiguousarray(records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)), labels


def package_file(package: str, relative: str) -> Path:
    """A data file inside an installed Python package, found without importing that package."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        distribution = {"sklearn": "scikit-learn"}.get(package, package)
        raise ToolMissingError(
            f"the data comes with the Python package {distribution}, which is not installed",
            fix=f"pip install {distribution} (or onebit[data])",
        )
    path = Path(spec.origin).parent / relative
    if not path.is_file():
        raise ToolMissingError(
            f"{relative} is missing from package {package}", where=str(path.parent), fix="reinstall it"
        )
    return path


def parse_integer_csv(path: Path, rows: int, columns: int, largest: int) -> npt.NDArray[np.int64]:
    """A table of non-negative decimal numbers, int64 [rows, columns], with every value checked against `largest`."""
    text = read_compressed(path).replace(b"\n", b",").decode("ascii", "replace")
    with warnings.catch_warnings():
        # NumPy stops at foreign text with a DeprecationWarning (an error from some version on): the count tells too.
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            values = np.fromstring(text, dtype=np.int64, sep=",")
        except ValueError:
            values = np.empty(0, np.int64)
    if values.size != rows * columns or values.min() < 0 or values.max() > largest:
        raise BadInputError(
            f"is no table of {rows} x {columns} numbers from 0 to {largest}",
            where=str(path),
            fix="reinstall its package",
        )
    return values.reshape(rows, columns)
