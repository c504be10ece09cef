"""The check can fail: one changed bit, threshold or padding rule in the generated C is caught, and its layer named."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from onebit.codegen import compile_graph, find_target, generate
from onebit.core import DType, Quantization, Rounding, evaluate, read_model, write_model
from onebit.core.errors import BadInputError, VerificationError
from onebit.core.ops import Padding
from onebit.simulate import SimulationResult, simulate, simulator
from support.nets import INT8_INPUT, Net

SAMPLES = "random:40"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A digits net in small: int8 first layer, one- and zero-padded binary convolutions, int8 logits.

    Small weights in the first layer, and scales that leave no sign constant, so that a small fault matters somewhere.
    """
    rng = np.random.default_rng(7)
    net = Net((1, 10, 10, 1), DType.INT8, INT8_INPUT, seed=7).conv(16, quant=Quantization.per_tensor(2e-5, 4))
    weights, bias = net.tensors["filter_0"].constant(), net.tensors["bias_0"].constant()
    weights[:] = rng.integers(-3, 4, weights.shape)
    bias[:] = -127 * weights.sum(axis=(1, 2, 3), dtype=np.int32)
    net.quantize().bpool()
    one, other = np.where(np.arange(32) % 2, 0.1, -0.1), np.where(np.arange(24) % 2, 0.1, -0.1)
    net.bconv(32, multiplier=one, bias=0.2 * np.sign(one)).mul(rng.uniform(0.5, 1, 32)).quantize()
    net.bconv(24, pad_value=0, multiplier=other, bias=np.zeros(24)).add(rng.normal(0, 0.3, 24)).quantize()
    net.bpool(2, padding=Padding.SAME).bconv(10, (3, 3), padding=Padding.VALID, to=DType.INT8).reshape(1, 10)
    path = tmp_path_factory.mktemp("faults") / "digits.tflite"
    path.write_bytes(write_model(net.graph()))
    return path


#: the tensors in which a fault of each step shows first
FIRST_LAYER, ONE_PADDED, ZERO_PADDED, LAST = "lcequantize_1", "lcequantize_5", "lcequantize_8", "lcebconv2d_10"


def step_number(model: Path, tensor: str, target: str) -> int:
    step = compile_graph(read_model(model), find_target(target)).step_of(tensor)
    assert step is not None
    return step.index


def numbers(text: str, array: str) -> list[tuple[int, int, str]]:
    """(start, end, literal) of the values of a constant array."""
    declared = re.search(rf"static const OB_ALIGNED \w+ {array}\[\d+\] = \{{(.*?)\}};", text, flags=re.DOTALL)
    assert declared is not None, array
    found = re.finditer(r"INT32_MIN|-?\w+", declared.group(1))
    return [(declared.start(1) + m.start(), declared.start(1) + m.end(), m.group()) for m in found]


def change_value(file: Path, array: str, index: int, change: Callable[[str], str]) -> None:
    text = file.read_text()
    start, end, literal = numbers(text, array)[index]
    file.write_text(text[:start] + change(literal) + text[end:])


def change_params(file: Path, step: int, old: str, new: str) -> None:
    """Replace a field in the parameters of one layer function."""
    text = file.read_text()
    at = text.index(f"digits_layer_{step:02d}(")
    field = text.index(old, at)
    assert field < text.index("\n}\n", at), f"layer {step} has no {old}"
    file.write_text(text[:field] + new + text[field + len(old) :])


Fault = Callable[[Path, int], None]


def flip_weight_bit(folder: Path, step: int) -> None:
    """Bit 1 of a word of signs, of an int8 weight or of a pair of them."""
    name = f"digits_{step:02d}_filter"

    def flip(literal: str) -> str:
        return f"0x{int(literal[:-1], 16) ^ 2:08X}u" if literal.endswith("u") else str(int(literal) ^ 2)

    change_value(folder / "digits_weights.h", name, 5, flip)


