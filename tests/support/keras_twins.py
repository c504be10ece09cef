"""Child process: architectures of `onebit.train.models` in Keras and Larq, with PyTorch's weights.

Usage: keras_twins.py FOLDER NAME... reads FOLDER/NAME.npz, a state dict, and writes FOLDER/NAME.keras. The path of a
weight in the state dict (``3.body.0``) is the name of the Keras layer; how often a part is repeated follows from the
paths that there are. Images are 32x32x3.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import larq as lq
import numpy as np
import tensorflow as tf

layers = tf.keras.layers
PARTS = ("weight", "bias", "running_mean", "running_var")


class Twin:
    """Layers with weights of a state dict; each method applies the layer at `path` to a map."""

    def __init__(self, state: dict[str, Any]) -> None:
        self.state = state
        self.made: list[tuple[Any, str]] = []

    def __contains__(self, path: str) -> bool:
        return f"{path}.weight" in self.state

    def _apply(self, layer: Any, path: str, x: Any) -> Any:
        self.made.append((layer, path))
        return layer(x)

    def conv(self, path: str, x: Any, stride: int = 1) -> Any:
        out, _, size, _ = self.state[f"{path}.weight"].shape
        layer = layers.Conv2D(out, size, strides=stride, padding="same", use_bias=False, name=path)
        return self._apply(layer, path, x)

    def depthwise(self, path: str, x: Any) -> Any:
        layer = layers.DepthwiseConv2D(3, strides=2, padding="same", use_bias=False, name=path)
        return self._apply(layer, path, x)

    def binary(self, path: str, x: Any, quantizer: str, stride: int = 1) -> Any:
        out, _, size, _ = self.state[f"{path}.weight"].shape
        layer = lq.layers.QuantConv2D(
            out, size, strides=stride, padding="same", pad_values=1.0, use_bias=False, name=path,
            input_quantizer=quantizer, kernel_quantizer="ste_sign", kernel_constraint="weight_clip",
        )  # fmt: skip
        return self._apply(layer, path, x)

    def norm(self, path: str, x: Any) -> Any:
        return self._apply(layers.BatchNormalization(epsilon=1e-5, name=path), path, x)

    def dense(self, path: str, x: Any) -> Any:
        return self._apply(layers.Dense(len(self.state[f"{path}.bias"]), name=path), path, x)

    def set_weights(self) -> None:
        for layer, path in self.made:
            layer.set_weights(
                [self._in_keras_order(layer, path, part) for part in PARTS if f"{path}.{part}" in self.state]
            )

    def _in_keras_order(self, layer: Any, path: str, part: str) -> Any:
        value = self.state[f"{path}.{part}"]
        if value.ndim == 4:
            return (
                value.transpose(2, 3, 0, 1)
                if isinstance(layer, layers.DepthwiseConv2D)
                else value.transpose(2, 3, 1, 0)
            )
        return value.T if value.ndim == 2 else value


def vgg_small(twin: Twin, x: Any) -> Any:
    x = twin.norm("0.0.1", twin.conv("0.0.0", x))
    block = 1
    while f"0.{block}.0" in twin:
        x = twin.norm(f"0.{block}.1", twin.binary(f"0.{block}.0", x, "ste_sign"))
        if block % 2 == 1:
            x = layers.MaxPool2D(2)(x)
        block += 1
    height, width, channels = x.shape[1:]
    # torch flattens C, H, W
    weight = twin.state["2.weight"].reshape(-1, channels, height, width)
    twin.state["2.weight"] = weight.transpose(0, 2, 3, 1).reshape(len(weight), -1)
    return twin.dense("2", layers.Flatten()(x))


def bireal_resnet(twin: Twin, x: Any) -> Any:
    x = twin.norm("0.1", twin.conv("0.0", x))
    block = 1
    while f"{block}.body.0" in twin:
        stride = 2 if f"{block}.shortcut.2" in twin else 1
        y = twin.norm(f"{block}.body.1", twin.binary(f"{block}.body.0", x, "approx_sign", stride))
        if stride == 2:
            pooled = layers.AveragePooling2D(2)(x)
            repeated = layers.Concatenate()([pooled] * (y.shape[-1] // x.shape[-1]))
            x = twin.norm(f"{block}.shortcut.2", repeated)
        x = layers.Add()([y, x])
        block += 1
    return twin.dense(f"{block}.2", layers.GlobalAveragePooling2D()(x))


def quicknet(twin: Twin, x: Any) -> Any:
    x = layers.ReLU()(twin.norm("0.1", twin.conv("0.0", x)))
    x = twin.norm("1.1", twin.depthwise("1.0", x))
    x = twin.norm("2.1", twin.conv("2.0", x))
    block = 3
    while f"{block}.body.0" in twin or (f"{block}.2" in twin and f"{block}.3.0" in twin):
        if f"{block}.body.0" in twin:
            y = layers.ReLU()(twin.binary(f"{block}.body.0", x, "ste_sign"))
            x = layers.Add()([twin.norm(f"{block}.body.2", y), x])
        else:
            x = layers.MaxPool2D(2, strides=1)(layers.ReLU()(x))
            x = twin.norm(f"{block}.3.1", twin.conv(f"{block}.3.0", twin.depthwise(f"{block}.2", x)))
        block += 1
    return twin.dense(f"{block + 1}.2", layers.GlobalAveragePooling2D()(layers.ReLU()(x)))


TWINS = {
    "vgg-small": vgg_small,
    "bireal-resnet8": bireal_resnet,
    "bireal-resnet20": bireal_resnet,
    "quicknet": quicknet,
}


def main() -> None:
    folder, *names = sys.argv[1:]
    for name in names:
        with np.load(Path(folder, f"{name}.npz")) as archive:
            twin = Twin(dict(archive))
        image = layers.Input((32, 32, 3))
        model = tf.keras.Model(image, TWINS[name](twin, image))
        twin.set_weights()
        model.save(Path(folder, f"{name}.keras"))


if __name__ == "__main__":
    main()
