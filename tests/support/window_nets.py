"""Nets that reach every kernel of DEPTHWISE_CONV_2D, AVERAGE_POOL_2D, MEAN and REDUCE_MAX."""

from __future__ import annotations

from onebit.core import DType, Quantization
from onebit.core.ops import Activation, Mean, Padding, ReduceMax
from support.nets import INT8_INPUT, Net


def _image(dtype: DType, *shape: int) -> Net:
    return Net(shape, dtype, INT8_INPUT if dtype is DType.INT8 else None)


def depthwise(dtype: DType) -> Net:
    """Channel counts that are and are not multiples of eight and four, every way to leave the image."""
    net = _image(dtype, 1, 9, 8, 16)
    net.depthwise(activation=Activation.RELU).depthwise(2, stride=(2, 2)).depthwise(1, (2, 5), dilation=(2, 1))
    net.conv(13, (1, 1)).depthwise(padding=Padding.VALID)
    net.depthwise(3, (2, 2), stride=(2, 1), activation=Activation.RELU6)
    return net.depthwise(1, (4, 4), dilation=(3, 3))


def averages(dtype: DType) -> Net:
    """Clipped and full windows, and a fused activation."""
    net = _image(dtype, 1, 9, 10, 5).average((3, 3), (1, 2), Padding.SAME).average((2, 3), (2, 1))
    return net.average((2, 2), (3, 3), Padding.SAME, Activation.RELU6)


def reductions(dtype: DType) -> Net:
    """Outer, middle and last axes; both int8 forms of MEAN, with and without a rest behind 16 channels."""
    quant = Quantization.per_tensor(1 / 200, -100) if dtype is DType.INT8 else None
    net = _image(dtype, 1, 6, 5, 4, 21).reduce(ReduceMax(), (1,)).reduce(Mean(), (1,), quant)
    net.reshape(1, 2, 2, 21).reduce(Mean(keep_dims=True), (2, 1), INT8_INPUT if quant else None)
    return net.reduce(Mean(keep_dims=True), (-3,), quant).reduce(ReduceMax(keep_dims=True), (1, 2)).reduce(Mean(), (3,))


def every_window(dtype: DType) -> Net:
    """One of each operator."""
    net = _image(dtype, 1, 6, 6, 3).depthwise(2, stride=(2, 1), dilation=(1, 2)).average().depthwise(1, (1, 2))
    return net.reduce(ReduceMax(keep_dims=True), (2,)).reduce(Mean())
