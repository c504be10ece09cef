"""Child process: small Keras and Larq models for the tests of conversion. Usage: keras_models.py FOLDER

For every model of `MODELS` it writes NAME.keras, NAME.raw.tflite (LCE's converter as it is), and NAME.npz: inputs x,
the model's results y, and under ``raw`` what LCE's interpreter makes of the raw file by default, or under ``refused``
why it does not. For t6 and t7 it also writes what LCE's converter makes in int8. For every entry of `FILES` it writes
what that entry writes.
"""

from __future__ import annotations

import json
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import larq as lq
import larq_compute_engine as lce
import numpy as np
import tensorflow as tf

layers = tf.keras.layers
SAMPLES = 16
BINARY = {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign", "use_bias": False}
ONE_PADDED = {**BINARY, "padding": "same", "pad_values": 1.0}


def sequential(shape: tuple[int | None, ...], *parts: Any, name: str | None = None) -> Any:
    return randomized(tf.keras.Sequential([layers.Input(shape), *parts], name=name))


def randomized(model: Any, seed: int = 3) -> Any:
    """Seeded weights; batch norms have gammas of either sign."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            size = layer.gamma.shape[0]
            gamma = rng.uniform(0.5, 1.5, size) * rng.choice([-1, 1], size)
            layer.set_weights([gamma, rng.normal(0, 0.3, size), rng.normal(0, 2, size), rng.uniform(1, 9, size)])
        else:
            layer.set_weights([rng.normal(0, 0.4, w.shape) for w in layer.get_weights()])
    return model


def head(classes: int = 5) -> list[Any]:
    return [layers.GlobalAveragePooling2D(), layers.Dense(classes)]


def conv_and_norm() -> list[Any]:
    return [lq.layers.QuantConv2D(64, 3, name="conv", **ONE_PADDED), layers.BatchNormalization(name="conv_norm")]


def dense_and_norm(units: int) -> list[Any]:
    return [
        lq.layers.QuantDense(units, name=f"dense_{units}", **BINARY), layers.BatchNormalization(name=f"norm_{units}")
    ]  # fmt: skip


def small() -> Any:
    """One of everything that is usual."""
    image = layers.Input((12, 12, 3), name="image")
    x = layers.Conv2D(32, 3, padding="same", use_bias=False, name="stem")(image)
    x = shortcut = layers.BatchNormalization(name="stem_norm")(x)
    x = lq.layers.QuantConv2D(32, 3, name="conv_1", **ONE_PADDED)(x)
    x = layers.Add(name="sum")([layers.BatchNormalization(name="norm_1")(x), shortcut])
    x = layers.PReLU(shared_axes=[1, 2], name="prelu")(x)
    x = lq.layers.QuantConv2D(32, 3, name="conv_2", activation="relu", **ONE_PADDED)(x)
    x = layers.MaxPool2D(2)(layers.BatchNormalization(name="norm_2")(x))
    x = lq.layers.QuantConv2D(40, 3, strides=2, name="conv_3", **ONE_PADDED)(x)
    x = layers.BatchNormalization(name="norm_3")(x)
    x = layers.Dense(10, name="classes")(layers.Flatten()(x))
    return randomized(tf.keras.Model(image, layers.Softmax()(x), name="small"))


def padded_sign() -> Any:
    """The sign, a border of +1 as tensor operation, and the strided convolution: what PyTorch's padding=1 becomes."""
    image = layers.Input((8, 8, 32))
    x = tf.pad(lq.quantizers.SteSign()(image), [[0, 0], [1, 1], [1, 1], [0, 0]], constant_values=1.0)
    x = lq.layers.QuantConv2D(16, 3, strides=2, kernel_quantizer="ste_sign", use_bias=False)(x)
    return randomized(tf.keras.Model(image, layers.GlobalAveragePooling2D()(x)))


def ties() -> Any:
    """Binary convolutions with zero padding, whose sums are often exactly 0 in front of the next sign."""
    conv = {**BINARY, "padding": "same"}
    norm = layers.BatchNormalization(epsilon=1e-12)
    model = sequential(
        (6, 6, 8), lq.layers.QuantConv2D(32, 3, **conv), norm, lq.layers.QuantConv2D(16, 3, **conv), *head()
    )  # fmt: skip
    norm.set_weights([np.ones(32), np.zeros(32), np.zeros(32), np.linspace(0.3, 5, 32)])
    return model


#: name -> model: the traps of LCE's converter, and what it does well
MODELS: dict[str, Callable[[], Any]] = {
    "small": small,
    "t1_float_3x3": lambda: sequential((8, 8, 3), layers.ZeroPadding2D(1), layers.Conv2D(8, 3, strides=2), *head()),
    "t1_float_7x7": lambda: sequential((16, 16, 3), layers.ZeroPadding2D(3), layers.Conv2D(8, 7, strides=2), *head()),
    "t1_depthwise": lambda: sequential(
        (8, 8, 3), layers.ZeroPadding2D(1), layers.DepthwiseConv2D(3, strides=2), *head()
    ),
    "t1_binary": padded_sign,
    "t1_binary_in_front": lambda: sequential(
        (8, 8, 32), layers.ZeroPadding2D(1), lq.layers.QuantConv2D(16, 3, strides=2, **BINARY), *head()
    ),
    "t2": lambda: sequential(
        (8, 8, 32),
        lq.layers.QuantConv2D(16, 3, name="ternary", **{**BINARY, "input_quantizer": lq.quantizers.SteTern(0.5)}),
        *head(),
    ),
    "t3": ties,
    "t4": lambda: sequential((4, 4, 64), *conv_and_norm(), layers.Flatten(), *dense_and_norm(10)),
    "t4_without": lambda: sequential((4, 4, 64), *conv_and_norm(), layers.Flatten()),
    "t4_twice": lambda: sequential(
        (4, 4, 64), *conv_and_norm(), layers.Flatten(), *dense_and_norm(48), *dense_and_norm(5)
    ),
    "t5": lambda: sequential(
        (8, 8, 3), layers.Conv2D(64, 1), lq.layers.QuantConv2D(64, 3, groups=2, **ONE_PADDED), *head()
    ),
    "t6": lambda: sequential(
        (6, 6, 3), layers.Conv2D(32, 3, padding="same"), lq.layers.QuantConv2D(32, 3, padding="same", **BINARY),
        layers.BatchNormalization(), *head(),
    ),
    "t7": lambda: sequential(
        (6, 6, 3), layers.Conv2D(32, 3, padding="same"), lq.layers.QuantConv2D(32, 3, **ONE_PADDED),
        layers.BatchNormalization(), *head(),
    ),
    "default_names": lambda: sequential(
        (4, 4, 64), *conv_and_norm(), layers.Flatten(), lq.layers.QuantDense(10, **BINARY), layers.BatchNormalization()
    ),
    "heaviside": lambda: sequential(
        (6, 6, 8), lq.layers.QuantConv2D(8, 3, name="steps", **{**BINARY, "input_quantizer": "ste_heaviside"}), *head()
    ),
    "dorefa": lambda: sequential(
        (6, 6, 8),
        lq.layers.QuantConv2D(
            8, 3, name="one_bit", **{**BINARY, "kernel_quantizer": lq.quantizers.DoReFa(1, mode="weights")}
        ),
        lq.layers.QuantConv2D(
            8, 3, name="two_bits", **{**BINARY, "kernel_quantizer": lq.quantizers.DoReFa(2, mode="weights")}
        ),
        *head(),
    ),
    "scaled": lambda: sequential(
        (6, 6, 8), lq.layers.QuantConv2D(8, 3, **{**BINARY, "kernel_quantizer": "magnitude_aware_sign"}), *head()
    ),
    "separable": lambda: sequential(
        (6, 6, 8),
        lq.layers.QuantSeparableConv2D(
            8, 3, name="separable", input_quantizer="ste_sign", depthwise_quantizer="ste_sign",
            pointwise_quantizer="ste_sign",
        ),
        *head(),
    ),
}  # fmt: skip


# ---------------------------------------------------------------------------------------------------- files for errors


def keras_file(make: Callable[[], Any]) -> Callable[[Path], None]:
    return lambda path: make().save(path.with_suffix(".keras"))


def with_weight(value: float) -> Any:
    model = sequential((4, 4, 1), layers.Conv2D(4, 3, name="broken"), *head())
    kernel, bias = model.get_layer("broken").get_weights()
    kernel[0, 0, 0, 2] = value
    model.get_layer("broken").set_weights([kernel, bias])
    return model


def two_inputs() -> Any:
    a, b = layers.Input((4,), name="left"), layers.Input((4,), name="right")
    return tf.keras.Model([a, b], layers.Dense(2)(layers.Add()([a, b])))


def two_outputs() -> Any:
    a = layers.Input((4,))
    return tf.keras.Model(a, [layers.Dense(2, name="one")(a), layers.Dense(3, name="two")(a)])


def mixed_precision() -> Any:
    return tf.keras.Sequential([layers.Input((4,)), layers.Dense(3, dtype="mixed_float16", name="half")])


def not_binary() -> Any:
    quantizers = {"input_quantizer": "ste_sign", "kernel_quantizer": lq.quantizers.NoOp(precision=1)}
    return sequential((4, 4, 3), lq.layers.QuantConv2D(4, 3, name="claims", use_bias=False, **quantizers), *head())


def batch_dependent() -> Any:
    quantizers = {"input_quantizer": "magnitude_aware_sign", "kernel_quantizer": "ste_sign"}
    return sequential((4, 4, 3), lq.layers.QuantConv2D(4, 3, name="batchwise", use_bias=False, **quantizers), *head())


def with_lambda() -> Any:
    return sequential((4, 4, 3), layers.Lambda(lambda x: x * 2, name="code"), *head())


def names_a_module(path: Path) -> None:
    """A file whose configuration names a function of the operating system where a layer is expected."""
    sequential((4,), layers.Dense(2, name="plain")).save(path.with_suffix(".keras"))
    with zipfile.ZipFile(path.with_suffix(".keras")) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    config["config"]["layers"][-1] |= {"module": "subprocess", "class_name": "Popen", "registered_name": "Popen"}
    members["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path.with_suffix(".keras"), "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def with_pickled_weights(path: Path) -> None:
    sequential((4,), layers.Dense(2)).save(path.with_suffix(".keras"))
    with zipfile.ZipFile(path.with_suffix(".keras"), "a") as archive:
        archive.writestr("model.weights.npz", b"")


def runs_python(path: Path) -> None:
    class Module(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.float32)])
        def call(self, x: Any) -> Any:
            y = tf.py_function(lambda v: v * 2, [x], tf.float32)
            return tf.ensure_shape(y, (None, 4))

    module = Module()
    tf.saved_model.save(module, str(path), signatures=module.call)


