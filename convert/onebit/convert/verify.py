"""Source model against written file, before the file is kept.

Float: the outputs agree within `FLOAT_TOLERANCE` of the logits' range, with equal argmax. A float network with signs in
it may also take another turn where a value is zero up to rounding; a sample that disagrees is therefore run again in
steps, in which every sign decision of the file must be the source's unless the source's value is within `TIE_TOLERANCE`
of zero, and the steps continue from the file's decisions. Int8: at most 1 step of difference against the fake-quantized
source, and equal argmax on 99.9 % of the samples.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import fx, nn

from onebit.convert.fake_quant import FakeQuantized
from onebit.convert.samples import channels_first, file_input, like_source, real_values
from onebit.convert.torch_source import SIGNING_KINDS, Imported
from onebit.core import DType, Graph, evaluate, read_model
from onebit.core.bits import signs
from onebit.core.errors import VerificationError
from onebit.core.graph import Array

FLOAT_TOLERANCE = 1e-4
"""Allowed difference of float outputs, relative to the range of the source's outputs."""

TIE_TOLERANCE = 1e-5
"""How far from 0, relative to the tensor's largest magnitude, a value may be whose sign flips."""

MAX_FLIPPED = 0.01
"""Share of the samples that may contain a flipped sign; more of them is a wrong conversion, not rounding."""

INT8_TOLERANCE = 1
"""Allowed difference of int8 outputs, in steps."""

INT8_ARGMAX = 0.999
"""Share of the samples whose argmax must be equal in int8."""

log = logging.getLogger(__name__)


class Oracle(Protocol):
    """Computes named tensors of a `.tflite` model (`onebit.simulate.oracle` has the LCE interpreter)."""

    engine: str

    def run(self, model: bytes, x: Array, tensors: Sequence[str]) -> list[Array]:
        """Values ``[N, ...]`` in stored form of the named activations for inputs `x` ``[N, ...]``."""
        ...


class CoreOracle:
    """onebit's own NumPy semantics on the written file."""

    engine = "onebit-numpy"

    def run(self, model: bytes, x: Array, tensors: Sequence[str]) -> list[Array]:
        """See `Oracle.run`."""
        values = evaluate(read_model(model), x, tensors)
        return [values[name] for name in tensors]


@dataclass(frozen=True)
class Verified:
    """What was compared: `max_abs_diff` in logits (float) or steps (int8), over samples without a flipped sign.

    `argmax_equal` counts samples, of `samples` in all; `sign_flips` counts the samples in which a sign of a value that
    is zero up to rounding was decided otherwise (float only).
    """

    samples: int
    max_abs_diff: float
    argmax_equal: int
    sign_flips: int
    engine: str


def verify(imported: Imported, model: bytes, samples: Array, oracle: Oracle) -> Verified:
    """Compare the source with the file `model` on checked samples; VerificationError names the first wrong layer."""
    graph = read_model(model)
    x = file_input(samples, graph.input, graph.metadata)
    if graph.output.dtype is DType.INT8:
        return _verify_int8(imported, graph, model, x, oracle)
    if graph.input.dtype is DType.INT8:
        raise VerificationError("int8 input with float output", where="the model", fix="convert it again")
    return _verify_float(imported, graph, model, real_values(samples, graph.metadata), oracle)


# --------------------------------------------------------------------------------------------------------------- float


def _verify_float(imported: Imported, graph: Graph, model: bytes, x: Array, oracle: Oracle) -> Verified:
    wanted = _source_logits(imported.traced.module, x)
    (got,) = oracle.run(model, x, [graph.output.name])
    tolerance = FLOAT_TOLERANCE * max(float(np.ptp(wanted)), float(np.finfo(np.float32).tiny))
    difference = np.abs(got - wanted).max(axis=1)
    equal = got.argmax(axis=1) == wanted.argmax(axis=1)
    # classes whose logits are equal up to the tolerance may change places
    tied = wanted.max(axis=1) - np.take_along_axis(wanted, got.argmax(axis=1)[:, None], 1)[:, 0] <= tolerance
    bad = ~(difference <= tolerance) | ~(equal | tied)
    flipped = int(bad.sum())
    if flipped:
        log.info("%d of %d samples differ end to end; comparing them step by step", flipped, len(x))
        _explain(imported, graph, model, x[bad], oracle, tolerance)
        if flipped > max(1, MAX_FLIPPED * len(x)):
            raise VerificationError(
                f"signs of values near zero flip in {flipped} of {len(x)} samples, allowed are {MAX_FLIPPED:.0%}",
                where="convert",
                fix="verify with real samples, or train without values that are exactly zero",
            )
    rest = difference[~bad]
    return Verified(len(x), float(rest.max()) if len(rest) else 0.0, int(equal.sum()), flipped, oracle.engine)


def _source_logits(module: nn.Module, x: Array) -> Array:
    parts = []
    with torch.no_grad():
        for start in range(0, len(x), 256):
            parts.append(module(torch.from_numpy(channels_first(x[start : start + 256]))).numpy())
    return np.concatenate(parts)


