"""Source models named on the command line as ``package.module:function``."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

from onebit.core.errors import BadInputError


def is_callable_spec(spec: str) -> bool:
    """Whether `spec` has the form ``package.module:function``."""
    module, colon, function = spec.partition(":")
    return bool(colon) and function.isidentifier() and all(part.isidentifier() for part in module.split("."))


def load_callable(spec: str) -> Any:
    """The model that ``package.module:function`` returns, in eval mode where it has one.

    The current folder is importable; ``tf.keras`` is tf-keras unless TF_USE_LEGACY_KERAS says otherwise.
    BadInputError if the module or function does not exist, or fails.
    """
    if not is_callable_spec(spec):
        raise BadInputError(f"{spec!r} names no function", fix="give package.module:function")
    module_name, _, function_name = spec.partition(":")
    folder = os.getcwd()  # noqa: PTH109 - sys.path holds texts
    if folder not in sys.path:
        sys.path.insert(0, folder)
    # Larq works with tf-keras only, which TensorFlow takes for its Keras if this is set before it is imported
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise BadInputError(
            f"there is no module '{error.name}'", where=spec, fix="run it from the folder that has the module"
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise BadInputError(f"module '{module_name}' has no function '{function_name}'", where=spec)
    try:
        model = function()
    except Exception as error:
        raise BadInputError(f"{function_name}() raised {type(error).__name__}: {error}", where=spec) from error
    if hasattr(model, "eval"):
        model.eval()
    return model
