"""``onebit inspect`` as a user reads it, and as a script does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from onebit.cli.main import main
from onebit.core import DType, write_model
from onebit.core.ops import Add
from support.nets import INT8_INPUT, Net


@pytest.fixture
def model(tmp_path: Path) -> str:
    """Two residual blocks and a float dense layer."""
    net = Net((1, 8, 8, 3), DType.INT8, INT8_INPUT).conv(32)
    for _ in range(2):
        shortcut = net.now.name
        net.quantize().bconv(32, to=DType.INT8)
        net.node(Add(), shortcut, dtype=DType.INT8, quant=net.now.quantization)
    path = tmp_path / "m.tflite"
    path.write_bytes(write_model(net.reshape(1, 2048).dense(10).graph()))
    return str(path)


def test_the_json_contract(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", model, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    promised = {"ops", "binary_macs", "other_macs", "weight_bytes", "arena_bytes"}
    assert promised <= set(found)
    for row in found["ops"]:
        assert {"index", "op", "inputs", "outputs", "macs", "binary", "why", "form", "instructions"} <= set(row)
    kinds = [(finding["kind"], finding["index"]) for finding in found["findings"]]
    assert kinds == [("surviving_sign", 1), ("surviving_sign", 4)]
    assert all(finding["fix"] and finding["instructions"] > 0 for finding in found["findings"])


def test_the_text_names_every_operator_and_joins_what_is_said_twice(
    model: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    assert main(["inspect", model]) == 0
    text = capsys.readouterr().out
    for word in ("CONV_2D", "LceBconv2d", "FULLY_CONNECTED", "int8 [1, 8, 8, 32]", "MACs", "% binary", "instructions"):
        assert word in text
    assert "What costs, and what to change in training" in text
    # the first sign is that of the convolution, the second that of a sum
    assert text.count("takes the sign of CONV_2D, in int8 because ADD reads it too") == 1
    assert text.count("change: nothing, if it is a shortcut") == 2


def test_a_model_of_bits_has_nothing_to_change(capsys: pytest.CaptureFixture[str]) -> None:
    from onebit.core.pretrained import pretrained_path

    assert main(["inspect", str(pretrained_path("digits"))]) == 0
    assert "What costs" not in capsys.readouterr().out
