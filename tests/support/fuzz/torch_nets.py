"""Random PyTorch networks: layers, functions and methods of tensors in any legal order, over several live values.

A network is a list of steps, each of which computes one value from earlier ones; the steps are what a failure prints.
Values are [N, C, H, W] or [N, features].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name PyTorch's own documentation uses
from hypothesis import strategies as st
from torch import Tensor, nn

from onebit.train.layers import ChannelGate, QuantConv2d, QuantLinear, RPReLU, RSign, SameConv2d, XnorConv2d
from support.torch_nets import randomized

#: elements of a value per sample, and steps in front of the classifier
MOST_ELEMENTS, MOST_STEPS = 3000, 9
#: channel counts around a word, few, and such that groups exist
CHANNELS = (1, 2, 3, 4, 6, 8, 31, 32, 33, 64)

Draw = Callable[[Any], Any]


@dataclass(frozen=True)
class Step:
    """``function(layer..., values[i]...)``; `layer` indexes the network's layers."""

    text: str
    function: Callable[..., Tensor]
    operands: tuple[int, ...]
    layer: int | None = None


class Net(nn.Module):
    """Executes steps; the last value is the result."""

    def __init__(self, steps: Sequence[Step], layers: Sequence[nn.Module], shape: tuple[int, ...]) -> None:
        super().__init__()
        self.steps = tuple(steps)
        self.layers = nn.ModuleList(layers)
        self.example_input = torch.zeros(1, *shape)

    def forward(self, x: Tensor) -> Tensor:
        values = [x]
        for step in self.steps:
            layer = () if step.layer is None else (self.layers[step.layer],)
            values.append(step.function(*layer, *(values[i] for i in step.operands)))
        return values[-1]

    def __repr__(self) -> str:
        lines = [f"v{i + 1} = {step.text}" for i, step in enumerate(self.steps)]
        layers = [f"layers[{i}] = {layer}" for i, layer in enumerate(self.layers)]
        return "\n".join([f"input {list(self.example_input.shape)}", *layers, *lines])


@dataclass
class Sketch:
    """A network that grows: values of two samples, steps and layers so far."""

    draw: Draw
    values: list[Tensor]
    steps: list[Step] = field(default_factory=list)
    layers: list[nn.Module] = field(default_factory=list)

    def pick(self, *choices: Any) -> Any:
        """One of the choices."""
        return self.draw(st.sampled_from(choices))

    def value(self, rank: int) -> int | None:
        """A value of that rank, mostly one of the last; None where there is none."""
        found = [i for i, v in enumerate(self.values) if v.ndim == rank]
        return None if not found else self.pick(*found, *2 * found[-1:], *found[-2:])

    def call(
        self, text: str, function: Callable[..., Tensor], *operands: int, layer: nn.Module | int | None = None
    ) -> bool:
        """Append a step, unless PyTorch refuses it or its value is empty or large; whether it was appended."""
        index = layer
        if isinstance(layer, nn.Module):
            layer.eval()
            index = len(self.layers)
        called = () if layer is None else (self.layers[layer] if isinstance(layer, int) else layer,)
        try:
            with torch.no_grad():
                value = function(*called, *(self.values[i] for i in operands))
        except (RuntimeError, ValueError, IndexError):
            return False
        if not 1 <= value[0].numel() <= MOST_ELEMENTS or value.ndim not in (2, 4) or len(value) != 2:
            return False
        if isinstance(layer, nn.Module):
            self.layers.append(layer)
        names = ", ".join(f"v{i}" for i in operands)
        assert index is None or isinstance(index, int)
        self.steps.append(Step(text if index is None else f"layers[{index}]({names})", function, operands, index))
        self.values.append(value)
        return True

    def module(self, layer: nn.Module, *operands: int) -> bool:
        """Append the call of a new layer."""
        return self.call("", lambda module, *x: module(*x), *operands, layer=layer)

    def expression(self, text: str, i: int) -> bool:
        """Append an expression of ``x``, a value."""
        return self.call(f"{text} with x = v{i}", compiled(text, "x"), i)


def compiled(text: str, names: str) -> Callable[..., Tensor]:
    """The function that an expression of `names` stands for."""
    function: Callable[..., Tensor] = eval(f"lambda {names}: {text}", {"torch": torch, "F": F})  # noqa: S307
    return function


