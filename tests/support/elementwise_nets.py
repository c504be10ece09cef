"""Small graphs of one element by element operator each, with inputs that reach all int8 values, or all pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from onebit.core import DType, Graph, Node, Quantization, Tensor
from onebit.core.graph import Array
from onebit.core.ops import (
    Abs,
    Activation,
    Add,
    Dequantize,
    Greater,
    GreaterEqual,
    HardSwish,
    LeakyRelu,
    Logistic,
    Maximum,
    Minimum,
    Mul,
    Op,
    Prelu,
    Quantize,
    Relu,
    Relu6,
    ReluN1To1,
    Round,
    Sign,
    Sub,
    Tanh,
    View,
)
from support.nets import Net

F32, I8 = DType.FLOAT32, DType.INT8
Quant = tuple[float, int]
Case = tuple[Graph, Array]

RAMP = np.arange(-128, 128).astype(np.int8)
#: every pair of int8 values: input, and constant of the same shape
PAIRS = (1, 256, 256)
FIRST, SECOND = np.repeat(RAMP, 256).reshape(PAIRS), np.tile(RAMP, 256).reshape(PAIRS)
SPECIAL = np.array(
    [0.0, -0.0, 1, -1, 6, 6.0000005, -3, 3, 0.5, -0.5, 1.5, 2.5, -1.5, -2.5, 0.49999997, 1e-30, -1e-30, 1e30, -1e30],
    np.float32,
)

# quantizations (scale, zero point) of input and output: usual, equal, ends of the zero point, exact halves, far apart
ONE_OPERAND: dict[str, tuple[Quant, Quant]] = {
    "usual": ((0.05, 3), (0.031, -7)),
    "equal": ((0.05, 3), (0.05, 3)),
    "lowest zero points": ((0.1, -128), (0.07, -128)),
    "highest zero points": ((0.1, 127), (0.13, 127)),
    "halves": ((0.5, 1), (1.0, -4)),
    "halves after a shift": ((0.25, -4), (1.0, 5)),
    "fine steps": ((1 / 256, -128), (1 / 128, -128)),
    "three halves in float32 only": ((0.3, 0), (0.2, 4)),
    "enlarges": ((1.7, -3), (0.011, 5)),
    "shrinks": ((0.013, 127), (1.3, -128)),
}
# the same of both operands and the output
TWO_OPERANDS: dict[str, tuple[Quant, Quant, Quant]] = {
    "usual": ((0.05, 3), (0.031, -7), (0.06, 5)),
    "equal": ((0.02, -1), (0.02, -1), (0.02, -1)),
    "halves": ((0.5, 1), (0.5, -2), (1.0, 0)),
    "lowest zero points": ((0.1, -128), (0.07, -128), (0.2, -128)),
    "highest zero points": ((0.1, 127), (0.07, 127), (0.2, 127)),
    "ties of the first product": ((1.0, 3), (float((2**20 + 1) / 2**21), -5), (2.0, 0)),
    "far apart": ((0.9, 0), (0.0004, 11), (0.9, 2)),
    "narrow output": ((0.04, 0), (0.05, 0), (0.005, 0)),
}
PRODUCTS: dict[str, tuple[Quant, Quant, Quant]] = {
    **{name: quants for name, quants in TWO_OPERANDS.items() if name not in ("narrow output", "far apart")},
    "small output scale": ((0.05, 2), (0.04, -3), (0.0041, 9)),
    "halves of products": ((0.5, 0), (0.25, 0), (0.25, 0)),
}
#: sizes around LiteRT's blocks of 8 and 16
SIZES = (1, 7, 8, 9, 15, 16, 17, 33)


def tensor(
    name: str, shape: Sequence[int], quant: Quant | None, data: Any = None, dtype: DType | None = None
) -> Tensor:
    """int8 with a quantization, else float32 (or `dtype`); `data` makes it a constant."""
    dtype = dtype or (F32 if quant is None else I8)
    stored = None if data is None else np.asarray(data, dtype.numpy).reshape(tuple(shape))
    return Tensor(name, tuple(shape), dtype, None if quant is None else Quantization.per_tensor(*quant), stored)


def graph_of(op: Op, inputs: Sequence[Tensor], out: Quant | None, dtype: DType | None = None) -> Graph:
    """One operator; the output's shape is inferred, its dtype follows from `out` unless given."""
    node = Node(op, tuple(t.name for t in inputs), ("y",))
    draft = tensor("y", (1,), out, dtype=dtype)
    shape, inferred = op.infer(View(node, tuple(inputs), (draft,)))
    y = tensor("y", shape, out, dtype=inferred)
    return Graph({t.name: t for t in (*inputs, y)}, (node,), ("input",), ("y",))


