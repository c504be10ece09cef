"""`onebit demo digits` end to end, with a short training on few images; everything behind it is as users get it."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from onebit.cli import demo_run
from onebit.cli.main import main
from onebit.cli.progress import Stages
from onebit.codegen import Generated
from onebit.core.datasets import Dataset, load_dataset
from onebit.core.pretrained import pretrained_names, pretrained_path
from onebit.simulate import harness, oracle

TABLE_WIDTH = 100

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True, scope="module")
def _no_foreign_data(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """No MNIST from this computer's folders: what a demo finds must not depend on them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ONEBIT_DATA_DIR", raising=False)
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


QUICK = """
import sys
import onebit.train.engine as engine
from onebit.cli import demo_run
from onebit.cli.main import main

load, held_out = engine.load_dataset, int(sys.argv.pop(1))
engine.load_dataset = lambda spec, **options: load(spec, **options).take(640 if spec.endswith(":train") else held_out)
demo_run.load_dataset = lambda spec, **options: load(spec, **options).take(held_out)
sys.exit(main(sys.argv[1:]))
"""
"""The command line, but there are only 640 images to train with, and as many held out as its first argument says."""


def start(folder: Path, held_out: int, *args: str) -> subprocess.Popen[str]:
    """``onebit demo ARGS`` as a process of its own."""
    command = [sys.executable, "-c", QUICK, str(held_out), "demo", *args]
    # torch is loaded before the command line could say so
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True)


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=240)
    return process.returncode, out, err


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    """One demo: its folder, its JSON object, its stderr."""
    folder = tmp_path_factory.mktemp("demo")
    code, out, err = finish(start(folder, 1000, "digits", "--epochs", "3", "--seed", "5", "--json"))
    assert code == 0, err
    return folder / "demo-digits", json.loads(out), err


Demo = tuple[Path, dict[str, Any], str]


def test_everything_compared_is_equal(demo: Demo) -> None:
    _, result, _ = demo
    assert result["ok"] is True
    for target, samples in (("host", 1000), ("cortex-m4", 100)):
        found = result["simulate"][target]
        assert (found["samples"], found["reference"]["engine"]) == (samples, "larq-compute-engine")
        assert found["outputs_equal"] == found["outputs_compared"] == 10 * samples
        compared = [layer for layer in found["layers"] if "eliminated_by" not in layer]
        assert len(compared) >= 9
        assert all(layer["outputs_equal"] == layer["outputs_compared"] > 0 for layer in compared)
    device = result["simulate"]["cortex-m4"]
    assert device["instructions"] >= sum(step["instructions"] for step in device["steps"])
    assert device["instructions"] == pytest.approx(sum(step["instructions"] for step in device["steps"]), rel=1e-3)
    assert result["simulate"]["host"]["instructions"] is None


def test_four_witnesses_in_order(demo: Demo) -> None:
    _, result, _ = demo
    chain = result["accuracy"]
    assert [witness["name"] for witness in chain] == ["PyTorch", "LCE interpreter", "host C", "Cortex-M4"]
    assert [witness["samples"] for witness in chain] == [1000, 1000, 1000, 100]
    assert chain[0]["accuracy"] == pytest.approx(result["train"]["accuracy"])
    assert chain[1]["accuracy"] == chain[2]["accuracy"]
    # int8 may cost a little; what it must not do is cost points
    assert chain[1]["accuracy"] > chain[0]["accuracy"] - 0.02
    assert chain[0]["accuracy"] > 0.4
    assert result["data"]["name"] == "mnist5k"
    assert "held out" in result["data"]["note"]


def test_files(demo: Demo) -> None:
    folder, result, err = demo
    assert {path.name for path in folder.iterdir()} == {
        "run", "digits.tflite", "host", "cortex-m4", "report.html", "results.json",
    }  # fmt: skip
    assert {path.name for path in (folder / "run").iterdir()} == {
        "model.pt", "run.json", "metrics.csv", "layers.csv", "curves.png", "last.ckpt",
    }  # fmt: skip
    for target in ("host", "cortex-m4"):
        assert set(result["generate"][target]["files"]) == {path.name for path in (folder / target).iterdir()}
    assert json.loads((folder / "results.json").read_text()) == result
    assert result["convert"]["verified"]["samples"] == 1000
    for stage in ("1/5 train", "2/5 convert", "3/5 generate", "4/5 simulate on host", "5/5 simulate on cortex-m4"):
        assert stage in err
    assert set(result["seconds"]) == {"train", "convert", "generate", "simulate on host", "simulate on cortex-m4"}


