"""`convert`: a source model to a verified `.tflite`. Heavy imports happen inside the functions."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onebit.convert.int8 import MINMAX, Int8Report, Quantized, RangeMethod, quantize
from onebit.convert.keras.source import KerasSource, import_keras, is_keras_file, is_keras_model, open_keras
from onebit.convert.samples import (
    RANDOM_SAMPLES,
    check_calibration,
    check_samples,
    file_input,
    fitting_samples,
    random_samples,
    spread,
)
from onebit.convert.verify_file import verify_file
from onebit.core import DType, Graph, Tensor, read_model, write_model
from onebit.core.errors import BadInputError
from onebit.core.files import atomic_write_bytes
from onebit.core.graph import Array
from onebit.core.metadata import ModelMetadata
from onebit.core.oracle import NumpyOracle, Oracle
from onebit.core.passes import Pass, run_passes
from onebit.core.passes.binary_dense import binary_dense
from onebit.core.passes.fold_batch_norm import fold_batch_norm
from onebit.core.passes.fold_shift import fold_shift
from onebit.core.passes.fold_sign import fold_sign_into_bconv
from onebit.core.passes.fuse_activation import fuse_activation
from onebit.core.passes.merge_pads import merge_pads
from onebit.core.passes.naming import short_constants
from onebit.core.passes.norm_before_pool import norm_before_pool
from onebit.core.passes.pool_before_dequantize import pool_before_dequantize
from onebit.core.passes.sign_before_pool import sign_before_pool
from onebit.core.passes.sign_behind_reshape import sign_behind_reshape

if TYPE_CHECKING:
    import torch
    from torch import nn

    from onebit.convert.verified import Verified

PASSES: tuple[Pass, ...] = (
    # what the guards of Keras sources had to split
    merge_pads,
    # what LCE's converter leaves in float: dense layers of +c and -c on signs, in a form that a file can hold
    pool_before_dequantize,
    binary_dense,
    sign_behind_reshape,
    # so that a batch norm's activation goes into the convolution together with it
    fuse_activation,
    # then a batch norm directly behind its convolution folds, and the sign too
    norm_before_pool,
    # so that batch norm and sign stand directly behind their convolution
    sign_before_pool,
    # before the sign is folded: one multiplier and bias per channel is all that a threshold has to replace
    fold_batch_norm,
    # what batch norms of shortcuts leave beside a sum
    fold_shift,
    # what is left between a binary convolution and a sign becomes a threshold where enumeration proves it
    fold_sign_into_bconv,
)

EXACT_PASSES: tuple[Pass, ...] = (sign_before_pool, fold_sign_into_bconv)
"""Those of `PASSES` that leave every value as it is: for a finished file, which nothing else may change."""


@dataclass(frozen=True)
class Converted:
    """A written model: `ops` counts its operators by name, `dtype` is that of its input and output.

    `int8` says what quantization cost, where the model was quantized.
    """

    output: Path
    sha256: str
    bytes: int
    dtype: str
    verified: Verified
    ops: dict[str, int]
    int8: Int8Report | None = None


def convert(
    source: Any,
    out: Path | str,
    *,
    metadata: ModelMetadata | None = None,
    example_input: Any = None,
    int8: bool = False,
    calibration: Array | None = None,
    ranges: RangeMethod = MINMAX,
    samples: Array | None = None,
    labels: Array | None = None,
    oracle: Oracle | None = None,
) -> Converted:
    """Convert `source` to the file `out`, verified before it is written; on any error nothing is written.

    `source` is a torch module, whose forward() takes one tensor [N, C, H, W] or [N, features] and returns [N, classes];
    a Keras model, the path of a `.keras` or `.h5` file or SavedModel, or what `open_keras` made of one; or the path of
    a `.tflite`, which is checked and copied as it is. `example_input` (any N; only its shape counts; torch: NCHW,
    default the module's attribute of that name; Keras: NHWC, for a model without input shape). `metadata` travels in
    the file. `int8` makes input, output and all that is not binary int8, and needs `calibration`; `ranges` says how
    ranges follow from it. `calibration` and `samples` (what the check compares on, default: seeded random inputs) are
    uint8 pixels or real inputs, [N, H, W, C] or [N, features]; `labels` are the classes of `samples`, for the accuracy
    before and after quantization. `oracle` executes the file in the check, by default onebit's own semantics.

    Raises BadInputError and UnsupportedError, with the layer's name, and VerificationError, with the first layer whose
    result differs.
    """
    data = _Data(calibration, samples, labels, oracle or NumpyOracle(), ranges)
    if isinstance(source, KerasSource):
        return _convert_keras(source, Path(out), metadata, data, int8=int8)
    if is_keras_model(source) or (isinstance(source, str | Path) and is_keras_file(Path(source))):
        shape = None if example_input is None else (1, *np.shape(example_input)[1:])
        with open_keras(Path(source) if isinstance(source, str) else source, shape) as opened:
            return _convert_keras(opened, Path(out), metadata, data, int8=int8)
    if isinstance(source, str | Path):
        return _convert_file(Path(source), Path(out), metadata, data, int8=int8)
    from onebit.convert.torch_source import import_torch
    from onebit.convert.verify import verify

    _refuse_foreign(source)
    imported = import_torch(source, _example(source, example_input), metadata)
    data.check(imported.graph.input, metadata, int8=int8)
    graph = optimize(imported.graph)
    verified = verify(imported, write_model(graph), data.compared_by_layer(graph), data.oracle)
    return _write(Path(out), _finished(graph, data, int8=int8), verified)


@dataclass(frozen=True)
class _Data:
    """What the ranges come from and what the check compares on."""

    calibration: Array | None
    samples: Array | None
    labels: Array | None
    oracle: Oracle
    ranges: RangeMethod

    def check(self, tensor: Tensor, metadata: ModelMetadata | None, *, int8: bool) -> None:
        """BadInputError for data that does not fit the model's input `tensor`."""
        if int8 and self.calibration is None:
            raise BadInputError(
                "int8 needs data to calibrate the ranges of its tensors",
                where="convert",
                fix="give --calibration DATASET (calibration=images in Python)",
            )
        if int8 and self.calibration is not None:
            check_calibration(self.calibration, tensor, metadata)
        if self.samples is not None:
            check_samples(self.samples, tensor, metadata, "samples")
        if self.labels is not None and (self.samples is None or len(self.labels) != len(self.samples)):
            raise BadInputError(f"{len(self.labels)} labels", fix="give one for every sample of the check")

    def compared(self, graph: Graph) -> Array:
        """The samples of the check."""
        if self.samples is not None:
            return self.samples
        return random_samples(graph.input.shape, graph.metadata, min(RANDOM_SAMPLES, fitting_samples(graph)))

    def compared_by_layer(self, graph: Graph) -> Array:
        """Those of them on which every layer is compared: fewer where the graph's tensors are large."""
        return spread(self.compared(graph), fitting_samples(graph))


def _finished(graph: Graph, data: _Data, *, int8: bool) -> Quantized | Graph:
    """The int8 form of an optimized float graph, where it is wanted."""
    if not int8:
        return graph
    assert data.calibration is not None  # `_Data.check` has asked for it
    return quantize(graph, data.calibration, data.compared(graph), data.oracle, labels=data.labels, method=data.ranges)


def optimize(graph: Graph) -> Graph:
    """The float graph after the converter's passes (`PASSES`)."""
    return run_passes(graph, PASSES).graph


def _write(out: Path, made: Quantized | Graph, verified: Verified, model: bytes | None = None) -> Converted:
    """Write a verified model; `model` is the file of a float graph where it exists already."""
    report = None
    if isinstance(made, Quantized):
        graph, model, report = made.graph, made.model, made.report
        agreed = made.agreement
        verified = replace(
            verified,
            samples=agreed.samples,
            max_abs_diff=agreed.max_step_diff,
            argmax_equal=agreed.argmax_equal,
        )
    else:
        graph = made
        model = write_model(graph) if model is None else model
    atomic_write_bytes(out, model)
    ops = Counter(node.op.name for node in graph.nodes)
    digest = hashlib.sha256(model).hexdigest()
    return Converted(out, digest, len(model), graph.input.dtype.value, verified, dict(sorted(ops.items())), report)


def _refuse_foreign(source: Any) -> None:
    from torch import nn

    if not isinstance(source, nn.Module):
        raise BadInputError(
            f"cannot convert a {type(source).__name__}",
            fix="give a torch.nn.Module, a Keras model, or the path of a Keras file or .tflite",
        )


def _example(source: nn.Module, example_input: Any) -> torch.Tensor:
    import torch

    example = getattr(source, "example_input", None) if example_input is None else example_input
    if example is None:
        raise BadInputError(
            "the shape of the model's input is not known",
            where=type(source).__name__,
            fix="give --input-shape N,H,W,C, or the attribute example_input (torch, NCHW)",
        )
    if isinstance(example, np.ndarray):
        example = torch.from_numpy(example)
    if not isinstance(example, torch.Tensor) or len(example) == 0:
        raise BadInputError("example_input is no tensor with a sample", fix="give a torch.Tensor [N, C, H, W]")
    return example


# --------------------------------------------------------------------------------------------------------------- Keras


def _convert_keras(
    source: KerasSource, out: Path, metadata: ModelMetadata | None, data: _Data, *, int8: bool
) -> Converted:
    from onebit.convert.keras.verify import verify_keras

    imported = import_keras(source, metadata)
    data.check(imported.graph.input, metadata, int8=int8)
    graph = short_constants(optimize(imported.graph))
    verified = verify_keras(imported, write_model(graph), data.compared(graph), data.oracle)
    return _write(out, _finished(graph, data, int8=int8), verified)


# ------------------------------------------------------------------------------------------------------------- .tflite


def _convert_file(source: Path, out: Path, metadata: ModelMetadata | None, data: _Data, *, int8: bool) -> Converted:
    """A `.tflite` as it is (or with other metadata), after checking that it can be read and evaluated.

    With `int8` a float one is quantized, after the rewrites that leave every value as it is.
    """
    graph = read_model(source)
    model = source.read_bytes()
    if metadata is not None and metadata != graph.metadata:
        graph = replace(graph, metadata=metadata)
        model = write_model(graph)
    int8 = int8 and graph.output.dtype is not DType.INT8
    data.check(graph.input, graph.metadata, int8=int8)
    stored = file_input(data.compared_by_layer(graph), graph.input, graph.metadata)
    verified = verify_file(graph, model, stored, data.oracle)
    if int8:
        graph = run_passes(graph, EXACT_PASSES).graph
    return _write(out, _finished(graph, data, int8=int8), verified, model)
