"""All kernels. Importing this package fills the registry of `onebit.codegen.kernel`."""

from onebit.codegen.kernels import bconv2d, elementwise, linear, movement, reduction, simple

__all__ = ["bconv2d", "elementwise", "linear", "movement", "reduction", "simple"]
