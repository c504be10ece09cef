"""The reference that generated C is measured against.

`LceOracle` runs Larq Compute Engine's own interpreter (reference kernels, no XNNPACK), `onebit.simulate.tflm` that of
TensorFlow Lite Micro; `NumpyOracle` runs onebit's NumPy semantics, which tests show to be equal to both, for users who
have not installed them.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from onebit.core.errors import BadInputError, ToolMissingError, VerificationError
from onebit.core.flatbuffer import read_model
from onebit.core.flatbuffer.excerpt import with_outputs
from onebit.core.graph import Array, Graph
from onebit.core.ops import Conv2d, LceBconv2d
from onebit.core.oracle import NumpyOracle, Oracle
from onebit.core.rounding import Rounding
from onebit.simulate import tflm

log = logging.getLogger(__name__)

_WORKER = Path(__file__).with_name("_lce_worker.py")
#: the samples of one call are shared by so many child processes, of at least so many samples each
MAX_PROCESSES, MIN_SAMPLES = 2, 64
#: the kernels of binary convolutions, as the child process knows them
_REFERENCE, _INDIRECT = "reference", "indirect"
#: name of the interpreter that computes under a rounding
_INTERPRETERS = {Rounding.LITERT: "lce", Rounding.TFLM: "tflm"}


class LceOracle(Oracle):
    """The LCE interpreter in a child process; raises ToolMissingError where larq-compute-engine is not installed.

    A model with an operator that it has no kernel for is left to the NumPy semantics; `engine` then says so.
    """

    def __init__(self) -> None:
        library = _interpreter_library()
        if library is None:
            raise ToolMissingError(
                "larq-compute-engine is not installed", fix="pip install 'onebit[oracle]', or use --reference numpy"
            )
        self._library = library
        self._lacking: set[str] = set()

    @property
    def engine(self) -> str:
        """Who computed the models so far."""
        return f"onebit-numpy, for {', '.join(sorted(self._lacking))}" if self._lacking else "larq-compute-engine"

    def run(self, model: bytes, x: Array, tensors: Sequence[str]) -> list[Array]:
        """See `Oracle.run`: with the reference kernels."""
        return self._run(_REFERENCE, model, x, tensors)

    def run_fast(self, model: bytes, x: Array, tensors: Sequence[str]) -> list[Array]:
        """See `Oracle.run_fast`: binary convolutions by LCE's indirect kernels, a third of the time.

        They add the border of zero padding in float, which breaks exact ties; there the reference kernels stay.
        """
        return self._run(_REFERENCE if _has_zero_padding(model) else _INDIRECT, model, x, tensors)

    def _run(self, kernels: str, model: bytes, x: Array, tensors: Sequence[str]) -> list[Array]:
        try:
            return self._interpreted(kernels, model, x, tensors)
        except VerificationError:
            lacking = _without_kernel(read_model(model))
            if not lacking:
                raise
            if not lacking <= self._lacking:
                log.warning("LCE has no kernel for %s: computed by onebit's semantics", " and ".join(sorted(lacking)))
            self._lacking |= lacking
            return NumpyOracle().run(model, x, tensors)

    def _interpreted(self, kernels: str, model: bytes, x: Array, tensors: Sequence[str]) -> list[Array]:
        count = min(len(os.sched_getaffinity(0)), MAX_PROCESSES, max(1, len(x) // MIN_SAMPLES))
        content = with_outputs(model, tensors)
        with tempfile.TemporaryDirectory(prefix="onebit-oracle-") as folder, ThreadPoolExecutor(count) as threads:
            roots = [Path(folder, str(i)) for i in range(count)]
            parts = threads.map(self._run_part, count * [kernels], roots, count * [content], np.array_split(x, count))
            return [np.concatenate(values) for values in zip(*parts, strict=True)]

    def _run_part(self, kernels: str, root: Path, model: bytes, x: Array) -> list[Array]:
        """The model's outputs, from a child process that works in the new folder `root`."""
        root.mkdir()
        files = [root / "model.tflite", root / "inputs.npy", root / "outputs.npz"]
        files[0].write_bytes(model)
        np.save(files[1], x)
        command = [sys.executable, str(_WORKER), str(self._library), kernels, *map(str, files)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise VerificationError(f"the LCE interpreter failed: {reason}", where="LCE interpreter")
        with np.load(files[2]) as outputs:
            return [outputs[f"output_{i}"] for i in range(len(outputs.files))]


def find_oracle(name: str = "auto", rounding: Rounding = Rounding.LITERT) -> Oracle:
    """The oracle of that name, for models computed under `rounding`.

    `auto` takes the interpreter of the rounding, `lce` or `tflm`, where it is installed, else `numpy`. BadInputError
    for any other name, and for the interpreter of another rounding.
    """
    own = _INTERPRETERS[rounding]
    if name not in ("auto", "numpy", *_INTERPRETERS.values()):
        allowed = ", ".join(("auto", *_INTERPRETERS.values(), "numpy"))
        raise BadInputError(f"unknown reference '{name}'", where="--reference", fix=f"choose one of: {allowed}")
    if name not in ("auto", "numpy", own):
        raise BadInputError(
            f"the reference '{name}' does not round like --rounding {rounding.value}", where="--reference",
            fix=f"choose one of: auto, {own}, numpy",
        )  # fmt: skip
    installed = _interpreter_library() is not None if rounding is Rounding.LITERT else tflm.is_installed()
    if name == "numpy" or (name == "auto" and not installed):
        return NumpyOracle(rounding)
    return LceOracle() if rounding is Rounding.LITERT else tflm.TflmOracle()


def _has_zero_padding(model: bytes) -> bool:
    return any(isinstance(node.op, LceBconv2d) and node.op.window.zero_padded for node in read_model(model).nodes)


def _without_kernel(graph: Graph) -> set[str]:
    """What LCE's interpreter, though not onebit, refuses to run of a model's operators, in words."""
    found = set()
    for node in graph.nodes:
        op, filters = node.op, graph.tensor(node.inputs[1] if len(node.inputs) > 1 else None)
        if isinstance(op, LceBconv2d) and op.window.zero_padded and filters is not None and filters.shape[3] % 2:
            found.add("zero padding of an odd number of channels")
        if isinstance(op, Conv2d) and (len(node.inputs) < 3 or node.inputs[2] is None):
            found.add("CONV_2D without bias")
    return found


def _interpreter_library() -> Path | None:
    """The interpreter's extension module, found without importing the package (which would import TensorFlow)."""
    spec = importlib.util.find_spec("larq_compute_engine")
    for root in (spec.submodule_search_locations or ()) if spec else ():
        for path in sorted(Path(root, "tflite", "python").glob("interpreter_wrapper_lite*")):
            return path
    return None
