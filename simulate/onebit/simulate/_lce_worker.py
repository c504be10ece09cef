"""Child process of the LCE oracle: ``python _lce_worker.py LIBRARY MODEL INPUTS OUTPUTS``.

It imports nothing of onebit and no TensorFlow: the interpreter's extension module is loaded by path. The interpreter
crashes on corrupt files, so it runs in a process of its own, after onebit's reader has accepted the file.
"""

import importlib.machinery
import importlib.util
import sys
from pathlib import Path

import numpy as np


def main(library: str, model: str, inputs: str, outputs: str) -> None:
    """Run every sample of the .npy file INPUTS; write one array per model output to the .npz file OUTPUTS."""
    name = "interpreter_wrapper_lite"
    loader = importlib.machinery.ExtensionFileLoader(name, library)
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    # flatbuffer, threads, reference bconv, indirect bgemm, XNNPACK
    interpreter = module.LiteInterpreter(Path(model).read_bytes(), 1, True, False, False)
    x = np.load(inputs)
    results = [interpreter.predict([sample[np.newaxis]]) for sample in x]
    columns = [np.concatenate(column) for column in zip(*results, strict=True)]
    np.savez(outputs, **{f"output_{i}": column for i, column in enumerate(columns)})


if __name__ == "__main__":
    main(*sys.argv[1:])