def writes_a_file(path: Path) -> None:
    """A SavedModel that overwrites a file when it is run, by the operation that saves variables."""

    class Module(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.float32)])
        def call(self, x: Any) -> Any:
            tf.raw_ops.SaveV2(
                prefix=str(path.parent / "written"), tensor_names=["x"], shape_and_slices=[""], tensors=[x]
            )
            return x * 2

    module = Module()
    tf.saved_model.save(module, str(path), signatures=module.call)


def keras_3() -> Any:
    import keras

    parts = [keras.layers.ZeroPadding2D(1), keras.layers.Conv2D(8, 3, strides=2), keras.layers.GlobalAveragePooling2D()]
    return keras.Sequential([keras.layers.Input((8, 8, 3)), *parts])


FILES: dict[str, Callable[[Path], Any]] = {
    "small.h5": lambda path: small().save(path),
    "small_saved": lambda path: small().save(path, save_format="tf"),
    "keras_3": keras_file(keras_3),
    "keras_3.h5": lambda path: keras_3().save(path),
    "keras_3_saved": lambda path: keras_3().export(path),
    "writes_saved": writes_a_file,
    "nan": keras_file(lambda: with_weight(np.nan)),
    "infinite": keras_file(lambda: with_weight(np.inf)),
    "two_inputs": keras_file(two_inputs),
    "two_outputs": keras_file(two_outputs),
    "two_outputs_saved": lambda path: two_outputs().save(path, save_format="tf"),
    "dynamic": keras_file(lambda: sequential((None, None, 3), layers.Conv2D(4, 3), *head())),
    "dynamic_saved": lambda path: sequential((None, None, 3), layers.Conv2D(4, 3), *head()).save(
        path, save_format="tf"
    ),
    "batch_of_4": keras_file(lambda: tf.keras.Sequential([layers.Input((4,), batch_size=4), layers.Dense(2)])),
    "integers": keras_file(lambda: tf.keras.Sequential([layers.Input((4,), dtype="int32"), layers.Embedding(9, 2)])),
    "unbuilt": keras_file(lambda: tf.keras.Sequential([layers.Dense(2)])),
    "mixed_precision": keras_file(mixed_precision),
    "not_binary": keras_file(not_binary),
    "batch_dependent": keras_file(batch_dependent),
    "erf": keras_file(lambda: tf.keras.Sequential([layers.Input((4,)), layers.Dense(3, activation="gelu")])),
    "conv3d": keras_file(lambda: sequential((4, 4, 4, 2), layers.Conv3D(3, 2), layers.Flatten(), layers.Dense(2))),
    "lambda": keras_file(with_lambda),
    "lambda.h5": lambda path: with_lambda().save(path),
    "module": names_a_module,
    "pickled": with_pickled_weights,
    "python_saved": runs_python,
    "weights.h5": lambda path: small().save_weights(path),
}


