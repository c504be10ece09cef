"""Text of the generated C: literals that are exact, comments that stay comments, templates that miss nothing."""

from __future__ import annotations

import ctypes
import math
from dataclasses import replace
from pathlib import Path

import jinja2
import numpy as np
import pytest

from onebit.codegen import compile_graph, emit, find_target, generate
from onebit.codegen.emit import SelfTest, array_text, comment_text, float_literal, int_literal, model_context, render
from onebit.codegen.generate import selftest_vector
from onebit.codegen.templates_path import templates_root
from onebit.core import DType, write_model
from onebit.core.graph import Array
from onebit.core.metadata import ModelMetadata, Preprocessing
from onebit.simulate.toolchain import WARNINGS, find_compiler
from support.nets import INT8_INPUT, Net

F = np.finfo(np.float32)


def floats() -> Array:
    rng = np.random.default_rng(1)
    random = rng.integers(0, 2**32, 3000, dtype=np.uint32).view(np.float32)
    special = np.array([0.0, -0.0, 1.0, -1.0, 0.1, F.tiny, -F.tiny, F.max, F.smallest_subnormal, 1e-40], np.float32)
    return np.concatenate([special, random[np.isfinite(random)]])


def test_float_literals_are_exact() -> None:
    values = floats()
    for value in values:
        literal = float_literal(float(value))
        assert literal.endswith("f")
        parsed = float.fromhex(literal[:-1])
        assert parsed == value and math.copysign(1, parsed) == math.copysign(1, value)


def test_the_compiler_reads_the_same_numbers(tmp_path: Path) -> None:
    values = floats()
    integers = np.array([0, 1, -1, 2**31 - 1, -(2**31)], np.int32)
    text = array_text("const float numbers[]", values, "numbers")
    whole = array_text("const int32_t whole[]", integers, "")
    words = array_text("const uint32_t words[]", integers.view(np.uint32), "")
    lines = [f"{t.declaration} = {{\n" + "\n".join(t.lines) + "\n};\n" for t in (text, whole, words)]
    unit = tmp_path / "numbers.c"
    unit.write_text("#include <stdint.h>\n" + "".join(lines))
    library = ctypes.CDLL(str(find_compiler(find_target("host")).link_shared([unit], tmp_path / "numbers.so")))
    read = np.frombuffer((ctypes.c_uint32 * len(values)).in_dll(library, "numbers"), np.uint32)
    np.testing.assert_array_equal(read, values.view(np.uint32))
    for name in ("whole", "words"):
        got = np.frombuffer((ctypes.c_int32 * len(integers)).in_dll(library, name), np.int32)
        np.testing.assert_array_equal(got, integers)


def test_infinities_and_the_lowest_integer() -> None:
    assert (float_literal(math.inf), float_literal(-math.inf)) == ("OB_INFINITY", "-OB_INFINITY")
    assert int_literal(-(2**31)) == "INT32_MIN"
    assert int_literal(-(2**31) + 1) == "-2147483647"


def test_arrays_have_fixed_columns() -> None:
    text = array_text("static const int8_t x[45]", np.arange(-20, 25, dtype=np.int8), "comment")
    assert [line.count(",") for line in text.lines] == [20, 20, 5]
    assert len({len(line) for line in text.lines[:2]}) == 1
    assert text.lines[0].startswith("-20, -19,")


@pytest.mark.parametrize("text", ["a*/b", "a/*b", "*/*/", "/*/", "/**/", "**//", "*", "/", "plain"])
def test_a_comment_can_be_neither_ended_nor_opened_from_inside(text: str) -> None:
    safe = comment_text(text)
    assert "*/" not in safe and "/*" not in safe
    assert safe.replace(" ", "") == text


def test_names_of_tensors_do_not_leave_their_comments(tmp_path: Path) -> None:
    net = Net((1, 5, 5, 8)).quantize().bconv(8, to=DType.BITS).bconv(3)
    graph, evil = net.graph(), "*/ #error /* ??/ größe \\"
    middle = graph.nodes[1].output
    tensors = {evil if name == middle else name: tensor for name, tensor in graph.tensors.items()}
    tensors[evil] = replace(tensors[evil], name=evil)
    first, second, third = graph.nodes
    nodes = (first, replace(second, outputs=(evil,)), replace(third, inputs=(evil, *third.inputs[1:])))
    folder = tmp_path / "c"
    generate(write_model(replace(graph, tensors=tensors, nodes=nodes)), "host", folder)
    compiler = find_compiler(find_target("host"))
    compiler.compile(sorted(folder.glob("*.c")), tmp_path / "o", include=(folder,), extra=WARNINGS)


