"""What every training method leaves behind becomes a file and C that compute, element by element, the same.

Every method trains a small net for some steps, leaves it, and the net is converted in float and in int8. All models are
generated and compiled once, as one library of the host, and every tensor that the C keeps is compared with the
interpreter's.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from onebit.codegen import find_target
from onebit.convert import convert
from onebit.core import Graph, read_model, write_model
from onebit.core.graph import Array
from onebit.simulate.oracle import LceOracle
from onebit.simulate.toolchain import find_compiler
from onebit.train.channels import keep_channels
from onebit.train.methods import method_names
from onebit.train.models.residual import residual_net
from support.host_code import HostCode, build
from support.method_runs import CLASSES, SIZE, Run, batch, make

SAMPLES = 16
FORMS = ("float", "int8")
COMBINED = ("er_weights", "er_activations", "er_gradient")
BN_FREE, IN_PART = "no_batch_norm", "repeated_in_part"
CASES = {
    **{name: (name,) for name in method_names()},
    "er_bnn": COMBINED,
    BN_FREE: ("normalizer_free",),
    IN_PART: ("channel_gates",),
}


def images() -> Array:
    return np.ascontiguousarray(batch(5, SAMPLES)[0].permute(0, 2, 3, 1).numpy())


def bn_free_net() -> nn.Module:
    """A small ReActNet-18 as the recipe cifar10-reactnet18-bnfree has it."""
    torch.manual_seed(3)
    return residual_net(SIZE, CLASSES, widths=(32, 64), units=(1, 2), activation="rprelu", threshold=True, norm=False)


def repeating_net() -> nn.Module:
    """A residual stream of 64 channels that the next one repeats."""
    torch.manual_seed(3)
    return residual_net(SIZE, CLASSES, widths=(64, 128), units=(1, 2), activation="prelu")


def converted(names: tuple[str, ...], folder: Path, case: str) -> dict[str, Graph]:
    special = {BN_FREE: bn_free_net, IN_PART: repeating_net}
    run = Run([make(name) for name in names], special[case]() if case in special else None)
    run.steps(0, 3, of=3)
    run.finish()
    if case == IN_PART:  # one and a half times: on the device a slice and a concatenation
        run.net = keep_channels(run.net, {"2.body.0": list(range(96))})
    run.net.eval()
    graphs = {}
    for form in FORMS:
        out = folder / f"{case}_{form}.tflite"
        int8 = form == "int8"
        calibration = images() if int8 else None
        example = torch.zeros(1, *SIZE)
        convert(run.net, out, example_input=example, int8=int8, calibration=calibration, samples=images())
        graphs[out.stem] = read_model(out)
    return graphs


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Graph]:
    folder = tmp_path_factory.mktemp("methods")
    return {k: graph for case, names in CASES.items() for k, graph in converted(names, folder, case).items()}


@pytest.fixture(scope="module")
def host(graphs: dict[str, Graph], tmp_path_factory: pytest.TempPathFactory) -> HostCode:
    return build(graphs, tmp_path_factory.mktemp("host"), find_compiler(find_target("host")))


@pytest.fixture
def lce(requires_package: Callable[[str], None]) -> LceOracle:
    requires_package("larq_compute_engine")
    return LceOracle()


@pytest.mark.parametrize("case", CASES)
def test_every_element_is_equal(case: str, graphs: dict[str, Graph], host: HostCode, lce: LceOracle) -> None:
    for name in (f"{case}_{form}" for form in FORMS):
        graph, x = graphs[name], images()
        if name.endswith("int8"):
            quant = graph.input.quant
            x = np.clip(np.round(x / quant.scale) + quant.zero_point, -128, 127).astype(np.int8)
        tensors = [tensor.name for tensor in graph.activations()]
        expected = dict(zip(tensors, lce.run(write_model(graph), x, tensors), strict=True))
        compared = host.compare(name, x, expected)
        assert compared[-1].tensor.name == graph.outputs[0]
        assert {c.tensor.name: c.first for c in compared if c.first is not None} == {}
        assert sum(c.compared for c in compared) > SAMPLES * 32