def unary(op: Op, shape: Sequence[int], x: Quant | None, y: Quant | None) -> Graph:
    """One operator on the input."""
    return graph_of(op, [tensor("input", shape, x)], y)


def binary(
    op: Op, shape: Sequence[int], other: Any, quants: Sequence[Quant | None] = (None,) * 3, *, swapped: bool = False
) -> Graph:
    """One operator on the input and a constant, in this order or `swapped`; `quants` of both in order, and output."""
    a, b, y = quants
    other = np.asarray(other)
    x = tensor("input", shape, b if swapped else a)
    k = tensor("other", other.shape, a if swapped else b, other)
    return graph_of(op, [k, x] if swapped else [x, k], None if isinstance(op, (Greater, GreaterEqual)) else y)


def computed(op: Op, shape: Sequence[int], quants: Sequence[Quant] | None = None) -> Graph:
    """Both operands are computed: the input, and what an operator in between makes of it."""
    a, b, y = quants or (None,) * 3
    first = unary(Quantize() if quants else Tanh(), shape, a, b)
    x, z = first.tensors["input"], Tensor("z", *_fields(first.tensors["y"]))
    second = graph_of(op, [x, z], None if isinstance(op, (Greater, GreaterEqual)) else y)
    nodes = (Node(first.nodes[0].op, ("input",), ("z",)), *second.nodes)
    return Graph({"input": x, "z": z, "y": second.tensors["y"]}, nodes, ("input",), ("y",))


def _fields(source: Tensor) -> tuple[tuple[int, ...], DType, Quantization | None]:
    return source.shape, source.dtype, source.quantization


def floats(shape: Sequence[int], n: int = 2) -> Array:
    """Normal values of several magnitudes, the special ones in front."""
    rng = np.random.default_rng(0)
    x = (rng.normal(0, 3, (n, *shape[1:])) * 10 ** rng.uniform(-2, 1, (n, *shape[1:]))).astype(np.float32)
    front = x.reshape(-1)[: len(SPECIAL)]
    front[:] = SPECIAL[: len(front)]
    return x


def near_ties(scale: float, size: int) -> Array:
    """float32 ``[64, size]`` at and next to (k + 1/2) * scale, where rounding rules differ."""
    rng = np.random.default_rng(0)
    tie = ((rng.integers(-150, 150, (64, size)) + 0.5).astype(np.float32) * np.float32(scale)).astype(np.float32)
    beside = np.nextafter(tie, np.float32(0), dtype=np.float32), np.nextafter(tie, np.float32(1e9), dtype=np.float32)
    return np.asarray(np.choose(rng.integers(0, 3, tie.shape), [tie, *beside]), np.float32)


def int8s(shape: Sequence[int], n: int = 4) -> Array:
    """Uniform int8 samples."""
    return np.random.default_rng(1).integers(-128, 128, (n, *shape[1:])).astype(np.int8)


def _one_operand(op: Op) -> dict[str, Case]:
    """All 256 values under every pair of quantizations."""
    cases = {}
    for name, (source, result) in ONE_OPERAND.items():
        y = (1 / 256, -128) if isinstance(op, Logistic) else result
        x = (0.7, -3) if isinstance(op, HardSwish) and name == "enlarges" else source
        cases[name] = unary(op, (1, 256), x, y), RAMP.reshape(1, 256)
    return cases


def _float_one_operand(op: Op) -> dict[str, Case]:
    x = floats((1, 5, 7, 9))
    if isinstance(op, (Logistic, Tanh)):
        x = x.clip(-200, 200)  # LiteRT's LOGISTIC overflows to NaN beyond
    return {"float": (unary(op, (1, 5, 7, 9), None, None), x)}


def _shapes(op: Op, quants: Sequence[Quant] | None, channels: int = 5) -> dict[str, Case]:
    """A constant per channel, one value, full size; either order; both operands computed; sizes around the blocks."""
    rng = np.random.default_rng(2)
    shape, q = (1, 3, 4, channels), quants or (None,) * 3

    def values(*extent: int) -> Array:
        return rng.integers(-128, 128, extent) if quants else rng.normal(0, 2, extent).astype(np.float32)

    def x(extent: Sequence[int]) -> Array:
        return int8s(extent) if quants else floats(extent)

    others = {
        "channels": values(channels), "channels with four axes": values(1, 1, 1, channels), "one value": values(1),
        "no axis": values(), "one value with four axes": values(1, 1, 1, 1), "rows": values(4, channels),
        "full": values(*shape),
    }  # fmt: skip
    cases = {name: (binary(op, shape, other, q), x(shape)) for name, other in others.items()}
    if not isinstance(op, Prelu):
        for name in ("channels", "one value", "full"):
            cases[f"{name} first"] = binary(op, shape, others[name], q, swapped=True), x(shape)
        cases["small input"] = binary(op, (1, channels), values(1, 3, 4, channels), q), x((1, channels))
        cases["both computed"] = computed(op, shape, quants), x(shape)
    for size in SIZES:
        cases[f"size {size}"] = binary(op, (1, size), values(1, size), q), x((1, size))
    return cases


