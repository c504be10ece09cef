"""How much flash generated C takes: its functions and constants, compiled, not linked."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from onebit.codegen import Generated
from onebit.simulate.emulators.counting import NATIVE
from onebit.simulate.emulators.elf import section_bytes
from onebit.simulate.toolchain import MODEL_FLAGS, WARNINGS, Compiler


class FlashMeter:
    """Compiles generated models for the target of `compiler`; a source that was met before is not compiled again.

    What the compiler's own library adds at link time (soft float, division) is not counted.
    """

    def __init__(self, compiler: Compiler) -> None:
        self.compiler = compiler
        self._known: dict[str, int] = {}

    def flash_bytes(self, generated: Generated) -> int:
        """Bytes of functions and constants of a generated model and the kernels that it calls.

        VerificationError if the code does not compile without warnings.
        """
        sources = [generated.out / name for name in generated.files if name.endswith(".c")]
        counted = [path for path in sources if not path.name.endswith(("_selftest.c", "selftest_main.c"))]
        return sum(self._of(path) for path in counted)

    def _of(self, source: Path) -> int:
        headers = sorted(source.parent.glob(f"{source.stem}*.h"))
        key = hashlib.sha256(b"\0".join(path.read_bytes() for path in (source, *headers))).hexdigest()
        if key not in self._known:
            system = () if self.compiler.target.isa == "host" else (NATIVE / "include",)
            with tempfile.TemporaryDirectory() as folder:
                (compiled,) = self.compiler.compile(
                    [source], Path(folder), include=(source.parent, *system), extra=(*MODEL_FLAGS, *WARNINGS)
                )
                self._known[key] = section_bytes(compiled, ".text") + section_bytes(compiled, ".rodata")
        return self._known[key]
