"""Model files from strangers are data: what in them would run code is refused before anything is loaded.

Keras's own safe mode covers lambdas in `.keras` files only: it does not apply to `.h5`, and it imports any Python
module that a configuration names. So the configuration is read here first, and so are the operations of a SavedModel.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onebit.core.errors import BadInputError

#: top-level packages whose classes a configuration may name
TRUSTED_PACKAGES = ("keras", "tf_keras", "larq")
#: members of a .keras archive that hold data only; weights in .npz would be read with pickle
ARCHIVE_MEMBERS = ("metadata.json", "config.json", "model.weights.h5")
#: functions that may be named where a class has parameters
ACTIVATIONS = frozenset(
    {
        "elu",
        "exponential",
        "gelu",
        "hard_sigmoid",
        "hard_tanh",
        "leaky_relu",
        "linear",
        "mish",
        "relu",
        "relu6",
        "selu",
        "sigmoid",
        "silu",
        "softmax",
        "softplus",
        "softsign",
        "swish",
        "tanh",
    }
)
#: operations with state that do no more than read and set variables
HARMLESS_STATEFUL = frozenset(
    {
        "Assert",
        "AssignAddVariableOp",
        "AssignSubVariableOp",
        "AssignVariableOp",
        "DisableCopyOnRead",
        "IsVariableInitialized",
        "PartitionedCall",
        "Placeholder",
        "RandomStandardNormal",
        "RandomUniform",
        "ReadVariableOp",
        "StatefulPartitionedCall",
        "VarHandleOp",
        "VarIsInitializedOp",
    }
)
#: operations that a SavedModel's own functions for saving and restoring consist of
STORING_OPS = frozenset({"MergeV2Checkpoints", "RestoreV2", "SaveV2", "ShardedFilename"})
#: operations without state that reach outside of the model all the same
FORBIDDEN_OPS = frozenset({"MatchingFiles", "PyFuncStateless", "ReadFile"})

_CODE_FIX = "name the function that builds it as package.module:function, if you trust its author"


@dataclass(frozen=True)
class KerasFile:
    """A copy of a file that holds a model and no code; `major` is the version of the Keras that wrote it."""

    copy: Path
    name: str
    major: int


def checked_copy(path: Path, folder: Path) -> KerasFile:
    """A copy of a `.keras` or `.h5` file in `folder`, so that what was checked is what is loaded.

    BadInputError if it is no model or holds code.
    """
    copy = folder / f"source{path.suffix.lower().replace('.hdf5', '.h5')}"
    shutil.copyfile(path, copy)
    config, version = (_archive if zipfile.is_zipfile(copy) else _hdf5)(copy, path.name)
    for layer, problem in _problems(config, "the model"):
        raise BadInputError(problem, where=f"{path.name}: {layer}", fix=_CODE_FIX)
    major = version.partition(".")[0]
    return KerasFile(copy, path.name, int(major) if major.isdecimal() else 2)


def _archive(path: Path, name: str) -> tuple[Any, str]:
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                if member not in ARCHIVE_MEMBERS:
                    raise BadInputError(
                        f"holds {member!r}",
                        where=name,
                        fix=f"save the model with model.save(); allowed: {', '.join(ARCHIVE_MEMBERS)}",
                    )
            metadata = json.loads(archive.read("metadata.json"))
            return json.loads(archive.read("config.json")), str(metadata.get("keras_version", ""))
    except (KeyError, ValueError, AttributeError, RecursionError, zipfile.BadZipFile) as error:
        raise _damaged(name) from error


def _hdf5(path: Path, name: str) -> tuple[Any, str]:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            config = file.attrs.get("model_config")
            if config is None:
                raise BadInputError(
                    "has weights but no model", where=name, fix="save it with model.save(), not save_weights()"
                )
            return json.loads(config), str(file.attrs.get("keras_version", ""))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise _damaged(name) from error


def _damaged(name: str) -> BadInputError:
    return BadInputError("cannot be read as a Keras model", where=name, fix="save it again with model.save()")


def _problems(config: Any, layer: str) -> Iterator[tuple[str, str]]:
    """(layer, what would run code) of everything in a configuration that is not plain data or a trusted class."""
    if isinstance(config, list):
        for item in config:
            yield from _problems(item, layer)
    if not isinstance(config, dict):
        return
    kind, inner = config.get("class_name"), config.get("config")
    if isinstance(kind, str):
        name = inner.get("name") if isinstance(inner, dict) else None
        layer = f"layer '{name}'" if isinstance(name, str) else layer
        module = config.get("module")
        if kind in ("Lambda", "__lambda__"):
            yield layer, "is a Lambda, which is Python code"
        elif kind == "function":
            if inner not in ACTIVATIONS:
                yield layer, f"names the Python function {inner!r}"
        elif module is not None and str(module).partition(".")[0] not in (*TRUSTED_PACKAGES, "builtins"):
            yield layer, f"names the Python module {module!r}"
        elif module == "builtins" and not str(kind).startswith("__"):
            yield layer, f"names the Python object {kind!r}"
        elif str(module).endswith(("utils", "saving", "models.cloning")):
            yield layer, f"names {kind!r} of {module!r}, which is no layer"
    for value in config.values():
        yield from _problems(value, layer)


def check_operations(operations: Iterable[tuple[str, str, bool]], source: str, *, storing: bool = False) -> None:
    """BadInputError for (node name, operation, has state) that runs Python, or reads or writes files.

    `storing` allows saving and restoring variables, in functions that nobody calls.
    """
    for name, operation, stateful in operations:
        if operation in STORING_OPS and storing:
            continue
        if operation in FORBIDDEN_OPS | STORING_OPS or (stateful and operation not in HARMLESS_STATEFUL):
            raise BadInputError(
                f"'{name}' is the operation {operation}, which reaches outside of the model",
                where=source,
                fix="convert a model without it",
            )
