"""Child process: DigitsNet built in Keras and Larq from PyTorch's weights, converted by larq_compute_engine.

Usage: larq_twin.py WEIGHTS.npz FLOAT.tflite INT8.tflite

WEIGHTS.npz holds PyTorch's state dict, and under ``range:input``, ``range:first`` and ``range:logits`` the real ranges
(low, high) of the int8 tensors: input, first batch norm, logits.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import larq as lq
import larq_compute_engine as lce
import numpy as np
import tensorflow as tf

layers = tf.keras.layers
Weights = dict[str, Any]


def fake_quant(x: Any, low_high: Any) -> Any:
    low, high = (float(v) for v in low_high)
    return layers.Lambda(lambda t: tf.quantization.fake_quant_with_min_max_vars(t, low, high, num_bits=8))(x)


def build(weights: Weights, *, int8: bool) -> Any:
    def binary(x: Any, name: str, kernel: tuple[int, int], padding: str) -> Any:
        filters = weights[f"{name}.weight"]
        options = {"pad_values": 1.0} if padding == "same" else {}
        layer = lq.layers.QuantConv2D(
            len(filters), kernel, padding=padding, use_bias=False, name=name.replace(".", "_"),
            input_quantizer="ste_sign", kernel_quantizer="ste_sign", **options,
        )  # fmt: skip
        return layer(x)

    def norm(x: Any, name: str) -> Any:
        return layers.BatchNormalization(epsilon=1e-5, name=name.replace(".", "_"))(x)

    image = x = layers.Input((28, 28, 1), batch_size=1)
    if int8:
        x = fake_quant(x, weights["range:input"])
    x = layers.Conv2D(32, 3, padding="same", use_bias=False, name="stem_0")(x)
    x = norm(x, "stem.1")
    if int8:
        x = fake_quant(x, weights["range:first"])
    x = layers.MaxPool2D(2)(x)
    for block, pool in ((0, True), (1, False), (2, True)):
        x = norm(binary(x, f"body.{block}.0", (3, 3), "same"), f"body.{block}.1")
        x = layers.MaxPool2D(2)(x) if pool else x
    # a dense layer behind a flattened map is a convolution as large as the map
    x = norm(binary(x, "head.1", (3, 3), "valid"), "head.2")
    x = norm(binary(x, "head.3", (1, 1), "valid"), "head.4")
    if int8:
        x = fake_quant(x, weights["range:logits"])
    # [1, 1, 1, 10]: behind a reshape LCE's converter leaves the last convolution in float
    model = tf.keras.Model(image, x)
    for layer in model.layers:
        set_weights(layer, weights)
    return model


def set_weights(layer: Any, weights: Weights) -> None:
    name = layer.name.replace("_", ".")
    if isinstance(layer, layers.BatchNormalization):
        layer.set_weights([weights[f"{name}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")])
    elif f"{name}.weight" in weights:
        kernel = weights[f"{name}.weight"]
        if kernel.ndim == 2:  # dense: torch flattens C, H, W
            height, width = layer.kernel_size
            kernel = kernel.reshape(len(kernel), -1, height, width)
        layer.set_weights([kernel.transpose(2, 3, 1, 0)])


def main() -> None:
    source, float_file, int8_file = map(Path, sys.argv[1:])
    with np.load(source) as archive:
        weights = dict(archive)
    float_file.write_bytes(lce.convert_keras_model(build(weights, int8=False)))
    int8_file.write_bytes(
        lce.convert_keras_model(build(weights, int8=True), inference_input_type=tf.int8, inference_output_type=tf.int8)
    )


if __name__ == "__main__":
    main()