def _pairs(op: Op, quants: dict[str, tuple[Quant, Quant, Quant]]) -> dict[str, Case]:
    """All pairs: with a constant of full size, with one per channel, and some with a single value, in both orders."""
    return {
        **{name: (binary(op, PAIRS, SECOND, q), FIRST) for name, q in quants.items()},
        **{f"{name}, channels": (binary(op, PAIRS, RAMP, q), FIRST) for name, q in quants.items()},
        **{
            f"{name}, {'value' if not swapped else 'first'} {k}": (
                binary(op, (1, 259), [k], q, swapped=swapped), np.resize(RAMP, (1, 259)),
            )
            for name, q in quants.items() for k in (-128, -91, -64, -17, 5, 38, 101, 127) for swapped in (False, True)
        },
    }  # fmt: skip


def _arithmetic(op: type[Add | Sub | Mul]) -> dict[str, Case]:
    table = PRODUCTS if op is Mul else TWO_OPERANDS
    usual = table["usual"]
    cases = {f"{k}, float": v for k, v in _shapes(op(), None).items()} | _shapes(op(), usual) | _pairs(op(), table)
    for activation in Activation:
        x = np.concatenate([SPECIAL, np.array([np.nan, np.inf, -np.inf], np.float32)]).reshape(1, -1)
        identity = np.full(x.shape[1], 1.0 if op is Mul else 0.0, np.float32)
        cases[f"{activation.name}, float"] = binary(op(activation), x.shape, identity), x
        cases[activation.name] = binary(op(activation), PAIRS, SECOND, usual), FIRST
    return cases


def _extremum(op: Op) -> dict[str, Case]:
    same = ((0.05, 3),) * 3
    zeros = np.array([[0.0, 0.0, -0.0, -0.0, np.nan, 1.0, np.nan]], np.float32)
    others = np.array([[0.0, -0.0, 0.0, -0.0, 1.0, 0.0, 0.0]], np.float32)
    return {
        **{f"{k}, float": v for k, v in _shapes(op, None).items()},
        **_shapes(op, same),
        "zeros": (binary(op, zeros.shape, others), zeros),
        "zeros, one value": (binary(op, zeros.shape, np.float32([-0.0])), zeros),
        "zeros, one value first": (binary(op, zeros.shape, np.float32([-0.0]), swapped=True), zeros),
        "all pairs": (binary(op, PAIRS, SECOND, same), FIRST),
    }


def _comparison(op: Op) -> dict[str, Case]:
    below_one = {name: q for name, q in TWO_OPERANDS.items() if max(q[0][0], q[1][0]) < 1}
    equal = floats((1, 60), 1)
    return {
        **{f"{k}, float": v for k, v in _shapes(op, None).items()},
        **_shapes(op, TWO_OPERANDS["usual"]),
        **_pairs(op, below_one),
        "equal values": (binary(op, equal.shape, equal[0]), equal),
        "against zero": (binary(op, (1, len(SPECIAL)), np.float32([0])), SPECIAL.reshape(1, -1)),
    }


def _prelu() -> dict[str, Case]:
    op = Prelu()
    zeros = np.array([0.0, -0.0, np.nan, -1.0], np.float32).repeat(5).reshape(1, 4, 1, 5)
    slopes = np.array([0.0, -0.0, 1.0, -0.5, 0.25], np.float32)
    return {
        **{f"{k}, float": v for k, v in _shapes(op, None).items()},
        **_shapes(op, PRODUCTS["usual"]),
        "zeros": (binary(op, zeros.shape, slopes), zeros),
        **{name: (binary(op, (1, 1, 256, 256), RAMP, q), FIRST[:, None]) for name, q in PRODUCTS.items()},
    }


def _quantize() -> dict[str, Case]:
    cases = _one_operand(Quantize())
    for size in SIZES:
        # ties go up in whole blocks of 16, and away from zero in the rest
        cases[f"halves after a shift, {size}"] = unary(Quantize(), (1, size), (0.25, 0), (1.0, 0)), int8s((1, size), 40)
    for scale, zero_point in ((0.1, 3), (0.037, -128), (1.0, 127), (3.3, 0), (2.0**-9, -5)):
        for size in SIZES:
            graph = unary(Quantize(), (1, size), None, (scale, zero_point))
            cases[f"float, {scale}, {size}"] = graph, near_ties(scale, size)
    far = np.array([[1e8, -1e8, 1e5, -1e5, 13.0, -0.0, 0.0, 1e8, -1e8]], np.float32)
    return {**cases, "float, far": (unary(Quantize(), far.shape, None, (0.1, -7)), far)}


