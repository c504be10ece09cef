"""Static analysis and strict warnings over all kernels and the generated files of the whole table of nets."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from onebit.codegen.templates_path import templates_root
from support.host_code import STRICT, generate_all
from support.net_table import graphs

RequireTool = Callable[[str], str]
BATCH = 20


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All kernels, and every net generated for a core with all of them (the DSP kernels compile without DSP too)."""
    folder = tmp_path_factory.mktemp("corpus")
    generate_all(graphs(), folder, target="cortex-m4")
    for path in sorted((templates_root() / "kernels").iterdir()):
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def complaints(commands: Sequence[Sequence[str]]) -> str:
    """What any of these programs printed, two at a time; they must end with 0."""

    def run(command: Sequence[str]) -> str:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr + f"exit code {done.returncode}\n" * (done.returncode != 0)

    with ThreadPoolExecutor(2) as pool:
        return "".join(pool.map(run, commands))


def units(corpus: Path) -> list[str]:
    return [str(path) for path in sorted(corpus.glob("*.c"))]


def test_gccs_analyzer_finds_nothing(corpus: Path, tmp_path: Path, requires_tool: RequireTool) -> None:
    """-fanalyzer follows all paths of each kernel; in generated files it follows the calls."""
    gcc, flags = requires_tool("gcc"), ("-O2", "-fanalyzer", "-c")
    banner = subprocess.run([gcc, "--version"], capture_output=True, text=True, check=True).stdout
    if "clang" in banner.lower():
        pytest.skip("tool: gcc is not installed, only clang under its name")
    files = [path for path in units(corpus) if not path.endswith("_selftest.c")]
    commands = [[gcc, *STRICT, *flags, path, "-o", str(tmp_path / f"{Path(path).stem}.o")] for path in files]
    assert complaints(commands) == ""


def test_clang_has_no_warning(corpus: Path, requires_tool: RequireTool) -> None:
    clang, files = requires_tool("clang"), units(corpus)
    batches = [files[start : start + BATCH] for start in range(0, len(files), BATCH)]
    assert complaints([[clang, *STRICT, "-fsyntax-only", *batch] for batch in batches]) == ""


def test_cppcheck_finds_nothing(corpus: Path, requires_tool: RequireTool) -> None:
    enabled = "--enable=warning,performance,portability"
    options = ["--std=c99", enabled, "--error-exitcode=1", "--quiet", "--inconclusive", "--platform=unix32", "-j2"]
    assert complaints([[requires_tool("cppcheck"), *options, str(corpus)]]) == ""


FAULTY = """#include <stdint.h>
#include <string.h>
int32_t ob_faulty(const int32_t *input, int32_t n);
int32_t ob_faulty(const int32_t *input, int32_t n)
{
    int32_t found[4];
    if (n > 0) {
        found[0] = input[0];
    }
    return found[0] / (n - n);
}
"""


def test_the_analyzers_see_a_faulty_kernel(tmp_path: Path, requires_tool: RequireTool) -> None:
    (tmp_path / "ob_faulty.c").write_text(FAULTY)
    gcc, cppcheck = requires_tool("gcc"), requires_tool("cppcheck")
    source = str(tmp_path / "ob_faulty.c")
    assert "uninitialized" in complaints([[gcc, *STRICT, "-O2", "-fanalyzer", "-c", source, "-o", f"{source}.o"]])
    assert "Division by zero" in complaints([[cppcheck, "--enable=warning", "--quiet", source]])