def next_threshold(by: int) -> Fault:
    """A threshold off by one count: by 1 for int8 accumulators, by 2 for doubled popcounts."""

    def change(folder: Path, step: int) -> None:
        name = f"digits_{step:02d}_threshold"
        change_value(folder / "digits_weights.h", name, 3, lambda t: str(int(t) + by))

    return change


def other_offset(folder: Path, step: int) -> None:
    """One step of the int8 output: 2^shift in the fixed-point offset."""
    text = (folder / "digits.c").read_text()
    body = text[text.index(f"digits_layer_{step:02d}(") :]
    shift = int(re.search(r"offset,\s*(\d+),", body).group(1))  # type: ignore[union-attr]
    name = f"digits_{step:02d}_offset"
    change_value(folder / "digits_weights.h", name, 2, lambda o: str(int(o) + (1 << shift)))


def shifted_padding(folder: Path, step: int) -> None:
    change_params(folder / "digits.c", step, ".pad_w = 1", ".pad_w = 0")


def other_border_row(folder: Path, step: int) -> None:
    """The corrections of the lowest row of pixels for the uppermost."""
    change_value(folder / "digits_weights.h", f"digits_{step:02d}_border", 0, lambda row: str(3 - int(row)))


def ones_for_zeros(folder: Path, step: int) -> None:
    change_params(folder / "digits.c", step, f".border = digits_{step:02d}_border", ".border = NULL")


FAULTS: dict[str, tuple[str, Fault]] = {
    "weight bit": (ONE_PADDED, flip_weight_bit),
    "weight bit of the zero-padded layer": (ZERO_PADDED, flip_weight_bit),
    "weight bit of the last layer": (LAST, flip_weight_bit),
    "weight bit of the first layer": (FIRST_LAYER, flip_weight_bit),
    "threshold of the first layer": (FIRST_LAYER, next_threshold(1)),
    "threshold": (ONE_PADDED, next_threshold(2)),
    "threshold of the zero-padded layer": (ZERO_PADDED, next_threshold(-2)),
    "offset": (LAST, other_offset),
    "padding on the wrong side": (ONE_PADDED, shifted_padding),
    "border of the zero-padded layer": (ZERO_PADDED, other_border_row),
    "one padding for zero padding": (ZERO_PADDED, ones_for_zeros),
}
#: the three kinds that the emulated core is tried with
ON_THE_CORE = ["weight bit", "threshold of the first layer", "one padding for zero padding"]


def sources_with(model: Path, folder: Path, fault: str | None, target: str) -> Path:
    generate(model, target, folder)
    if fault is not None:
        tensor, change = FAULTS[fault]
        change(folder, step_number(model, tensor, target))
    return folder


def check(result: SimulationResult, fault: str) -> None:
    assert not result.ok
    assert result.outputs_equal < result.outputs_compared == 400
    assert result.first_mismatch is not None
    assert result.first_mismatch.layer == FAULTS[fault][0]
    assert result.first_mismatch.expected != result.first_mismatch.got
    assert 0 <= result.first_mismatch.index[0] < 40


def test_without_a_fault_nothing_is_found(model: Path, tmp_path: Path) -> None:
    sources = sources_with(model, tmp_path / "c", None, "host")
    result = simulate(model, SAMPLES, sources=sources, layers=True)
    assert result.ok and result.first_mismatch is None
    assert result.outputs_equal == result.outputs_compared == 400
    assert {layer.eliminated_by for layer in result.layers or ()} >= {
        "fold_sign_into_conv", "fold_sign_into_bconv", "fold_sign_into_zero_padded_bconv",
    }  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_on_the_host(fault: str, model: Path, tmp_path: Path) -> None:
    result = simulate(model, SAMPLES, sources=sources_with(model, tmp_path / "c", fault, "host"))
    check(result, fault)


