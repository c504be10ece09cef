"""Binary and real-valued layers with TensorFlow's SAME padding.

Legend: N batch, C channels, H height, W width, O output channels, I input channels; tensors are NCHW, weights OIHW.

The converter reads the layers that have ``onebit_kind`` by duck typing, without importing this package. The protocol,
stable by contract:

| attribute | on | meaning |
|---|---|---|
| ``onebit_kind`` | all of them | "quant_conv2d", "quant_linear" or "same_conv2d" |
| ``input_quantizer`` | quant_* | callable applied to the input, with ``name`` and ``deploys_as`` (see quantizers) |
| ``kernel_quantizer`` | quant_* | the same for the weight |
| ``quantized_weight()`` | quant_* | the weight as -s or +s, OIHW or [out, in]; one s > 0 per output channel, often 1 |
| ``pad_mode`` | *_conv2d | "same" (TensorFlow's rule), "valid", or "symmetric" (PyTorch's rule) |
| ``padding`` | *_conv2d | with "symmetric": (rows, columns) on either side, as in `torch.nn.Conv2d`; else (0, 0) |
| ``pad_value`` | *_conv2d | what surrounds the input: 1 or 0 behind the sign (quant), 0 (real-valued) |
| ``kernel_size stride dilation groups in_channels out_channels`` | *_conv2d | as in `torch.nn.Conv2d` |
| ``in_features out_features`` | quant_linear | as in `torch.nn.Linear` |
| ``onebit_parts()`` | quant_* | modules to import instead: the bare layer, batch norms for what `PerChannel` adds |

Traced with torch.fx they are leaves: a tracer must return True from ``is_leaf_module`` for a module that has
``onebit_kind``. All other layers here consist of plain operations and are traced through.
"""

from onebit.train.layers.binary import (
    BinaryLayer,
    QuantConv2d,
    QuantLinear,
    WeightTransform,
    XnorConv2d,
    bake_weights,
    binary_layers,
    binary_weights,
)
from onebit.train.layers.padding import PAD_MODES, pad_around, same_padding
from onebit.train.layers.per_channel import PerChannel
from onebit.train.layers.real import (
    ChannelGate,
    ChannelPReLU,
    ChannelScale,
    ChannelShift,
    RepeatChannels,
    RPReLU,
    RSign,
    SameConv2d,
)

__all__ = [
    "PAD_MODES", "BinaryLayer", "ChannelGate", "ChannelPReLU", "ChannelScale", "ChannelShift", "PerChannel",
    "QuantConv2d", "QuantLinear", "RPReLU", "RSign", "RepeatChannels", "SameConv2d", "WeightTransform", "XnorConv2d",
    "bake_weights", "binary_layers", "binary_weights", "pad_around", "same_padding",
]  # fmt: skip