def context_of(net: Net) -> emit.ModelContext:
    graph = net.graph(ModelMetadata(Preprocessing()))
    return model_context(
        compile_graph(graph, find_target("host")), "net", ["banner"], ["net.c"], selftest_vector(graph)
    )


def test_every_template_renders_all_of_its_context() -> None:
    context = context_of(Net((1, 6, 6, 3), DType.INT8, INT8_INPUT).conv(4).quantize().bconv(5))
    for template in sorted((templates_root() / "model").glob("*.j2")):
        text = render(template.name, context)
        assert "banner" in text or template.name == "CMakeLists.txt.j2"
        assert "{{" not in text and "{%" not in text and "Undefined" not in text
        assert text.endswith("\n") and not text.endswith("\n\n")


def test_an_unknown_name_in_a_template_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "wrong.j2").write_text("{{ model.nothing }}")
    monkeypatch.setattr(emit, "templates_root", lambda: tmp_path)
    with pytest.raises(jinja2.UndefinedError, match="nothing"):
        render("wrong.j2", context_of(Net((1, 4, 4, 3)).conv(4)))


def test_float_outputs_have_the_tolerance_of_their_class() -> None:
    graph = Net((1, 4, 4, 3)).conv(4).graph()
    program = compile_graph(graph, find_target("host"))
    x = np.zeros((1, 4, 4, 3), np.float32)
    for spread, tolerance in ((0.1, 1e-5), (50.0, 50e-5)):
        y = np.linspace(0, spread, 64, dtype=np.float32).reshape(1, 4, 4, 4)
        context = model_context(program, "net", [], ["net.c"], SelfTest(x, y))
        assert float.fromhex(context.tolerance[:-1]) == pytest.approx(tolerance, rel=1e-5)
    integers = Net((1, 4, 4, 3), DType.INT8, INT8_INPUT).conv(4)
    assert context_of(integers).tolerance == "0"


def test_equal_constants_are_one_array(tmp_path: Path) -> None:
    """Weights and biases of two layers, and whatever else happens to be equal."""
    net = Net((1, 6, 6, 4), DType.INT8, INT8_INPUT, seed=3).conv(4, (1, 1)).conv(4, (1, 1))
    for role in ("filter", "bias"):
        first = net.tensors[f"{role}_0"]
        net.tensors[f"{role}_1"] = replace(first, name=f"{role}_1", data=first.constant().copy())
    program = compile_graph(net.graph(), find_target("host"))
    constants = [constant for step in program.steps for constant in step.constants]
    assert len(program.arrays) < len(constants)
    assert program.weight_bytes == sum(constant.data.nbytes for _, constant in program.arrays.values())
    generate(write_model(net.graph()), "host", tmp_path, name="net")
    weights, code = (tmp_path / "net_weights.h").read_text(), (tmp_path / "net.c").read_text()
    assert "net_00_filter[16]" in weights and "net_01_filter" not in weights + code
    assert code.count("net_00_filter") == code.count("net_00_bias") == 2
    compiler = find_compiler(find_target("host"))
    compiler.compile([tmp_path / "net.c"], tmp_path / "o", include=(tmp_path,), extra=WARNINGS)


def test_arrays_are_static_constant_and_aligned(tmp_path: Path) -> None:
    generate(write_model(Net((1, 5, 5, 3), DType.INT8, INT8_INPUT).conv(5).graph()), "host", tmp_path, name="net")
    declared = [line for line in (tmp_path / "net_weights.h").read_text().splitlines() if line.endswith("] = {")]
    assert len(declared) == 4
    assert all(line.startswith("static const OB_ALIGNED ") for line in declared)
    check = "\n".join(
        f"typedef char {name}_aligned[__alignof__({name}) % 4 == 0 ? 1 : -1];"
        for name in (line.split()[4].split("[")[0] for line in declared)
    )
    unit = tmp_path / "check.c"
    unit.write_text(f'#include "net_weights.h"\n{check}\n')
    compiler = find_compiler(find_target("host"))
    compiler.compile([unit], tmp_path / "o", include=(tmp_path,), extra=("-Wno-unused",))
