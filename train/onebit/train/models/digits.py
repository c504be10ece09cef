"""A fully binary CNN for 28x28x1 images: 8-bit input layer, binary 3x3 convolutions, binary dense layers.

Order of operations. In PyTorch a binary layer takes the sign of its own input, so a block reads
conv - batch norm - max pool - (sign inside the next layer). The sign is monotone and max picks one of its operands,
hence sign(max(a, b)) == max(sign(a), sign(b)) exactly, for every value and either sign of the batch norm's gamma: the
batch norm sits before the pool, never behind it. The converter therefore moves the sign in front of the pool, and the
device runs conv - batch norm - sign - pool, in which convolution, batch norm and sign are one integer threshold and the
pool is an OR of packed bits. No real number is left between the first layer's output and the logits.

Legend of shapes: NCHW here, [H, W, C] on the device.
"""

from __future__ import annotations

from torch import Tensor, nn

from onebit.train.layers import QuantLinear, SameConv2d
from onebit.train.models.blocks import binary_block


class DigitsNet(nn.Module):
    """28x28x1 -> 10 logits.

    | layer | output | MACs | weights |
    |---|---|---|---|
    | conv 3x3, 8-bit, pool 2x2 | 14x14x32 | 225,792 | 288 bytes |
    | binary conv 3x3, pool 2x2 | 7x7x32 | 1,806,336 | 1,152 bytes |
    | binary conv 3x3 | 7x7x64 | 903,168 | 2,304 bytes |
    | binary conv 3x3, pool 2x2 | 3x3x64 | 1,806,336 | 4,608 bytes |
    | binary dense | 64 | 36,864 | 4,608 bytes |
    | binary dense | 10 | 640 | 80 bytes |

    95 % of the 4.8 million MACs are binary. Channel counts are multiples of 32, so that no bit of a word is wasted.
    """

    def __init__(self, *, quantizer: str = "ste_sign") -> None:
        super().__init__()
        # Zero padding is background: preprocessing maps pixel 0 to 0.0.
        self.stem = nn.Sequential(
            SameConv2d(1, 32, 3, padding="same", bias=False),
            nn.BatchNorm2d(32),
            nn.MaxPool2d(2),
        )
        self.body = nn.Sequential(
            binary_block(32, 32, quantizer=quantizer, pool=True),
            binary_block(32, 64, quantizer=quantizer, pool=False),
            binary_block(64, 64, quantizer=quantizer, pool=True),
        )
        self.head = nn.Sequential(
            nn.Flatten(),
            QuantLinear(3 * 3 * 64, 64, input_quantizer=quantizer),
            nn.BatchNorm1d(64),
            QuantLinear(64, 10, input_quantizer=quantizer),
            nn.BatchNorm1d(10),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Images float32 [N, 1, 28, 28] as preprocessing leaves them -> logits float32 [N, 10]."""
        logits: Tensor = self.head(self.body(self.stem(x)))
        return logits
