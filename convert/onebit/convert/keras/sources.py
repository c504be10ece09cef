"""Loading a source in the child process: `.keras`, `.h5`, SavedModel. All of it is checked before it is run."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from onebit.convert.keras.describe import Description, describe
from onebit.convert.keras.frozen import Frozen, Runner, freeze
from onebit.convert.keras.safety import KerasFile, check_operations
from onebit.core.errors import BadInputError, UnsupportedError
from onebit.core.graph import Array

SIGNATURE = "serving_default"
CHUNK = 64


@dataclass(frozen=True)
class Source:
    """A loaded model: what it takes, and the function [N, ...] -> [N, ...] that it is."""

    description: Description
    call: Callable[[Any], Any]

    @cached_property
    def frozen(self) -> Frozen:
        """Its graph of operations, for batch 1."""
        return freeze(self.call, self.description.input_shape)

    @cached_property
    def runner(self) -> Runner:
        """What runs `frozen`."""
        return Runner(self.frozen)

    def predict(self, x: Array) -> Array:
        """The outputs [N, ...] for inputs [N, ...]."""
        parts = [np.asarray(self.call(tf.constant(x[i : i + CHUNK]))) for i in range(0, len(x), CHUNK)]
        return np.concatenate(parts)


def load_file(file: KerasFile) -> Source:
    """A checked `.keras` or `.h5` file."""
    with _as_bad_input(file.name, "cannot be loaded"):
        model = _keras_model(file)
    source = Source(describe(model), lambda x: model(x, training=False))
    check_operations(_operations(source.frozen.graph_def.node), file.name)
    return source


def _keras_model(file: KerasFile) -> Any:
    if file.major >= 3:
        import keras

        return keras.saving.load_model(file.copy, compile=False, safe_mode=True)
    import larq  # noqa: F401 - registers its layers and quantizers
    from tf_keras.src.saving import serialization_lib

    with serialization_lib.SafeModeScope(True):
        return tf.keras.models.load_model(file.copy, compile=False, safe_mode=True)


# -------------------------------------------------------------------------------------------------------- SavedModels


@dataclass(frozen=True)
class _Signature:
    """The default signature of a SavedModel, with the model that must stay alive for it."""

    model: Any
    function: Any

    def _ends(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return self.function.structured_input_signature[1], self.function.structured_outputs

    def call(self, x: Any) -> Any:
        given, results = self._ends()
        return self.function(**{next(iter(given)): x})[next(iter(results))]

    def description(self, name: str) -> Description:
        for end, specs in zip(("inputs", "outputs"), self._ends(), strict=True):
            if len(specs) != 1:
                names = ", ".join(f"'{key}'" for key in specs)
                raise BadInputError(f"has {len(specs)} {end} ({names}), supported is 1", where=name, fix="split it")
        key, spec = next(iter(self._ends()[0].items()))
        where = f"{name}: '{key}'"
        shape = None if spec.shape.rank is None else spec.shape.as_list()
        if not shape or None in shape[1:]:
            raise BadInputError(
                f"its input has the dynamic shape {spec.shape}".replace("None", "?"),
                where=where, fix="save it with a fixed shape",
            )  # fmt: skip
        if shape[0] not in (None, 1):
            raise BadInputError(f"its input has a batch of {shape[0]}", where=where, fix="save it with batch 1 or None")
        if spec.dtype != tf.float32:
            raise UnsupportedError(f"its input is {spec.dtype.name}", where=where, fix="use float32")
        for variable in getattr(self.function, "variables", ()):
            value = variable.numpy()
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                raise BadInputError(
                    "has NaN or infinite values", where=f"{name}: '{variable.name}'", fix="train the model again"
                )
        return Description(name, (1, *shape[1:]))


def load_saved_model(path: Path, folder: Path, description: Description | None) -> Source:
    """A SavedModel, through a copy in `folder`, so that what was checked is what is loaded.

    With a `description` onebit has saved it itself, from a model that it describes. Otherwise it is a stranger's:
    BadInputError for operations that reach outside of the model, and for a folder that is no model.
    """
    copy = folder / "saved_model"
    shutil.copytree(path, copy)
    if description is None:
        _check_saved_model(copy, path.name)
    with _as_bad_input(path.name, "cannot be loaded"):
        model = tf.saved_model.load(str(copy))
    function = model.signatures.get(SIGNATURE) if hasattr(model, "signatures") else None
    if function is None:
        raise BadInputError(f"has no signature '{SIGNATURE}'", where=path.name, fix="save it with model.save()")
    signature = _Signature(model, function)
    source = Source(description or signature.description(path.name), signature.call)
    if description is None:
        check_operations(_operations(source.frozen.graph_def.node), path.name)
    return source


def _check_saved_model(path: Path, name: str) -> None:
    """BadInputError for operations that reach outside of the model; nothing of it runs here."""
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    content = saved_model_pb2.SavedModel()
    try:
        content.ParseFromString((path / "saved_model.pb").read_bytes())
    except (DecodeError, OSError) as error:
        raise BadInputError("cannot be read as a SavedModel", where=name, fix="save the model again") from error
    for graph in content.meta_graphs:
        if not graph.HasField("object_graph_def"):
            raise BadInputError("was saved by TensorFlow 1", where=name, fix="save it with TensorFlow 2")
        functions = graph.graph_def.library.function
        # loading calls functions of the first kind; those of a saver stand for themselves
        callable_ = {*graph.object_graph_def.concrete_functions, *_called(functions)}
        check_operations(_operations(graph.graph_def.node), name, storing=True)
        for function in functions:
            is_called = function.signature.name in callable_
            check_operations(_operations(function.node_def), name, storing=not is_called)


def _called(functions: Sequence[Any]) -> Iterator[str]:
    """The names of the functions that other functions mention."""
    for function in functions:
        for node in function.node_def:
            for value in node.attr.values():
                yield value.func.name
                yield from (item.name for item in value.list.func)


def _operations(nodes: Sequence[Any]) -> Iterator[tuple[str, str, bool]]:
    from tensorflow.python.framework import op_def_registry

    for node in nodes:
        definition = op_def_registry.get(node.op)
        # an operation that is not registered here is a call of a function in the same library, or cannot run at all
        yield node.name, node.op, definition is not None and definition.is_stateful


@contextlib.contextmanager
def _as_bad_input(name: str, what: str) -> Iterator[None]:
    """Whatever TensorFlow stumbles over in a file, as one line."""
    try:
        yield
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BadInputError(f"{what}: {reason}", where=name, fix="save it again with model.save()") from error
