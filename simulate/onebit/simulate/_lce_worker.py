"""Child process of the LCE oracle: ``python _lce_worker.py LIBRARY KERNELS MODEL INPUTS OUTPUTS``.

It imports nothing of onebit and no TensorFlow: the interpreter's extension module is loaded by path. The interpreter
crashes on corrupt files, so it runs in a process of its own, after onebit's reader has accepted the file.
"""

import importlib.machinery
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np


def main(library: str, kernels: str, model: str, inputs: str, outputs: str) -> None:
    """Run every sample of the .npy file INPUTS; write one array per model output to the .npz file OUTPUTS.

    KERNELS are those of binary convolutions, "reference" or "indirect", of which the latter do not know all forms; a
    model with another one runs in the reference kernels.
    """
    name = "interpreter_wrapper_lite"
    loader = importlib.machinery.ExtensionFileLoader(name, library)
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    interpreter = make(module, Path(model).read_bytes(), kernels)
    x = np.load(inputs)
    results = [interpreter.predict([sample[np.newaxis]]) for sample in x]
    columns = [np.concatenate(column) for column in zip(*results, strict=True)]
    np.savez(outputs, **{f"output_{i}": column for i, column in enumerate(columns)})


def make(module: ModuleType, model: bytes, kernels: str) -> Any:
    """The interpreter of a model."""
    if kernels == "indirect":
        try:
            # flatbuffer, threads, reference bconv, indirect bgemm, XNNPACK
            return module.LiteInterpreter(model, 1, False, True, False)
        except RuntimeError:
            pass  # a form of convolution that only the reference kernels know
    return module.LiteInterpreter(model, 1, True, False, False)


if __name__ == "__main__":
    main(*sys.argv[1:])
