"""Post-training quantization of float graphs to int8: calibration, rules, verification and report. No torch here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onebit.convert.int8.calibration import MINMAX, RangeMethod, calibrate
from onebit.convert.int8.equalize import equalize
from onebit.convert.int8.fake_quant import FakeQuantized
from onebit.convert.int8.means import accurate_means
from onebit.convert.int8.quantizer import Int8Model, KeptFloat, quantize_int8, threshold_chains
from onebit.convert.int8.readable_signs import readable_signs
from onebit.convert.int8.report import Int8Report, LayerLoss, measure_losses
from onebit.convert.int8.verify import Agreement, compare_int8
from onebit.convert.samples import CALIBRATION_ELEMENTS, file_input, fitting_samples, real_values, spread
from onebit.core import Graph, read_model, write_model
from onebit.core.graph import Array
from onebit.core.oracle import Oracle

__all__ = [
    "MINMAX",
    "Agreement",
    "FakeQuantized",
    "Int8Model",
    "Int8Report",
    "KeptFloat",
    "LayerLoss",
    "Quantized",
    "RangeMethod",
    "calibrate",
    "compare_int8",
    "quantize",
    "quantize_int8",
]


@dataclass(frozen=True)
class Quantized:
    """A verified int8 model: its file, its graph as read from it, how it agreed, and what it lost."""

    model: bytes
    graph: Graph
    agreement: Agreement
    report: Int8Report


def quantize(
    graph: Graph,
    calibration: Array,
    samples: Array,
    oracle: Oracle,
    *,
    labels: Array | None = None,
    method: RangeMethod = MINMAX,
) -> Quantized:
    """Quantize an optimized float graph and verify the result; `calibration` and `samples` are checked already.

    VerificationError names the first operator of the file that does not compute what it should.
    """
    metadata = graph.metadata
    calibration = real_values(spread(calibration, fitting_samples(graph, CALIBRATION_ELEMENTS)), metadata)
    graph = readable_signs(graph, threshold_chains(graph))
    graph = equalize(graph, calibration)
    ranges = calibrate(graph, calibration, method)
    graph = accurate_means(graph, ranges)
    made = quantize_int8(graph, ranges)
    model = write_model(made.graph)
    file = read_model(model)
    stored, real = file_input(samples, file.input, metadata), real_values(samples, metadata)
    fake = FakeQuantized(graph, file, made.offsets)
    agreement = compare_int8(fake, model, stored, oracle)
    (logits,) = oracle.run_fast(write_model(graph), real, [graph.output.name])
    before, after = logits.reshape(len(logits), -1).argmax(axis=1), agreement.choices
    report = Int8Report(
        calibration_samples=len(calibration),
        range=str(method),
        samples=len(samples),
        layer_samples=agreement.layer_samples,
        accuracy_float=None if labels is None else float(np.mean(before == labels)),
        accuracy_int8=None if labels is None else float(np.mean(after == labels)),
        same_class=int((before == after).sum()),
        layers=measure_losses(fake, spread(real, agreement.layer_samples), agreement.values),
        kept_float=made.kept_float,
    )
    return Quantized(model, file, agreement, report)