def conv(s: Sketch, i: int) -> bool:
    channels = s.values[i].shape[1]
    kernel = (s.pick(1, 2, 3, 3, 5), s.pick(1, 2, 3, 3))
    stride, dilation = (s.pick(1, 1, 2), s.pick(1, 1, 2, 3)), (s.pick(1, 1, 2), s.pick(1, 1, 2))
    groups = s.pick(1, 1, 1, 2, channels)
    out = s.pick(*CHANNELS) * (groups if groups > 1 and channels % groups == 0 else 1)
    if channels % groups or out % groups or out > 128:
        return False
    binary = s.pick(True, True, False)
    steps = {"stride": stride, "dilation": dilation, "groups": groups}
    if binary:
        make = s.pick(QuantConv2d, QuantConv2d, XnorConv2d)
        padding = s.pick("same", "same", "valid", 0, 1, (1, 0), (2, 2))
        quantizers = {
            "input_quantizer": s.pick("ste_sign", "approx_sign"),
            "kernel_quantizer": s.pick("ste_sign", "ste_sign", "magnitude_aware_sign"),
        }
        return s.module(make(channels, out, kernel, padding=padding, pad_value=s.pick(0, 1), **quantizers, **steps), i)
    if s.pick(True, False):
        return s.module(SameConv2d(channels, out, kernel, bias=s.pick(True, False), **steps), i)
    padding = s.pick(0, 1, 1, (0, 1), (2, 2), 3, *(["same"] if stride == (1, 1) else []))
    return s.module(nn.Conv2d(channels, out, kernel, padding=padding, bias=s.pick(True, False), **steps), i)


def norm(s: Sketch, i: int) -> bool:
    x = s.values[i]
    make = nn.BatchNorm2d if x.ndim == 4 else nn.BatchNorm1d
    return s.module(make(x.shape[1], affine=s.pick(True, True, False), eps=s.pick(1e-5, 1e-3)), i)


def activation(s: Sketch, i: int) -> bool:
    channels = s.values[i].shape[1]
    if s.pick(True, False):
        return s.expression(s.pick(
            "F.relu(x)", "x.relu()", "F.relu6(x)", "F.hardtanh(x)", "x.clamp(-0.5, 2)", "x.clamp(min=0.1)", "-x",
            "torch.tanh(x)", "x.sigmoid()", "F.hardswish(x)", "F.hardsigmoid(x)", "F.silu(x)", "F.leaky_relu(x, 0.2)",
            "x * 2", "1 - x", "x / 3", "0.5 * x + 1", "x - x.mean((2, 3), keepdim=True)", "torch.maximum(x, -x)",
            "F.leaky_relu(x, -0.5)", "x * x", "x.softmax(1)", "torch.min(x, x * 0.5)",
        ), i)  # fmt: skip
    return s.module(s.pick(
        nn.ReLU(inplace=False), nn.PReLU(), nn.PReLU(channels), nn.LeakyReLU(0.1), nn.Hardtanh(-2, 1), nn.ReLU6(),
        nn.Tanh(), nn.Hardswish(), nn.Dropout(), nn.SiLU(), RPReLU(channels), RSign(channels), nn.Identity(),
    ), i)  # fmt: skip


def pool(s: Sketch, i: int) -> bool:
    size, stride = (s.pick(1, 2, 3), s.pick(2, 3)), s.pick(1, 2, (2, 1), 3)
    options: dict[str, Any] = {"padding": s.pick(0, 0, 1, (1, 0)), "ceil_mode": s.pick(False, False, True)}
    kind = s.pick("max", "max", "mean", "whole")
    if kind == "max":
        return s.module(nn.MaxPool2d(size, stride, **options), i)
    if kind == "mean":
        return s.module(nn.AvgPool2d(size, stride, count_include_pad=s.pick(True, False), **options), i)
    if s.pick(True, False):
        out = s.pick(1, 2, (1, 2), (None, 1))
        return s.module(s.pick(nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)(out), i)
    return s.expression(s.pick(
        "x.mean((2, 3))", "x.mean([-1, -2], keepdim=True)", "x.amax((2, 3))", "F.adaptive_avg_pool2d(x, 1)[:, :, 0, 0]",
        "F.adaptive_max_pool2d(x, 1).flatten(1)", "torch.mean(x, (-2, -1))",
    ), i)  # fmt: skip


def movement(s: Sketch, i: int) -> bool:
    _, c, h, w = s.values[i].shape
    return s.expression(s.pick(
        "F.pad(x, (1, 1, 1, 1))", "F.pad(x, (0, 1, 2, 0), value=1.0)", "F.pad(x, (0, 0, 0, 0, 1, 1))",
        "x[:, ::2]", f"x[:, :{max(1, c // 2)}]", f"x[:, {c // 2}:]", "x[..., 1:]", "x[:, :, ::2, ::2]", "x[:, -1:]",
        "x.permute(0, 1, 3, 2)", "x.permute(0, 2, 3, 1)", "x.transpose(1, 2)", "F.interpolate(x, scale_factor=2)",
        f"x.reshape(-1, {c}, {w}, {h})", f"x.view(x.size(0), {h * c}, 1, {w})", f"x.view(-1, 1, {c * h}, {w})",
        f"x.view(-1, 2, {c // 2}, {h}, {w}).transpose(1, 2).flatten(1, 2)", f"x.flatten(2).view(-1, {c}, {w}, {h})",
        "x.repeat(1, 2, 1, 1)", "torch.cat([x, x.relu()], 1)", "torch.cat([x, -x], 2)", "x.expand(-1, 4, -1, -1) + x",
        "x.flatten(1)", "x.view(x.shape[0], -1)", "torch.flatten(x, 1)", "x.permute(0, 2, 3, 1).flatten(1)",
        "torch.cat([x.flatten(1), x.mean((2, 3))], 1)", "x.squeeze(2).unsqueeze(2)", "x.contiguous().clone()",
        "x.unflatten(1, (-1, 2)).flatten(1, 2)", "torch.cat([x.chunk(2, 1)[1], x.chunk(2, 1)[0]], 1)",
    ), i)  # fmt: skip


