"""`generate`: from a `.tflite` file to a folder of C sources."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final, Literal

import numpy as np

from onebit.codegen.emit import SelfTest, has_preprocessing, model_context, render
from onebit.codegen.leftovers import BANNER, is_generated, stale_files
from onebit.codegen.options import ARENAS, OPTIMIZE_FLAGS, Arena, Optimize
from onebit.codegen.schedule import Program, compile_graph
from onebit.codegen.targets import find_target
from onebit.codegen.templates_path import templates_root
from onebit.core import evaluate, read_model
from onebit.core.errors import BadInputError
from onebit.core.files import staged_directory
from onebit.core.graph import Array, DType, Graph
from onebit.core.rounding import Rounding

Project = Literal["c", "cmake"]
PROJECTS: Final[tuple[Project, ...]] = ("c", "cmake")

#: every generated file and its template; the weights come last in a listing because they are long
_MODEL_FILES: Final = {
    "{name}.h": "model.h.j2",
    "{name}.c": "model.c.j2",
    "{name}_selftest.c": "model_selftest.c.j2",
    "{name}_weights.h": "model_weights.h.j2",
}
_PREPROCESS: Final = {"{name}_preprocess.c": "model_preprocess.c.j2"}
_PROJECT_FILES: Final[dict[Project, dict[str, str]]] = {
    "c": {"README.md": "project_readme.md.j2"},
    "cmake": {
        "README.md": "project_readme.md.j2",
        "CMakeLists.txt": "CMakeLists.txt.j2",
        "selftest_main.c": "selftest_main.c.j2",
    },
}
_KEYWORDS_TEXT: Final = """
auto break case char const continue default do double else enum extern float for goto if inline int long register
restrict return short signed sizeof static struct switch typedef union unsigned void volatile while main bool
true false asm class new delete this private public protected template namespace operator
"""
# <name>.h must not stand in front of a header of the C library, nor <name>.c in place of another generated file
_FILES_TEXT: Final = """
assert complex ctype errno fenv float inttypes iso646 limits locale math setjmp signal stdarg stdbool stddef stdint
stdio stdlib string tgmath time wchar wctype selftest_main ob
"""
_RESERVED: Final = frozenset(_KEYWORDS_TEXT.split()) | frozenset(_FILES_TEXT.split())


@dataclass(frozen=True)
class Generated:
    """What `generate` wrote. `kernels` maps kernel function to number of calls."""

    out: Path
    name: str
    files: tuple[str, ...]
    arena_bytes: int
    arena_lower_bound_bytes: int
    weight_bytes: int
    kernels: dict[str, int]
    program: Program


def generate(
    model: Path | str | bytes,
    target: str,
    out: Path | str,
    *,
    name: str | None = None,
    project: str = "c",
    optimize: Optimize = "speed",
    arena: Arena = "static",
    rounding: Rounding = Rounding.LITERT,
    graph: Graph | None = None,
) -> Generated:
    """Write the C sources of a `.tflite` model for `target` into the folder `out`.

    `model` is a path or the file's content; `name` is the C prefix (default: from the file name). `project` adds build
    files: ``c`` (none) or ``cmake``. `optimize` chooses between kernels and sets the flags in build files and README.
    `arena` says where intermediate values lie: in the module, or where the caller of ``<name>_invoke`` wants them.
    `rounding` says whose arithmetic the built-in operators follow.

    Files are written beside the folder and moved into it when all are complete; other files in `out` stay, and what
    onebit did not generate is never overwritten. What an earlier run for the same `name` wrote there and this one does
    not is removed. `graph` is what reading the model gave, if the caller has it; its rounding counts. Equal arguments
    give equal bytes.

    Raises BadInputError or UnsupportedError (nothing is written).
    """
    content = model_content(model)
    chosen = find_target(target)
    if project not in PROJECTS:
        raise BadInputError(f"unknown project kind '{project}'", fix=f"allowed are {', '.join(PROJECTS)}")
    if optimize not in OPTIMIZE_FLAGS:
        raise BadInputError(f"unknown optimisation '{optimize}'", fix=f"allowed are {', '.join(OPTIMIZE_FLAGS)}")
    if arena not in ARENAS:
        raise BadInputError(f"unknown place '{arena}' of the arena", fix=f"allowed are {', '.join(ARENAS)}")
    graph = graph or read_model(content if isinstance(model, bytes) else Path(model), rounding)
    c_name = _c_name(name, model)
    program = compile_graph(graph, chosen, optimize)
    templates = _templates(c_name, graph, _as_project(project))
    kernels = kernel_files(program)
    files = sorted([*templates, *kernels])
    banner = _banner(program, content, _command(chosen.name, c_name, graph.rounding, optimize, arena))
    context = model_context(program, c_name, banner, files, selftest_vector(graph), optimize, arena)
    texts = {file: render(template, context) for file, template in templates.items()}
    texts |= {file: (templates_root() / "kernels" / file).read_text("utf-8") for file in kernels}
    _refuse_to_overwrite(Path(out), texts)
    stale = stale_files(Path(out), c_name, files)
    with staged_directory(Path(out)) as staging:
        for file, text in texts.items():
            (staging / file).write_text(text, "utf-8")
    for path in stale:
        path.unlink(missing_ok=True)
    functions = [call.function for step in program.steps for call in step.calls]
    return Generated(
        out=Path(out),
        name=c_name,
        files=tuple(files),
        arena_bytes=program.arena_bytes,
        arena_lower_bound_bytes=program.plan.lower_bound_bytes,
        weight_bytes=program.weight_bytes,
        kernels={f: functions.count(f) for f in sorted(set(functions))},
        program=program,
    )


def _refuse_to_overwrite(out: Path, files: Iterable[str]) -> None:
    """An earlier output may be replaced; a file that someone wrote may not."""
    for file in files:
        path = out / file
        if not file.startswith("ob_") and path.is_file() and not is_generated(path):
            fix = "choose another folder or name, or move the file away"
            raise BadInputError(f"'{file}' is there, and onebit did not generate it", where=str(out), fix=fix)


def _as_project(project: str) -> Project:
    return "cmake" if project == "cmake" else "c"


def _templates(name: str, graph: Graph, project: Project) -> dict[str, str]:
    """Every file that is rendered, and its template."""
    model = _MODEL_FILES | (_PREPROCESS if has_preprocessing(graph) else {}) | _PROJECT_FILES[project]
    return {file.format(name=name): template for file, template in model.items()}


def kernel_files(program: Program) -> list[str]:
    """The kernel sources and headers that the program needs: its kernels and what they include, nothing else."""
    folder = templates_root() / "kernels"
    pending = {"ob_common.h"} | {f for step in program.steps for f in (step.kernel.header, *step.kernel.sources)}
    found: set[str] = set()
    while pending:
        file = pending.pop()
        found.add(file)
        included = set(re.findall(r'#include "(\w+\.h)"', (folder / file).read_text("utf-8")))
        pending |= included - found
    return sorted(found)


def selftest_vector(graph: Graph) -> SelfTest:
    """A seeded input over the model's range and the output of the NumPy semantics."""
    x = random_inputs(graph, 1, seed=0)
    return SelfTest(x, evaluate(graph, x)[graph.outputs[0]])