def _explain(imported: Imported, graph: Graph, model: bytes, x: Array, oracle: Oracle, tolerance: float) -> None:
    """Return if flipped signs of values near zero are all that is different; else VerificationError."""
    names = [t.name for t in graph.activations()]
    found = dict(zip(names, oracle.run(model, x, names), strict=True))
    stepped = _Stepped(imported, graph, found)
    with torch.no_grad():
        logits = stepped.run(torch.from_numpy(channels_first(x))).numpy()
    got = found[graph.output.name]
    if not np.abs(got - logits).max() <= tolerance:
        raise _differs(imported, imported.traced.output, graph.output.name, got, logits, tolerance)


class _Stepped(fx.Interpreter):
    """The source in steps: each tensor that the file has too is compared; signs continue with the file's decisions."""

    def __init__(self, imported: Imported, graph: Graph, found: dict[str, Array]) -> None:
        super().__init__(imported.traced.graph_module)
        self._imported = imported
        self._graph = graph
        self._found = found
        self._compared: set[str] = set()

    def run_node(self, n: fx.Node) -> Any:
        if n.op != "call_module":
            return super().run_node(n)
        (source,) = (arg for arg in n.args if isinstance(arg, fx.Node))
        module = self._imported.traced.layer(n)
        x = self.env[source]
        sign = self._imported.signs.get(n)
        if sign in self._found and getattr(module, "onebit_kind", None) in SIGNING_KINDS:
            x = self._decided(source, sign, x)
        y = module(x)
        name = self._imported.values[n].tensor
        if name in self._found and name not in self._compared:
            self._compared.add(name)
            wanted = y.numpy()
            got = like_source(self._found[name], wanted.shape)
            tolerance = FLOAT_TOLERANCE * float(np.abs(wanted).max())
            if not np.abs(got - wanted).max() <= tolerance:
                raise _differs(self._imported, n, name, got, wanted, tolerance)
        return y

    def _decided(self, source: fx.Node, sign: str, x: torch.Tensor) -> torch.Tensor:
        """The file's signs, after checking them against the source's values `x`."""
        channels = self._graph.tensors[sign].shape[-1]
        value = x.numpy()
        got = like_source(signs(self._found[sign], channels), value.shape)
        near = np.abs(value) <= TIE_TOLERANCE * np.abs(value).max()
        if not (((value < 0) == (got < 0)) | near).all():
            raise _differs(self._imported, source, sign, got, np.where(value < 0, -1.0, 1.0), 0.0)
        return torch.from_numpy(np.ascontiguousarray(got))


# ---------------------------------------------------------------------------------------------------------------- int8


def _verify_int8(imported: Imported, graph: Graph, model: bytes, x: Array, oracle: Oracle) -> Verified:
    source = FakeQuantized(imported, graph)
    wanted = np.concatenate([source.run_quantized(channels_first(x[i : i + 256])) for i in range(0, len(x), 256)])
    (got,) = oracle.run(model, x, [graph.output.name])
    difference = np.abs(got.astype(np.int64) - wanted).max()
    equal = int((got.argmax(axis=1) == wanted.argmax(axis=1)).sum())
    if difference > INT8_TOLERANCE or equal < INT8_ARGMAX * len(x):
        raise _locate_int8(imported, source, graph, model, x[:256], oracle) or _differs(
            imported, imported.traced.output, graph.output.name, got, wanted, INT8_TOLERANCE
        )
    return Verified(len(x), float(difference), equal, 0, oracle.engine)


def _locate_int8(
    imported: Imported, source: FakeQuantized, graph: Graph, model: bytes, x: Array, oracle: Oracle
) -> VerificationError | None:
    """The error for the first tensor that differs in bits, or by more than one step."""
    source.run_quantized(channels_first(x))
    values = oracle.run(model, x, [name for name, _, _ in source.records])
    for (name, node, wanted), value in zip(source.records, values, strict=True):
        tensor = graph.tensors[name]
        bits = tensor.dtype is DType.BITS
        got = like_source(signs(value, tensor.shape[-1]) if bits else value, wanted.shape)
        tolerance = 0 if bits else INT8_TOLERANCE
        if np.abs(got.astype(np.float64) - wanted).max() > tolerance:
            return _differs(imported, node, name, got, wanted, tolerance)
    return None


# ---------------------------------------------------------------------------------------------------------------- both


def _differs(
    imported: Imported, node: fx.Node, tensor: str, got: Array, wanted: Array, tolerance: float
) -> VerificationError:
    """The error that names the layer behind `node`, the last one with weights, and what differs most."""
    off = np.abs(got.astype(np.float64) - wanted)
    worst = tuple(int(i) for i in np.unravel_index(int(np.nan_to_num(off, nan=np.inf).argmax()), off.shape))
    share = float((~(off <= tolerance)).mean())
    return VerificationError(
        f"the file does not compute what the source computes: '{tensor}' differs in {share:.2%} of its elements, "
        f"most at {list(worst)}: {got[worst]:g}, in the source {wanted[worst]:g}",
        where=f"layer '{_layer_behind(imported, node)}'",
        fix="nothing was written; please report this model",
    )


def _layer_behind(imported: Imported, node: fx.Node) -> str:
    at = node
    while at.op == "call_module":
        module = imported.traced.layer(at)
        if isinstance(module, nn.Conv2d | nn.Linear) or getattr(module, "onebit_kind", None) is not None:
            return str(at.target)
        source = at.args[0]
        assert isinstance(source, fx.Node)
        at = source
    return str(node.target)
