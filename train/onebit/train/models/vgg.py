"""Chains without shortcuts: VGG-Small, BinaryNet, BinaryAlexNet and SmallCifar. Only bits between first layer and head.

Legend: C channels, H height, W width; `input_shape` is (C, H, W), logits are [N, classes].
"""

from __future__ import annotations

from torch import nn

from onebit.train.models.blocks import binary_block, binary_head, flat_features, real_conv

Shape = tuple[int, int, int]


def _vgg_body(input_shape: Shape, widths: tuple[int, ...], quantizer: str) -> nn.Sequential:
    """Two convolutions per width, a 2x2 max pool behind the second; the first of all is real-valued."""
    layers: list[nn.Module] = [real_conv(input_shape[0], widths[0])]
    channels = widths[0]
    for i, width in enumerate(widths):
        if i > 0:
            layers.append(binary_block(channels, width, quantizer=quantizer))
        layers.append(binary_block(width, width, quantizer=quantizer, pool=True))
        channels = width
    return nn.Sequential(*layers)


def vgg_small(
    input_shape: Shape = (3, 32, 32),
    classes: int = 10,
    *,
    widths: tuple[int, ...] = (32, 64, 128),
    quantizer: str = "ste_sign",
) -> nn.Sequential:
    """VGG-Small: 3x3 convolutions, two per width, and one real-valued dense layer. The paper's widths: 128, 256, 512.

    Source: Zhang, Yang, Ye, Hua, "LQ-Nets", 2018 (arXiv 1807.10029), binarized.
    """
    body = _vgg_body(input_shape, widths, quantizer)
    return nn.Sequential(body, nn.Flatten(), nn.Linear(flat_features(body, input_shape), classes))


def binarynet(
    input_shape: Shape = (3, 32, 32),
    classes: int = 10,
    *,
    widths: tuple[int, ...] = (32, 64, 128),
    hidden: tuple[int, ...] = (256, 256),
    quantizer: str = "ste_sign",
) -> nn.Sequential:
    """BinaryNet: 3x3 convolutions, two per width, and binary dense layers. The paper's: 128, 256, 512; 1024, 1024.

    Source: Hubara, Courbariaux, Soudry, El-Yaniv, Bengio, "Binarized Neural Networks", 2016 (arXiv 1602.02830).
    """
    body = _vgg_body(input_shape, widths, quantizer)
    head = binary_head(flat_features(body, input_shape), hidden, classes, quantizer=quantizer)
    return nn.Sequential(body, head)


def small_cifar(
    input_shape: Shape = (3, 32, 32),
    classes: int = 10,
    *,
    widths: tuple[int, int, int] = (32, 32, 64),
    quantizer: str = "ste_sign",
) -> nn.Sequential:
    """Three 5x5 convolutions, each with a 2x2 max pool, and a binary dense layer: 3-32-32-64, 1024-10.

    The network of Arm's CMSIS-NN example for CIFAR-10 (Lai, Suda, Chandra, 2018, arXiv 1801.06601), binarized.
    """
    first, second, third = widths
    body = nn.Sequential(
        real_conv(input_shape[0], first, 5, pool=nn.MaxPool2d(2)),
        binary_block(first, second, 5, quantizer=quantizer, pool=True),
        binary_block(second, third, 5, quantizer=quantizer, pool=True),
    )
    return nn.Sequential(body, binary_head(flat_features(body, input_shape), (), classes, quantizer=quantizer))


def binary_alexnet(
    input_shape: Shape = (3, 32, 32),
    classes: int = 10,
    *,
    widths: tuple[int, int, int, int, int] = (32, 64, 96, 96, 64),
    hidden: tuple[int, ...] = (256, 256),
    first_kernel: int = 5,
    first_stride: int = 1,
    quantizer: str = "ste_sign",
) -> nn.Sequential:
    """AlexNet with overlapping 3x3 max pools. The paper's: 64, 192, 384, 384, 256; 4096, 4096; first 11x11, stride 4.

    Source: Krizhevsky, "One weird trick for parallelizing CNNs", 2014 (arXiv 1404.5997), binarized as in Larq Zoo.
    """
    one, two, three, four, five = widths
    body = nn.Sequential(
        real_conv(input_shape[0], one, first_kernel, stride=first_stride, pool=nn.MaxPool2d(3, 2)),
        binary_block(one, two, 5, quantizer=quantizer, pool=nn.MaxPool2d(3, 2)),
        binary_block(two, three, quantizer=quantizer),
        binary_block(three, four, quantizer=quantizer),
        binary_block(four, five, quantizer=quantizer, pool=nn.MaxPool2d(3, 2)),
    )
    return nn.Sequential(body, binary_head(flat_features(body, input_shape), hidden, classes, quantizer=quantizer))
