"""How each layer of a PyTorch model becomes operators: one importer per module class or ``onebit_kind``.

Importing this package fills the registry; a family of layers is a module.
"""

from onebit.convert.importers import elementwise, linear, movement, pooling
from onebit.convert.importers.base import Importer, Layer, find_importer, imports, supported_modules, to_numpy
from onebit.convert.importers.linear import signed_input

__all__ = [
    "Importer", "Layer", "elementwise", "find_importer", "imports", "linear", "movement", "pooling", "signed_input",
    "supported_modules", "to_numpy",
]  # fmt: skip
