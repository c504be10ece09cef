"""The command line's contract: what goes to stdout and stderr, and which exit code an error has."""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import numpy as np
import pytest
import typer

from onebit.cli import console, main
from onebit.cli.console import JsonOption, emit_json
from onebit.core.errors import BadInputError, OnebitError, ToolMissingError, UnsupportedError, VerificationError

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """``run(function, *args)`` runs `function` as the verb ``planted``: (exit code, stdout, stderr)."""

    def run_planted(function: Callable[..., Any], *args: str) -> tuple[int, str, str]:
        module = ModuleType("onebit.cli.planted")
        module.planted = function  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "onebit.cli.planted", module)
        monkeypatch.setattr(main, "VERBS", (main.Verb("planted", "planted", "A verb of this test."),))
        code = main.main(["planted", *args])
        return (code, *capsys.readouterr())

    return run_planted


def onebit(*args: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "onebit.cli", *args], capture_output=True, text=True, check=False, timeout=60, **options
    )


def raising(error: BaseException) -> Callable[..., None]:
    def planted(as_json: JsonOption = False) -> None:
        raise error

    return planted


def test_the_result_goes_to_stdout_and_the_rest_to_stderr(run: Run) -> None:
    def planted(as_json: JsonOption = False) -> None:
        logging.getLogger("onebit.test").warning("a warning")
        console.stderr_console().print("progress")
        console.stdout_console().print("result")

    assert run(planted) == (0, "result\n", "a warning\nprogress\n")


def test_json_prints_one_object_whatever_else_prints(run: Run) -> None:
    def planted(as_json: JsonOption = False) -> int:
        print("a library that prints")
        emit_json({"equal": as_json})
        return 0

    code, out, err = run(planted, "--json")
    assert (code, json.loads(out), err) == (0, {"equal": True}, "a library that prints\n")


def test_json_keeps_stdout_clean_of_child_processes_and_native_code(tmp_path: Path) -> None:
    script = tmp_path / "planted.py"
    script.write_text(
        "import os, subprocess, sys\n"
        "from onebit.cli import console\n"
        "with console.session(as_json=True):\n"
        "    os.write(1, b'native\\n')\n"
        "    subprocess.run([sys.executable, '-c', 'print(\"child\")'], check=True)\n"
        "    console.emit_json({'a': 1})\n"
        "print('after')\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert done.stdout == '{\n  "a": 1\n}\nafter\n'
    assert done.stderr == "native\nchild\n"


def test_a_second_json_object_is_a_bug(run: Run) -> None:
    def planted(as_json: JsonOption = False) -> None:
        emit_json({})
        emit_json({})

    with pytest.raises(RuntimeError, match="second JSON object"):
        run(planted, "--json")


def test_json_values() -> None:
    @dataclass(frozen=True)
    class Cost:
        ram_bytes: int

    values = {
        "numpy": np.int64(3),
        "array": np.arange(2),
        "nan": float("nan"),
        "numpy_inf": np.float32("inf"),
        "path": Path("a") / "b",
        "tuple": (1, None, True),
        "set": {"b", "a"},
        "cost": Cost(4),
    }
    assert console.plain(values) == {
        "numpy": 3,
        "array": [0, 1],
        "nan": None,
        "numpy_inf": None,
        "path": "a/b",
        "tuple": [1, None, True],
        "set": ["a", "b"],
        "cost": {"ram_bytes": 4},
    }
    with pytest.raises(TypeError, match="no JSON form for object"):
        console.plain(object())


@pytest.mark.parametrize(
    ("error", "code", "kind"),
    [
        (VerificationError("two stages differ", where="layer 3", fix="report it"), 1, "verification_failed"),
        (BadInputError("no such file", where="a.tflite", fix="check the path"), 2, "bad_input"),
        (UnsupportedError("operator LSTM", where="node 4"), 2, "unsupported"),
        (ToolMissingError("no compiler", fix="apt-get install gcc"), 3, "tool_missing"),
    ],
)
def test_an_error_is_one_line_or_one_object(run: Run, error: OnebitError, code: int, kind: str) -> None:
    assert run(raising(error)) == (code, "", f"error: {error}\n")
    got, out, err = run(raising(error), "--json")
    assert (got, err) == (code, "")
    assert json.loads(out) == {
        "error": {"kind": kind, "message": error.message, "where": error.where, "fix": error.fix},
    }


def test_an_error_with_line_breaks_is_still_one_line(run: Run) -> None:
    assert run(raising(BadInputError("first\n  second"))) == (2, "", "error: first second\n")


def test_a_verb_that_printed_its_object_prints_no_other_when_verification_fails(run: Run) -> None:
    def planted(as_json: JsonOption = False) -> None:
        emit_json({"outputs_equal": 9})
        raise VerificationError("1 of 10 differs")

    code, out, _ = run(planted, "--json")
    assert (code, json.loads(out)) == (1, {"outputs_equal": 9})


def test_a_verb_chooses_its_exit_code(run: Run) -> None:
    assert run(lambda: 1)[0] == 1


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--limt", "3"], "no such option: --limt"),
        (["--limit", "many"], "invalid value for '--limit'"),
        ([], "missing argument"),
        (["a", "b"], "unexpected extra argument"),
    ],
)
def test_a_usage_error_is_one_line_or_one_object(run: Run, args: list[str], message: str) -> None:
    def planted(
        model: Annotated[Path, typer.Argument()],
        limit: Annotated[int, typer.Option()] = 1,
        as_json: JsonOption = False,
    ) -> None:
        pytest.fail("must not run")

    args = args if not args or not args[0].startswith("-") else ["m.tflite", *args]
    code, out, err = run(planted, *args)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err.lower()
    assert "see 'onebit planted --help'" in err
    code, out, err = run(planted, *args, "--json")
    error = json.loads(out)["error"]
    assert (code, err, error["kind"], error["where"]) == (2, "", "usage", "onebit planted")
    assert message in error["message"].lower()


