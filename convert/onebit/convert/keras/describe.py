"""What a loaded Keras model takes, and what is wrong with it: checks that name the layer.

Quantizers are told apart by their class, as Larq names it, so that this module imports neither TensorFlow nor Larq.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from onebit.core.errors import BadInputError, UnsupportedError
from onebit.core.graph import Array

#: Larq's classes whose result LCE packs into bits
SIGNS = ("SteSign", "ApproxSign", "SwishSign")
#: attributes of Larq's layers
KERNEL_ROLES = ("kernel_quantizer", "depthwise_quantizer", "pointwise_quantizer")
#: relative difference up to which the weights of a channel have one magnitude
SCALE_TOLERANCE = 1e-6

_INPUT_FIX = "train it with ste_sign, approx_sign or swish_sign"
_KERNEL_FIX = f"{_INPUT_FIX}, magnitude_aware_sign or dorefa_quantizer(k_bit=1, mode='weights')"


@dataclass(frozen=True)
class Description:
    """`input_shape` has batch 1; `notes` are lines for the user: what stays real-valued, and what to train instead.

    `layers` are the names of all layers without parts, in the model's order; empty for a SavedModel.
    """

    name: str
    input_shape: tuple[int, ...]
    layers: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def layer(self, node: str) -> str | None:
        """The layer that a node of the model's graph, ``model/layer/operation``, belongs to."""
        return next((part for part in reversed(node.split("/")) if part in self.layers), None)

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Description:
        """From the fields as JSON gives them."""
        return cls(found["name"], tuple(found["input_shape"]), tuple(found["layers"]), tuple(found["notes"]))


def describe(model: Any, input_shape: tuple[int, ...] | None = None) -> Description:
    """Check a Keras model; `input_shape` [1, ...] is for one that does not know its own.

    BadInputError for several inputs or outputs, unknown or dynamic shapes, weights that are not finite and kernels that
    claim to be binary and are not; UnsupportedError for other dtypes than float32 and for quantizers that no `.tflite`
    can express.
    """
    shape = _input_shape(model, input_shape)
    layers = list(_layers(model))
    notes: list[str] = []
    for layer in layers:
        _check_dtype(layer)
        _check_finite(layer)
        notes += _quantizer_notes(layer)
    return Description(str(model.name), shape, tuple(str(layer.name) for layer in layers), tuple(notes))


def _input_shape(model: Any, given: tuple[int, ...] | None) -> tuple[int, ...]:
    name = str(model.name)
    for end in ("inputs", "outputs"):
        tensors = getattr(model, end, None)
        if tensors and len(tensors) != 1:
            names = ", ".join(f"'{t.name}'" for t in tensors)
            raise BadInputError(f"has {len(tensors)} {end} ({names}), supported is 1", where=name, fix="split it")
    inputs = getattr(model, "inputs", None)
    if not inputs:
        if given is None:
            raise BadInputError(
                "the shape of the model's input is not known",
                where=name,
                fix="give --input-shape N,H,W,C, or build the model with an Input layer",
            )
        return given
    tensor = inputs[0]
    batch, *rest = tuple(tensor.shape)
    if given is not None and len(given) == len(rest) + 1:
        rest = [d if d is not None else g for d, g in zip(rest, given[1:], strict=True)]
    if None in rest:
        raise BadInputError(
            f"its input has the dynamic shape {[batch, *rest]}".replace("None", "?"),
            where=f"{name}: '{tensor.name}'",
            fix="give Input a shape without None",
        )
    if batch not in (None, 1):
        raise BadInputError(f"its input has a batch of {batch}", where=f"{name}: '{tensor.name}'", fix="use batch 1")
    dtype = getattr(tensor.dtype, "name", str(tensor.dtype))
    if dtype != "float32":
        raise UnsupportedError(f"its input is {dtype}", where=f"{name}: '{tensor.name}'", fix="use float32")
    return (1, *(int(d) for d in rest))


def _layers(model: Any) -> Iterator[Any]:
    """All layers without parts, those of nested models included."""
    for layer in getattr(model, "layers", ()):
        if getattr(layer, "layers", None):
            yield from _layers(layer)
        else:
            yield layer


