"""A small residual binary network for 32x32x3 images: 8-bit input and output layers, binary 3x3 convolutions between.

Every binary convolution has a shortcut around it (Liu et al., "Bi-Real Net", 2018, arXiv 1808.00278); where the map
shrinks, the shortcut is a 2x2 mean whose channels are repeated instead of a real-valued 1x1 convolution, followed by
batch norm. A learned slope per channel (PReLU) follows each sum. The sums stay 8-bit on the device.

Resolution falls to 16x16 in the first binary layer: most multiplications then happen where channels are many, which is
where 32 of them fit a word.

Legend of shapes: NCHW here, [H, W, C] on the device.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - the name PyTorch's own documentation uses
from torch import Tensor, nn

from onebit.train.layers import QuantConv2d, SameConv2d


class ResidualBlock(nn.Module):
    """y = PReLU(BN(binary 3x3 convolution(x)) + shortcut(x)), `stride` 1 or 2.

    At stride 1 the shortcut is x; at stride 2 it is BN(2x2 mean of x), its channels repeated to `out_channels`, which
    must be a multiple of `in_channels`.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, *, quantizer: str) -> None:
        super().__init__()
        self.conv = QuantConv2d(in_channels, out_channels, 3, stride=stride, input_quantizer=quantizer)
        self.bn = nn.BatchNorm2d(out_channels)
        self.repeats = out_channels // in_channels
        self.shortcut_bn = nn.BatchNorm2d(out_channels) if stride == 2 else None
        self.act = nn.PReLU(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """[N, I, H, W] -> [N, O, H / stride, W / stride]."""
        shortcut = x
        if self.shortcut_bn is not None:
            shortcut = self.shortcut_bn(torch.cat([F.avg_pool2d(x, 2)] * self.repeats, dim=1))
        y: Tensor = self.act(self.bn(self.conv(x)) + shortcut)
        return y


class CifarNet(nn.Module):
    """32x32x3 -> 10 logits. `widths` and `depths` are channels and stride-1 blocks of the three resolutions.

    With the defaults:

    | layer | output | MACs | weights |
    |---|---|---|---|
    | conv 3x3, 8-bit | 32x32x32 | 884,736 | 864 bytes |
    | binary block, stride 2 | 16x16x64 | 4,718,592 | 2,304 bytes |
    | 4 binary blocks | 16x16x64 | 4 x 9,437,184 | 4 x 4,608 bytes |
    | binary block, stride 2 | 8x8x128 | 4,718,592 | 9,216 bytes |
    | binary block | 8x8x128 | 9,437,184 | 18,432 bytes |
    | mean over the map, dense, 8-bit | 10 | 1,280 | 1,280 bytes |
    """

    def __init__(
        self,
        *,
        widths: tuple[int, int, int] = (32, 64, 128),
        depths: tuple[int, int, int] = (0, 4, 1),
        quantizer: str = "approx_sign",
    ) -> None:
        super().__init__()
        first, last = widths[0], widths[-1]
        self.stem = nn.Sequential(SameConv2d(3, first, 3, bias=False), nn.BatchNorm2d(first), nn.PReLU(first))
        blocks: list[nn.Module] = []
        channels = first
        for width, depth in zip(widths, depths, strict=True):
            if blocks or width != first:
                blocks.append(ResidualBlock(channels, width, 2, quantizer=quantizer))
            blocks += [ResidualBlock(width, width, 1, quantizer=quantizer) for _ in range(depth)]
            channels = width
        self.body = nn.Sequential(*blocks)
        self.norm = nn.BatchNorm1d(last)
        self.dense = nn.Linear(last, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Images float32 [N, 3, H, W] as preprocessing leaves them, H and W multiples of 4 -> logits [N, 10]."""
        logits: Tensor = self.dense(self.norm(self.body(self.stem(x)).mean(dim=(2, 3))))
        return logits
