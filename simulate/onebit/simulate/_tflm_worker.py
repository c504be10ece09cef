"""Child process that runs models in TensorFlow Lite Micro's interpreter: ``python _tflm_worker.py``.

Messages on stdin and stdout are a length of 8 bytes, little endian, and an .npz archive. A request holds the bytes of
the `model`, `arena` (bytes), `outputs` (how many), and samples ``[N, ...]`` of every input: `input_0`, ... The answer
holds `output_0`, ..., or `refused` with the interpreter's reason. It crashes on some models it accepts, hence a process
of its own; as a script it imports nothing of onebit.
"""

from __future__ import annotations

import io
import sys
from typing import IO, Any

import numpy as np

Message = dict[str, Any]


def receive(stream: IO[bytes]) -> Message | None:
    """The next message, None at the end of the stream."""
    head = stream.read(8)
    if len(head) < 8:
        return None
    with np.load(io.BytesIO(stream.read(int.from_bytes(head, "little")))) as archive:
        return dict(archive)


def send(stream: IO[bytes], message: Message) -> None:
    """Write one message."""
    body = io.BytesIO()
    np.savez(body, **message)
    stream.write(len(body.getbuffer()).to_bytes(8, "little") + body.getbuffer())
    stream.flush()


def answer(runtime: Any, request: Message) -> Message:
    """Every output of the model, one row per sample; `runtime` is the interpreter's module."""
    inputs = [request[f"input_{i}"] for i in range(sum(key.startswith("input_") for key in request))]
    try:
        interpreter = runtime.Interpreter.from_bytes(request["model"].tobytes(), arena_size=int(request["arena"]))
        rows = []
        for sample in zip(*inputs, strict=True):
            for i, value in enumerate(sample):
                interpreter.set_input(value[np.newaxis], i)
            interpreter.invoke()
            rows.append([np.array(interpreter.get_output(i)) for i in range(int(request["outputs"]))])
    except (RuntimeError, ValueError) as error:
        return {"refused": np.array(str(error))}
    return {f"output_{i}": np.concatenate(column) for i, column in enumerate(zip(*rows, strict=True))}


def main() -> None:
    """Answer requests until stdin ends."""
    from tflite_micro.python.tflite_micro import runtime

    while (request := receive(sys.stdin.buffer)) is not None:
        send(sys.stdout.buffer, answer(runtime, request))


if __name__ == "__main__":
    main()