def _dequantize() -> dict[str, Case]:
    return {
        f"{q}, {size}": (unary(Dequantize(), (1, size), q, None), int8s((1, size), 40))
        for q in ((0.1, 3), (0.037, -128), (1.0, 127), (3.3, 0))
        for size in (*SIZES, 256)
    }


NETS: dict[str, dict[str, Case]] = {
    "ADD": _arithmetic(Add),
    "SUB": _arithmetic(Sub),
    "MUL": _arithmetic(Mul),
    "MAXIMUM": _extremum(Maximum()),
    "MINIMUM": _extremum(Minimum()),
    **{op.name: _one_operand(op) | _float_one_operand(op)
       for op in (Relu(), Relu6(), ReluN1To1(), Abs(), Logistic(), Tanh(), HardSwish())},
    **{op.name: _float_one_operand(op) for op in (Sign(), Round())},
    "LEAKY_RELU": {
        f"{name}, {alpha}": case
        for alpha in (0.3, -0.5, 0.0, 1.7)
        for name, case in (_one_operand(LeakyRelu(alpha)) | _float_one_operand(LeakyRelu(alpha))).items()
    },
    "PRELU": _prelu(),
    "GREATER": _comparison(Greater()),
    "GREATER_EQUAL": _comparison(GreaterEqual()),
    "QUANTIZE": _quantize(),
    "DEQUANTIZE": _dequantize(),
}  # fmt: skip


def int8_chain() -> Graph:
    """int8 operators with a constant per channel, full size and a single value, and tables."""
    i8 = DType.INT8
    x, k, y, z = (Quantization.per_tensor(*q) for q in ((0.04, -5), (0.03, 7), (0.05, 3), (0.06, -9)))
    net = Net((1, 5, 7, 19), i8, x, seed=3)
    source = net.now.name
    shapes = {"channels": 19, "full": (1, 5, 7, 19), "one": (), "alpha": (1, 1, 19)}
    for name, shape in shapes.items():
        net.constant(name, net.rng.integers(-128, 128, shape), i8, quant=k)
    net.node(Add(), "channels", dtype=i8, quant=y).node(Add(Activation.RELU6), "one", dtype=i8, quant=y)
    net.node(Sub(), source, dtype=i8, quant=z).node(Prelu(), "alpha", dtype=i8, quant=y)
    net.node(Mul(), "full", dtype=i8, quant=y).node(Add(), source, dtype=i8, quant=z)
    net.node(LeakyRelu(0.25), dtype=i8, quant=y).node(Quantize(), dtype=i8, quant=x)
    net.node(Maximum(), source, dtype=i8, quant=x).node(HardSwish(), dtype=i8, quant=z)
    net.node(Abs(), dtype=i8, quant=k).node(Minimum(), "channels", dtype=i8, quant=k)
    return net.node(GreaterEqual(), "full", dtype=DType.BOOL).quantize().graph()


def float_chain() -> Graph:
    """float32 operators, QUANTIZE and DEQUANTIZE between them, a comparison behind them."""
    f32 = DType.FLOAT32
    net = Net((1, 5, 7, 19), seed=3)
    source = net.now.name
    channels = net.constant("channels", net.rng.normal(0, 1, 19), f32)
    net.mul([3.0]).node(Sub(), channels, dtype=f32).node(Maximum(), channels, dtype=f32)
    net.node(Minimum(), source, dtype=f32).node(LeakyRelu(-0.5), dtype=f32).node(Prelu(), channels, dtype=f32)
    net.node(Quantize(), dtype=DType.INT8, quant=Quantization.per_tensor(0.03, 5)).node(Dequantize(), dtype=f32)
    net.node(Abs(), dtype=f32).node(Add(), source, dtype=f32).node(Relu6(), dtype=f32)
    net.node(Relu(), dtype=f32).node(ReluN1To1(), dtype=f32)
    net.mul([1.7]).node(Round(), dtype=f32).add(np.linspace(-3, 1, 19)).node(Sign(), dtype=f32)
    return net.node(Add(), source, dtype=f32).node(Greater(), channels, dtype=DType.BOOL).graph()


def sigmoids() -> Graph:
    """The float operators that are computed within a tolerance."""
    net, f32 = Net((1, 3, 5, 7)).mul([4.0]), DType.FLOAT32
    return net.node(HardSwish(), dtype=f32).node(Tanh(), dtype=f32).node(Logistic(), dtype=f32).graph()


CHAINS: dict[str, Callable[[], Graph]] = {
    "int8 elements": int8_chain,
    "float elements": float_chain,
    "sigmoids": sigmoids,
}
