"""The parent's side of the child process that has TensorFlow."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from onebit.convert.keras.describe import Description
from onebit.core.errors import BadInputError, ToolMissingError, UnsupportedError
from onebit.core.graph import Array

PACKAGES = ("tensorflow", "tf_keras", "larq", "larq_compute_engine")

#: the current folder must not offer its modules to the child, which is to run no code but ours
_COMMAND = "import sys; del sys.path[0]; from onebit.convert.keras.worker import main; main()"


@dataclass(frozen=True)
class RawFile:
    """What LCE's converter made of a guarded source.

    `names`: the node of the source's graph behind each short name that the file's tensor names consist of; `output` is
    the node whose value the model returns.
    """

    model: bytes
    names: Mapping[str, str]
    output: str
    notes: tuple[str, ...]


class KerasProcess:
    """One child process, which holds one source at a time; a context manager. ToolMissingError without TensorFlow."""

    def __init__(self) -> None:
        missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
        if missing:
            raise ToolMissingError(f"not installed: {', '.join(missing)}", fix="pip install 'onebit[keras]'")
        self._temporary = tempfile.TemporaryDirectory(prefix="onebit-keras-")
        self._folder = Path(self._temporary.name)
        self._loaded = 0
        self._log = (self._folder / "log").open("w+b")
        self._process = subprocess.Popen(
            [sys.executable, "-c", _COMMAND],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, encoding="utf-8",
        )  # fmt: skip

    def __enter__(self) -> KerasProcess:  # noqa: PYI034 (Self is newer than Python 3.10)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the child process and remove its files."""
        self._process.kill()
        self._process.communicate()
        self._log.close()
        self._temporary.cleanup()

    def load(self, path: Path, description: Description | None = None) -> Description:
        """Load a file, or with a `description` a SavedModel that onebit has saved itself (see `sources`)."""
        self._loaded += 1
        folder = self._folder / str(self._loaded)
        folder.mkdir()
        known = None if description is None else asdict(description)
        return Description.from_json(
            self._ask("load", path=str(path.absolute()), folder=str(folder), description=known)
        )

    def convert(self) -> RawFile:
        """The loaded source through the guards and LCE's converter."""
        found = self._ask("convert", folder=str(self._folder))
        model = (self._folder / "model.tflite").read_bytes()
        return RawFile(model, found["names"], found["output"], tuple(found["notes"]))

    def predict(self, x: Array) -> Array:
        """What the source itself computes, [N, ...], for inputs [N, ...]."""
        np.save(self._folder / "x.npy", x)
        self._ask("predict", folder=str(self._folder))
        y: Array = np.load(self._folder / "y.npy")
        return y

    def step(
        self, x: Array, signs: Mapping[str, Array], values: Sequence[str]
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """The source's graph on one sample [1, ...], going on from imposed `signs` (node -> +1/-1 values).

        Gives the values that are signed, by the node of their sign, for those of `signs` that are signs of the source,
        and the `values` of other nodes, by name.
        """
        np.savez(self._folder / "step.npz", x=x, **{f"imposed:{name}": value for name, value in signs.items()})
        signed = self._ask("step", folder=str(self._folder), fetch=list(values))["signed"]
        with np.load(self._folder / "values.npz") as found:
            results = [found[f"value_{i}"] for i in range(len(signed) + len(values))]
        return dict(zip(signed, results, strict=False)), dict(zip(values, results[len(signed) :], strict=True))

    def _ask(self, action: str, **arguments: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        line = ""
        try:
            self._process.stdin.write(json.dumps({"do": action, **arguments}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            pass
        if not line:
            code = self._process.wait()
            ended = f"signal {-code}" if code < 0 else f"exit code {code}"
            raise UnsupportedError(
                f"TensorFlow or LCE's converter ended with {ended}: {self._last_words()}",
                where=f"{action} of the Keras model",
                fix="build the model of other layers, or report it",
            )
        answer = json.loads(line)
        if "error" in answer:
            error = answer["error"]
            kind = UnsupportedError if error["kind"] == UnsupportedError.kind else BadInputError
            raise kind(error["message"], where=error["where"], fix=error["fix"])
        return answer["ok"]

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1][:200] if lines else "no message"
