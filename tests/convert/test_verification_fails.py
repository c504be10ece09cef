"""The check can fail: a wrong file is found, the layer is named, and nothing is written."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from onebit.convert import convert
from onebit.core import Graph, read_model, write_model
from onebit.core.errors import BadInputError, OnebitError, VerificationError
from onebit.core.graph import Array
from onebit.core.metadata import ModelMetadata
from onebit.core.ops import LceBconv2d
from onebit.core.oracle import NumpyOracle, Oracle
from onebit.train.cost import as_if_trained
from onebit.train.layers import QuantConv2d, QuantLinear, SameConv2d
from onebit.train.models import build_architecture
from onebit.train.models.residual import residual_net
from support.torch_nets import digits, randomized

Edit = Callable[[Graph], Graph]


class Tampered(NumpyOracle):
    """Runs another file than the one that was written."""

    engine = "tampered"

    def __init__(self, edit: Edit) -> None:
        super().__init__()
        self.edit = edit

    def run(self, model: bytes, x: Array, tensors: Sequence[str]) -> list[Array]:
        return super().run(write_model(self.edit(read_model(model))), x, tensors)


def constant_changed(tensor: str, change: Callable[[Array], Array]) -> Edit:
    def edit(graph: Graph) -> Graph:
        old = graph.tensors[tensor]
        return replace(graph, tensors={**graph.tensors, tensor: replace(old, data=change(old.constant().copy()))})

    return edit


def input_of(output: str, index: int, change: Callable[[Array], Array]) -> Edit:
    """Change constant input `index` of the node that computes `output`."""

    def edit(graph: Graph) -> Graph:
        node = graph.producer(output)
        assert node is not None
        return constant_changed(node.inputs[index] or "", change)(graph)

    return edit


def first_bit(words: Array) -> Array:
    words.reshape(-1)[0] ^= 1
    return words


def plus(amount: float) -> Callable[[Array], Array]:
    def change(values: Array) -> Array:
        values.reshape(-1)[0] += np.array(amount).astype(values.dtype)
        return values

    return change


def with_dilation(graph: Graph) -> Graph:
    """The same map from a dilated window."""
    nodes = list(graph.nodes)
    for i, node in enumerate(nodes):
        if isinstance(node.op, LceBconv2d) and node.output == "body.1.1/sign":
            # 3x3 SAME with dilation 1 and with dilation 2 give maps of the same size
            nodes[i] = replace(node, op=LceBconv2d(replace(node.op.window, dilation=(2, 2))))
    return replace(graph, nodes=tuple(nodes))


#: (what is wrong, where, the layer that must be named)
FAULTS: dict[str, tuple[Edit, str]] = {
    "the weights of the first layer": (input_of("stem.1", 1, np.negative), "stem.0"),
    "a bit of the first binary filter": (input_of("body.0.1/sign", 1, first_bit), "body.0.0"),
    "a threshold off by three": (input_of("body.1.1/sign", 4, plus(3)), "body.1.0"),
    "another window": (with_dilation, "body.1.0"),
    "a bit of a dense filter": (input_of("head.2/sign", 1, first_bit), "head.1"),
    "a bit of the last filter": (input_of("head.4", 1, first_bit), "head.3"),
    "a bias of the last layer": (input_of("head.4", 3, plus(2)), "head.3"),
}


@pytest.mark.parametrize("int8", [False, True], ids=["float", "int8"])
@pytest.mark.parametrize("fault", list(FAULTS))
def test_a_fault_is_found_and_located(fault: str, int8: bool, tmp_path: Path) -> None:
    edit, layer = FAULTS[fault]
    x = np.random.default_rng(1).integers(0, 256, (100, 28, 28, 1), dtype=np.uint8)
    with pytest.raises(VerificationError) as caught:
        convert(
            randomized(digits()), tmp_path / "m.tflite", metadata=ModelMetadata(),
            example_input=torch.zeros(1, 1, 28, 28), int8=int8, calibration=x, samples=x, oracle=Tampered(edit),
        )  # fmt: skip
    assert caught.value.where == f"layer '{layer}'"
    assert caught.value.exit_code == 1
    assert list(tmp_path.iterdir()) == []


def filter_of(layer: str, change: Callable[[Array], Array]) -> Edit:
    """Change the weights that a layer's import has named after it."""

    def edit(graph: Graph) -> Graph:
        names = (f"{layer}/filter", f"{layer}/weight", f"{layer}/weight/folded")
        return constant_changed(next(name for name in names if name in graph.tensors), change)(graph)

    return edit


