"""Every constraint of every operator is broken by a graph that breaks just it, and named in the complaint."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from onebit.core import DType, Graph, Quantization, Rounding, spec
from onebit.core.errors import SpecError
from onebit.core.ops import OPS, BinaryWindow, Padding, PoolWindow
from support.bit_faults import FAULTS as BIT_FAULTS
from support.edits import with_node, with_op, with_tensor, without_input
from support.elementwise_faults import ELEMENTWISE_FAULTS
from support.movement_faults import FAULTS
from support.nets import Net
from support.window_faults import FAULTS as WINDOW_FAULTS

QUANT = Quantization.per_tensor(0.05, 3)
TWO_SCALES = Quantization((0.1, 0.2), (0, 0), 0)


def linear(name: str, dtype: DType) -> Graph:
    net = Net((1, 4, 5, 6), dtype, QUANT if dtype is DType.INT8 else None)
    return (net.conv(3) if name == "CONV_2D" else net.dense(3)).graph()


def bconv(to: DType = DType.FLOAT32, channels: int = 64, out: int = 4, groups: int = 1) -> Graph:
    return Net((1, 4, 4, channels)).quantize().bconv(out, to=to, groups=groups).graph()


def pool(name: str) -> Graph:
    net = Net((1, 4, 4, 3))
    if name == "LceBMaxPool2d":
        return net.quantize().bpool().graph()
    return (net.average() if name == "AVERAGE_POOL_2D" else net.pool()).graph()


def pool_node(name: str) -> int:
    return 1 if name == "LceBMaxPool2d" else 0


def computed_bconv_filter() -> Graph:
    """An image is its own filter."""
    graph = Net((1, 3, 3, 64)).quantize().bconv(1, padding=Padding.VALID).graph()
    image, _, *rest = graph.nodes[1].inputs
    return with_node(graph, 1, inputs=(image, image, *rest))


def computed_parameter(name: str) -> Graph:
    """The input is the filter of the convolution, and the bias of the dense layer."""
    if name == "CONV_2D":
        graph = Net((1, 3, 3, 2)).conv(1, padding=Padding.VALID).graph()
        return with_node(graph, 0, inputs=("input", "input", "bias_0"))
    graph = Net((1,)).dense(1).graph()
    return with_node(graph, 0, inputs=("input", "filter_0", "input"))


def bconv_cases() -> dict[str, list[Graph]]:
    float_out, bits_out, int8_out = bconv(), bconv(DType.BITS), bconv(DType.INT8)
    grouped = Net((1, 4, 4, 96)).quantize().bconv(6, groups=3).graph()
    return {
        "input_dtype": [
            with_node(float_out, 1, inputs=("input", *float_out.nodes[1].inputs[1:])),
            with_op(float_out, 1, window=BinaryWindow(63, padding=Padding.SAME, pad_value=1)),
        ],
        "filter_is_constant": [
            computed_bconv_filter(),
            with_tensor(float_out, "filter_1", dtype=DType.INT32, shape=(4, 3, 3, 2)),
        ],
        "groups": [
            with_tensor(grouped, "filter_1", shape=(4, 3, 3, 32), data=np.zeros((4, 3, 3, 1), np.int32)),
            with_tensor(float_out, "filter_1", shape=(4, 3, 3, 48), data=np.zeros((4, 3, 3, 2), np.int32)),
            with_tensor(bconv(channels=32), "filter_1", shape=(4, 3, 3, 16), data=np.zeros((4, 3, 3, 1), np.int32)),
        ],
        "positive_steps": [
            with_op(float_out, 1, window=BinaryWindow(64, stride=(0, 1), padding=Padding.SAME, pad_value=1)),
            with_op(float_out, 1, window=BinaryWindow(64, stride=(1, -1), padding=Padding.SAME, pad_value=1)),
            with_op(float_out, 1, window=BinaryWindow(64, dilation=(1, 0), padding=Padding.SAME, pad_value=1)),
            with_op(float_out, 1, window=BinaryWindow(64, dilation=(2, 1), padding=Padding.VALID)),
        ],
        "output_stage": [
            without_input(float_out, 1, 2),
            without_input(float_out, 1, 3),
            without_input(bits_out, 1, 4),
            without_input(int8_out, 1, 3),
            with_tensor(float_out, "bias_1", shape=(2, 2), data=np.zeros((2, 2), np.float32)),
            with_tensor(float_out, "bias_1", dtype=DType.INT32, data=np.zeros(4, np.int32)),
            with_tensor(bits_out, "threshold_1", dtype=DType.FLOAT32, data=np.zeros(4, np.float32)),
            with_node(float_out, 1, inputs=(*float_out.nodes[1].inputs[:4], "bias_1")),
        ],
        "finite_output_stage": [with_tensor(int8_out, int8_out.outputs[0], quantization=Quantization((1e-39,), (0,)))],
        "pad_value": [
            with_op(float_out, 1, window=BinaryWindow(64, padding=Padding.SAME, pad_value=value)) for value in (2, -1)
        ],
        "bits_are_not_zero_padded": [with_op(bits_out, 1, window=BinaryWindow(64, padding=Padding.SAME, pad_value=0))],
    }


def linear_cases(name: str) -> dict[str, list[Graph]]:
    real, small = linear(name, DType.FLOAT32), linear(name, DType.INT8)
    filters = small.tensors["filter_0"]
    many = tuple(0.1 for _ in range(filters.shape[0]))
    one_axis_more = (*real.tensors["filter_0"].shape, 1)
    cases = {
        "dtypes": [
            with_tensor(real, real.outputs[0], dtype=DType.INT8, quantization=QUANT),
            with_tensor(small, "input", dtype=DType.FLOAT32),
        ],
        "constant_parameters": [
            computed_parameter(name),
            with_tensor(real, "bias_0", shape=(1,), data=np.zeros(1, np.float32)),
            with_tensor(real, "bias_0", dtype=DType.INT32, data=np.zeros(3, np.int32)),
            with_tensor(small, "bias_0", dtype=DType.FLOAT32, data=np.zeros(3, np.float32)),
        ],
        "symmetric_filter": [
            with_tensor(small, "filter_0", quantization=Quantization.per_tensor(0.1, 1)),
            with_tensor(small, "filter_0", quantization=TWO_SCALES),
            with_tensor(small, "filter_0", quantization=Quantization(many, (0,) * len(many), 1)),
        ],
        "shapes": [
            with_tensor(real, "filter_0", shape=one_axis_more, data=np.zeros(one_axis_more, np.float32)),
            with_tensor(real, "input", shape=(1, 4, 5, 7)),
        ],
        "accumulator_fits": [
            with_tensor(small, "bias_0", data=np.full(3, 2**31 - 1, np.int32)),
            with_tensor(small, small.outputs[0], quantization=Quantization.per_tensor(1e-9, 0)),
        ],
    }
    if name == "CONV_2D":
        cases["four_dimensions"] = [with_tensor(real, "input", shape=(1, 20, 6)), cases["shapes"].pop(0)]
        cases["positive_steps"] = [
            with_op(real, 0, stride=(0, 1)),
            with_op(real, 0, dilation=(1, 0)),
            with_op(real, 0, dilation=(2, 2), padding=Padding.VALID),
        ]
    return cases


def pool_cases(name: str) -> dict[str, list[Graph]]:
    graph, index = pool(name), pool_node(name)
    source = graph.nodes[index].inputs[0]
    assert source is not None
    three = with_tensor(with_tensor(graph, "input", shape=(1, 16, 3)), source, shape=(1, 16, 3))

    def with_window(size: tuple[int, int], stride: tuple[int, int]) -> Graph:
        return with_op(graph, index, window=PoolWindow(size, stride, Padding.VALID))

    cases = {
        "four_dimensions": [three],
        "window_fits": [with_window((0, 1), (1, 1)), with_window((2, 2), (1, 0)), with_window((5, 2), (1, 1))],
    }
    if name == "LceBMaxPool2d":
        cases["input_dtype"] = [with_node(graph, index, inputs=("input",))]
    else:
        cases["input_dtype"] = [
            with_tensor(with_tensor(graph, "input", dtype=DType.INT32), graph.outputs[0], dtype=DType.INT32)
        ]
        small = Net((1, 4, 4, 3), DType.INT8, QUANT)
        int8 = (small.average() if name == "AVERAGE_POOL_2D" else small.pool()).graph()
        cases["same_quantization"] = [
            with_tensor(int8, int8.outputs[0], quantization=Quantization.per_tensor(0.05, 4)),
            with_tensor(int8, int8.outputs[0], quantization=Quantization.per_tensor(0.06, 3)),
        ]
    return cases


def reshape_cases() -> dict[str, list[Graph]]:
    graph = Net((1, 2, 6)).reshape(1, 12).graph()
    int8 = Net((1, 2, 6), DType.INT8, QUANT).reshape(1, 12).graph()
    out = graph.outputs[0]
    second = Net((1, 2, 6))
    second.constant("shape", np.array([1, 3, 4]), DType.INT32)
    op = graph.nodes[0].op
    wrong_tensor = second.node(op, "shape", dtype=DType.FLOAT32, shape=(1, 12)).graph()
    return {
        "dtype": [
            with_tensor(graph, out, dtype=DType.INT8, quantization=QUANT),
            with_tensor(int8, out, quantization=Quantization.per_tensor(0.05, 4)),
            with_tensor(with_tensor(graph, out, dtype=DType.INT32), "input", dtype=DType.INT32),
        ],
        "same_size": [with_tensor(graph, out, shape=(1, 13)), Net((1, 2, 6)).reshape(1, 3, 2).graph()],
        "target_shape": [
            with_op(graph, 0, new_shape=(1, 3, 4)),
            with_op(graph, 0, new_shape=()),
            with_op(graph, 0, new_shape=(-1, -1)),
            wrong_tensor,
        ],
    }


def softmax_cases() -> dict[str, list[Graph]]:
    graph, int8 = Net((1, 5)).softmax().graph(), Net((1, 5), DType.INT8, QUANT).softmax().graph()
    long_row = replace(Net((1, 4096), DType.INT8, QUANT).softmax().graph(), rounding=Rounding.TFLM)
    return {
        "dtypes": [
            with_tensor(int8, "input", dtype=DType.FLOAT32),
            with_tensor(with_tensor(graph, "input", dtype=DType.INT32), graph.outputs[0], dtype=DType.INT32),
        ],
        "channels": [Net((1,)).softmax().graph()],
        "finite_beta": [with_op(graph, 0, beta=beta) for beta in (float("nan"), float("inf"), -1.0)],
        "output_quantization": [
            with_tensor(int8, int8.outputs[0], quantization=Quantization.per_tensor(1 / 255, -128)),
            with_tensor(int8, int8.outputs[0], quantization=Quantization.per_tensor(1 / 256, 0)),
        ],
        "row_fits": [long_row],
    }


def quantize_cases() -> dict[str, list[Graph]]:
    return {
        "input_dtype": [with_tensor(Net((1, 3)).quantize().graph(), "input", dtype=DType.INT32)],
        "channels": [Net((1,)).quantize().graph()],
    }


def dequantize_cases() -> dict[str, list[Graph]]:
    graph = Net((1, 3)).quantize().dequantize().graph()
    return {
        "input_dtype": [Net((1, 3)).dequantize().graph()],
        "output_dtype": [with_tensor(graph, graph.outputs[0], dtype=DType.INT32)],
        "step_fits": [
            Net((1, 3)).quantize().dequantize(DType.INT8, Quantization.per_tensor(scale, 2)).graph()
            for scale in (1e-30, 2.0**-31)
        ],
    }


CASES: dict[str, dict[str, list[Graph]]] = {
    "LceQuantize": quantize_cases(),
    "LceDequantize": dequantize_cases(),
    "LceBconv2d": bconv_cases(),
    "LceBMaxPool2d": pool_cases("LceBMaxPool2d"),
    "CONV_2D": linear_cases("CONV_2D"),
    "FULLY_CONNECTED": linear_cases("FULLY_CONNECTED"),
    "MAX_POOL_2D": pool_cases("MAX_POOL_2D"),
    "AVERAGE_POOL_2D": pool_cases("AVERAGE_POOL_2D"),
    "RESHAPE": reshape_cases(),
    "SOFTMAX": softmax_cases(),
    **ELEMENTWISE_FAULTS,
    **FAULTS,
    **WINDOW_FAULTS,
}
for _op, _rules in BIT_FAULTS.items():
    CASES[_op] = {**CASES[_op], **_rules}
FLAT = [(op, rule, i) for op, rules in CASES.items() for rule, graphs in rules.items() for i in range(len(graphs))]


@pytest.mark.parametrize(("op", "rule", "i"), FLAT)
def test_a_broken_constraint_is_named(op: str, rule: str, i: int) -> None:
    message = getattr(OPS[op], rule).__doc__
    with pytest.raises(SpecError) as caught:
        spec.verify(CASES[op][rule][i], "test")
    assert caught.value.message.startswith(f"must hold: {message}; found "), caught.value
    assert caught.value.where.startswith(f"test: {op} '")
    assert "operators_hold" in caught.value.fix


def test_every_constraint_has_a_case() -> None:
    public = {name: op for name, op in OPS.items() if not op.internal}
    wanted = {name: {rule.__name__ for rule in op.constraints()} for name, op in public.items()}
    assert {name: set(rules) for name, rules in CASES.items()} == wanted


def test_the_graphs_are_valid_before_they_are_broken() -> None:
    for graph in (
        *(bconv(to) for to in (DType.FLOAT32, DType.INT8, DType.BITS)),
        *(linear(name, dtype) for name in ("CONV_2D", "FULLY_CONNECTED") for dtype in (DType.FLOAT32, DType.INT8)),
        *(pool(name) for name in ("LceBMaxPool2d", "MAX_POOL_2D")),
    ):
        spec.verify(graph, "test")


def test_constraints_are_sentences_in_lower_case() -> None:
    for name, op in OPS.items():
        for rule in op.constraints():
            text = rule.__doc__ or ""
            assert text == text.strip(), f"{name}.{rule.__name__}"
            assert text, f"{name}.{rule.__name__}"
            assert "\n" not in text, f"{name}.{rule.__name__}"
            assert not text.endswith("."), f"{name}.{rule.__name__}"