def test_the_report_tells_the_same_and_no_path_of_this_machine(demo: Demo) -> None:
    folder, result, _ = demo
    page = (folder / "report.html").read_text()
    device = result["simulate"]["cortex-m4"]
    for text in (f"{device['instructions']:,}", f"{device['arena_bytes']:,} B", device["model_sha256"], "Confusion"):
        assert text in page
    assert "onebit demo digits --epochs 3 --seed 5 --out demo-digits" in page
    assert str(folder.parent) not in page
    assert not re.search(r"https?:|<script|\bms\b|milliseconds", page)
    assert page.count("data:image/png;base64,") >= 10


def test_the_commands_of_the_report_write_the_same_model(demo: Demo, tmp_path: Path) -> None:
    folder, _, _ = demo
    out = tmp_path / "again.tflite"
    assert main(["convert", str(folder / "run" / "model.pt"), "--int8", "--out", str(out)]) == 0
    assert out.read_bytes() == (folder / "digits.tflite").read_bytes()


def test_a_second_demo_in_the_same_folder_is_refused(demo: Demo, capsys: pytest.CaptureFixture[str]) -> None:
    folder, _, _ = demo
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert main(["demo", "digits", "--epochs", "3", "--out", str(folder), "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert "already holds a run" in error["message"]
    assert "--resume" in error["fix"]
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_interrupted_then_resumed(tmp_path: Path) -> None:
    args = ("digits", "--epochs", "6", "--out", "d")
    process = start(tmp_path, 100, *args)
    deadline = time.monotonic() + 120
    while not (tmp_path / "d/run/last.ckpt").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    code, out, err = finish(process)
    assert (code, out) == (130, "")
    assert err.rstrip().endswith("interrupted")
    assert "Traceback" not in err
    assert {path.name for path in (tmp_path / "d").rglob("*")} <= {
        "run", "run.json", "metrics.csv", "layers.csv", "curves.png", "last.ckpt",
    }  # fmt: skip

    code, out, err = finish(start(tmp_path, 100, *args, "--resume"))
    assert code == 0, err
    assert len((tmp_path / "d/run/metrics.csv").read_text().splitlines()) == 1 + 6
    check_table(out)


def check_table(out: str) -> None:
    lines = out.splitlines()
    assert max(map(len, lines[:-1])) <= TABLE_WIDTH
    words = " ".join(out.replace("│", " ").split())
    for text in (
        *("PyTorch", "LCE interpreter", "host C", "Cortex-M4", "not the official test set"),
        *("elements compared", "elements equal", "eliminated: ", " by fold_sign_into_conv"),
        *("flash: weights", "flash: code", "RAM: arena", "lower bound", "RAM: stack", "instructions"),
        *("binary MACs", "other MACs", "share", "MAC/instr.", "ob_bconv2d", "sum", "no measure of time"),
        "Every compared element equals the LCE interpreter's",
    ):
        assert text in words, text
    assert not re.search(r"\bms\b|seconds", out)


# ------------------------------------------------------------------------------------- a trained model that is there


@pytest.fixture
def few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every data set is its first 100 images: these tests are not about accuracy."""

    def first(spec: str, **options: Any) -> Dataset:
        return load_dataset(spec, **options).take(100)

    monkeypatch.setattr(demo_run, "load_dataset", first)


@pytest.fixture
def shipped(demo: Demo, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The model of the short training stands in for the shipped one."""
    model = demo[0] / "digits.tflite"
    monkeypatch.setattr(demo_run, "pretrained_path", lambda _: model)
    return model


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., tuple[int, dict[str, Any], str]]:
    """``run(*options)``: exit code, JSON object and stderr of ``onebit demo digits`` into the folder ``d``."""

    def call(*options: str) -> tuple[int, dict[str, Any], str]:
        code = main(["demo", "digits", "--out", str(tmp_path / "d"), "--json", *options])
        out, err = capsys.readouterr()
        return code, json.loads(out), err

    return call


Call = Callable[..., tuple[int, dict[str, Any], str]]


def test_pretrained_without_mnist_says_what_the_images_are(run: Call, tmp_path: Path) -> None:
    assert "digits" in pretrained_names()
    code, result, _ = run("--pretrained")
    assert code == 0
    assert (tmp_path / "d/digits.tflite").read_bytes() == pretrained_path("digits").read_bytes()
    assert (result["data"]["name"], result["data"]["samples"]) == ("mnist5k", 1000)
    assert "may have seen these images" in result["data"]["note"]
    assert [witness["name"] for witness in result["accuracy"]] == ["LCE interpreter", "host C", "Cortex-M4"]
    assert result["accuracy"][1]["accuracy"] > 0.98
    assert (result["train"], result["convert"]) == (None, None)
    assert not (tmp_path / "d/run").exists()
    assert "may have seen these images" in (tmp_path / "d/report.html").read_text()


def write_idx(folder: Path, images: np.ndarray, labels: np.ndarray) -> None:
    folder.mkdir(parents=True)
    for name, array in (("images-idx3", images), ("labels-idx1", labels)):
        header = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
        (folder / f"t10k-{name}-ubyte").write_bytes(header + array.astype(np.uint8).tobytes())


def test_pretrained_takes_the_official_test_set_where_it_is(run: Call, shipped: Path, tmp_path: Path) -> None:
    some = load_dataset("mnist5k:test").take(120)
    assert some.y is not None
    write_idx(tmp_path / "data" / "mnist", some.x[..., 0], some.y)
    code, result, _ = run("--pretrained", "--data-dir", str(tmp_path / "data"))
    assert code == 0
    assert (result["data"]["name"], result["data"]["samples"]) == ("mnist", 120)
    assert "trained on the official training set only" in result["data"]["note"]
    assert "may have seen" not in result["data"]["note"]
    assert "--data-dir DATA" in (tmp_path / "d/report.html").read_text()


def test_fashion_runs_on_its_own_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random = np.random.default_rng(7)
    write_idx(tmp_path / "data" / "fashion_mnist", random.integers(0, 256, (60, 28, 28)), np.arange(60) % 10)
    out = tmp_path / "d"
    options = ["--pretrained", "--data-dir", str(tmp_path / "data"), "--emulated-samples", "50", "--out", str(out)]
    assert main(["demo", "fashion", *options, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (out / "fashion.tflite").read_bytes() == pretrained_path("fashion").read_bytes()
    assert (result["data"]["name"], result["data"]["samples"]) == ("fashion_mnist", 60)
    assert (out / "report.html").is_file()


@pytest.mark.parametrize("options", [["--pretrained"], []])
def test_a_demo_without_its_images_says_where_to_put_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    assert main(["demo", "cifar10", *options, "--out", str(tmp_path / "d"), "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert "cifar10" in error["message"]
    assert "--data-dir" in error["fix"]
    assert not (tmp_path / "d").exists()


def test_a_damaged_test_set_is_no_missing_one(run: Call, shipped: Path, tmp_path: Path) -> None:
    write_idx(tmp_path / "data" / "mnist", np.zeros((3, 28, 28)), np.zeros(3))
    damaged = tmp_path / "data" / "mnist" / "t10k-images-idx3-ubyte"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    code, result, _ = run("--pretrained", "--data-dir", str(tmp_path / "data"))
    assert (code, result["error"]["where"]) == (2, str(damaged))
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize("target", ["host", "cortex-m4"])
def test_a_wrong_weight_is_an_error_that_names_the_layer(
    run: Call, shipped: Path, few_images: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    real = demo_run.generate

    def planted(model: Path, chosen: str, out: Path) -> Generated:
        made = real(model, chosen, out)
        if chosen == target:
            file = out / "digits_weights.h"
            # all bits of the first word of the first binary convolution's filters
            changed = re.sub(
                r"(digits_02_filter\[\d+\] = \{\s*0x)([0-9A-F]{8})",
                lambda found: f"{found[1]}{int(found[2], 16) ^ 0xFFFFFFFF:08X}",
                file.read_text(),
            )
            assert changed != file.read_text()
            file.write_text(changed)
        return made

    monkeypatch.setattr(demo_run, "generate", planted)
    code, result, err = run("--pretrained")
    assert code == 1
    assert result["ok"] is False
    wrong = result["simulate"][target]
    layer = wrong["first_mismatch"]["layer"]
    assert layer == "body.0.1/sign"
    assert f"{layer} (LceBconv2d) differs first" in err
    page = (tmp_path / "d/report.html").read_text()
    assert 'class="verdict failed"' in page
    assert layer in page
    other = result["simulate"]["host" if target == "cortex-m4" else "cortex-m4"]
    assert other["first_mismatch"] is None


def test_pretrained_does_without_torch_and_larq(shipped: Path, tmp_path: Path) -> None:
    """onebit's own semantics stand in for the interpreter where they are asked for."""
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "sys.modules['torch'] = sys.modules['lightning'] = sys.modules['tensorflow'] = None\n"
        "from onebit.cli import demo_run\n"
        "from onebit.cli.main import main\n"
        "from onebit.simulate import oracle\n"
        "load = demo_run.load_dataset\n"
        "demo_run.load_dataset = lambda spec, **options: load(spec, **options).take(100)\n"
        "oracle._interpreter_library = lambda: None\n"
        f"demo_run.pretrained_path = lambda _: Path({str(shipped)!r})\n"
        "sys.exit(main(['demo', '--pretrained', '--reference', 'numpy', '--out', 'd', '--json']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["ok"] is True
    assert result["accuracy"][0]["name"] == "NumPy semantics"


def test_the_data_set_named_for_a_demo_is_its_recipes() -> None:
    from onebit.train import get_recipe

    for chain in demo_run.CHAINS.values():
        assert get_recipe(chain.recipe).dataset == chain.dataset


def test_old_kernels_in_the_folder_are_removed_and_other_files_stay(shipped: Path, tmp_path: Path) -> None:
    (tmp_path / "host").mkdir()
    old, mine = tmp_path / "host" / "ob_of_an_old_version.c", tmp_path / "host" / "notes.txt"
    old.write_text("#error old\n")
    mine.write_text("mine")
    options = demo_run.Options("digits", tmp_path)
    options.model.write_bytes(shipped.read_bytes())
    demo_run._generate(options, Stages(Console(file=io.StringIO()), 1))
    assert not old.exists()
    assert mine.read_text() == "mine"


# ---------------------------------------------------------------------------------------------------------- bad input


def refused(run: Call, *options: str, code: int = 2) -> dict[str, str]:
    found, result, _ = run(*options)
    assert found == code
    error: dict[str, str] = result["error"]
    return error


def test_an_unknown_demo(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["demo", "letters", "--out", str(tmp_path / "d")]) == 2
    assert "unknown demo 'letters'; known: digits" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_out_is_a_file(run: Call, tmp_path: Path) -> None:
    (tmp_path / "d").write_text("mine")
    assert "is a file" in refused(run)["message"]
    assert (tmp_path / "d").read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--emulated-samples", "49"), "greater than or equal to 50"),
        (("--emulated-samples", "1001"), "1001 samples cannot be chosen"),
        (("--pretrained", "--epochs", "3", "--resume"), "--epochs and --resume with --pretrained"),
        (("--compiler", "icc"), "icc"),
        (("--data-dir", "/nonexistent"), "no such folder"),
    ],
)
def test_options_that_cannot_be(run: Call, tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    assert message in refused(run, *options)["message"]
    assert list(tmp_path.iterdir()) == []


def test_without_the_interpreter(run: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oracle, "_interpreter_library", lambda: None)
    error = refused(run, code=3)
    assert (error["kind"], list(tmp_path.iterdir())) == ("tool_missing", [])
    assert "onebit[oracle]" in error["fix"]


def test_without_an_emulator(run: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for emulator in harness._EMULATORS.values():
        monkeypatch.setattr(emulator, "available", staticmethod(lambda: False))
    error = refused(run, code=3)
    assert (error["kind"], list(tmp_path.iterdir())) == ("tool_missing", [])
    assert "onebit[emulate]" in error["fix"]


def test_pip_alone_is_enough(run: Call, shipped: Path, few_images: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """No compiler and no emulator on the PATH: zig and unicorn from pip do."""
    monkeypatch.setenv("PATH", os.devnull)
    monkeypatch.delenv("CC", raising=False)
    code, result, _ = run("--pretrained", "--compiler", "zig", "--emulator", "unicorn")
    assert code == 0
    assert {result["simulate"][target]["compiler"].split()[0] for target in ("host", "cortex-m4")} == {"zig"}
    assert result["simulate"]["cortex-m4"]["emulator"] == "unicorn"
