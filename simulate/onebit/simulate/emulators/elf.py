"""What onebit reads from ELF files: function symbols, loadable bytes, section sizes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onebit.core.errors import BadInputError, ToolMissingError


@dataclass(frozen=True)
class Function:
    """A function symbol: address without the Thumb bit, size in bytes."""

    name: str
    address: int
    size: int


@dataclass(frozen=True)
class Image:
    """A linked program: bytes to load by physical address, entry, functions sorted by address, all symbols' values."""

    segments: tuple[tuple[int, bytes], ...]
    entry: int
    functions: tuple[Function, ...]
    symbols: dict[str, int]

    def function_at(self, address: int) -> str:
        """``name+0xoffset`` of the function that holds `address`, or a text that says that none does."""
        for function in self.functions:
            if function.address <= address < function.address + max(function.size, 2):
                return f"{function.name}+0x{address - function.address:x}"
        return f"unknown code at 0x{address:08x}"


def is_elf(path: Path) -> bool:
    """Whether the file starts as ELF files do; a host with another object format has none."""
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def read_image(path: Path) -> Image:
    """Reads a linked 32-bit Arm image. Raises ToolMissingError without pyelftools, BadInputError for another file."""
    elf_file, elf_error, symbol_section = _elftools()
    with path.open("rb") as file:
        try:
            elf = elf_file(file)
        except elf_error as error:
            raise BadInputError(f"not an ELF file: {error}", where=str(path)) from None
        segments = tuple(
            (int(segment["p_paddr"]), bytes(segment.data()))
            for segment in elf.iter_segments()
            if segment["p_type"] == "PT_LOAD" and segment["p_filesz"] > 0
        )
        functions: list[Function] = []
        symbols: dict[str, int] = {}
        for section in elf.iter_sections():
            if not isinstance(section, symbol_section):
                continue
            for symbol in section.iter_symbols():
                value = int(symbol["st_value"])
                if symbol["st_info"]["type"] == "STT_FUNC":
                    value &= ~1  # bit 0 says Thumb, it is no part of the address
                    functions.append(Function(symbol.name, value, int(symbol["st_size"])))
                symbols.setdefault(symbol.name, value)
        entry = int(elf["e_entry"])
    functions.sort(key=lambda function: (function.address, function.name))
    return Image(segments, entry, tuple(functions), symbols)


def section_bytes(path: Path, prefix: str) -> int:
    """The bytes of all sections of an object file that are called `prefix` or `prefix`.something."""
    elf_file, _, _ = _elftools()
    with path.open("rb") as file:
        sections = elf_file(file).iter_sections()
        return sum(int(s["sh_size"]) for s in sections if s.name == prefix or s.name.startswith(f"{prefix}."))


def _elftools() -> tuple[Any, Any, Any]:
    """(ELFFile, ELFError, SymbolTableSection) of pyelftools, which has no types: they end in this module."""
    try:
        from elftools.common.exceptions import ELFError
        from elftools.elf.elffile import ELFFile
        from elftools.elf.sections import SymbolTableSection
    except ImportError:
        raise ToolMissingError("pyelftools is not installed", fix='pip install "onebit[emulate]"') from None
    return ELFFile, ELFError, SymbolTableSection
