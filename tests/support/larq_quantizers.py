"""Child process: what Larq's quantizers compute. Usage: larq_quantizers.py CASES.json INPUTS.npz RESULTS.npz

CASES.json lists [class name, arguments, input]; INPUTS.npz holds under each input's name x, and dy under ``dy:name``.
RESULTS.npz gets q(x) under ``q:i`` and the gradient for the incoming dy under ``dx:i`` for case number i.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import larq as lq
import numpy as np
import tensorflow as tf


def main() -> None:
    cases, inputs, results = map(Path, sys.argv[1:])
    found: dict[str, Any] = {}
    with np.load(inputs) as given:
        for number, (name, arguments, key) in enumerate(json.loads(cases.read_text())):
            x = tf.constant(given[key])
            with tf.GradientTape() as tape:
                tape.watch(x)
                q = getattr(lq.quantizers, name)(**arguments)(x)
            found[f"q:{number}"] = q.numpy()
            found[f"dx:{number}"] = tape.gradient(q, x, tf.constant(given[f"dy:{key}"])).numpy()
    np.savez(results, **found)


if __name__ == "__main__":
    main()
