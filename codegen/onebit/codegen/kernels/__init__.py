"""All kernels. Importing this package fills the registry of `onebit.codegen.kernel`."""

from onebit.codegen.kernels import bconv2d, linear, simple

__all__ = ["bconv2d", "linear", "simple"]