@pytest.mark.parametrize("fault", ON_THE_CORE)
def test_a_fault_is_found_on_the_emulated_core(fault: str, model: Path, tmp_path: Path) -> None:
    """With what pip installs alone: zig compiles, unicorn runs."""
    sources = sources_with(model, tmp_path / "c", fault, "cortex-m4")
    result = simulate(model, SAMPLES, target="cortex-m4", sources=sources, compiler="zig", emulator="unicorn")
    assert result.compiler.startswith("zig ") and result.emulator == "unicorn"
    check(result, fault)


def test_a_fault_is_found_on_qemu(model: Path, tmp_path: Path, requires_tool: Callable[[str], str]) -> None:
    requires_tool("arm-none-eabi-gcc")
    requires_tool("qemu-system-arm")
    sources = sources_with(model, tmp_path / "c", "weight bit", "cortex-m4")
    result = simulate(model, SAMPLES, target="cortex-m4", sources=sources, compiler="gcc", emulator="qemu")
    assert result.emulator == "qemu"
    check(result, "weight bit")


@pytest.mark.parametrize("fault", ["weight bit", "one padding for zero padding"])
def test_layer_by_layer_all_tensors_in_front_of_the_fault_are_equal(fault: str, model: Path, tmp_path: Path) -> None:
    result = simulate(model, SAMPLES, sources=sources_with(model, tmp_path / "c", fault, "host"), layers=True)
    check(result, fault)
    compared = [layer for layer in result.layers or () if layer.eliminated_by is None]
    equal = {layer.tensor: layer.outputs_equal == layer.outputs_compared for layer in compared}
    order = [layer.tensor for layer in compared]
    at = order.index(FAULTS[fault][0])
    assert [equal[name] for name in order[: at + 1]] == [True] * at + [False]


