"""Random arithmetic per channel, as it may stand behind a binary convolution."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from onebit.core import DType, Node, Quantization, Tensor
from onebit.core.ops import (
    Abs,
    Activation,
    FullyConnected,
    HardSwish,
    LeakyRelu,
    Maximum,
    Minimum,
    Op,
    Padding,
    Prelu,
    Quantize,
    Relu,
    Relu6,
    ReluN1To1,
    Round,
    Sign,
    Sub,
)
from support.nets import Net

F32 = DType.FLOAT32
#: computed by LiteRT as by onebit, to the last bit
EXACT: tuple[Op, ...] = (
    Abs(), LeakyRelu(0.1), LeakyRelu(-0.5), Relu(), Relu6(), ReluN1To1(), Round(), Sign(),
)  # fmt: skip
UNARY: tuple[Op, ...] = (*EXACT, HardSwish())


def unary(net: Net, op: Op) -> Net:
    """f(x) in float32."""
    return net.node(op, dtype=F32)


def prelu(net: Net, slopes: object) -> Net:
    """PRELU with slopes of any sign."""
    return net.node(Prelu(), net.constant(f"slopes_{len(net.nodes)}", slopes, F32), dtype=F32)


def binary(net: Net, op: Op, operand: object) -> Net:
    """x op constant in float32."""
    return net.node(op, net.constant(f"operand_{len(net.nodes)}", operand, F32), dtype=F32)


def subtracted_from(net: Net, operand: object) -> Net:
    """constant - x in float32: the computed operand is the second."""
    name = f"sub_{len(net.nodes)}"
    minuend = net.constant(f"minuend_{len(net.nodes)}", operand, F32)
    net.nodes.append(Node(Sub(), (minuend, net.now.name), (name,)))
    net.now = net.tensors[name] = Tensor(name, net.now.shape, F32)
    return net


def random_step(net: Net, rng: np.random.Generator, operators: tuple[Op, ...] = UNARY) -> None:
    """One more float32 operator: numbers per channel or one for all, activations, slopes, pools."""
    channels = net.now.shape[-1]
    values = rng.normal(size=channels if rng.random() < 0.8 else 1)
    activation = Activation(rng.integers(4))
    steps: list[Callable[[], object]] = [
        lambda: net.mul(values, activation),
        lambda: net.add(2 * values, activation),
        lambda: binary(net, Sub(activation), values),
        lambda: binary(net, Maximum() if rng.random() < 0.5 else Minimum(), values),
        lambda: subtracted_from(net, values),
        lambda: prelu(net, values),
        lambda: unary(net, operators[rng.integers(len(operators))]),
    ]
    if min(net.now.shape[1:3]) > 1:
        steps.append(lambda: net.pool(2, activation=activation))
    steps[rng.integers(len(steps))]()


def ranges(net: Net) -> Net:
    """Signs that are negative in a range of the sum, outside of one, or behind a single step, by channel."""
    channel = np.arange(net.now.shape[3])
    term = np.where(channel % 2, -0.6, 0.6)
    prelu(net.add(term), np.where(channel % 3, -0.5, 0.5))
    return net.mul(np.where(channel % 4 < 2, 1.0, -1.0)).add(-term).quantize()


def several_ranges(net: Net) -> Net:
    """||x| - 1| - 0.5: four changes of the sign."""
    for term in (-1.0, -0.5):
        unary(net, Abs()).add([term])
    return net.quantize()


def minima(net: Net) -> Net:
    """Max pools, and scales of both signs behind each of them."""
    scale = np.linspace(-1, 1, net.now.shape[3])
    return net.pool(3, Padding.SAME).mul(scale).add(scale - 0.5).pool().mul(-scale).add([0.1]).quantize()


def binary_dense_layer(net: Net, scale: Any, *, bias: Any = "random", activation: Activation = Activation.NONE) -> Net:
    """FULLY_CONNECTED with weights of +scale and -scale, which has one value per output."""
    i, outs = len(net.nodes), len(scale)
    weights = np.where(net.rng.random((outs, net.now.elements)) < 0.5, -1, 1) * np.asarray(scale)[:, np.newaxis]
    names = [net.constant(f"weights_{i}", weights, F32)]
    if bias is not None:
        values = net.rng.normal(size=outs) if isinstance(bias, str) else bias
        names.append(net.constant(f"bias_{i}", values, F32))
    return net.node(FullyConnected(activation), *names, dtype=F32)


def random_chain(seed: int) -> Net:
    """Random arithmetic behind a binary convolution, then a sign or QUANTIZE, then another binary convolution.

    Only operators that LiteRT computes exactly, so that every sign is owed.
    """
    rng = np.random.default_rng(seed)
    net = Net((1, 6, 7, int(rng.choice([8, 33, 64]))), seed=seed).quantize()
    net.bconv(int(rng.choice([5, 33, 40])), pad_value=1 if net.now.shape[3] % 2 else int(rng.integers(2)))
    for _ in range(rng.integers(1, 6)):
        random_step(net, rng, EXACT)
    if rng.random() < 0.5:
        quant = Quantization.per_tensor(10.0 ** rng.uniform(-2, 0), int(rng.integers(-128, 128)))
        net.node(Quantize(), dtype=DType.INT8, quant=quant)
    return net.quantize().bconv(7)