def of_two(s: Sketch, i: int) -> bool:
    """Another value of the same shape, one that broadcasts, or one to be joined."""
    x = s.values[i]
    alike = [j for j, v in enumerate(s.values) if v.shape == x.shape]
    wide = [j for j, v in enumerate(s.values) if x.ndim == 4 and v.shape[1:] == (x.shape[1], 1, 1)]
    joined = [j for j, v in enumerate(s.values) if v.ndim == x.ndim and v.shape[2:] == x.shape[2:]]
    kind = s.pick("add", "sub", "mul", "max", "cat", "cat")
    if kind == "cat":
        j = s.pick(*joined)
        return s.call(f"torch.cat([v{i}, v{j}], 1)", lambda a, b: torch.cat([a, b], 1), i, j)
    j = s.pick(*alike, *wide)
    function = {"add": torch.add, "sub": torch.sub, "mul": torch.mul, "max": torch.maximum}[kind]
    return s.call(f"{kind}(v{i}, v{j})", function, i, j)


def constant(s: Sketch, i: int) -> bool:
    """Arithmetic with a parameter of the model, of a shape that broadcasts."""
    shape = tuple(s.values[i].shape[1:])
    chosen = s.pick(shape, (shape[0], *(1 for _ in shape[1:])), (1,) * len(shape), (1, *shape))
    data = torch.randn(chosen, generator=torch.Generator().manual_seed(s.pick(0, 1, 2)))
    kind = s.pick("x + p", "x * p", "p - x", "x - p", "torch.maximum(x, p)", "x / (1 + p.abs())")
    function = compiled(kind, "x, p")
    return s.call(f"{kind} with p {list(chosen)}, x = v{i}", lambda x: function(x, data), i)


def again(s: Sketch, i: int) -> bool:
    """A layer that was called before."""
    return bool(s.layers) and s.call("", lambda module, x: module(x), i, layer=s.pick(*range(len(s.layers))))


def gate(s: Sketch, i: int) -> bool:
    return s.module(ChannelGate(s.values[i].shape[1], s.values[i].shape[1]), i)


def dense(s: Sketch, i: int) -> bool:
    features, out = s.values[i].shape[1], s.pick(*CHANNELS)
    if s.pick(True, False):
        return s.module(QuantLinear(features, out), i)
    return s.module(nn.Linear(features, out, bias=s.pick(True, False)), i)


def to_map(s: Sketch, i: int) -> bool:
    c = s.values[i].shape[1]
    return s.expression(s.pick(
        "x[:, :, None, None]", f"x.view(-1, {c}, 1, 1)", f"x.view(-1, 1, 1, {c})", "x.unsqueeze(2).unsqueeze(3)",
        f"x.reshape(x.shape[0], {max(c // 4, 1)}, 2, 2)",
    ), i)  # fmt: skip


ON_MAPS = (conv, conv, conv, conv, norm, norm, activation, pool, movement, movement, of_two, constant, again, gate)
ON_VECTORS = (dense, dense, norm, activation, of_two, constant, again, to_map)


@st.composite
def torch_nets(draw: Draw) -> Net:
    """A network with seeded weights in eval mode, whose result is [N, classes] with at least two classes."""
    shape = draw(st.sampled_from([(3, 8, 8), (1, 7, 6), (4, 5, 9), (32, 4, 4), (2, 1, 12), (12,), (33,)]))
    s = Sketch(draw, [torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))])
    for _ in range(draw(st.integers(2, MOST_STEPS))):
        rank = s.pick(4, 4, 4, 2)
        i = s.value(rank)
        if i is None:
            rank = 6 - rank
            i = s.value(rank)
        assert i is not None
        s.pick(*(ON_MAPS if rank == 4 else ON_VECTORS))(s, i)
    last = len(s.values) - 1
    if s.values[last].ndim == 4:
        assert s.expression(s.pick("x.flatten(1)", "x.reshape(x.shape[0], -1)"), last)
    features = s.values[-1].shape[1]
    head = s.pick(nn.Linear(features, 5), QuantLinear(features, 5), nn.Linear(features, 3, bias=False))
    assert s.module(head, len(s.values) - 1)
    net = randomized(Net(s.steps, s.layers, shape), seed=s.pick(0, 1))
    assert isinstance(net, Net)
    return net