def test_the_sample_and_the_element_that_are_named_are_wrong(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where samples run in several chunks, and the fault shows in a later one only."""
    sources = sources_with(model, tmp_path / "c", None, "host")
    graph = read_model(model)
    outputs = evaluate(graph, simulator.load_samples(SAMPLES, graph).x)[graph.outputs[0]]
    # a wrong value that few samples show: the largest logit is capped
    sample, channel = np.argwhere(outputs == outputs.max())[0]
    wrong = int((outputs == outputs.max()).sum())
    assert sample > 0 and wrong < 10
    monkeypatch.setattr(simulator, "CHUNK", int(sample))
    file = sources / "ob_bconv2d_i8.c"
    cap = int(outputs.max()) - 1
    text = file.read_text()
    assert text.count(", -128, 127)") == 1
    file.write_text(text.replace(", -128, 127)", f", -128, {cap})"))
    result = simulate(model, SAMPLES, sources=sources)
    mismatch = result.first_mismatch
    assert mismatch is not None and mismatch.layer == LAST
    assert mismatch.index == [int(sample), 0, 0, int(channel)]
    assert (mismatch.expected, mismatch.got) == (cap + 1, cap)
    assert (result.outputs_compared, result.outputs_equal, result.max_abs_diff) == (400, 400 - wrong, 1.0)


def test_the_dump_shows_what_was_compared(model: Path, tmp_path: Path) -> None:
    dump = tmp_path / "dump.npz"
    result = simulate(model, SAMPLES, sources=sources_with(model, tmp_path / "c", "weight bit", "host"), dump=dump)
    with np.load(dump) as arrays:
        x, reference, generated = (arrays[name] for name in ("x", "reference", "generated"))
        assert set(arrays.files) == {"x", "reference", "generated"}
    assert x.shape == (40, 10, 10, 1) and x.dtype == np.int8
    graph = read_model(model)
    np.testing.assert_array_equal(reference, evaluate(graph, x)[graph.outputs[0]].reshape(reference.shape))
    assert np.count_nonzero(reference != generated) == result.outputs_compared - result.outputs_equal > 0
    largest = np.abs(reference.astype(int) - generated).max()
    assert largest == result.max_abs_diff


def test_code_that_does_not_compile_or_crashes_is_a_verification_error(model: Path, tmp_path: Path) -> None:
    sources = sources_with(model, tmp_path / "c", None, "host")
    file = sources / "digits.c"
    good = file.read_text()
    file.write_text(f"{good}\nint unused(int x) {{ return y; }}\n")
    with pytest.raises(VerificationError, match=r"compiling digits\.c failed") as caught:
        simulate(model, SAMPLES, sources=sources)
    assert caught.value.exit_code == 1
    file.write_text(good.replace("  return 0;\n", "  return 1;\n"))
    with pytest.raises(VerificationError, match="invoke function returned an error"):
        simulate(model, SAMPLES, sources=sources)


# ---------------------------------------------------------------------------------------------------- the command line


def onebit(*args: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "onebit.cli", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize(("target", "fault"), [("host", "threshold"), ("cortex-m4", "border of the zero-padded layer")])
def test_the_command_line_exits_with_1_and_names_the_layer(
    target: str, fault: str, model: Path, tmp_path: Path
) -> None:
    sources, dump = sources_with(model, tmp_path / "c", fault, target), tmp_path / "dump.npz"
    arguments = ["simulate", model, "--data", SAMPLES, "--target", target, "--sources", sources]
    if target != "host":
        arguments += ["--compiler", "zig", "--emulator", "unicorn"]
    done = onebit(*arguments, "--dump", dump, "--json")
    assert done.returncode == 1, done.stderr
    result = json.loads(done.stdout)
    assert result["first_mismatch"]["layer"] == FAULTS[fault][0]
    assert set(result["first_mismatch"]) == {"layer", "op", "index", "expected", "got"}
    assert result["outputs_equal"] < result["outputs_compared"]
    with np.load(dump) as arrays:
        assert (arrays["reference"] != arrays["generated"]).any()


def test_for_people_the_command_line_names_the_layer_too(model: Path, tmp_path: Path) -> None:
    sources = sources_with(model, tmp_path / "c", "threshold", "host")
    done = onebit("simulate", model, "--data", SAMPLES, "--sources", sources)
    assert done.returncode == 1
    assert f"first difference: LceQuantize '{ONE_PADDED}' at [" in done.stdout
    clean = onebit("simulate", model, "--data", SAMPLES)
    assert clean.returncode == 0 and "first difference" not in clean.stdout
    assert "400 of 400 outputs equal" in clean.stdout


def test_sources_of_another_model_target_or_rounding_are_refused(model: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.tflite"
    other.write_bytes(write_model(Net((1, 10, 10, 1), DType.INT8, INT8_INPUT).conv(10).reshape(1, 1000).graph()))
    generate(other, "host", tmp_path / "other", name="digits")
    with pytest.raises(BadInputError, match=r"digits\.c was generated from another model"):
        simulate(model, "random:1", sources=tmp_path / "other")
    generate(model, "cortex-m4", tmp_path / "m4", name="digits")
    with pytest.raises(BadInputError, match=r"digits\.c was not generated for host"):
        simulate(model, "random:1", sources=tmp_path / "m4")
    generate(model, "host", tmp_path / "tflm", name="digits", rounding=Rounding.TFLM)
    with pytest.raises(BadInputError, match=r"digits\.c was not generated with --rounding litert"):
        simulate(model, "random:1", sources=tmp_path / "tflm")
    assert simulate(model, "random:1", sources=tmp_path / "tflm", rounding=Rounding.TFLM).ok


def test_other_files_beside_the_sources_are_not_compiled(model: Path, tmp_path: Path) -> None:
    generate(model, "host", tmp_path / "c", name="digits")
    (tmp_path / "c" / "main.c").write_text("int main(void) { return 0; }")
    assert simulate(model, "random:1", sources=tmp_path / "c").ok
