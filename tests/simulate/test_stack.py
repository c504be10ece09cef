"""The static bound of the stack: read from GCC's call graphs, never below what is used, small for kernels."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from onebit.cli.main import main
from onebit.codegen import find_target, generate
from onebit.codegen.templates_path import templates_root
from onebit.core import write_model
from onebit.core.errors import VerificationError
from onebit.core.pretrained import pretrained_path
from onebit.simulate import simulate
from onebit.simulate.stack import CALL_GRAPH_FLAG, StackBound, read_call_graph
from onebit.simulate.toolchain import MODEL_FLAGS, Compiler, find_compiler
from support.net_table import graph_of

#: bytes that a single kernel function may need on a Cortex-M: scratch memory belongs into the arena
KERNEL_FRAME_BYTES = 256
HUGE = 4096


def graph_text(*lines: str) -> str:
    return "\n".join(['graph: { title: "net.c"', *lines, "}"]) + "\n"


def node(name: str, size: int | None = None, kind: str = "static") -> str:
    if size is None:
        return f'node: {{ title: "{name}" label: "{name}\\nnet.h:3:6" shape : ellipse }}'
    return f'node: {{ title: "{name}" label: "{name}\\nnet.c:3:6\\n{size} bytes ({kind})" }}'


def edge(caller: str, callee: str) -> str:
    return f'edge: {{ sourcename: "{caller}" targetname: "{callee}" label: "net.c:4:3" }}'


def bound(folder: Path, *files: str) -> int | None:
    objects = []
    for i, text in enumerate(files):
        objects.append(folder / f"{i}.o")
        objects[-1].with_suffix(".ci").write_text(text)
    return read_call_graph(objects).bound("invoke")


def test_the_deepest_chain_counts(tmp_path: Path) -> None:
    first = graph_text(node("invoke", 8), node("a", 16), node("b", 100), edge("invoke", "a"), edge("invoke", "b"))
    assert bound(tmp_path, first) == 108
    second = graph_text(node("a", 16), node("c", 200), edge("a", "c"))
    assert bound(tmp_path, first, second) == 8 + 16 + 200


def test_a_function_of_another_object_is_found_there(tmp_path: Path) -> None:
    caller = graph_text(node("invoke", 8), node("kernel"), edge("invoke", "kernel"))
    assert bound(tmp_path, caller) is None
    assert bound(tmp_path, caller, graph_text(node("kernel", 40))) == 48


@pytest.mark.parametrize(
    "lines",
    [
        (node("invoke", 8), node("f", 8), edge("invoke", "f"), edge("f", "f")),
        (node("invoke", 8), node("f", 8), edge("invoke", "f"), edge("f", "invoke")),
        (node("invoke", 8), node("f", 8, "dynamic"), edge("invoke", "f")),
        (node("invoke", 8), node("__indirect_call"), edge("invoke", "__indirect_call")),
        (),
    ],
    ids=["recursion", "mutual recursion", "frame of unknown size", "call by pointer", "nothing"],
)
def test_what_nobody_can_tell_has_no_bound(lines: tuple[str, ...], tmp_path: Path) -> None:
    assert bound(tmp_path, graph_text(*lines)) is None


def test_what_hides_the_bound_is_named(tmp_path: Path) -> None:
    (tmp_path / "0.ci").write_text(
        graph_text(
            *(node("invoke", 8), node("f", 8), node("__aeabi_fadd"), node("unreached")),
            *(edge("invoke", "f"), edge("f", "f"), edge("f", "__aeabi_fadd")),
        )
    )
    found = StackBound.of([tmp_path / "0.o"], "invoke")
    assert found.bytes is None
    assert found.unknown == "no frame is known of __aeabi_fadd, f (of a library, recursive, or called by pointer)"


# ---------------------------------------------------------------------------------------------------------------- cores


@pytest.fixture
def gcc(requires_tool: Callable[[str], str], requires_package: Callable[[str], None]) -> Compiler:
    requires_tool("arm-none-eabi-gcc")
    requires_package("unicorn")
    return find_compiler(find_target("cortex-m4f"), "gcc")


@pytest.mark.usefixtures("gcc")
@pytest.mark.parametrize("name", ["digits", "int8_head_none", "movement_int8", "residual_chain_float32"])
def test_no_inference_uses_more_than_the_bound(name: str) -> None:
    model = pretrained_path(name) if name == "digits" else write_model(graph_of(name))
    result = simulate(model, "random:3", target="cortex-m4f", compiler="gcc")
    assert result.stack_bytes is not None and result.stack_bound_bytes is not None
    # painting sees all but words of a frame that happen to be left alone
    assert result.stack_bound_bytes - 64 <= result.stack_bytes <= result.stack_bound_bytes


@pytest.mark.usefixtures("gcc")
def test_a_huge_local_variable_shows_in_both(tmp_path: Path) -> None:
    model = pretrained_path("digits")
    generate(model, "cortex-m4f", tmp_path)
    kernel = tmp_path / "ob_bmaxpool2d.c"
    plant(kernel)
    result = simulate(model, "random:2", target="cortex-m4f", compiler="gcc", sources=tmp_path)
    assert result.ok
    assert result.stack_bytes is not None and result.stack_bound_bytes is not None
    assert HUGE < result.stack_bytes <= result.stack_bound_bytes < HUGE + 512


def plant(kernel: Path) -> None:
    """A large local variable in the first function of a kernel."""
    text = kernel.read_text()
    first = text.index(") {\n") + 4
    kernel.write_text(
        f"{text[:first]}  volatile unsigned char big[{HUGE}];\n  big[0] = 1u;\n  (void)big[0];\n{text[first:]}"
    )


def frames(compiler: Compiler, sources: list[Path], folder: Path, work: Path) -> dict[str, int]:
    flags = (*MODEL_FLAGS, CALL_GRAPH_FLAG)
    return dict(read_call_graph(compiler.compile(sources, work, include=(folder,), extra=flags)).frames)


def test_no_kernel_has_a_large_frame(gcc: Compiler, tmp_path: Path) -> None:
    folder = templates_root() / "kernels"
    found = frames(gcc, sorted(folder.glob("*.c")), folder, tmp_path / "all")
    assert len(found) >= len(list(folder.glob("*.c")))
    assert {name: size for name, size in found.items() if size > KERNEL_FRAME_BYTES} == {}


def test_a_kernel_with_a_large_frame_is_found(gcc: Compiler, tmp_path: Path) -> None:
    folder = templates_root() / "kernels"
    kernel = tmp_path / "ob_bmaxpool2d.c"
    kernel.write_text((folder / kernel.name).read_text())
    plant(kernel)
    found = frames(gcc, [kernel], folder, tmp_path / "one")
    assert {name for name, size in found.items() if size > KERNEL_FRAME_BYTES} == {"ob_bmaxpool2d"}


@pytest.mark.usefixtures("gcc")
def test_more_than_the_bound_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = read_call_graph([])
    monkeypatch.setattr(type(graph), "bound", lambda *_: 8)
    with pytest.raises(VerificationError, match="used 3.. bytes of stack, its functions need at most 8"):
        simulate(pretrained_path("digits"), "random:1", target="cortex-m4f", compiler="gcc")


def test_other_compilers_tell_nothing() -> None:
    result = simulate(pretrained_path("digits"), "random:1", target="host")
    assert result.stack_bound_bytes is None and result.stack_bytes
    assert "for cores only" in result.as_dict()["stack_bound_unknown"]


@pytest.mark.usefixtures("gcc")
def test_functions_of_libgcc_are_named() -> None:
    """Float arithmetic on a core without floating point registers."""
    result = simulate(write_model(graph_of("residual_chain_float32")), "random:1", target="cortex-m3", compiler="gcc")
    assert result.stack_bytes and result.stack_bound_bytes is None
    assert "__aeabi_fadd" in result.as_dict()["stack_bound_unknown"]


@pytest.mark.usefixtures("gcc")
def test_generate_tells_the_bound_of_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["generate", str(pretrained_path("digits")), "--target", "cortex-m4f", "--json"]
    assert main([*arguments, "--out", str(tmp_path / "a"), "--stack"]) == 0
    said = json.loads(capsys.readouterr().out)
    result = simulate(pretrained_path("digits"), "random:1", target="cortex-m4f", compiler="gcc")
    assert (said["stack_bound_bytes"], said["stack_bound_unknown"]) == (result.stack_bound_bytes, None)
    assert main([*arguments, "--out", str(tmp_path / "b")]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["stack_bound_bytes"], said["stack_bound_unknown"]) == (None, "not asked for: give --stack")
