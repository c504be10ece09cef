"""Running passes: order, checks after each, who eliminated what; and the code generator's pipeline on whole nets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from onebit.codegen.passes import PIPELINE
from onebit.codegen.passes.fold_into_int8_sign import fold_into_int8_sign
from onebit.core import DType, Graph, Quantization, evaluate
from onebit.core.errors import SpecError
from onebit.core.ops import Activation, LceBconv2d, MaxPool2d, Padding, Quantize
from onebit.core.passes import run_passes
from onebit.core.passes.elementwise_before_reshape import elementwise_before_reshape
from support.chains import random_step
from support.edits import with_tensor
from support.nets import INT8_INPUT, Net
from support.passes import names

# --------------------------------------------------------------------------------------------------------- the machine


def net() -> Graph:
    return Net((1, 4, 4, 8)).quantize().bconv(8).mul(np.ones(8)).add(np.ones(8)).quantize().graph()


def test_a_pass_that_breaks_the_spec_is_named() -> None:
    def wrong_shape(graph: Graph) -> Graph:
        return with_tensor(graph, "mul_2", shape=(1, 4, 4, 9))

    with pytest.raises(SpecError, match="wrong_shape: MUL 'mul_2'") as caught:
        run_passes(net(), [wrong_shape])
    assert caught.value.exit_code == 2


def test_the_spec_is_checked_after_every_pass_and_not_only_at_the_end() -> None:
    def breaks(graph: Graph) -> Graph:
        return with_tensor(graph, "mul_2", shape=(1, 4, 4, 9))

    def repairs(graph: Graph) -> Graph:
        return with_tensor(graph, "mul_2", shape=(1, 4, 4, 8))

    with pytest.raises(SpecError, match="breaks"):
        run_passes(net(), [breaks, repairs])


def test_the_pass_that_removed_a_tensor_is_recorded_once() -> None:
    def without_last(graph: Graph) -> Graph:
        nodes = graph.nodes[:-1]
        return replace(graph, nodes=nodes, outputs=(nodes[-1].output,))

    def drop_one(graph: Graph) -> Graph:
        return without_last(graph)

    def drop_another(graph: Graph) -> Graph:
        return without_last(graph)

    def nothing(graph: Graph) -> Graph:
        return graph

    result = run_passes(net(), [nothing, drop_one, nothing, drop_another])
    assert dict(result.eliminated) == {"lcequantize_4": "drop_one", "add_3": "drop_another"}
    assert [node.output for node in result.graph.nodes] == ["lcequantize_0", "lcebconv2d_1", "mul_2"]


def test_tensors_that_a_pass_added_and_another_removed_are_nobodys_loss() -> None:
    graph = Net((1, 4, 4, 8)).quantize().bconv(8).pool().quantize().graph()
    eliminated = run_passes(graph, PIPELINE).eliminated
    assert set(eliminated) == {"lcebconv2d_1", "max_pool_2d_2"}


def test_a_graph_that_no_pass_changes_comes_back_itself() -> None:
    graph = Net((1, 4, 4, 3)).conv(4).pool().graph()
    result = run_passes(graph, PIPELINE)
    assert result.graph is graph
    assert dict(result.eliminated) == {}


# ------------------------------------------------------------------------------------------------- the code generator's


def test_the_order_is_the_one_that_its_reasons_give() -> None:
    assert [step.__name__ for step in PIPELINE] == [
        "remove_dead_branches",
        "fold_pad",
        "pool_before_dequantize",
        "binary_dense",
        "sign_before_reshape",
        "sign_before_join",
        "sign_before_pool",
        "fold_sign_into_bconv",
        "fold_sign_into_zero_padded_bconv",
        "fold_sign_into_ranges",
        "fold_sign_into_conv",
        "fold_into_int8_sign",
        "elementwise_before_reshape",
        "integer_output_stage",
    ]


def check(built: Net, count: int = 8) -> tuple[Graph, dict[str, str]]:
    """Run the pipeline and compare every tensor that kept its name."""
    graph = built.graph()
    result = run_passes(graph, PIPELINE)
    kept = [t.name for t in graph.activations() if t.name not in result.eliminated]
    assert {t.name for t in graph.activations()} - set(kept) == set(result.eliminated)
    x = built.samples(count)
    before, after = evaluate(graph, x, kept), evaluate(result.graph, x, kept)
    for name in kept:
        np.testing.assert_array_equal(after[name], before[name], err_msg=name)
    again = run_passes(result.graph, PIPELINE)
    assert again.graph is result.graph
    return result.graph, dict(result.eliminated)


def digits(pad_value: int = 1) -> Net:
    """The digits net in small: int8 in and out, convolution - batch norm - sign - pool, binary dense at the end."""
    rng = np.random.default_rng(5)
    built = Net((1, 12, 12, 1), DType.INT8, INT8_INPUT).conv(16, (5, 5)).pool().quantize()
    built.bconv(32, pad_value=pad_value).mul(rng.normal(size=32)).add(rng.normal(size=32)).quantize().bpool()
    built.bconv(40, pad_value=pad_value).mul(rng.uniform(0.1, 1, 40)).pool(3).add(rng.normal(size=40)).quantize()
    return built.bconv(10, (1, 1), padding=Padding.VALID, to=DType.INT8).reshape(1, 10)


def test_the_digits_net_holds_no_float_operator_afterwards() -> None:
    graph, eliminated = check(digits())
    assert names(graph) == [
        "ConvSign", "LceBMaxPool2d", "LceBconv2d", "LceBMaxPool2d", "LceBconv2d", "LceBMaxPool2d", "BinaryConvScale",
        "RESHAPE",
    ]  # fmt: skip
    assert all(t.dtype is not DType.FLOAT32 for t in graph.tensors.values())
    assert eliminated == {
        "conv_2d_0": "fold_sign_into_conv",
        "max_pool_2d_1": "sign_before_pool",
        "lcebconv2d_3": "fold_sign_into_bconv",
        "mul_4": "fold_sign_into_bconv",
        "add_5": "fold_sign_into_bconv",
        "lcebconv2d_8": "fold_sign_into_bconv",
        "mul_9": "fold_sign_into_bconv",
        "max_pool_2d_10": "fold_sign_into_bconv",
        "add_11": "fold_sign_into_bconv",
    }


def test_nor_with_zero_padding() -> None:
    graph, eliminated = check(digits(pad_value=0))
    assert names(graph)[2::2] == ["BinaryConvSign", "BinaryConvSign", "BinaryConvScale"]
    assert {eliminated[name] for name in ("lcebconv2d_3", "lcebconv2d_8")} == {"fold_sign_into_zero_padded_bconv"}


def test_nor_with_a_negative_scale_behind_a_pool() -> None:
    built = Net((1, 8, 8, 16)).quantize().bconv(8).pool().mul(np.linspace(-1, 1, 8)).add(np.linspace(1, -1, 8))
    graph, eliminated = check(built.quantize().bconv(4))
    assert names(graph) == ["LceQuantize", "BinaryConvSign", "BinaryPool", "LceBconv2d"]
    assert set(eliminated.values()) == {"fold_sign_into_ranges"}


def test_int8_between_binary_convolutions_is_never_computed() -> None:
    built = Net((1, 6, 6, 33), DType.INT8, INT8_INPUT).quantize().bconv(34, to=DType.INT8).quantize()
    graph, eliminated = check(built.bconv(7, to=DType.INT8))
    assert names(graph) == ["LceQuantize", "LceBconv2d", "BinaryConvScale"]
    assert graph.tensors[graph.nodes[1].output].dtype is DType.BITS
    assert eliminated == {"lcebconv2d_1": "fold_sign_into_bconv"}


def test_a_value_that_the_model_shows_is_not_eliminated() -> None:
    built = Net((1, 6, 6, 16)).quantize().bconv(8)
    graph = built.quantize().dequantize().graph()
    shown = replace(graph, outputs=("lcebconv2d_1",))
    result = run_passes(shown, PIPELINE)
    assert isinstance(result.graph.nodes[1].op, LceBconv2d)
    assert result.graph.tensors["lcebconv2d_1"].dtype is DType.FLOAT32


# --------------------------------------------------------------------------------------------------------- random nets


def random_net(seed: int) -> Net:
    """A chain of random operators: anything that may stand between two binary convolutions, in any order."""
    rng = np.random.default_rng(seed)
    int8 = bool(rng.integers(2))
    channels = int(rng.choice([3, 8, 31, 34]))
    quant = Quantization.per_tensor(0.02, int(rng.integers(-128, 128)))
    built = Net((1, 8, 9, channels), DType.INT8 if int8 else DType.FLOAT32, quant if int8 else None, seed=seed)
    if rng.random() < 0.7:
        built.conv(int(rng.choice([5, 16, 33])), activation=Activation(rng.integers(4)))
    for _ in range(3):
        _random_middle(built, rng)
        if built.now.dtype is not DType.BITS:
            built.quantize()
        if rng.random() < 0.3 and min(built.now.shape[1:3]) > 1:
            built.bpool(2, padding=Padding(rng.integers(2)))
        _random_bconv(built, rng)
    _random_middle(built, rng)
    return built


def _random_bconv(built: Net, rng: np.random.Generator) -> None:
    to = DType(rng.choice(["float32", "int8", "bits"]))
    outs = int(rng.choice([1, 7, 32, 35]))
    pad_value = 1 if to is DType.BITS else int(rng.integers(2))
    quant = Quantization.per_tensor(10.0 ** rng.uniform(-3, 1), int(rng.integers(-128, 128)))
    activation = Activation.NONE if to is DType.BITS else Activation(rng.integers(4))
    stride = (int(rng.integers(1, 3)), int(rng.integers(1, 3)))
    built.bconv(
        outs,
        to=to,
        pad_value=pad_value,
        stride=stride,
        activation=activation,
        quant=quant if to is DType.INT8 else None,
    )


def _random_middle(built: Net, rng: np.random.Generator) -> None:
    for _ in range(int(rng.integers(5))):
        if built.now.dtype is DType.BITS:
            return
        choice, channels = rng.integers(8), built.now.shape[-1]
        if choice == 0 and min(built.now.shape[1:3]) > 1:
            built.pool(2, Padding(rng.integers(2)), Activation(rng.integers(4)))
        elif built.now.dtype is DType.FLOAT32 and choice in (1, 2):
            values = rng.choice([rng.normal(size=channels), np.abs(rng.normal(size=channels)), np.zeros(channels)])
            step = built.mul if choice == 1 else built.add
            step(values, Activation(rng.integers(4)))
        elif built.now.dtype is DType.FLOAT32 and choice > 5:
            random_step(built, rng)
            random_step(built, rng)
        elif built.now.dtype is DType.FLOAT32 and choice == 5:
            quant = Quantization.per_tensor(10.0 ** rng.uniform(-2, 1), int(rng.integers(-128, 128)))
            built.node(Quantize(), dtype=DType.INT8, quant=quant)


@pytest.mark.parametrize("seed", range(60))
def test_random_nets_keep_the_value_of_every_tensor_that_keeps_its_name(seed: int) -> None:
    built = random_net(seed)
    # behind a real-valued convolution NumPy's own order of summation is the same in both graphs
    check(built)


def test_the_random_nets_reach_every_pass_and_its_refusals() -> None:
    passes: set[str] = set()
    kinds: set[str] = set()
    for seed in range(60):
        result = run_passes(random_net(seed).graph(), PIPELINE)
        passes |= set(result.eliminated.values())
        kinds |= set(names(result.graph))
        kinds |= {"float pool" for n in result.graph.nodes if isinstance(n.op, MaxPool2d)}
    # none has a dead branch, a border, a dense layer, a reshape, a join or int8 arithmetic
    others = (elementwise_before_reshape, fold_into_int8_sign)
    assert passes == {step.__name__ for step in PIPELINE[6:] if step not in others}
    assert {"BinaryConvSign", "BinaryConvScale", "BinaryConvTable", "ConvSign", "LceBconv2d", "float pool"} <= kinds
