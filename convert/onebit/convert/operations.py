"""Operations that PyTorch offers as functions only, as modules: what a traced graph consists of beside layers.

All tensors have the batch N in front; shapes and indices here leave it out, so that any N works.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

#: element by element functions of two operands
FUNCTIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
}


class Elementwise(nn.Module):
    """`FUNCTIONS[name]` of two operands, broadcast as in PyTorch; a constant operand is held by the module."""

    first: Tensor | None
    second: Tensor | None

    def __init__(self, name: str, first: Tensor | None = None, second: Tensor | None = None) -> None:
        super().__init__()
        self.name = name
        self.register_buffer("first", first)
        self.register_buffer("second", second)

    def forward(self, *inputs: Tensor) -> Tensor:
        """One tensor for each operand that is not constant, in order."""
        rest = iter(inputs)
        operands = [next(rest) if constant is None else constant for constant in (self.first, self.second)]
        return FUNCTIONS[self.name](*operands)


class Concat(nn.Module):
    """Tensors one after the other along `dim` (from 1)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, *inputs: Tensor) -> Tensor:
        """Tensors whose shapes differ in `dim` only."""
        return torch.cat(inputs, self.dim)


class Slice(nn.Module):
    """``x[:, index]``: one (start, stop, step) with step >= 1 for every dimension behind the batch."""

    def __init__(self, index: tuple[tuple[int, int, int], ...]) -> None:
        super().__init__()
        self.index = index

    def forward(self, x: Tensor) -> Tensor:
        """[N, ...] -> [N, ...] of the same rank."""
        index = (slice(None), *(slice(*part) for part in self.index))
        return x[index]


class Reshape(nn.Module):
    """The elements of every sample, in their order, under another shape."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        """[N, ...] -> [N, *shape]."""
        return x.reshape(len(x), *self.shape)


class Expand(nn.Module):
    """Repeated along dimensions of 1, as arithmetic does by itself: nothing else may read the result."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        """[N, ...] -> [N, *shape]."""
        return x.expand(len(x), *self.shape)


class Permute(nn.Module):
    """The dimensions in another order, the batch in front."""

    def __init__(self, order: tuple[int, ...]) -> None:
        super().__init__()
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        """The dimension `order[i]` of the input becomes dimension i."""
        return x.permute(self.order)


class Pad(nn.Module):
    """A border of one value: (before, after) >= 0 for every dimension behind the batch."""

    def __init__(self, widths: tuple[tuple[int, int], ...], value: float) -> None:
        super().__init__()
        self.widths = widths
        self.value = value

    def forward(self, x: Tensor) -> Tensor:
        """[N, ...] -> [N, ...] of the same rank."""
        flat = [width for pair in reversed(self.widths) for width in pair]
        return nn.functional.pad(x, flat, value=self.value)


class OverMap(nn.Module):
    """Mean ("mean") or maximum ("max") over height and width of [N, C, H, W]."""

    def __init__(self, name: str, *, keepdim: bool) -> None:
        super().__init__()
        self.name = name
        self.keepdim = keepdim

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, 1, 1] or [N, C]."""
        reduce = torch.mean if self.name == "mean" else torch.amax
        return reduce(x, (2, 3), keepdim=self.keepdim)
