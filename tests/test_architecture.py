"""The rules of docs/architecture.md that a reader cannot be asked to watch: import direction, packaging, templates."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jinja2
import jinja2.nodes
import pytest

ROOT = Path(__file__).resolve().parents[1]
PORTIONS = ("core", "train", "convert", "codegen", "simulate", "cli")
MAY_IMPORT = {
    "core": {"core"},
    "train": {"train", "core"},
    "convert": {"convert", "core"},
    "codegen": {"codegen", "core"},
    "simulate": {"simulate", "core", "codegen"},
    "cli": set(PORTIONS),
}
HEAVY = {"torch", "torchvision", "torchmetrics", "lightning", "tensorflow", "tf_keras", "keras", "larq"}
HEAVY_ALLOWED = {"train", "convert"}
MAX_LINES = 450
ARITHMETIC = (
    jinja2.nodes.Add,
    jinja2.nodes.Sub,
    jinja2.nodes.Mul,
    jinja2.nodes.Div,
    jinja2.nodes.FloorDiv,
    jinja2.nodes.Mod,
    jinja2.nodes.Pow,
    jinja2.nodes.Neg,
)
ASSIGNMENT = (jinja2.nodes.Assign, jinja2.nodes.AssignBlock)


@dataclass(frozen=True)
class Module:
    """One module of one portion, parsed."""

    portion: str
    path: Path
    tree: ast.Module

    @property
    def label(self) -> str:
        return self.path.relative_to(ROOT).as_posix()


def modules() -> list[Module]:
    return [
        Module(portion, path, ast.parse(path.read_text(encoding="utf-8"), str(path)))
        for portion in PORTIONS
        for path in sorted((ROOT / portion / "onebit").rglob("*.py"))
    ]


def imported_names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every dotted name that is imported anywhere in `tree`, lazily or through importlib too, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            yield base, node.lineno
            if base == "onebit":
                yield from ((f"onebit.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            function = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if function in {"import_module", "__import__"} and isinstance(node.args[0].value, str):
                yield node.args[0].value, node.lineno


def portion_violations(found: list[Module]) -> list[str]:
    """Imports against the direction, as ``file:line imports name``."""
    return [
        f"{module.label}:{line} imports {name}"
        for module in found
        for name, line in imported_names(module.tree)
        if name.startswith("onebit.") and name.split(".")[1] not in MAY_IMPORT[module.portion]
    ]


def heavy_violations(found: list[Module]) -> list[str]:
    """Imports of a training framework outside the portions that may have them."""
    return [
        f"{module.label}:{line} imports {name}"
        for module in found
        for name, line in imported_names(module.tree)
        if module.portion not in HEAVY_ALLOWED and name.partition(".")[0] in HEAVY
    ]


def test_the_import_direction_is_kept() -> None:
    assert portion_violations(modules()) == []


def test_only_train_and_convert_import_the_training_frameworks() -> None:
    assert heavy_violations(modules()) == []


@pytest.mark.parametrize(
    ("portion", "source"),
    [
        ("core", "from onebit.codegen import generate"),
        ("train", "def f():\n    import onebit.convert.torch"),
        ("codegen", "from onebit import simulate"),
        ("simulate", "import importlib\nimportlib.import_module('onebit.cli.main')"),
    ],
)
def test_an_import_against_the_direction_is_found(portion: str, source: str) -> None:
    planted = Module(portion, ROOT / portion / "onebit" / "planted.py", ast.parse(source))
    assert len(portion_violations([planted])) == 1


def test_a_lazy_import_of_torch_is_found() -> None:
    planted = Module("core", ROOT / "core" / "planted.py", ast.parse("def f():\n    from torch.nn import Module"))
    assert heavy_violations([planted]) == ["core/planted.py:2 imports torch.nn"]


def test_no_portion_hides_the_others() -> None:
    assert [str(path) for portion in PORTIONS for path in (ROOT / portion / "onebit").glob("*.py")] == []
    assert [
        portion for portion in PORTIONS if not (ROOT / portion / "onebit" / portion / "__init__.py").is_file()
    ] == []


def test_every_sub_package_is_typed() -> None:
    assert [portion for portion in PORTIONS if not (ROOT / portion / "onebit" / portion / "py.typed").is_file()] == []


def test_every_folder_with_modules_is_a_package() -> None:
    folders = {module.path.parent for module in modules()}
    assert sorted(str(folder) for folder in folders if not (folder / "__init__.py").is_file()) == []


def test_only_the_command_line_prints() -> None:
    prints = [
        f"{module.label}:{node.lineno}"
        for module in modules()
        if module.portion != "cli"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert prints == []


def test_modules_can_be_read_in_one_sitting() -> None:
    lengths = {module.label: len(module.path.read_text(encoding="utf-8").splitlines()) for module in modules()}
    assert {label: length for label, length in lengths.items() if length > MAX_LINES} == {}


# ------------------------------------------------------------------------------------------------------------ templates


def template_violations(source: str, label: str) -> list[str]:
    """Arithmetic and assignments in a template; what it needs must be computed in Python and handed to it."""
    tree = jinja2.Environment(autoescape=False).parse(source)
    return [
        f"{label}:{node.lineno} {type(node).__name__}"
        for kind in (*ARITHMETIC, *ASSIGNMENT)
        for node in tree.find_all(kind)
    ]


def test_templates_do_not_compute() -> None:
    templates = sorted((ROOT / "firmware_templates").rglob("*.j2"))
    assert templates, "no templates found"
    found = [
        violation
        for path in templates
        for violation in template_violations(path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix())
    ]
    assert found == []


@pytest.mark.parametrize("source", ["{{ h * w }}", "{{ -x }}", "{% set n = 3 %}", "{% if a + b > 3 %}x{% endif %}"])
def test_a_computing_template_is_found(source: str) -> None:
    assert len(template_violations(source, "planted")) == 1


def test_templates_root_is_the_checkout_and_not_the_copy_that_an_editable_install_leaves() -> None:
    from onebit.codegen.templates_path import templates_root

    assert templates_root() == ROOT / "firmware_templates"


def test_an_edited_template_is_the_one_that_is_used(tmp_path: Path) -> None:
    """In a second source tree on the import path, the templates beside it count, whatever is installed."""
    package = tmp_path / "codegen" / "onebit" / "codegen"
    package.mkdir(parents=True)
    source = ROOT / "codegen" / "onebit" / "codegen" / "templates_path.py"
    (package / "__init__.py").write_text("")
    (package / "templates_path.py").write_text(source.read_text(encoding="utf-8"))
    (package / "firmware_templates").mkdir()  # what a wheel would have; the checkout goes before it
    edited = tmp_path / "firmware_templates" / "model" / "model.c.j2"
    edited.parent.mkdir(parents=True)
    edited.write_text("edited")
    code = (
        "from onebit.codegen.templates_path import templates_root as r; print((r() / 'model/model.c.j2').read_text())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "codegen")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "edited\n"


# ------------------------------------------------------------------------------------------------------------ generate


def test_generate_writes_the_same_bytes_every_time(tmp_path: Path) -> None:
    from onebit.codegen import generate
    from onebit.core.pretrained import pretrained_path

    contents = []
    for run in ("first", "second"):
        out = tmp_path / run
        generate(pretrained_path("digits"), target="cortex-m4", out=out)
        contents.append({path.relative_to(out): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()})
    assert contents[0]
    assert contents[0] == contents[1]
