"""The target table: complete, consistent, and honest about what can be simulated."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from onebit.codegen.targets import KIB, TARGETS, find_target
from onebit.core.errors import BadInputError

NAMES = [
    *["host", "cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m4f", "cortex-m7", "cortex-m33", "cortex-m55"],
    *["esp32", "esp32s3", "esp32c3", "rv32imc_zbb"],
]


def test_every_target_of_the_command_line_is_there_in_order() -> None:
    assert list(TARGETS) == NAMES
    assert all(find_target(name).name == name for name in NAMES)


def test_an_unknown_target_lists_the_known_ones() -> None:
    with pytest.raises(BadInputError, match="unknown target 'cortex-m99'.*host, cortex-m0plus") as caught:
        find_target("cortex-m99")
    assert caught.value.exit_code == 2


def test_what_can_be_simulated_is_said_by_data() -> None:
    assert [name for name in NAMES if TARGETS[name].emulated] == NAMES[1:8]
    assert TARGETS["host"].simulated and not TARGETS["host"].emulated
    assert TARGETS["cortex-m4"].emulators == ("unicorn", "qemu")
    assert TARGETS["cortex-m55"].emulators == ("qemu",)
    assert TARGETS["esp32"].emulators == () and not TARGETS["esp32"].simulated


@pytest.mark.parametrize("name", NAMES[1:])
def test_a_core_has_a_compiler_and_sound_numbers(name: str) -> None:
    target = TARGETS[name]
    assert target.gcc is not None and target.gcc.prefix.endswith("-")
    assert target.zig is not None or target.isa == "xtensa"
    assert target.word_bits == 32
    assert target.extensions <= {"dsp", "fpu", "fpu64", "mve", "zbb"}
    assert (target.example is None) == (target.ram_bytes is None) == (target.flash_bytes is None)
    if target.ram_bytes is not None and target.flash_bytes is not None:
        assert 16 * KIB <= target.ram_bytes <= target.flash_bytes
    if target.emulation is not None:
        flash, ram = target.emulation.flash, target.emulation.ram
        assert flash.end <= ram.base or ram.end <= flash.base
        assert ram.base % 4096 == flash.base % 4096 == 0


def test_a_target_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        TARGETS["host"].word_bits = 64  # type: ignore[misc]


def test_the_table_loads_no_heavy_library() -> None:
    program = (
        "import sys; import onebit.codegen.targets; "
        "print(sorted({'unicorn', 'torch', 'tensorflow', 'larq'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