#: (architecture, the layer with a wrong weight)
BRANCHES = [
    ("bireal-resnet8", "3.body.0"),
    ("real-to-binary", "1.body.gate.squeeze"),
    ("real-to-binary", "3.shortcut.1.0"),
    ("binary-densenet", "2.branches.1.1"),
    ("resnet8-hybrid", "4.branches.1.0"),
]


@pytest.mark.parametrize(("name", "layer"), BRANCHES)
def test_a_fault_in_a_branch_is_located(name: str, layer: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {} if name == "binary-densenet" else {"widths": (8, 16, 32)}
    if name == "real-to-binary":
        options = {"widths": (8, 16), "blocks": (1, 1)}
    net = randomized(build_architecture(name, input_shape=(3, 16, 16), **options))
    change = first_bit if layer in ("3.body.0", "2.branches.1.1") else np.negative
    with pytest.raises(VerificationError) as caught:
        convert(net, tmp_path / "m.tflite", oracle=Tampered(filter_of(layer, change)))
    assert caught.value.where == f"layer '{layer}'"
    assert list(tmp_path.iterdir()) == []


def convert_clipped(out: Path, oracle: Oracle) -> int:
    """Sums of some hundreds, as batch norm without statistics leaves them, clipped to -1..1 and joined by a pool.

    LCE computes (-2 p) m + (K m + b): with K m = 1,700 a result near 0 is off by 1e-4.
    """
    torch.manual_seed(1)
    net = as_if_trained(residual_net((3, 8, 8), widths=(128, 256), units=(2, 2), activation="hardtanh"))
    x = np.random.default_rng(1).standard_normal((8, 8, 8, 3)).astype(np.float32)
    return convert(net, out, example_input=torch.zeros(1, 3, 8, 8), samples=x, oracle=oracle).verified.argmax_equal


def test_what_is_left_of_large_values_is_as_exact_as_they_were(tmp_path: Path) -> None:
    assert convert_clipped(tmp_path / "m.tflite", NumpyOracle()) == 8


@pytest.mark.parametrize("edit", [plus(0.05), lambda v: v * np.float32(1.001)], ids=["bias", "multiplier"])
def test_a_fault_in_front_of_a_clip_is_found(edit: Callable[[Array], Array], tmp_path: Path) -> None:
    index = 3 if edit(np.zeros(1, np.float32)).any() else 2
    fault = input_of("2.body.1", index, edit)
    with pytest.raises(VerificationError) as caught:
        convert_clipped(tmp_path / "m.tflite", Tampered(fault))
    assert caught.value.where == "layer '2.body.0'"


def small_net(weight: float) -> nn.Module:
    """One real-valued 1x1 layer in front of a binary dense layer."""
    net = nn.Sequential(SameConv2d(1, 1, 1, bias=False), nn.Flatten(), QuantLinear(4, 3))
    with torch.no_grad():
        net[0].weight.fill_(weight)
        net[2].weight.copy_(torch.tensor([[1.0, 1, 1, 1], [1, -1, 1, -1], [-1, -1, 1, 1]]))
    return net.eval()


class Flipping(NumpyOracle):
    """Subtracts a little from the bias of the first layer, so that values near zero change their sign."""

    def __init__(self, amount: float) -> None:
        super().__init__()
        self.amount = amount

    def run(self, model: bytes, x: Array, tensors: Sequence[str]) -> list[Array]:
        edit = input_of("0", 2, plus(-self.amount))
        return super().run(write_model(edit(read_model(model))), x, tensors)


def run_small(tmp_path: Path, zeros: int, oracle: Oracle) -> int:
    x = np.random.default_rng(0).uniform(0.5, 1, (200, 2, 2, 1)).astype(np.float32)
    x[:zeros, 0, 0] = 0
    done = convert(
        small_net(1.0), tmp_path / "m.tflite", example_input=torch.zeros(1, 1, 2, 2), samples=x, oracle=oracle
    )
    return done.verified.sign_flips


def test_a_sign_that_flips_at_zero_is_counted(tmp_path: Path) -> None:
    assert run_small(tmp_path, 2, NumpyOracle()) == 0
    assert run_small(tmp_path, 2, Flipping(1e-7)) == 2


def test_a_sign_that_flips_farther_from_zero_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match=r"^layer '0': .* '0(/sign)?' differs"):
        run_small(tmp_path, 2, Flipping(1e-3))