def main() -> None:
    folder = Path(sys.argv[1])
    for name, make in MODELS.items():
        write(folder, name, make())
    write_raw_int8(folder, "t6", with_ranges())
    # what it offers without training: one range for all tensors
    write_raw_int8(folder, "t7", MODELS["t7"](), experimental_default_int8_range=(-3.0, 3.0))
    for name, save in FILES.items():
        save(folder / name)


def with_ranges() -> Any:
    """The model t6 with the ranges that quantization-aware training would have learned."""

    def ranged(limit: float) -> Any:
        return layers.Lambda(lambda x: tf.quantization.fake_quant_with_min_max_vars(x, -limit, limit))

    return sequential(
        (6, 6, 3), ranged(4), layers.Conv2D(32, 3, padding="same"), ranged(8),
        lq.layers.QuantConv2D(32, 3, padding="same", **BINARY), layers.BatchNormalization(), ranged(16),
        layers.GlobalAveragePooling2D(), ranged(8), layers.Dense(5), ranged(16),
    )  # fmt: skip


def write_raw_int8(folder: Path, name: str, model: Any, **options: Any) -> None:
    """LCE's converter as it is, to int8: NAME.raw_int8.tflite, and .npz with the real values of its results."""
    raw = lce.convert_keras_model(model, inference_input_type=tf.int8, inference_output_type=tf.int8, **options)
    (folder / f"{name}.raw_int8.tflite").write_bytes(raw)
    found: dict[str, Any] = {}
    try:
        interpreter = lce.testing.Interpreter(raw)
        x = np.load(folder / f"{name}.npz")["x"]
        (scale,), (zero,) = interpreter.input_scales, interpreter.input_zero_points
        steps = np.clip(np.rint(x / scale) + zero, -128, 127).astype(np.int8)
        (scale,), (zero,) = interpreter.output_scales, interpreter.output_zero_points
        found["raw"] = scale * (interpreter.predict(steps).astype(np.float64) - zero)
    except RuntimeError as error:
        found["refused"] = np.array(str(error))
    np.savez(folder / f"{name}.raw_int8.npz", **found)


def write(folder: Path, name: str, model: Any) -> None:
    model.save(folder / f"{name}.keras")
    raw = lce.convert_keras_model(model)
    (folder / f"{name}.raw.tflite").write_bytes(raw)
    x = np.random.default_rng(5).normal(0, 1, (SAMPLES, *model.input_shape[1:])).astype(np.float32)
    found = {"x": x, "y": model(x, training=False).numpy()}
    try:
        found["raw"] = lce.testing.Interpreter(raw).predict(x)
    except RuntimeError as error:
        found["refused"] = np.array(str(error))
    np.savez(folder / f"{name}.npz", **found)


if __name__ == "__main__":
    main()
