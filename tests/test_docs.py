"""The documentation says what is true: generated pages are current, every operator is complete, commands exist."""

from __future__ import annotations

import hashlib
import json
import re
import runpy
import shutil
from pathlib import Path

import pytest

import onebit.codegen.kernels  # noqa: F401  fills the kernel registry
from docs import memory, results
from docs.supported_ops import OUTPUT, document
from onebit.cli.main import main
from onebit.codegen.kernel import KERNELS, every_kernel
from onebit.codegen.templates_path import templates_root
from onebit.core.ops import OPS
from onebit.core.pretrained import pretrained_names, pretrained_path
from support.net_table import graphs

ROOT = Path(__file__).parents[1]
ELEMENTWISE = (
    *("SUB", "MAXIMUM", "MINIMUM", "RELU", "RELU6", "RELU_N1_TO_1", "LEAKY_RELU", "PRELU", "HARD_SWISH", "LOGISTIC"),
    *("TANH", "ABS", "SIGN", "ROUND", "GREATER", "GREATER_EQUAL", "QUANTIZE", "DEQUANTIZE"),
)
FILE_OPS = sorted(name for name, op in OPS.items() if not op.internal)
#: test files are named after the operator; some operators share one
TEST_FILES = {
    "ADD": "test_add_mul.py",
    "MUL": "test_add_mul.py",
    **dict.fromkeys(("CONCATENATION", "EXPAND_DIMS", "PACK", "PAD", "PADV2", "SQUEEZE"), "test_movement.py"),
    **dict.fromkeys(("SLICE", "TRANSPOSE"), "test_movement.py"),
    **dict.fromkeys(ELEMENTWISE, "test_elementwise.py"),
}


def oracle_test_of(name: str) -> str:
    return TEST_FILES.get(name, f"test_{name.replace('Lce', 'lce_').lower()}.py")


def test_supported_ops_page_is_current() -> None:
    assert OUTPUT.read_text("utf-8") == document(), "run python -m docs.supported_ops"


def test_memory_page_is_current_and_keeps_its_promise() -> None:
    """The bound is met by chains and residual nets, and missed by at most 5 % elsewhere."""
    text = memory.document(graphs())
    assert memory.OUTPUT.read_text("utf-8") == text, "run python -m docs.memory"
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")][1:]
    assert {row[1] for row in rows} == {"chain", "residual", "mixed"}
    for name, kind, arena, bound, *_ in rows:
        excess = int(arena.replace(",", "")) / max(1, int(bound.replace(",", "")))
        assert excess <= (1.05 if kind == "mixed" else 1.0), name


@pytest.mark.parametrize("name", FILE_OPS)
def test_every_operator_is_complete(name: str) -> None:
    """Constraints are documented, a kernel exists, and a test file against the oracle."""
    op = OPS[name]
    assert all(rule.__doc__ for rule in op.constraints())
    assert any(kernel.op is op for kernel in KERNELS)
    assert (ROOT / "tests" / "ops" / oracle_test_of(name)).is_file()
    assert f"## {name}\n" in document()


def test_every_kernel_file_is_used_and_named_after_its_function() -> None:
    folder = templates_root() / "kernels"
    used = {source for kernel in every_kernel() for source in kernel.sources}
    assert used == {path.name for path in folder.glob("*.c")}
    for kernel in every_kernel():
        assert kernel.sources[0] == f"{kernel.function}.c"
        assert f" {kernel.function}(" in (folder / kernel.header).read_text("utf-8")


@pytest.mark.parametrize("page", ["README.md", "docs/architecture.md", "docs/adding-an-op.md", "docs/training.md"])
def test_paths_and_verbs_in_the_docs_exist(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    folders = "core|train|convert|codegen|simulate|cli|firmware_templates|tests|docs"
    for path in re.findall(rf"`((?:{folders})/[\w./-]+)`", text):
        assert (ROOT / path).exists() or (ROOT / path.split("/")[0] / "onebit" / path).exists(), f"{page} names {path}"
    from onebit.cli.main import VERBS

    verbs = {verb.name for verb in VERBS}
    for verb in re.findall(r"(?:^|`)onebit ([a-z]+)", text, re.MULTILINE):
        assert verb in verbs, f"{page} names the verb {verb}"


def test_figures_in_the_readme_are_the_recorded_ones() -> None:
    records = json.loads((ROOT / "benchmarks" / "counts.json").read_text("utf-8"))
    text = (ROOT / "README.md").read_text("utf-8")
    m4 = {
        (r["model"], r["compiler"].split()[0], r["flags"].split()[0]): r for r in records if r["target"] == "cortex-m4"
    }
    table = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("|")}
    for name in pretrained_names():
        gcc, zig = m4[name, "arm-none-eabi-gcc", "-O2"], m4[name, "zig", "-Os"]
        row = table[f"`{name}`"]
        for value in (
            *(gcc[f"{figure}_bytes"] for figure in ("weight", "code", "arena", "stack")),
            gcc["instructions"],
        ):
            assert f"{value:,}" in row, (name, value)
        assert f"{zig['instructions']:,}" in row


@pytest.mark.parametrize("name", pretrained_names())
def test_a_model_card_is_of_the_shipped_file_and_of_a_recorded_run(name: str) -> None:
    path = pretrained_path(name)
    card = path.with_suffix(".md").read_text("utf-8")
    assert path.stat().st_size <= 64 * 1024
    assert hashlib.sha256(path.read_bytes()).hexdigest() in card
    recipe = re.search(r"recipe `([\w-]+)`", card)
    assert recipe is not None
    run = results.records()[recipe.group(1)]
    assert f"{run.epochs} epochs, seed {run.seed}" in card
    assert f"{100 * (run.accuracy or 0):.2f} % in PyTorch" in card
    accuracy = re.search(r"([\d.]+ %) of [\d,]+ test images", card)
    assert accuracy is not None
    assert accuracy.group(1) in (ROOT / "README.md").read_text("utf-8")


def test_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python example, on the shipped model and fewer samples."""
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    assert code is not None
    monkeypatch.chdir(tmp_path)
    shutil.copy(pretrained_path("digits"), "digits.tflite")
    Path("example.py").write_text(code.group(1).replace("limit=20", "limit=3"), "utf-8")
    runpy.run_path("example.py")


def test_commands_of_the_readme_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every ``onebit`` line of the Use section, training and conversion on one epoch, simulation on fewer samples."""
    use = (ROOT / "README.md").read_text("utf-8").split("## Use")[1].split("## ")[0]
    commands = [line.split()[1:] for line in use.splitlines() if line.startswith("    onebit ")]
    assert [c[0] for c in commands] == ["train", "convert", "inspect", "generate", "simulate", "simulate"]
    monkeypatch.chdir(tmp_path)
    for command in commands:
        short = {"train": ["--epochs", "1"], "simulate": ["--limit", "3"]}.get(command[0], [])
        assert main([*command, *short]) == 0, command
