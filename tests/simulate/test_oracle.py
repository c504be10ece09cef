"""The reference: LCE's interpreter in a child process, and onebit's own semantics, which are equal to it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from onebit.codegen.generate import random_inputs
from onebit.core import DType, Graph, Rounding, evaluate, write_model
from onebit.core.errors import BadInputError, ToolMissingError, VerificationError
from onebit.core.flatbuffer.excerpt import with_outputs
from onebit.simulate import LceOracle, NumpyOracle, find_oracle, oracle, tflm
from onebit.simulate.tflm import TflmOracle
from support.net_table import graph_of
from support.nets import INT8_INPUT, Net


@pytest.fixture
def lce(requires_package: object) -> LceOracle:
    if oracle._interpreter_library() is None:
        pytest.skip("package: the Python module larq_compute_engine is not installed")
    return LceOracle()


def names_of(graph: Graph) -> list[str]:
    return [tensor.name for tensor in graph.activations()]


@pytest.mark.parametrize("name", ["int8_33", "bits_32", "zeros_32", "batch_norm", "groups_2", "int8_head_none", "copy"])
def test_both_give_every_tensor_of_a_model(name: str, lce: LceOracle) -> None:
    graph = graph_of(name)
    model, x = write_model(graph), random_inputs(graph, 5, seed=2)
    names = names_of(graph)
    ours, theirs = NumpyOracle().run(model, x, names), lce.run(model, x, names)
    assert len(ours) == len(theirs) == len(names)
    for tensor, a, b in zip(names, ours, theirs, strict=True):
        assert a.dtype == b.dtype == graph.tensors[tensor].dtype.numpy
        np.testing.assert_array_equal(a, b.reshape(a.shape), err_msg=tensor)


FAST = {
    **dict.fromkeys(("int8_33", "bits_32", "clamped_bits", "segments", "bordered_bits", "residual"), "indirect"),
    # ties at a border of zeros, which the indirect kernels break
    "zeros_32": "reference",
    # refused by the indirect kernels: the child process falls back
    "groups_3": "indirect",
}


@pytest.mark.parametrize("name", FAST)
def test_fast_kernels_compute_the_same(name: str, lce: LceOracle, monkeypatch: pytest.MonkeyPatch) -> None:
    kernels: list[str] = []
    run_part = LceOracle._run_part
    monkeypatch.setattr(LceOracle, "_run_part", lambda self, *args: (kernels.append(args[0]), run_part(self, *args))[1])
    graph = graph_of(name)
    model, x, names = write_model(graph), random_inputs(graph, 5, seed=2), names_of(graph)
    for slow, fast in zip(lce.run(model, x, names), lce.run_fast(model, x, names), strict=True):
        np.testing.assert_array_equal(slow, fast)
    assert kernels == ["reference", FAST[name]]


def without_bias() -> Graph:
    graph = Net((1, 5, 6, 3)).conv(4).graph()
    (node,) = graph.nodes
    return replace(graph, nodes=(replace(node, inputs=node.inputs[:2]),))


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: graph_of("table_of_odd_values"), "zero padding of an odd number of channels"),
        (without_bias, "CONV_2D without bias"),
    ],
    ids=["odd", "no bias"],
)
def test_what_the_interpreter_refuses_is_left_to_numpy(
    make: Callable[[], Graph], what: str, lce: LceOracle, caplog: pytest.LogCaptureFixture
) -> None:
    graph = make()
    model, x, names = write_model(graph), random_inputs(graph, 2, seed=2), names_of(graph)
    assert lce.engine == "larq-compute-engine"
    for ours, theirs in zip(NumpyOracle().run(model, x, names), lce.run(model, x, names), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert lce.engine == f"onebit-numpy, for {what}"
    assert f"LCE has no kernel for {what}" in caplog.text


def test_real_valued_sums_agree_within_the_tolerance(lce: LceOracle) -> None:
    graph = graph_of("float_head_relu6")
    model, x = write_model(graph), random_inputs(graph, 5, seed=2)
    for a, b in zip(NumpyOracle().run(model, x, names_of(graph)), lce.run(model, x, names_of(graph)), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * max(np.ptp(b), 0.1))


@pytest.mark.parametrize("kind", ["numpy", "lce"])
def test_tensors_come_in_the_order_asked_for(kind: str, lce: LceOracle) -> None:
    graph = graph_of("int8_33")
    model, x = write_model(graph), random_inputs(graph, 3, seed=2)
    chosen = find_oracle(kind)
    names = names_of(graph)
    everything = dict(zip(names, chosen.run(model, x, names), strict=True))
    backwards = chosen.run(model, x, names[::-1])
    for name, value in zip(names[::-1], backwards, strict=True):
        np.testing.assert_array_equal(value, everything[name])
    (one,) = chosen.run(model, x, names[1:2])
    np.testing.assert_array_equal(one, everything[names[1]])


def test_the_file_is_given_to_the_interpreter_as_it_is_where_only_its_output_is_wanted() -> None:
    graph = graph_of("int8_33")
    model = write_model(graph)
    assert with_outputs(model, graph.outputs) is model
    changed = with_outputs(model, [graph.nodes[0].output])
    assert changed != model
    from onebit.core import read_model

    assert read_model(changed).outputs == (graph.nodes[0].output,)


def test_the_interpreter_is_found_and_run_without_tensorflow(lce: LceOracle, tmp_path: Path) -> None:
    model = tmp_path / "m.tflite"
    model.write_bytes(write_model(graph_of("copy")))
    code = (
        "import sys, numpy as np\n"
        "from pathlib import Path\n"
        "from onebit.simulate import LceOracle\n"
        f"model = Path({str(model)!r}).read_bytes()\n"
        "LceOracle().run(model, np.zeros((1, 3, 5, 2), np.float32), ['reshape_0'])\n"
        "heavy = {'tensorflow', 'larq_compute_engine', 'torch', 'larq'} & set(sys.modules)\n"
        "sys.exit(1 if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_model_that_the_interpreter_refuses_is_an_error_with_its_reason(
    lce: LceOracle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oracle, "_without_kernel", lambda _graph: set())
    graph = Net((1, 4, 4, 3)).quantize().bconv(4, pad_value=0).graph()
    with pytest.raises(VerificationError, match="the LCE interpreter failed: .*AllocateTensors") as caught:
        lce.run(write_model(graph), random_inputs(graph, 1, 0), graph.outputs)
    assert caught.value.exit_code == 1


def test_a_crash_of_the_interpreter_is_an_error(
    lce: LceOracle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    monkeypatch.setattr(oracle, "_WORKER", worker)
    graph = graph_of("copy")
    with pytest.raises(VerificationError, match="exit code -11"):
        lce.run(write_model(graph), random_inputs(graph, 1, 0), graph.outputs)


def test_names_of_oracles(lce: LceOracle, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_oracle("numpy").engine == "onebit-numpy"
    assert find_oracle("lce").engine == find_oracle("auto").engine == "larq-compute-engine"
    with pytest.raises(BadInputError, match="unknown reference 'xnnpack'.*auto, lce, tflm, numpy"):
        find_oracle("xnnpack")
    for name, rounding in (("tflm", Rounding.LITERT), ("lce", Rounding.TFLM)):
        with pytest.raises(BadInputError, match=f"'{name}' does not round like --rounding {rounding.value}"):
            find_oracle(name, rounding)
    monkeypatch.setattr(oracle, "_interpreter_library", lambda: None)
    assert find_oracle("auto").engine == "onebit-numpy"
    with pytest.raises(ToolMissingError, match="larq-compute-engine is not installed.*--reference numpy") as caught:
        find_oracle("lce")
    assert caught.value.exit_code == 3


@pytest.fixture
def tflm_oracle(requires_package: Callable[[str], None]) -> TflmOracle:
    requires_package("tflite_micro")
    return TflmOracle()


def test_tflm_runs_a_whole_model(tflm_oracle: TflmOracle) -> None:
    graph = Net((1, 7, 8, 5), DType.INT8, INT8_INPUT).conv(9).pool(2).reshape(1, 108).dense(10).softmax().graph()
    model, x = write_model(graph), random_inputs(graph, 20, seed=2)
    theirs = tflm_oracle.run(model, x, names_of(graph))
    for ours, value in zip(NumpyOracle(Rounding.TFLM).run(model, x, names_of(graph)), theirs, strict=True):
        np.testing.assert_array_equal(ours, value)
    assert tflm_oracle.engine == "tflite-micro"


def test_tflm_runs_the_operators_that_it_has(tflm_oracle: TflmOracle) -> None:
    net = Net((1, 6, 6, 5), DType.INT8, INT8_INPUT).conv(33).quantize().bconv(9, to=DType.INT8).pool(2)
    graph = net.reshape(1, 81).dense(10).softmax().graph()
    model, x = write_model(graph), random_inputs(graph, 20, seed=2)
    theirs = tflm_oracle.run(model, x, names_of(graph))
    for ours, value in zip(NumpyOracle(Rounding.TFLM).run(model, x, names_of(graph)), theirs, strict=True):
        np.testing.assert_array_equal(ours, value)
    assert tflm_oracle.engine == "tflite-micro, onebit-numpy for LceBconv2d, LceQuantize"


def test_a_crash_of_tflm_is_an_error(tflm_oracle: TflmOracle) -> None:
    """The wheel aborts in a flat int8 SOFTMAX over many values."""
    graph = Net((1, 1000), DType.INT8, INT8_INPUT).softmax(1e-3).graph()
    with pytest.raises(VerificationError, match=r"the TFLM interpreter crashed, exit code -\d"):
        tflm_oracle.run(write_model(graph), random_inputs(graph, 1, 0), graph.outputs)


def test_without_tflm_numpy_takes_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tflm, "is_installed", lambda: False)
    assert find_oracle("auto", Rounding.TFLM).engine == "onebit-numpy"
    with pytest.raises(ToolMissingError, match="tflite-micro is not installed.*--reference numpy") as caught:
        find_oracle("tflm", Rounding.TFLM)
    assert caught.value.exit_code == 3


def test_the_numpy_oracle_is_evaluate() -> None:
    graph = Net((1, 5, 5, 3), DType.INT8, INT8_INPUT).conv(4).quantize().bconv(5, pad_value=0).graph()
    x = random_inputs(graph, 40, seed=1)
    (got,) = NumpyOracle().run(write_model(graph), x, graph.outputs)
    np.testing.assert_array_equal(got, evaluate(graph, x)[graph.outputs[0]])
