"""From a Keras, Larq or SavedModel source to the float graph IR, through LCE's converter in a child process."""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from onebit.convert.keras.describe import Description, describe
from onebit.convert.keras.process import KerasProcess, RawFile
from onebit.core import DType, Graph, read_model
from onebit.core.errors import BadInputError, OnebitError, UnsupportedError
from onebit.core.metadata import ModelMetadata
from onebit.core.passes.naming import renamed, unique_name

KERAS_SUFFIXES = (".keras", ".h5", ".hdf5")
KERAS_PACKAGES = ("keras", "tf_keras", "tensorflow", "larq")

_SHORT_NAME = re.compile(r"\bn\d+e")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class KerasSource:
    """A source that the child process holds; a context manager, which ends the process unless others share it."""

    process: KerasProcess
    description: Description
    shared: bool = False

    def __enter__(self) -> KerasSource:  # noqa: PYI034 (Self is newer than Python 3.10)
        return self

    def __exit__(self, *_: object) -> None:
        if not self.shared:
            self.process.close()


@dataclass(frozen=True)
class KerasImport:
    """A source and the graph that LCE's converter made of it, not optimized.

    `nodes`: for tensors of the graph, the node of the source's graph that has the same value, if the converter's names
    are right: good enough to name a layer, and to be tried.
    """

    source: KerasSource
    graph: Graph
    nodes: Mapping[str, str]
    output_node: str

    def layer(self, node: str) -> str:
        """The Keras layer that a node of the source's graph belongs to, as a text for messages."""
        name = self.source.description.layer(node)
        return f"layer '{name}'" if name else f"'{node}'"


def is_keras_file(path: Path) -> bool:
    """Whether a path is taken for a Keras file or a SavedModel folder."""
    return path.suffix.lower() in KERAS_SUFFIXES or path.is_dir()


def is_keras_model(source: Any) -> bool:
    """Whether an object is a Keras model, of any Keras; nothing is imported to find out."""
    return any(
        kind.__module__.partition(".")[0] in KERAS_PACKAGES and kind.__name__ == "Model"
        for kind in type(source).__mro__
    )


def open_keras(
    model: Any, input_shape: tuple[int, ...] | None = None, process: KerasProcess | None = None
) -> KerasSource:
    """Load a file (Path) or a Keras model into a child process (a new one by default).

    `input_shape` [1, ...] is for a model that does not know its own. BadInputError and UnsupportedError as `describe`
    and `safety` say.
    """
    if isinstance(model, Path):
        _check_exists(model)
    child = process or KerasProcess()
    try:
        described = child.load(model) if isinstance(model, Path) else _load_object(child, model, input_shape)
    except BaseException:
        if process is None:
            child.close()
        raise
    return KerasSource(child, described, shared=process is not None)


def _check_exists(path: Path) -> None:
    if path.is_dir():
        if not (path / "saved_model.pb").is_file():
            raise BadInputError(
                "is a folder without saved_model.pb", where=str(path), fix="give a SavedModel or a file"
            )
    elif not path.is_file():
        raise BadInputError("no such file", where=str(path), fix="give a .keras or .h5 file or a SavedModel")


def import_keras(source: KerasSource, metadata: ModelMetadata | None = None) -> KerasImport:
    """The graph of a source. Notes about layers that stay real-valued are logged as warnings.

    UnsupportedError for what neither LCE's converter nor the reader of `.tflite` files knows.
    """
    raw = source.process.convert()
    for note in source.description.notes or raw.notes:
        log.warning("%s", note)
    try:
        graph = read_model(raw.model)
    except OnebitError as error:
        message = _SHORT_NAME.sub(lambda short: raw.names.get(short.group(), short.group()), error.message)
        raise UnsupportedError(message, where=source.description.name, fix=error.fix) from error
    graph, nodes = _with_names_of_the_source(graph, raw, source.description)
    return KerasImport(source, replace(graph, metadata=metadata), nodes, raw.output)


def _load_object(process: KerasProcess, model: Any, input_shape: tuple[int, ...] | None) -> Description:
    """Hand a model of this process to the child, as a SavedModel with one signature."""
    import tensorflow as tf

    if not getattr(model, "inputs", None) and input_shape is not None:
        model(tf.zeros(input_shape))
    description = describe(model, input_shape)
    spec = tf.TensorSpec((None, *description.input_shape[1:]), tf.float32, name="x")
    holder = tf.Module()
    holder.model = model
    call = tf.function(lambda x: {"y": model(x, training=False)}, input_signature=[spec], autograph=False)
    with tempfile.TemporaryDirectory(prefix="onebit-keras-") as folder:
        tf.saved_model.save(holder, folder, signatures=call)
        return process.load(Path(folder), description)


def _with_names_of_the_source(graph: Graph, raw: RawFile, description: Description) -> tuple[Graph, dict[str, str]]:
    """The graph with tensors named after the source's layers, and tensor -> node of the source's graph."""
    new: dict[str, str] = {}
    nodes: dict[str, str] = {}
    for old, tensor in graph.tensors.items():
        short = _SHORT_NAME.match(old)
        node = raw.output if old in graph.outputs else raw.names.get(short.group()) if short else None
        wanted = old
        if old in graph.inputs:
            wanted = "input"
        elif node is not None:
            wanted = description.layer(node) or _without_ends(node)
            wanted += "/signs" if tensor.dtype is DType.BITS and not tensor.is_constant else ""
        new[old] = unique_name(new.values(), wanted)
        if node is not None and old not in graph.inputs:
            nodes[new[old]] = node
    named = renamed(graph, new)
    # of several tensors of one node, as MUL and ADD of a batch norm, the last one has its value
    last = {(nodes[t.name], t.dtype): t.name for t in named.activations() if t.name in nodes}
    return named, {name: node for (node, _), name in last.items()}


def _without_ends(node: str) -> str:
    """A node's path without the model in front and the operation behind, where there is something in between."""
    return "/".join(node.split("/")[1:-1]) or node