@pytest.mark.parametrize("args", [["genrate"], ["--nonsense"], ["--nonsense", "doctor"]])
def test_an_unknown_verb_or_option_is_a_usage_error(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(args) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert captured.err.startswith("error: onebit: no such ")


def test_an_interrupt_says_so(run: Run) -> None:
    assert run(raising(KeyboardInterrupt())) == (130, "", "interrupted\n")


def test_an_interrupted_process_ends_with_130(tmp_path: Path) -> None:
    script = tmp_path / "planted.py"
    script.write_text(
        "import sys, time\n"
        "from onebit.cli import console\n"
        "def verb():\n"
        "    print('started', flush=True)\n"
        "    time.sleep(60)\n"
        "sys.exit(console.guarded(verb))\n"
    )
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, str(script)], **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout.readline() == "started\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "interrupted\n")


def test_a_reader_that_goes_away_causes_no_traceback() -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "onebit.cli", "targets"],
            stdout=write,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (console.OUTPUT_CLOSED, "")


def test_a_full_disk_is_no_bug_of_ours(run: Run) -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "out/digits.c")
    assert run(raising(full)) == (2, "", "error: out/digits.c: no space left on device\n")


def test_running_out_of_memory_says_so(run: Run) -> None:
    code, _, err = run(raising(MemoryError()))
    assert code == 2
    assert err.startswith("error: out of memory")


def test_a_bug_shows_its_traceback(run: Run) -> None:
    with pytest.raises(ZeroDivisionError):
        run(raising(ZeroDivisionError("a bug")))


def test_a_package_of_an_extra_that_is_missing_names_the_extra(run: Run) -> None:
    missing = ModuleNotFoundError("No module named 'torch'", name="torch.nn")
    assert run(raising(missing)) == (
        3,
        "",
        "error: the Python package torch is not installed; pip install 'onebit[train]'\n",
    )
    with pytest.raises(ModuleNotFoundError):
        run(raising(ModuleNotFoundError("No module named 'onebit.nonsense'", name="onebit.nonsense")))


@pytest.mark.parametrize("args", [("-v",), ("--verbose",)])
def test_verbose_logs_to_stderr(run: Run, args: tuple[str, ...]) -> None:
    def planted(as_json: JsonOption = False) -> None:
        logging.getLogger("onebit.test").info("what is done")
        logging.getLogger("onebit.test").debug("a detail")

    assert run(planted)[2] == ""
    assert run(planted, *args) == (0, "", "INFO onebit.test: what is done\n")
    assert "DEBUG onebit.test: a detail\n" in run(planted, *args, *args)[2]


def test_help_lists_the_verbs_and_imports_none_of_them() -> None:
    heavy = "torch tensorflow larq onebit.codegen onebit.simulate onebit.convert onebit.train"
    code = (
        "import sys; from onebit.cli.main import main; main(['--help'])\n"
        f"print(sorted(set(sys.modules) & set({heavy.split()!r})), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"
    listed = [line.split()[0] for line in done.stdout.partition("Commands:\n")[2].splitlines()]
    assert listed == [verb.name for verb in main.VERBS]


def test_help_is_fast() -> None:
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        onebit("--help")
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.5


def test_no_arguments_show_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main([]) == 0
    assert capsys.readouterr().out.startswith("Usage: onebit [OPTIONS] COMMAND")


def test_version() -> None:
    done = onebit("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("onebit ")


@pytest.mark.parametrize("verb", main.VERBS, ids=lambda verb: verb.name)
def test_every_verb_has_help_and_the_json_option(verb: main.Verb, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main([verb.name, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"Usage: onebit {verb.name} ")
    assert "--json" in text
    assert "--verbose" in text


@pytest.mark.parametrize("verb", ["convert", "inspect", "generate", "simulate", "targets", "doctor", "demo"])
def test_verbs_start_without_the_training_frameworks(verb: str) -> None:
    code = (
        f"import sys; from onebit.cli.main import main; main([{verb!r}, '--help'])\n"
        "print(sorted({'torch', 'tensorflow', 'larq', 'lightning'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"


def test_targets_as_table_and_as_json() -> None:
    from onebit.codegen.targets import TARGETS

    table = onebit("targets")
    assert (table.returncode, table.stderr) == (0, "")
    rows = json.loads(onebit("targets", "--json").stdout)["targets"]
    assert [row["name"] for row in rows] == list(TARGETS)
    assert [line.split()[0] for line in table.stdout.splitlines()[1:] if not line.startswith(" ")] == list(TARGETS)
    assert next(row for row in rows if row["name"] == "cortex-m4")["simulated"] is True
