"""What a user chooses about generated code, beside the target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

Optimize = Literal["speed", "size", "ram"]

#: what to compile generated code with; kernels are selected by the same choice (`onebit.codegen.kernel.select_kernel`)
OPTIMIZE_FLAGS: Final[Mapping[Optimize, str]] = {"speed": "-O2", "size": "-Os", "ram": "-O2"}

#: where the arena lies: in the generated module, or at an address that the caller passes to every call
Arena = Literal["static", "caller"]
ARENAS: Final[tuple[Arena, ...]] = ("static", "caller")
