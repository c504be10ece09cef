"""The child process: `main` answers requests, one JSON object a line, until its standard input ends.

| request | answer |
|---|---|
| ``{"do": "load", "path", "folder", "description"}`` | the fields of a Description |
| ``{"do": "convert", "folder"}`` | names, output, notes; writes folder/model.tflite |
| ``{"do": "predict", "folder"}`` | reads folder/x.npy, writes folder/y.npy |
| ``{"do": "step", "folder", "fetch"}`` | signed; reads folder/step.npz (x, signs), writes folder/values.npz |

An answer is ``{"ok": ...}`` or ``{"error": {kind, message, where, fix}}``. What TensorFlow and LCE's converter print
goes to standard error.
"""

from __future__ import annotations

import json
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from onebit.convert.keras.describe import Description
from onebit.convert.keras.safety import checked_copy
from onebit.core.errors import OnebitError, UnsupportedError

#: what LCE's converter says of an operation that it has no counterpart for
_NO_COUNTERPART = re.compile(r"'tf\.(\w+)' op is neither")


class Worker:
    """One loaded source, and what the requests ask of it."""

    def __init__(self) -> None:
        self._source: Any = None

    def load(self, path: str, folder: str, description: dict[str, Any] | None) -> dict[str, Any]:
        source, place = Path(path), Path(folder)
        if source.is_dir():
            from onebit.convert.keras.sources import load_saved_model

            known = None if description is None else Description.from_json(description)
            self._source = load_saved_model(source, place, known)
        else:
            file = checked_copy(source, place)  # before TensorFlow, which takes seconds, is imported
            from onebit.convert.keras.sources import load_file

            self._source = load_file(file)
        found = self._source.description
        return asdict(found)

    def convert(self, folder: str) -> dict[str, Any]:
        from larq_compute_engine.mlir._tf_tfl_flatbuffer import convert_graphdef_to_tflite_flatbuffer

        from onebit.convert.keras.frozen import Nodes, renamed
        from onebit.convert.keras.guards import guard

        guarded, notes = guard(self._source.frozen)
        short, names = renamed(guarded)
        shape = list(self._source.description.input_shape)
        try:
            model = convert_graphdef_to_tflite_flatbuffer(
                short.graph_def.SerializeToString(),
                [short.input], ["DT_FLOAT"], [shape], [short.output],
                False, "arm", None,  # no quantization, target, no default ranges
            )  # fmt: skip
        except Exception as error:  # the converter's exceptions are of no documented class
            raise _refused(str(error), self._source.description.name) from error
        Path(folder, "model.tflite").write_bytes(model)
        source = Nodes(self._source.frozen)
        known = {new: old for new, old in names.items() if old in source.by_name}
        return {"names": known, "output": source.origin(self._source.frozen.output), "notes": notes}

    def predict(self, folder: str) -> dict[str, Any]:
        np.save(Path(folder, "y.npy"), self._source.predict(np.load(Path(folder, "x.npy"))))
        return {}

    def step(self, folder: str, fetch: list[str]) -> dict[str, Any]:
        from onebit.convert.keras.guards import signed_values

        with np.load(Path(folder, "step.npz")) as given:
            signs = {name.removeprefix("imposed:"): given[name] for name in given.files if name != "x"}
            runner = self._source.runner
            signed = signed_values(self._source.frozen, runner, signs)
            imposed = {name: signs[name].reshape(runner.shape(name)) for name in signed}
            values = runner.values([*signed.values(), *fetch], given["x"], imposed)
        np.savez(Path(folder, "values.npz"), **{f"value_{i}": value for i, value in enumerate(values)})
        return {"signed": list(signed)}


def _refused(message: str, name: str) -> UnsupportedError:
    operations = sorted(set(_NO_COUNTERPART.findall(message)))
    if operations:
        return UnsupportedError(
            f"operations without counterpart: {', '.join(operations)}", where=name, fix="build the model without them"
        )
    reason = (message.strip().splitlines() or ["no reason given"])[0]
    return UnsupportedError(f"LCE's converter refuses it: {reason}", where=name, fix="build the model of other layers")


def main() -> None:
    """Answer requests from standard input."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.simplefilter("ignore")
    worker = Worker()
    actions: dict[str, Callable[..., dict[str, Any]]] = {
        "load": worker.load, "convert": worker.convert, "predict": worker.predict, "step": worker.step
    }  # fmt: skip
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer: dict[str, Any] = {"ok": actions[request.pop("do")](**request)}
        except OnebitError as error:
            answer = {"error": error.as_dict()}
        except Exception as error:  # noqa: BLE001 - TensorFlow raises whatever it stumbles over
            traceback.print_exc()
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            found = UnsupportedError(f"TensorFlow stops with {type(error).__name__}: {reason}", fix="report it")
            answer = {"error": found.as_dict()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
