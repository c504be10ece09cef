"""Many small models as one shared library of the host: one build for a whole table of nets.

Every model is generated as a user would get it and compiled with ONEBIT_LAYERS, so that each step's output can be read.
"""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onebit.codegen import Program, generate
from onebit.core import Graph, write_model
from onebit.core.graph import Array
from onebit.simulate.compare import Comparison, compare_tensor, decode_buffer, inexact_tensors, split_values
from onebit.simulate.toolchain import BASE_FLAGS, MODEL_FLAGS, WARNINGS, Compiler

STRICT = (*BASE_FLAGS, *MODEL_FLAGS, *WARNINGS)
"""The flags under which generated C and kernels must compile without a word."""

_RECORDER = """
#include <stddef.h>
#include <string.h>
static unsigned char *next;
void onebit_record(unsigned char *place);
void onebit_layer(unsigned layer, const void *data, size_t bytes);
void onebit_record(unsigned char *place) { next = place; }
void onebit_layer(unsigned layer, const void *data, size_t bytes)
{
    (void)layer;
    memcpy(next, data, bytes);
    next += bytes;
}
"""


@dataclass(frozen=True)
class HostCode:
    """A shared library with the models of a table, and what each was compiled from."""

    library: ctypes.CDLL
    programs: Mapping[str, Program]

    def run(self, name: str, x: Array) -> dict[str, Array]:
        """The value of every tensor that the code holds in memory, in stored form ``[N, ...]``."""
        program = self.programs[name]
        source, buffers = program.source, program.buffers()
        recorded = np.zeros((len(x), sum(buffer.nbytes for buffer in buffers)), np.uint8)
        y = np.zeros((len(x), source.output.nbytes), np.uint8)
        samples = np.ascontiguousarray(x).view(np.uint8).reshape(len(x), -1)
        invoke = getattr(self.library, f"{name}_invoke")
        for i in range(len(x)):
            self.library.onebit_record(ctypes.c_void_p(recorded[i].ctypes.data))
            assert invoke(ctypes.c_void_p(samples[i].ctypes.data), ctypes.c_void_p(y[i].ctypes.data)) == 0
        parts = split_values(recorded, buffers)
        values = {
            b.tensor.name: decode_buffer(parts[b.tensor.name], b) for b in buffers if b.tensor.name in source.tensors
        }
        dtype = source.output.dtype.numpy
        values[source.outputs[0]] = y.view(dtype).reshape(len(x), *source.output.stored_shape[1:])
        return values

    def compare(self, name: str, x: Array, expected: Mapping[str, Array]) -> list[Comparison]:
        """Every tensor in memory against its expected value, in execution order."""
        graph = self.programs[name].source
        inexact = inexact_tensors(graph)
        values = self.run(name, x)
        found = []
        for node in graph.nodes:
            if node.output in values:
                tensor = graph.tensors[node.output]
                want = expected[node.output].reshape(len(x), *tensor.stored_shape[1:])
                inexactly = node.output in inexact
                found.append(compare_tensor(tensor, node.op.name, want, values[node.output], inexact=inexactly))
        return found


def generate_all(graphs: Mapping[str, Graph], folder: Path, target: str = "host") -> dict[str, Program]:
    """The sources of all models in one flat folder; the name of a model is its C prefix."""
    return {
        name: generate(write_model(graph), target, folder, name=name, rounding=graph.rounding).program
        for name, graph in graphs.items()
    }


def build(
    graphs: Mapping[str, Graph], folder: Path, compiler: Compiler, *, target: str = "host", extra: Sequence[str] = ()
) -> HostCode:
    """Generate and compile `graphs` for the host: no warning under the strict flags, or VerificationError."""
    sources = folder / "sources"
    programs = generate_all(graphs, sources, target)
    recorder = folder / "recorder.c"
    recorder.write_text(_RECORDER)
    flags = ("-fPIC", *MODEL_FLAGS, *WARNINGS, *extra)
    defines = ("ONEBIT_LAYERS=1",)
    objects = compiler.compile(
        [*sorted(sources.glob("*.c")), recorder], folder / "objects", include=(sources,), defines=defines, extra=flags
    )
    library = folder / "models.so"
    link = [*compiler.command, *compiler.flags, *extra, "-shared", *map(str, objects), "-o", str(library)]
    subprocess.run(link, check=True, capture_output=True)
    return HostCode(ctypes.CDLL(str(library)), programs)
