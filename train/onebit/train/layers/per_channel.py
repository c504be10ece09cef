"""What a binary layer may have per channel besides its signs: thresholds in front, a scale and a bias behind.

Networks are built without them. Training methods set them (ReCU's scale, ER-BNN's threshold), and a checkpoint that
has them brings them along, so that it loads into the network that was built without.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

NAMES = ("input_threshold", "output_scale", "bias")


class PerChannel(nn.Module):
    """y = output_scale * layer(x - input_threshold) + bias, each [channels] of the layer's input or output, or None.

    A base class to be put in front of `nn.Conv2d` or `nn.Linear` with ``bias=False``. While a training method is at
    work, its `input_transform` acts behind the threshold.
    """

    input_transform: Callable[[Tensor], Tensor] | None = None
    input_threshold: nn.Parameter | None
    output_scale: nn.Parameter | None
    bias: Any  # nn.Parameter | None; torch declares it differently for each class

    def onebit_parts(self) -> list[nn.Module]:
        """Modules that compute one after the other, in eval mode, what this layer does."""
        bare: PerChannel = copy.deepcopy(self)
        bare.input_threshold = bare.output_scale = bare.bias = None
        parts: list[nn.Module] = [bare]
        if self.input_threshold is not None:
            parts.insert(0, self._affine(None, -self.input_threshold))
        if self.output_scale is not None or self.bias is not None:
            parts.append(self._affine(self.output_scale, self.bias))
        return parts

    def _thresholded(self, x: Tensor) -> Tensor:
        x = x if self.input_threshold is None else x - _spread(self.input_threshold, x)
        return x if self.input_transform is None else self.input_transform(x)

    def _scaled(self, y: Tensor) -> Tensor:
        y = y if self.output_scale is None else y * _spread(self.output_scale, y)
        return y if self.bias is None else y + _spread(self.bias, y)

    def _affine(self, scale: Tensor | None, shift: Tensor | None) -> nn.Module:
        """y = x * scale + shift per channel as a batch norm in eval mode; not both are None."""
        given = scale if shift is None else shift
        assert given is not None
        norm = (nn.BatchNorm2d if isinstance(self, nn.Conv2d) else nn.BatchNorm1d)(len(given), eps=0.0)
        with torch.no_grad():
            norm.weight.copy_(torch.ones_like(given) if scale is None else scale)
            norm.bias.copy_(torch.zeros_like(given) if shift is None else shift)
        return norm.eval()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for name in NAMES:
            stored = state_dict.get(prefix + name)
            if getattr(self, name) is None and isinstance(stored, Tensor):
                setattr(self, name, nn.Parameter(torch.zeros_like(stored)))
        super()._load_from_state_dict(state_dict, prefix, *args)


def _spread(value: Tensor, like: Tensor) -> Tensor:
    """`value` [C] in a shape that broadcasts over `like`, [N, C, H, W] or [N, C]."""
    return value[:, None, None] if like.ndim == 4 else value