def _check_dtype(layer: Any) -> None:
    dtype = getattr(layer, "compute_dtype", "float32")
    if layer.weights and dtype != "float32":
        raise UnsupportedError(f"computes in {dtype}", where=f"layer '{layer.name}'", fix="use the policy float32")


def _check_finite(layer: Any) -> None:
    for weight in layer.weights:
        value = np.asarray(weight)
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise BadInputError(
                f"its weight '{weight.name}' has NaN or infinite values",
                where=f"layer '{layer.name}'",
                fix="train the model again",
            )


# ---------------------------------------------------------------------------------------------------------- quantizers


def _quantizer_notes(layer: Any) -> Iterator[str]:
    where = f"layer '{layer.name}'"
    for role, quantizer in _input_quantizers(layer):
        kind = type(quantizer).__name__
        if kind == "MagnitudeAwareSign":
            raise UnsupportedError(
                f"its {role} magnitude_aware_sign takes the mean over the batch, which one image does not have",
                where=where,
                fix=_INPUT_FIX,
            )
        if kind not in SIGNS:
            yield f"{where}: its {role} {kind} is not binary in LCE, the layer stays real-valued; {_INPUT_FIX}"
    for role in KERNEL_ROLES:
        quantizer = getattr(layer, role, None)
        if quantizer is None:
            continue
        name = role.replace("_", " ")
        if _claims_binary(quantizer):
            _check_binary(layer, role, quantizer)
        else:
            kind = type(quantizer).__name__
            yield f"{where}: its {name} {kind} is not binary in LCE, the layer stays real-valued; {_KERNEL_FIX}"
    if getattr(layer, "depthwise_quantizer", None) is not None:
        yield f"{where}: LCE has no binary depthwise convolution, it stays real-valued; use groups of 32 channels"


def _input_quantizers(layer: Any) -> Iterator[tuple[str, Any]]:
    """A layer's own, or the layer itself (or its activation) where it is a quantizer of Larq's."""
    if getattr(layer, "input_quantizer", None) is not None:
        yield "input quantizer", layer.input_quantizer
    for quantizer in (layer, getattr(layer, "activation", None)):
        if type(quantizer).__module__.startswith("larq.quantizers"):
            yield "activation", quantizer


def _claims_binary(quantizer: Any) -> bool:
    if type(quantizer).__name__ == "DoReFa":
        return bool(quantizer.precision == 1 and quantizer.mode == "weights")
    return getattr(quantizer, "precision", None) == 1 and type(quantizer).__name__ != "SteHeaviside"


def _check_binary(layer: Any, role: str, quantizer: Any) -> None:
    """BadInputError unless every output channel of the quantized kernel is -c or +c with one c > 0."""
    stem = {"kernel_quantizer": "kernel", "depthwise_quantizer": "depthwise_kernel"}.get(role, "pointwise_kernel")
    values = [np.asarray(w) for w in layer.weights if w.name.partition(":")[0].rpartition("/")[2] == stem]
    for value in values:
        kernel = _per_channel(np.asarray(quantizer(value)), depthwise=role == "depthwise_quantizer")
        size = np.abs(kernel)
        off = (size[0] == 0) | (np.abs(size - size[0]).max(axis=0) > SCALE_TOLERANCE * size[0])
        if off.any():
            channel = int(np.argmax(off))
            raise BadInputError(
                f"output channel {channel} has weights other than +-{size[0, channel]:g}, "
                f"though its {role.replace('_', ' ')} {type(quantizer).__name__} is binary",
                where=f"layer '{layer.name}'",
                fix="its weights must have one magnitude (not 0) per output channel",
            )


def _per_channel(kernel: Array, *, depthwise: bool) -> Array:
    """[weights, channels]: the channels of a depthwise kernel [KH, KW, I, M] are I * M."""
    channels = int(np.prod(kernel.shape[-2:])) if depthwise else kernel.shape[-1]
    return kernel.reshape(-1, channels)
