"""Finding compilers, what their failures say, and how they link."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from onebit.codegen.targets import TARGETS, find_target
from onebit.core.errors import BadInputError, ToolMissingError, VerificationError
from onebit.simulate import toolchain
from onebit.simulate.emulators import counting
from onebit.simulate.toolchain import MODEL_FLAGS, WARNINGS, Preference, find_compiler

SCRIPT = "ENTRY(_start) SECTIONS { .text 0x8000 : { *(.text*) } .data 0x20000000 : { *(.data*) *(.bss*) } }"


def source(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(toolchain, "_zig_program", lambda: None)


def test_the_host_compiler_honours_cc(monkeypatch: pytest.MonkeyPatch) -> None:
    host = find_target("host")
    monkeypatch.setenv("CC", f"{shutil.which('cc')} -DCHOSEN=1")
    chosen = find_compiler(host)
    assert chosen.command[1:] == ("-DCHOSEN=1",)
    assert chosen.version[0].isdigit()
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(ToolMissingError, match="CC names 'no-such-compiler'") as caught:
        find_compiler(host)
    assert caught.value.exit_code == 3


def test_zig_is_used_where_no_gnu_compiler_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.delenv("CC", raising=False)
    for name in ("host", "cortex-m4", "esp32c3"):
        found = find_compiler(find_target(name))
        assert (found.name, found.kind) == ("zig", "zig")
    assert "-mcpu=cortex_m4" in find_compiler(find_target("cortex-m4")).flags


def test_a_missing_compiler_says_how_to_install_one(nothing_installed: None) -> None:
    for name, advice in {
        "host": "install gcc or clang",
        "cortex-m4": r"apt install gcc-arm-none-eabi\) or pip install",
        "esp32": "xtensa-esp32-elf-gcc on the PATH",
    }.items():
        with pytest.raises(ToolMissingError, match=advice) as caught:
            find_compiler(find_target(name))
        assert caught.value.exit_code == 3
    with pytest.raises(ToolMissingError, match="put arm-none-eabi-gcc on the PATH"):
        find_compiler(find_target("cortex-m4"), "gcc")


def test_a_compiler_that_does_not_fit_the_target_is_refused() -> None:
    with pytest.raises(BadInputError, match="choose one of: auto, gcc, zig"):
        find_compiler(find_target("cortex-m4"), "clang")
    with pytest.raises(BadInputError, match="choose one of: auto, gcc"):
        find_compiler(find_target("esp32"), "zig")


def test_the_identity_tells_compilers_and_cores_apart(requires_tool: Callable[[str], str]) -> None:
    requires_tool("arm-none-eabi-gcc")
    preferences: tuple[Preference, ...] = ("gcc", "zig")
    found = [find_compiler(find_target(name), prefer) for name in ("cortex-m4", "cortex-m4f") for prefer in preferences]
    assert len({compiler.identity for compiler in found}) == 4
    assert found[0].identity[0].startswith("arm-none-eabi-gcc ")
    assert "-mfpu=fpv4-sp-d16" in found[2].identity[1]
    assert "-ffp-contract=off" in found[3].identity[1]


@pytest.mark.parametrize("prefer", ["gcc", "zig"])
def test_generated_code_must_be_free_of_warnings(
    tmp_path: Path, prefer: Preference, requires_tool: Callable[[str], str]
) -> None:
    if prefer == "gcc":
        requires_tool("arm-none-eabi-gcc")
    compiler = find_compiler(find_target("cortex-m4"), prefer)
    text = "#include <stdint.h>\nint8_t narrow(int32_t x);\nint8_t narrow(int32_t x) { return x; }\n"
    bad = source(tmp_path, "bad.c", text)
    with pytest.raises(VerificationError, match=r"compiling bad.c failed:\n(.|\n)*bad.c:3.*conver") as caught:
        compiler.compile([bad], tmp_path, extra=(*MODEL_FLAGS, *WARNINGS))
    assert len(str(caught.value).splitlines()) < 20
    good = source(tmp_path, "good.c", text.replace("return x", "return (int8_t)x"))
    (made,) = compiler.compile([good], tmp_path / "out", extra=(*MODEL_FLAGS, *WARNINGS))
    assert made == tmp_path / "out" / "good.o" and made.is_file()


def test_objects_keep_the_order_of_their_sources(tmp_path: Path) -> None:
    names = [f"unit_{index}" for index in range(5)]
    sources = [
        source(tmp_path, f"{name}.c", f"int {name}(void);\nint {name}(void) {{ return 1; }}\n") for name in names
    ]
    made = find_compiler(find_target("host")).compile(sources, tmp_path, defines=("UNUSED=1",), optimize="size")
    assert [path.stem for path in made] == names


@pytest.mark.parametrize("prefer", ["gcc", "zig"])
def test_an_undefined_function_is_named(
    tmp_path: Path, prefer: Preference, requires_tool: Callable[[str], str]
) -> None:
    if prefer == "gcc":
        requires_tool("arm-none-eabi-gcc")
    compiler = find_compiler(find_target("cortex-m4"), prefer)
    text = "int nowhere(void);\nint _start(void);\nint _start(void) { return nowhere(); }\n"
    objects = compiler.compile([source(tmp_path, "start.c", text)], tmp_path)
    with pytest.raises(VerificationError, match="linking failed:\n(.|\n)*nowhere"):
        compiler.link(objects, tmp_path / "out.elf", script=source(tmp_path, "memory.ld", SCRIPT))


@pytest.mark.parametrize(("expression", "with_helpers"), [("x + 3", False), ("(int)((float)x * 0.3f)", True)])
def test_zig_builds_compiler_rt_only_where_helpers_are_needed(
    tmp_path: Path, expression: str, with_helpers: bool, caplog: pytest.LogCaptureFixture
) -> None:
    compiler = find_compiler(find_target("cortex-m4"), "zig")
    text = f"int _start(int x);\nint _start(int x) {{ return {expression}; }}\n"
    objects = compiler.compile([source(tmp_path, "start.c", text)], tmp_path)
    with caplog.at_level(logging.INFO, logger="onebit.simulate.toolchain"):
        compiler.link(objects, tmp_path / "out.elf", script=source(tmp_path, "memory.ld", SCRIPT))
    assert ("__aeabi_fmul" in caplog.text) == with_helpers


@pytest.mark.parametrize("hook", ["unicorn_hook", "qemu_plugin"])
@pytest.mark.parametrize("with_zig", [False, True])
def test_hooks_are_built_once_without_leftovers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hook: str, with_zig: bool
) -> None:
    if with_zig:
        monkeypatch.setattr(counting, "find_compiler", lambda target: find_compiler(target, "zig"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    built = counting.hook_library(hook)
    stamp = built.stat().st_mtime_ns
    assert counting.hook_library(hook) == built and built.stat().st_mtime_ns == stamp
    assert [path.name for path in built.parent.iterdir()] == [built.name]


def test_a_home_that_cannot_be_written_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(source(tmp_path, "file", "not a folder")))
    assert counting.hook_library("unicorn_hook").is_file()


MACROS = {"dsp": "__ARM_FEATURE_DSP", "fpu": "__ARM_FP", "mve": "__ARM_FEATURE_MVE", "zbb": "__riscv_zbb"}


@pytest.mark.parametrize("prefer", ["gcc", "zig"])
@pytest.mark.parametrize("name", [name for name, target in TARGETS.items() if target.isa in ("arm", "riscv")])
def test_the_compiler_has_the_extensions_that_the_target_claims(
    tmp_path: Path, name: str, prefer: Preference, requires_tool: Callable[[str], str]
) -> None:
    target = find_target(name)
    if prefer == "gcc":
        if target.isa != "arm":
            return  # no GNU compiler for this chip is among the tools of the tests
        requires_tool("arm-none-eabi-gcc")
    checks = "".join(
        f"#if {'!' if extension in target.extensions else ''}defined({macro})\n#error {extension}\n#endif\n"
        for extension, macro in MACROS.items()
    )
    (made,) = find_compiler(target, prefer).compile([source(tmp_path, "core.c", f"{checks}int unused;\n")], tmp_path)
    assert made.is_file()