def test_many_flips_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match="signs of values near zero flip in 3 of 200 samples, allowed are 1%"):
        run_small(tmp_path, 3, Flipping(1e-7))


def test_a_file_that_is_not_computed_as_its_source_is_refused(tmp_path: Path) -> None:
    """A module whose forward() is not what its attributes promise."""

    class Shifted(QuantConv2d):
        def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - torch's own name
            return super().forward(input) + 1

    net = randomized(nn.Sequential(Shifted(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), QuantLinear(64, 3)))
    with pytest.raises(VerificationError, match="layer '0'"):
        convert(net, tmp_path / "m.tflite", example_input=torch.zeros(1, 1, 4, 4))
    assert list(tmp_path.iterdir()) == []


class Inconstant(nn.Module):
    """Multiplies by what is not the same in every call."""

    def __init__(self, factor: Callable[[torch.Tensor], float | torch.Tensor]) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 32), nn.BatchNorm1d(32), QuantLinear(32, 3))
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.layers(x)
        return y * self.factor(x)


CALLS = itertools.count(1)
INCONSTANT: dict[str, tuple[Callable[[torch.Tensor], float | torch.Tensor], type[OnebitError], str]] = {
    "random": (
        lambda _: 1 + torch.rand(1),
        VerificationError,
        "differs in 64 of 64 samples, though all its layers",
    ),
    "calls counted": (lambda _: next(CALLS), VerificationError, "differs in 64 of 64 samples, though all its layers"),
    "one sample only": (lambda x: 1 + (x.shape[0] == 1), BadInputError, "something else for one sample than for"),
}


@pytest.mark.parametrize("name", list(INCONSTANT))
def test_a_source_that_computes_something_else_in_the_next_call_is_refused(name: str, tmp_path: Path) -> None:
    """What it computed when it was traced became constants: every layer agrees with the file, the model does not."""
    factor, error, message = INCONSTANT[name]
    with pytest.raises(error, match=message):
        convert(randomized(Inconstant(factor)), tmp_path / "m.tflite", example_input=torch.zeros(1, 4))
    assert list(tmp_path.iterdir()) == []


def test_a_tflite_that_the_oracle_computes_otherwise_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "a.tflite"
    convert(randomized(digits()), source, example_input=torch.zeros(1, 1, 28, 28))
    with pytest.raises(VerificationError, match="tampered and onebit differ"):
        convert(source, tmp_path / "b.tflite", oracle=Tampered(input_of("head.4", 3, plus(2))))
    assert not (tmp_path / "b.tflite").exists()


def test_a_sign_on_the_other_side_of_zero_is_no_error_in_a_tflite(tmp_path: Path) -> None:
    """Another interpreter's float convolution is -1e-8 where onebit's is 0: all behind that sign follows the file."""
    source = tmp_path / "a.tflite"
    convert(small_net(1.0), source, example_input=torch.zeros(1, 1, 2, 2))
    x = np.random.default_rng(0).uniform(0.5, 1, (20, 2, 2, 1)).astype(np.float32)
    x[:, 0, 0] = 0
    done = convert(source, tmp_path / "b.tflite", samples=x, oracle=Flipping(1e-8))
    assert (done.verified.samples, done.verified.argmax_equal, done.verified.max_abs_diff) == (20, 20, 0)
    with pytest.raises(VerificationError, match=r"^CONV_2D '0': tampered and onebit differ|^CONV_2D '0': .* differ by"):
        convert(source, tmp_path / "c.tflite", samples=x, oracle=Flipping(1e-3))
