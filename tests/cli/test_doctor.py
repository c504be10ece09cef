"""``onebit doctor`` and what it reads: onebit's own metadata, the PATH, the data sets."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from onebit.cli import doctor, packages
from onebit.cli.main import main

METADATA = [
    "numpy>=1.26",
    'torch>=2.4; extra == "train"',
    "unicorn==2.1.4; extra == 'emulate'",
    'larq-compute-engine==0.16.0; extra == "keras"',
    'larq==0.14.0; extra == "keras"',
    'larq-compute-engine (==0.16.0) ; extra == "oracle"',
    'numpy<2; extra == "keras"',
    'onebit[data,train]; extra == "all"',
    'pytest>=8; extra == "test"',
]


@pytest.fixture
def planted_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages.metadata, "requires", lambda _: METADATA)
    monkeypatch.setattr(packages, "installed_version", lambda name: "1.26.4" if name == "numpy" else None)


def test_packages_are_read_from_the_metadata(planted_metadata: None) -> None:
    found = {package.name: package for package in packages.packages()}
    assert list(found) == ["numpy", "unicorn", "larq", "larq-compute-engine", "torch"]
    assert (found["numpy"].extras, found["numpy"].version, found["numpy"].get) == ((), "1.26.4", "")
    # Of the two extras that have it, the one that brings less else is advised.
    assert found["larq-compute-engine"].extras == ("oracle", "keras")
    assert found["larq-compute-engine"].get == "pip install 'onebit[oracle]'"
    assert found["unicorn"].required == "==2.1.4"


def test_the_extras_of_a_package(planted_metadata: None) -> None:
    assert packages.extras_of("torch") == ("train",)
    assert packages.extras_of("numpy") == ()
    assert packages.extras_of("nonsense") == ()


def test_onebit_s_own_metadata_is_understood() -> None:
    names = {package.name: package.extras for package in packages.packages()}
    assert names["numpy"] == ()
    assert names["torch"] == ("train",)
    assert names["ai-edge-litert"] == ("oracle",)
    assert not {"pytest", "ruff", "onebit"} & set(names)


def fake_tool(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{text}'\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("cc (Debian 12.2.0-14+deb12u1) 12.2.0", "12.2.0"),
        ("Debian clang version 14.0.6", "14.0.6"),
        ("arm-none-eabi-gcc (15:12.2.rel1-1) 12.2.1 20221205", "12.2.1"),
        ("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)", "7.2.22"),
        ("no number at all", None),
    ],
)
def test_the_version_of_a_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, version: str | None) -> None:
    fake_tool(tmp_path, "cc", text)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    compiler = next(tool for tool in doctor.TOOLS if tool.name == "cc")
    assert compiler.find() == (str(tmp_path / "cc"), version)


def test_what_is_missing_comes_with_the_way_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("ONEBIT_DATA_DIR", raising=False)
    assert main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    missing = {tool["name"]: tool["get"] for tool in report["tools"] if tool["path"] is None}
    assert missing["arm-none-eabi-gcc"] == "apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi"
    assert missing["cc"] == "apt-get install gcc"
    data = {item["name"]: item for item in report["data_sets"]}
    assert data["cifar10"]["test_samples"] is None
    assert "--data-dir" in data["cifar10"]["get"]
    assert all(bool(item["get"]) == (item["test_samples"] is None) for item in data.values())

    assert main(["doctor"]) == 0
    table = capsys.readouterr().out
    assert "missing" in table
    assert "apt-get install gcc" in table
