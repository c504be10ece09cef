"""`simulate`: what it reports, how it judges, and what it refuses."""

from __future__ import annotations

import hashlib
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onebit.cli.main import main
from onebit.codegen import generate
from onebit.core import DType, Graph, Quantization, evaluate, write_model
from onebit.core.errors import BadInputError, ToolMissingError, UnsupportedError
from onebit.core.graph import Array
from onebit.core.metadata import ModelMetadata, Preprocessing
from onebit.core.ops import Activation, Padding
from onebit.core.oracle import Oracle
from onebit.simulate import NumpyOracle, Samples, SimulationResult, simulate, simulator, toolchain
from support.net_table import graph_of
from support.nets import INT8_INPUT, Net

METADATA = ModelMetadata(Preprocessing())
CONTRACT = [
    "model", "model_sha256", "dataset", "dataset_sha256", "samples", "target", "compiler", "reference", "generated",
    "outputs_compared", "outputs_equal", "outputs_bit_identical", "sign_flips", "max_abs_diff", "first_mismatch",
    "arena_bytes", "stack_bytes", "weight_bytes", "code_bytes", "instructions", "cycles", "cycle_model",
]  # fmt: skip
"""The keys of design.md section 3."""


def digits() -> Graph:
    """A digits net in small, with preprocessing."""
    net = Net((1, 8, 8, 1), DType.INT8, INT8_INPUT).conv(16).quantize().bpool()
    net.bconv(32).mul(np.linspace(-1, 1, 32)).quantize().bconv(10, (4, 4), padding=Padding.VALID, to=DType.INT8)
    return net.reshape(1, 10).graph(METADATA)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "digits.tflite"
    path.write_bytes(write_model(digits()))
    return path


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 images with labels."""
    rng = np.random.default_rng(5)
    path = tmp_path_factory.mktemp("data") / "images.npz"
    np.savez(path, x=rng.integers(0, 256, (60, 8, 8, 1), dtype=np.uint8), y=rng.integers(0, 10, 60))
    return path


@pytest.fixture(scope="module")
def on_host(model: Path, labelled: Path) -> SimulationResult:
    return simulate(model, str(labelled), layers=True)


@pytest.fixture(scope="module")
def on_core(model: Path, labelled: Path) -> SimulationResult:
    return simulate(model, str(labelled), target="cortex-m4", layers=True, limit=10)


# -------------------------------------------------------------------------------------------------------------- report


def test_the_result_says_what_was_compared(on_host: SimulationResult, model: Path, labelled: Path) -> None:
    r = on_host
    assert r.ok and r.first_mismatch is None and r.sign_flips == 0 and r.max_abs_diff == 0.0
    assert r.outputs_compared == r.outputs_equal == r.outputs_bit_identical == 60 * 10
    assert (r.samples, r.target, r.dataset) == (60, "host", "images.npz:all")
    assert r.model == str(model)
    assert r.model_sha256 == hashlib.sha256(model.read_bytes()).hexdigest()
    with np.load(labelled) as arrays:
        assert r.dataset_sha256 == hashlib.sha256(arrays["x"].tobytes() + arrays["y"].tobytes()).hexdigest()
    assert r.engine == "larq-compute-engine"
    assert r.compiler.split()[0] in ("gcc", "clang", "zig") and r.emulator is None


def test_the_accuracies_are_those_of_the_outputs(on_host: SimulationResult, labelled: Path) -> None:
    with np.load(labelled) as arrays:
        x, y = arrays["x"], arrays["y"]
    graph = digits()
    outputs = evaluate(graph, METADATA.preprocessing.apply(x, np.int8, 1 / 255, -128))[graph.outputs[0]]
    accuracy = float(np.mean(outputs.argmax(axis=1) == y))
    assert on_host.reference_accuracy == on_host.generated_accuracy == accuracy
    assert on_host.reference_outputs is not None and on_host.generated_outputs is not None
    np.testing.assert_array_equal(on_host.reference_outputs, outputs)
    np.testing.assert_array_equal(on_host.generated_outputs, outputs)


def test_wrong_code_has_an_accuracy_of_its_own(model: Path, labelled: Path, tmp_path: Path) -> None:
    """With ties the first of the largest outputs counts, in the reference and in the generated code."""
    generate(model, "host", tmp_path)
    kernel = tmp_path / "ob_bconv2d_i8.c"
    text = kernel.read_text()
    assert text.count(", -128, 127)") == 1
    kernel.write_text(text.replace(", -128, 127)", ", 5, 5)"))
    result = simulate(model, str(labelled), sources=tmp_path)
    with np.load(labelled) as arrays:
        assert result.generated_accuracy == float(np.mean(arrays["y"] == 0))
    assert result.reference_accuracy != result.generated_accuracy


def test_every_tensor_is_compared_or_eliminated_by_a_pass(on_host: SimulationResult) -> None:
    graph = digits()
    layers = on_host.layers
    assert layers is not None
    assert [(layer.index, layer.op, layer.tensor) for layer in layers] == [
        (i, node.op.name, node.output) for i, node in enumerate(graph.nodes)
    ]
    eliminated = {layer.tensor: layer.eliminated_by for layer in layers if layer.eliminated_by}
    assert eliminated == {
        "conv_2d_0": "fold_sign_into_conv",
        "lcebconv2d_3": "fold_sign_into_bconv",
        "mul_4": "fold_sign_into_bconv",
    }
    for layer in layers:
        if layer.tensor not in eliminated:
            elements = graph.tensors[layer.tensor].elements
            assert layer.outputs_compared == layer.outputs_equal == 60 * elements
            assert layer.kernel is not None and layer.kernel.startswith("ob_")


def test_memory_and_code(on_host: SimulationResult, on_core: SimulationResult) -> None:
    assert 0 < on_host.arena_lower_bound_bytes <= on_host.arena_bytes
    assert on_core.weight_bytes >= on_host.weight_bytes > 0
    for result in (on_host, on_core):
        assert result.stack_bytes is not None and 0 < result.stack_bytes < 4096
        if sys.platform.startswith("linux"):
            assert result.code_bytes is not None and 500 < result.code_bytes < 50_000


def test_the_host_counts_no_instructions_and_an_emulated_core_all(
    on_host: SimulationResult, on_core: SimulationResult
) -> None:
    assert on_host.instructions is None
    assert {step.instructions for step in on_host.steps} == {None}
    assert on_core.ok and on_core.samples == 10
    assert on_core.emulator in ("unicorn", "qemu")
    steps = [step.instructions for step in on_core.steps]
    assert on_core.instructions is not None and all(count is not None and count > 0 for count in steps)
    # what is left is the function that calls the steps
    rest = on_core.instructions - sum(count or 0 for count in steps)
    assert 0 < rest < 100
    by_layer = {layer.tensor: layer.instructions for layer in on_core.layers or () if layer.instructions is not None}
    assert by_layer == {step.tensors[0]: step.instructions for step in on_core.steps}


def test_multiply_accumulates_of_the_steps(on_host: SimulationResult) -> None:
    macs = [(step.op, step.binary_macs, step.other_macs) for step in on_host.steps]
    assert macs == [
        ("onebit.ConvSign", 0, 64 * 16 * 9),
        ("LceBMaxPool2d", 0, 0),
        ("LceBconv2d", 16 * 32 * 9 * 16, 0),
        ("onebit.BinaryConvScale", 10 * 16 * 32, 0),
    ]


def test_json_has_every_key_of_the_contract(on_host: SimulationResult, on_core: SimulationResult) -> None:
    for result in (on_host, on_core):
        printed = json.loads(json.dumps(result.as_dict()))
        assert set(CONTRACT) <= set(printed)
        assert printed["reference"] == {"engine": result.engine, "accuracy": result.reference_accuracy}
        assert printed["generated"] == {"accuracy": result.generated_accuracy}
        assert printed["cycles"] is None and printed["cycle_model"] is None and printed["first_mismatch"] is None
        for layer in printed["layers"]:
            compared = {"index", "op", "kernel", "outputs_compared", "outputs_equal", "instructions"}
            assert compared <= set(layer) or {"index", "op", "eliminated_by"} <= set(layer)
            assert ("eliminated_by" in layer) != ("kernel" in layer)


def test_a_reshape_of_the_input_is_an_alias_and_not_compared() -> None:
    result = simulate(write_model(graph_of("reshaped_input")), "random:3", layers=True, reference="numpy")
    assert result.ok and result.layers is not None
    assert result.layers[0].eliminated_by == "alias_of_input"
    assert result.engine == "onebit-numpy"


def test_layers_are_compared_only_when_asked_for(model: Path) -> None:
    result = simulate(model, "random:3")
    assert result.layers is None and "layers" not in result.as_dict()
    assert result.ok and result.reference_accuracy is None and result.generated_accuracy is None
    assert (result.dataset, result.samples) == ("random:3", 3)


# --------------------------------------------------------------------------------------------------------------- calls


def test_a_model_may_be_bytes_and_data_may_be_loaded_samples() -> None:
    graph = digits()
    x = np.random.default_rng(0).integers(-128, 128, (5, 8, 8, 1), dtype=np.int8)
    samples = Samples("mine", "0" * 64, x, np.zeros(5, np.int64))
    result = simulate(write_model(graph), samples, reference=NumpyOracle())
    assert result.ok and (result.model, result.dataset, result.samples) == ("model", "mine", 5)
    assert result.reference_accuracy is not None


def test_progress_is_reported_chunk_by_chunk(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulator, "CHUNK", 8)
    seen: list[tuple[int, int]] = []
    result = simulate(model, "random:20", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(8, 20), (16, 20), (20, 20)]
    assert result.ok and result.outputs_compared == 200


def test_chunks_add_up_to_the_same_result(model: Path, labelled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = simulate(model, str(labelled), target="cortex-m4", limit=7)
    monkeypatch.setattr(simulator, "CHUNK", 3)
    parts = simulate(model, str(labelled), target="cortex-m4", limit=7)
    assert parts == whole


@pytest.mark.parametrize("compiler", ["zig", "clang"])
@pytest.mark.parametrize("optimize", ["speed", "size"])
def test_other_compilers_and_optimisation(
    compiler: Any, optimize: Any, model: Path, requires_tool: Callable[[str], str]
) -> None:
    if compiler == "clang":
        requires_tool("clang")
    result = simulate(model, "random:5", compiler=compiler, optimize=optimize)
    assert result.ok and result.compiler.startswith(f"{compiler} ")


def test_preprocessing_for_a_model_that_carries_none(labelled: Path) -> None:
    bare = write_model(Net((1, 8, 8, 1)).conv(4).dense(10).graph())
    with pytest.raises(BadInputError, match="does not say how pixels"):
        simulate(bare, str(labelled))
    preprocessing = Preprocessing(1 / 127.5, -1.0)
    result = simulate(bare, str(labelled), preprocessing=preprocessing, limit=5)
    assert result.ok and result.samples == 5


def test_the_dump_holds_inputs_and_both_outputs(model: Path, tmp_path: Path) -> None:
    dump = tmp_path / "new" / "dump.npz"
    simulate(model, "random:6", dump=dump)
    with np.load(dump) as arrays:
        assert {key: arrays[key].shape for key in arrays.files} == {
            "x": (6, 8, 8, 1), "reference": (6, 10), "generated": (6, 10),
        }  # fmt: skip
        np.testing.assert_array_equal(arrays["reference"], arrays["generated"])


def test_sources_of_a_cmake_project(model: Path, tmp_path: Path) -> None:
    """Its own main program stays out of the simulation."""
    generate(model, "host", tmp_path, project="cmake")
    assert simulate(model, "random:3", sources=tmp_path).ok


# ---------------------------------------------------------------------------------------------------------- sign flips


def flipping_net() -> Graph:
    """A real-valued sum 1 + e - 1 in front of a sign: with e = -2**-25 it is 0 in float32, and less in double.

    The generated code adds in float32, from left to right; the NumPy reference adds in double. With any other e the
    sign is the same in both.
    """
    net = Net((1, 2, 2, 3)).conv(8, (1, 1), padding=Padding.VALID)
    net.tensors["filter_0"].constant()[:] = 1.0
    net.tensors["bias_0"].constant()[:] = 0.0
    return net.quantize().bconv(6, (1, 1), padding=Padding.VALID, bias=np.zeros(6)).graph()


def flipping_samples(flips: Sequence[bool]) -> Samples:
    """One pixel of each flipping sample is 1, -2**-25, -1; all else is far from 0."""
    x = np.ones((len(flips), 2, 2, 3), np.float32)
    x[np.array(flips), 0, 0] = [1.0, -(2.0**-25), -1.0]
    return Samples("flips", "0" * 64, x, None)


@pytest.mark.parametrize("layers", [True, False])
def test_a_flipped_sign_next_to_zero_is_counted_and_excused(layers: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """More samples than are looked at to locate a fault, in several chunks."""
    monkeypatch.setattr(simulator, "CHUNK", 20)
    flips = [i % 2 == 0 for i in range(50)]
    model = write_model(flipping_net())
    result = simulate(model, flipping_samples(flips), layers=layers, reference="numpy")
    assert result.sign_flips == 25 * 8
    assert result.outputs_equal < result.outputs_compared
    assert result.first_mismatch is not None and result.first_mismatch.layer == "lcequantize_1"
    assert result.first_mismatch.index[:3] == [0, 0, 0]
    assert result.ok


def test_a_fault_in_another_sample_is_not_excused(tmp_path: Path) -> None:
    flips = [i % 2 == 0 for i in range(20)]
    model = write_model(flipping_net())
    generate(model, "host", tmp_path, name="model")
    weights = tmp_path / "model_weights.h"
    text = weights.read_text()
    at = text.index("{", text.index("model_02_filter")) + 1
    start = text.index("0x", at)
    weights.write_text(text[:start] + f"0x{int(text[start + 2 : start + 10], 16) ^ 1:08X}" + text[start + 10 :])
    result = simulate(model, flipping_samples(flips), sources=tmp_path, reference="numpy")
    assert result.sign_flips > 0
    assert not result.ok


def test_without_a_flip_there_is_nothing_to_excuse() -> None:
    result = simulate(write_model(flipping_net()), flipping_samples([False] * 5), layers=True, reference="numpy")
    assert result.ok and result.sign_flips == 0 and result.outputs_equal == result.outputs_compared


class Wrong(Oracle):
    """A reference that is off in one tensor."""

    engine = "wrong"

    def __init__(self, tensor: str, amount: float) -> None:
        self._tensor, self._amount = tensor, amount

    def run(self, model: bytes, x: Array, tensors: Sequence[str]) -> list[Array]:
        values = dict(zip(tensors, NumpyOracle().run(model, x, tensors), strict=True))
        if self._tensor in values:
            values[self._tensor] = (values[self._tensor] + self._amount).astype(values[self._tensor].dtype)
        return list(values.values())


def test_real_valued_sums_have_a_tolerance_and_not_more() -> None:
    net = Net((1, 6, 6, 3)).conv(4, activation=Activation.RELU).dense(5)
    model = write_model(net.graph())
    near = simulate(model, "random:20", reference=Wrong("fully_connected_1", 1e-6))
    assert near.ok and near.outputs_equal == near.outputs_compared > near.outputs_bit_identical
    assert 0 < near.max_abs_diff < 1e-5 and near.first_mismatch is None
    far = simulate(model, "random:20", reference=Wrong("fully_connected_1", 1e-2))
    assert not far.ok and far.first_mismatch is not None and far.outputs_equal == 0


def test_a_tensor_in_the_middle_that_differs_fails_with_layers_only() -> None:
    """A difference that no output shows: only the comparison of all tensors can see it."""
    net = Net((1, 5, 5, 8)).quantize().bconv(4).add(np.zeros(4)).mul(np.zeros(4))
    model, wrong = write_model(net.graph()), Wrong("lcebconv2d_1", 0.5)
    assert simulate(model, "random:5", reference=wrong).ok
    result = simulate(model, "random:5", reference=wrong, layers=True)
    assert not result.ok and result.outputs_equal == result.outputs_compared
    assert result.first_mismatch is not None and result.first_mismatch.layer == "lcebconv2d_1"


# --------------------------------------------------------------------------------------------------- emulators agree


def test_qemu_and_unicorn_count_the_same(model: Path, labelled: Path, requires_tool: Callable[[str], str]) -> None:
    requires_tool("qemu-system-arm")
    found = {}
    for emulator in ("unicorn", "qemu"):
        result = simulate(model, str(labelled), target="cortex-m4", limit=5, emulator=emulator)  # type: ignore[arg-type]
        assert result.ok and result.emulator == emulator
        found[emulator] = (result.instructions, [s.instructions for s in result.steps], result.stack_bytes)
    assert found["unicorn"] == found["qemu"]


# -------------------------------------------------------------------------------------------------------------- errors


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "none.tflite", tmp_path):
        with pytest.raises(BadInputError, match="the model file does not exist"):
            simulate(path, "random:1")


@pytest.mark.parametrize("target", ["esp32", "esp32c3", "rv32imc_zbb"])
def test_a_target_that_nothing_here_can_run(target: str, model: Path) -> None:
    with pytest.raises(BadInputError, match=f"cannot run {target} code.*use host, cortex-m0plus"):
        simulate(model, "random:1", target=target)


def test_an_unknown_target_data_set_or_reference(model: Path) -> None:
    with pytest.raises(BadInputError, match="unknown target 'z80'"):
        simulate(model, "random:1", target="z80")
    with pytest.raises(BadInputError, match="unknown data set 'nothing'"):
        simulate(model, "nothing")
    with pytest.raises(BadInputError, match="unknown reference 'xnnpack'"):
        simulate(model, "random:1", reference="xnnpack")
    with pytest.raises(BadInputError, match="'tflm' does not round like --rounding litert"):
        simulate(model, "random:1", reference="tflm")


def test_sources_that_are_not_of_this_model(model: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"there is no digits\.c"):
        simulate(model, "random:1", sources=tmp_path)


def test_an_operator_without_support_is_refused_before_anything_runs(tmp_path: Path) -> None:
    graph = Net((1, 4, 4, 3)).conv(4).graph()
    content = write_model(graph)
    # CONV_2D (3) becomes L2_NORMALIZATION (11)
    from onebit.core.flatbuffer.decode import Decoder
    from onebit.core.flatbuffer.encode import Encoder

    record = Decoder(content, "model").root("Model")
    for code in record["operator_codes"]:
        code["builtin_code"] = code["deprecated_builtin_code"] = 11
    with pytest.raises(UnsupportedError, match="L2_NORMALIZATION"):
        simulate(Encoder().finish("Model", record), "random:1")


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty PATH, and no zig wheel."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(toolchain, "_zig_program", lambda: None)


@pytest.mark.usefixtures("no_compiler")
@pytest.mark.parametrize(("target", "advice"), [("host", "install gcc or clang"), ("cortex-m4", "gcc-arm-none-eabi")])
def test_without_a_compiler(target: str, advice: str, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ToolMissingError, match=advice) as caught:
        simulate(model, "random:1", target=target)
    assert caught.value.exit_code == 3
    assert main(["simulate", str(model), "--data", "random:1", "--target", target]) == 3
    out, err = capsys.readouterr()
    assert out == "" and err.strip().startswith("error: no C compiler") and len(err.strip().splitlines()) == 1
    assert main(["simulate", str(model), "--data", "random:1", "--target", target, "--json"]) == 3
    out, err = capsys.readouterr()
    assert json.loads(out)["error"]["kind"] == "tool_missing"


def test_a_result_that_cannot_be_dumped_is_an_error(model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInputError, match="is a file"):
        simulate(model, "random:1", dump=tmp_path / "file" / "dump.npz")


def test_nothing_is_left_behind(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    simulate(model, "random:2", layers=True)
    with pytest.raises(BadInputError):
        simulate(model, "random:2", sources=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_command_line_prints_progress_elsewhere_and_one_object(model: Path, labelled: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "onebit.cli",
        "simulate",
        str(model),
        "--data",
        str(labelled),
        "--json",
        "--layers",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert printed["outputs_equal"] == printed["outputs_compared"] == 600
    assert len(printed["layers"]) == len(digits().nodes)


def test_library_code_does_not_print(model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    logging.getLogger("onebit").setLevel(logging.WARNING)
    simulate(model, "random:2")
    assert capfd.readouterr() == ("", "")


def test_a_scale_that_differs_per_output_still_compares_integers() -> None:
    """int8 outputs are compared as integers, whatever their scale is."""
    net = Net((1, 5, 5, 8), DType.INT8, INT8_INPUT).quantize()
    net.bconv(4, to=DType.INT8, quant=Quantization.per_tensor(1e-3, 100))
    result = simulate(write_model(net.graph()), "random:10", layers=True)
    assert result.ok and result.outputs_bit_identical == result.outputs_compared
