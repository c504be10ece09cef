"""ER-BNN: weights and activations restored to the binary code's own statistics, and a gradient as wide as the data.

Source: the ER-BNN abstract and the public code of its laboratory (source 2 of the project, branch ER-BNN of sjmp525/IA;
its quantizer file is missing there, the formulas are those of the project's notes). Ring buffers of statistics there
are running means here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from onebit.train.layers import BinaryLayer
from onebit.train.methods.base import Attached, Method, checked_binary_layers
from onebit.train.methods.parts import (
    INPUTS,
    WEIGHTS,
    InputPart,
    LayerMethod,
    OutputPart,
    SurrogateSign,
    add_input_part,
    add_weight_transform,
    filter_mean,
    input_channels,
    parts_of,
    sample_statistics,
)
from onebit.train.options import option
from onebit.train.quantizers import hard_sign

SMALLEST_RANGE = 0.1
TINY = 1e-12

# ------------------------------------------------------------------------------------------------------------ weights


class RestoredWeight(nn.Module):
    """u = w~ / sqrt(mean w~^2) per filter, w~ = w - mean w: mean 0 and ||u|| = sqrt(n), the length of a +-1 vector."""

    def forward(self, weight: Tensor) -> Tensor:
        """Latent weight [O, ...] -> the same shape."""
        centred = weight - filter_mean(weight)
        return centred / torch.sqrt(filter_mean(centred.square()).clamp_min(TINY))


@dataclass(frozen=True)
class ErWeights(Method):
    """Maximum-entropy weight restoration: b = sign(u), u = w~ / sqrt(mean w~^2), w~ = w - mean(w) per filter.

    +1 and -1 become equally frequent, and +-1 itself restores the weights' distribution, so no scale follows. The
    gradient flows through mean and length.
    """

    name = "er_weights"
    summary = "ER-BNN: weights shifted to mean 0 and scaled to length sqrt(n) per filter"

    def attach(self, net: nn.Module) -> Attached:
        layers = checked_binary_layers(net, self)
        for name, layer in layers.items():
            add_weight_transform(layer, name, RestoredWeight())
        return LayerMethod(net, layers)


# --------------------------------------------------------------------------------------------------------- activations


class _Statistics(nn.Module):
    """Running mean M and root mean square A of a layer's input."""

    mean: Tensor
    size: Tensor
    seen: Tensor

    def __init__(self, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("size", torch.ones(()))
        self.register_buffer("seen", torch.zeros(()))

    def observe(self, mean: Tensor, size: Tensor) -> None:
        """Takes in one batch."""
        self.seen += 1
        momentum = torch.clamp_min(1.0 / self.seen, self.momentum)
        self.mean += momentum * (mean.detach() - self.mean)
        self.size += momentum * (size.detach() - self.size)


class _Shift(InputPart):
    """(x - M) / A in training, with the batch's own M and A; x - M with the running M in eval mode."""

    def __init__(self, statistics: _Statistics) -> None:
        super().__init__()
        self.statistics = statistics
        self._batch: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Input [N, C, ...] -> the same shape."""
        if not self.training:
            return x - self.statistics.mean
        mean, variance = sample_statistics(x)
        size = variance.clamp_min(TINY).sqrt().mean()
        self._batch = (mean.mean(), size)
        self.statistics.observe(*self._batch)
        return (x - self._batch[0]) / size

    def taken(self) -> tuple[Tensor, Tensor] | None:
        """(M, A) of the batch that was just shifted, once; None in eval mode."""
        batch, self._batch = self._batch, None
        return batch

    def threshold(self, layer: BinaryLayer) -> Tensor | None:
        return self.statistics.mean.expand(input_channels(layer))


class _Restore(OutputPart):
    """y A + M sum(b): what the layer computes from A s + M instead of s, with A + M around the image.

    sum(b) counts as a constant in the gradient; batch norm behind the layer takes a constant per channel out anyway.
    """

    def __init__(self, statistics: _Statistics, shift: _Shift) -> None:
        super().__init__()
        self.statistics = statistics
        self._shift = [shift]  # a list: the shift is a submodule elsewhere

    def forward(self, y: Tensor, layer: BinaryLayer) -> Tensor:
        """Result [N, O, ...] -> the same shape."""
        mean, size = self._shift[0].taken() or (self.statistics.mean, self.statistics.size)
        total = self._total(layer)
        return y * size + mean * (total[:, None, None] if y.ndim == 4 else total)

    def affine(self, layer: BinaryLayer) -> tuple[Tensor, Tensor | None]:
        total = self._total(layer)
        return self.statistics.size.expand_as(total), self.statistics.mean * total

    def _total(self, layer: BinaryLayer) -> Tensor:
        with torch.no_grad():
            return layer.quantized_weight().flatten(1).sum(dim=1)


@dataclass(frozen=True)
class ErActivations(Method):
    """Activation restoration: s = sign((x - M) / A), passed on as A s + M.

    M = mean over the batch of each sample's mean, A = mean over the batch of each sample's root mean square of x minus
    its mean; of the batch in training, running (`momentum`) in eval mode. Outside the image is A + M, so that all of it
    is one threshold M per layer in front, and a scale and a bias per channel behind.

    The public code takes x minus M in A. No sign depends on A, and batch norm behind the layer takes it out of what
    follows: the difference is how wide the gradient is, and small where the samples' means are close to each other.
    """

    name = "er_activations"
    summary = "ER-BNN: activations shifted and scaled per layer before the sign, and back behind it"
    momentum: float = option(0.01, least=0, most=1)

    def attach(self, net: nn.Module) -> Attached:
        layers = checked_binary_layers(net, self)
        for name, layer in layers.items():
            statistics = _Statistics(self.momentum)
            shift = _Shift(statistics)
            add_input_part(layer, name, shift)
            parts_of(layer, name).outputs.append(_Restore(statistics, shift))
        return LayerMethod(net, layers)


# ------------------------------------------------------------------------------------------------------------ gradient


class _AdaptiveFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, r: Tensor) -> Tensor:
        ctx.save_for_backward(x, r)
        return hard_sign(x)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        x, r = ctx.saved_tensors
        slope = torch.clamp_min(r, 1.0) / r * (1.0 - torch.tanh(x / r).square())
        return grad_outputs[0] * slope.to(x.dtype), None


def spread(x: Tensor, p: Tensor | float) -> Tensor:
    """r = max(quantile_p of |x| over x <= 0, quantile_p of x over x >= 0), a scalar; rises with p in [0, 1].

    A side without values counts as 0. The quantile is the order statistic below position p (n - 1).
    """
    x = x.detach().flatten().float()
    sides = []
    for side in (x, -x):
        # values of the other side are moved to the front, where no position points to
        ordered = torch.where(side >= 0, side, -1.0).sort().values
        count = (side >= 0).sum()
        position = len(x) - count + (p * (count - 1).clamp_min(0)).floor().long()
        sides.append(ordered[position.clamp_max(len(x) - 1)])
    return torch.stack(sides).max().clamp_min(0.0)


def subsample(x: Tensor, size: int) -> Tensor:
    """At most `size` elements of `x`, evenly spaced over its memory: no random numbers, no synchronisation."""
    values = x.detach().flatten()
    return values[:: max(-(-len(values) // size), 1)]


class AdaptiveSign(SurrogateSign):
    """Forward: the sign, +1 for 0. Gradient: dq/dx = max(r, 1)/r (1 - tanh^2(x/r)), r >= 0.1 a running spread of x."""

    name = "er_sign"
    p: Tensor
    range: Tensor
    seen: Tensor

    def __init__(self, p: float, momentum: float, sample: int) -> None:
        super().__init__()
        self.momentum = momentum
        self.sample = sample
        self.register_buffer("p", torch.tensor(p), persistent=False)
        self.register_buffer("range", torch.ones(()))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """The signs of `x`."""
        if self.training and torch.is_grad_enabled():
            self.seen += 1
            momentum = torch.clamp_min(1.0 / self.seen, self.momentum)
            self.range += momentum * (spread(subsample(x, self.sample), self.p) - self.range)
        r = self.range.clamp_min(SMALLEST_RANGE)
        return cast("Tensor", _AdaptiveFunction.apply(x, r))  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class ErGradient(Method):
    """Adaptive distribution gradient: dq/dx = h/r (1 - tanh^2(x/r)), h = max(r, 1), of weights and inputs.

    r = max over the two signs of the p-quantile of |x|, a running mean over steps (of 100 for weights, 1000 for
    inputs), at least 0.1; p goes linearly from `p_start` to `p_end`. So the gradient covers the bulk of the values at
    first and peaks at 0 later. The quantile is taken over `sample` values. p_end = 0.1 suits less than 60 epochs.
    `scheduled_inputs=False` keeps p = 1 for inputs, which the public code does by accident.
    """

    name = "er_gradient"
    summary = "ER-BNN: gradient 1 - tanh^2(x/r), r from a falling percentile of |x|"
    p_start: float = option(0.8, least=0, most=1)
    p_end: float = option(0.0, least=0, most=1)
    sample: int = option(4096, least=1)
    scheduled_inputs: bool = True

    def p_at(self, done: float) -> float:
        """p at the share `done` of the run."""
        return self.p_start + (self.p_end - self.p_start) * done

    def attach(self, net: nn.Module) -> Attached:
        layers = checked_binary_layers(net, self)
        signs = []
        for name, layer in layers.items():
            for role, momentum in ((INPUTS, 0.001), (WEIGHTS, 0.01)):
                scheduled = self.scheduled_inputs or role == WEIGHTS
                sign = AdaptiveSign(self.p_start if scheduled else 1.0, momentum, self.sample)
                parts_of(layer, name).replace_quantizer(layer, role, sign, self.name)
                if scheduled:
                    signs.append(sign)
        attached = _ErGradientAttached(net, layers)
        attached.method, attached.signs = self, signs
        return attached


class _ErGradientAttached(LayerMethod):
    method: ErGradient
    signs: list[AdaptiveSign]

    def progress(self, done: float) -> None:
        for sign in self.signs:
            sign.p.fill_(self.method.p_at(done))