def random_inputs(graph: Graph, count: int, seed: int) -> Array:
    """Seeded inputs ``[count, ...]`` over the model's range.

    With preprocessing metadata, random pixels go through it; without, int8 inputs are uniform over all values and
    float inputs uniform in [-1, 1).
    """
    rng = np.random.default_rng(seed)
    tensor = graph.input
    shape = (count, *tensor.shape[1:])
    if graph.metadata is not None and tensor.dtype is not DType.BITS:
        pixels = rng.integers(0, 256, shape, dtype=np.uint8)
        return preprocess(graph, pixels)
    if tensor.dtype is DType.INT8:
        return rng.integers(-128, 128, shape, dtype=np.int8)
    if tensor.dtype is DType.BOOL:
        return rng.integers(0, 2, shape).astype(np.bool_)
    return rng.uniform(-1, 1, shape).astype(np.float32)


def preprocess(graph: Graph, pixels: Array) -> Array:
    """Pixels uint8 ``[N, H, W, C]`` to the model's input, by the tables of its metadata."""
    assert graph.metadata is not None
    quant = graph.input.quant
    return graph.metadata.preprocessing.apply(pixels, graph.input.dtype.numpy, quant.scale, quant.zero_point)


def model_content(model: Path | str | bytes) -> bytes:
    """The bytes of a model given by its path or as they are; BadInputError where there is no such file."""
    if isinstance(model, bytes):
        return model
    path = Path(model)
    if not path.is_file():
        raise BadInputError("the model file does not exist", where=str(path), fix="give the path of a .tflite file")
    return path.read_bytes()


def _c_name(name: str | None, model: Path | str | bytes) -> str:
    """The C prefix: as given, which must be an identifier, or made from the file name."""
    if name is None:
        stem = "model" if isinstance(model, bytes) else Path(model).stem
        name = re.sub(r"\W", "_", stem, flags=re.ASCII).lower().strip("_") or "model"
        name = name if _is_usable(name) else f"model_{name}"
    if not _is_usable(name):
        fix = "use letters, digits and _, no leading digit, no C keyword or standard header, no prefix ob_"
        raise BadInputError(f"'{name}' cannot be the name of a C module", where="--name", fix=fix)
    return name


def _is_usable(name: str) -> bool:
    is_identifier = re.fullmatch(r"[A-Za-z_]\w*", name, flags=re.ASCII) is not None
    return is_identifier and name.lower() not in _RESERVED and not name.startswith("ob_")


def _command(target: str, name: str, rounding: Rounding, optimize: Optimize, arena: Arena) -> str:
    """The command line that gives the same model files: the rounding, and what differs from the defaults, is in it."""
    options = {"target": target, "rounding": rounding.value, "name": name}
    options |= {} if optimize == "speed" else {"optimize": optimize}
    options |= {} if arena == "static" else {"arena": arena}
    return " ".join(["onebit generate", *(f"--{option} {value}" for option, value in options.items())])


def _banner(program: Program, content: bytes, command: str) -> list[str]:
    return [
        f"{BANNER} {tool_version()}; do not edit.",
        f"model sha256 {hashlib.sha256(content).hexdigest()}",
        f"command: {command}",
        f"RAM {program.arena_bytes} bytes (arena), flash {program.weight_bytes} bytes (constants)",
    ]


def tool_version() -> str:
    """Version of the installed onebit."""
    try:
        return version("onebit")
    except PackageNotFoundError:
        return "unknown"
