"""Child process of `support.lce`: runs LCE models that arrive on stdin, ``python lce_server.py LIBRARY``.

Messages are those of `onebit.simulate._tflm_worker`. A request holds ``model`` (bytes as u8) and ``x`` (samples
[N, ...]); the answer holds ``output_0``, ``output_1``, ..., or ``error``.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import signal
import sys
from types import ModuleType
from typing import Any

import numpy as np

from onebit.simulate._tflm_worker import receive, send

#: the longest that one model may run
SECONDS = 120


def load(library: str) -> ModuleType:
    """The interpreter's extension module, by path: importing its package would import TensorFlow."""
    name = "interpreter_wrapper_lite"
    spec = importlib.util.spec_from_loader(name, importlib.machinery.ExtensionFileLoader(name, library))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def answer(module: ModuleType, request: dict[str, Any]) -> dict[str, Any]:
    """One array per output of the model, one row per sample."""
    try:
        # flatbuffer, threads, reference bconv, indirect bgemm, XNNPACK
        interpreter = module.LiteInterpreter(request["model"].tobytes(), 1, True, False, False)
        rows = [interpreter.predict([sample[np.newaxis]]) for sample in request["x"]]
    except (RuntimeError, ValueError, TypeError) as error:
        return {"error": np.array(str(error))}
    return {f"output_{i}": np.concatenate(column) for i, column in enumerate(zip(*rows, strict=True))}


if __name__ == "__main__":
    interpreter_module = load(sys.argv[1])
    while (message := receive(sys.stdin.buffer)) is not None:
        # a corrupted model may be an endless one: the signal ends the process, as a crash would
        signal.alarm(SECONDS)
        result = answer(interpreter_module, message)
        signal.alarm(0)
        send(sys.stdout.buffer, result)
