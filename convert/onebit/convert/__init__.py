"""Source models to verified `.tflite` files with LCE operators. Importing this package does not import torch."""

from onebit.convert.api import Converted, convert
from onebit.convert.load import is_callable_spec, load_callable

__all__ = ["Converted", "convert", "is_callable_spec", "load_callable"]
