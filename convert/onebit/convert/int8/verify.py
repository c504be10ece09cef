"""An int8 file against the fake-quantized float graph, before the file is kept.

Every operator is recomputed in float from the values that the file itself holds for its inputs, rounded to the file's
scales, and compared with what the file holds for its output: int8 may differ by 1 step, bits not at all. Going on from
the file's values makes the comparison sharp: a tie that LiteRT's fixed-point arithmetic rounds otherwise is one step
here, and not the start of another computation. So the last operator alone decides the argmax, which is compared on all
samples; the layers are compared on as many as `fitting_samples` says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from onebit.convert.int8.fake_quant import FakeQuantized
from onebit.convert.samples import fitting_samples, spread
from onebit.core import DType, Node, Tensor
from onebit.core.errors import VerificationError
from onebit.core.graph import Array
from onebit.core.oracle import Oracle

INT8_TOLERANCE = 1
"""Allowed difference of int8 tensors, in steps."""

MAX_TIES = 0.6
"""Share of a tensor's elements, ties left out, that may differ by that step; more is not another rounding.

Fixed-point arithmetic differs in about 0.1 %, LiteRT's MEAN over axes 1 and 2 in up to half: it rounds zero points.
"""

MIN_ELEMENTS = 100
"""In a tensor of fewer elements (all samples together) the share says nothing."""

INT8_ARGMAX = 0.999
"""Share of the samples whose argmax must be equal."""

FLOAT_TOLERANCE = 1e-4
"""Allowed difference of a tensor that stays in float, relative to its largest magnitude."""

CHUNK = 32
"""Samples that are recomputed together; bounds the memory of the windows."""


@dataclass(frozen=True)
class Agreement:
    """In how many of `samples` the argmax is equal, and `max_step_diff` over all int8 tensors of `layer_samples`.

    `choices` int [samples] are the classes that the file chooses; `values` has what it computes for those of
    `layer_samples`, evenly spaced samples, in every tensor.
    """

    samples: int
    max_step_diff: int
    argmax_equal: int
    layer_samples: int
    choices: Array = field(repr=False, compare=False)
    values: Mapping[str, Array] = field(repr=False, compare=False)


def compare_int8(fake: FakeQuantized, model: bytes, x: Array, oracle: Oracle) -> Agreement:
    """Compare the file `model` (read as `fake.file`) with `fake` on stored inputs `x`.

    VerificationError names the first operator that differs.
    """
    file = fake.file
    names = [t.name for t in file.activations()]
    by_layer = spread(x, fitting_samples(file))
    values = {file.input.name: by_layer, **dict(zip(names, oracle.run(model, by_layer, names), strict=True))}
    starts = range(0, len(by_layer), CHUNK)
    worst = max(_compare_layers(fake, {n: v[at : at + CHUNK] for n, v in values.items()}) for at in starts)
    got, wanted = _outputs(fake, model, x, oracle)
    choices = _choices(got)
    equal = int((choices == _choices(wanted)).sum())
    if equal < INT8_ARGMAX * len(x):
        raise VerificationError(
            f"the argmax equals that of the fake-quantized model for {equal} of {len(x)} samples, needed are "
            f"{INT8_ARGMAX:.1%}",
            where=f"output '{file.output.name}'",
            fix="nothing was written; please report this model",
        )
    return Agreement(len(x), worst, equal, len(by_layer), choices, values)


def _outputs(fake: FakeQuantized, model: bytes, x: Array, oracle: Oracle) -> tuple[Array, Array]:
    """The file's output and that of the fake-quantized last operator, which goes on from the file's values."""
    file, last = fake.file, fake.source.producer(fake.source.output.name)
    if last is None:
        return x, x
    read = {name for name in last.inputs if name is not None and file.producer(name) is not None}
    names = [file.output.name, *sorted(read - {file.output.name})]
    found = {file.input.name: x, **dict(zip(names, oracle.run_fast(model, x, names), strict=True))}
    return found[file.output.name], fake.output({fake.source.output.name: fake.step(last, found).values})


def _choices(values: Array) -> Array:
    return np.asarray(values.reshape(len(values), -1).argmax(axis=1))


def _compare_layers(fake: FakeQuantized, found: Mapping[str, Array]) -> int:
    """The largest difference in steps."""
    worst = 0
    for node in fake.source.nodes:
        step = fake.step(node, found)
        wanted = step.values
        tensor, got = fake.file.tensors[node.output], found[node.output]
        difference = np.nan_to_num(np.abs(got.astype(np.float64) - wanted), nan=np.inf)
        tolerance = _tolerance(tensor, wanted)
        decided = difference if step.ties is None else difference[~step.ties]
        rounded = tensor.dtype is DType.INT8 and decided.size >= MIN_ELEMENTS and (decided > 0).mean() > MAX_TIES
        if difference.max() > tolerance or rounded:
            raise _differs(node, got, wanted, difference)
        if tensor.dtype is DType.INT8:
            worst = max(worst, int(difference.max()))
    return worst


def _tolerance(tensor: Tensor, wanted: Array) -> float:
    if tensor.dtype is DType.INT8:
        return INT8_TOLERANCE
    return FLOAT_TOLERANCE * float(np.abs(wanted).max()) if tensor.dtype is DType.FLOAT32 else 0.0


def _differs(node: Node, got: Array, wanted: Array, difference: Array) -> VerificationError:
    worst = tuple(int(i) for i in np.unravel_index(int(difference.argmax()), difference.shape))
    return VerificationError(
        f"the file does not compute what the fake-quantized model computes: {(difference > 0).mean():.2%} of the "
        f"elements differ, most at {list(worst)}: {got[worst]:g}, expected {wanted[worst]:g}",
        where=node.describe(),
        fix="nothing was written; please report this model",
    )
