"""The reference that generated C is measured against.

`LceOracle` runs Larq Compute Engine's own interpreter (reference kernels, no XNNPACK); `NumpyOracle` runs onebit's
NumPy semantics, which tests show to be equal to it, for users who do not have larq-compute-engine installed.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from onebit.core.errors import BadInputError, ToolMissingError, VerificationError
from onebit.core.flatbuffer.decode import Decoder
from onebit.core.flatbuffer.encode import Encoder
from onebit.core.graph import Array
from onebit.core.oracle import NumpyOracle, Oracle

_WORKER = Path(__file__).with_name("_lce_worker.py")


class LceOracle:
    """The LCE interpreter in a child process; raises ToolMissingError where larq-compute-engine is not installed."""

    def __init__(self) -> None:
        library = _interpreter_library()
        if library is None:
            raise ToolMissingError(
                "larq-compute-engine is not installed", fix="pip install 'onebit[oracle]', or use --reference numpy"
            )
        self._library = library
        self.engine = "larq-compute-engine"

    def run(self, model: bytes, x: Array, tensors: Sequence[str]) -> list[Array]:
        """See `Oracle.run`."""
        with tempfile.TemporaryDirectory(prefix="onebit-oracle-") as folder:
            root = Path(folder)
            files = [root / "model.tflite", root / "inputs.npy", root / "outputs.npz"]
            files[0].write_bytes(_with_outputs(model, tensors))
            np.save(files[1], x)
            command = [sys.executable, str(_WORKER), str(self._library), *map(str, files)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
                raise VerificationError(f"the LCE interpreter failed: {reason}", where="LCE interpreter")
            with np.load(files[2]) as outputs:
                return [outputs[f"output_{i}"] for i in range(len(tensors))]


def find_oracle(name: str = "auto") -> Oracle:
    """The oracle `lce` or `numpy`; `auto` takes LCE where it is installed. BadInputError for any other name."""
    if name not in ("auto", "lce", "numpy"):
        raise BadInputError(f"unknown reference '{name}'", where="--reference", fix="choose one of: auto, lce, numpy")
    if name == "numpy" or (name == "auto" and _interpreter_library() is None):
        return NumpyOracle()
    return LceOracle()


def _interpreter_library() -> Path | None:
    """The interpreter's extension module, found without importing the package (which would import TensorFlow)."""
    spec = importlib.util.find_spec("larq_compute_engine")
    for root in (spec.submodule_search_locations or ()) if spec else ():
        for path in sorted(Path(root, "tflite", "python").glob("interpreter_wrapper_lite*")):
            return path
    return None


def _with_outputs(model: bytes, tensors: Sequence[str]) -> bytes:
    """The same file with other model outputs; unchanged where it has just these."""
    record = Decoder(model, "model").root("Model")
    subgraph = record["subgraphs"][0]
    names = [tensor["name"] or f"tensor_{i}" for i, tensor in enumerate(subgraph["tensors"])]
    wanted = [names.index(name) for name in tensors]
    if wanted == [int(i) for i in subgraph["outputs"]]:
        return model
    subgraph["outputs"] = np.array(wanted, np.int32)
    return Encoder().finish("Model", record)
