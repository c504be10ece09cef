"""Source models to verified `.tflite` files with LCE operators. Importing this package imports no framework."""

from onebit.convert.api import Converted, convert
from onebit.convert.keras.source import KerasSource, is_keras_file, is_keras_model, open_keras
from onebit.convert.load import is_callable_spec, load_callable

__all__ = [
    "Converted", "KerasSource", "convert", "is_callable_spec", "is_keras_file", "is_keras_model", "load_callable",
    "open_keras",
]  # fmt: skip
