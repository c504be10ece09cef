"""The training engine on scikit-learn's 8x8 digits with a net of a few hundred weights: seconds, not minutes."""

from __future__ import annotations

import csv
import dataclasses
import errno
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from onebit.core.datasets import DIGIT_NAMES, Dataset, load_dataset
from onebit.core.errors import BadInputError
from onebit.train import TrainResult, engine, load_checkpoint, recording, train
from onebit.train.checkpoint import RunState, load_run_state, save_run_state
from onebit.train.data import TensorImages, TrainBatches
from onebit.train.layers import QuantConv2d, QuantLinear, SameConv2d, binary_weights
from onebit.train.methods import Distillation, TwoStep
from onebit.train.optimizers import Adam
from onebit.train.provenance import load_record
from onebit.train.recipes import Augmentation, CosineSchedule, Recipe, TwoStepSchedule

FILES = {"model.pt", "run.json", "metrics.csv", "layers.csv", "curves.png", "last.ckpt"}


def tiny_net() -> nn.Module:
    return nn.Sequential(
        SameConv2d(1, 16, 3, bias=False),
        nn.BatchNorm2d(16),
        QuantConv2d(16, 16, 3),
        nn.BatchNorm2d(16),
        nn.MaxPool2d(2),
        nn.Flatten(),
        QuantLinear(256, 10),
        nn.BatchNorm1d(10),
    )


TINY = Recipe(
    name="tiny",
    description="for tests",
    model=tiny_net,
    dataset="digits",
    input_shape=(1, 8, 8),
    classes=DIGIT_NAMES,
    epochs=3,
    batch_size=64,
    schedule=CosineSchedule(peak=5e-3, warmup_epochs=0.5),
    augmentation=Augmentation(shift_pixels=0.5, rotation_degrees=5.0, zoom=0.05, shear=0.05, elastic_pixels=0.3),
)


@pytest.fixture(autouse=True)
def _needs_digits(requires_package: Callable[[str], None]) -> None:
    requires_package("sklearn")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    return train(TINY, out=tmp_path_factory.mktemp("runs") / "straight", progress=False)


def interrupt_at(monkeypatch: pytest.MonkeyPatch, epoch: float) -> None:
    """Ctrl-C while the learning rate of that (fractional) epoch is asked for."""
    rate = CosineSchedule.rate

    def interrupted(self: CosineSchedule, at: float, epochs: int) -> float:
        if at >= epoch:
            raise KeyboardInterrupt
        return rate(self, at, epochs)

    monkeypatch.setattr(CosineSchedule, "rate", interrupted)


def same_weights(a: Path, b: Path) -> bool:
    first, second = (load_checkpoint(path, recipe=TINY).module.state_dict() for path in (a, b))
    return all(torch.equal(first[name], second[name]) for name in first) and len(first) == len(second)


def test_result_and_files(finished: TrainResult) -> None:
    assert finished.epochs == 3
    assert finished.accuracy > 0.6
    assert {path.name for path in finished.run_dir.iterdir()} == FILES
    rows = list(csv.DictReader((finished.run_dir / "metrics.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert list(rows[0]) == [
        "epoch", "train_loss", "val_accuracy", "lr", "seconds", "flips", "never_flipped", "clamped", "entropy",
    ]  # fmt: skip
    assert float(rows[-1]["val_accuracy"]) == finished.accuracy
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])


def test_run_record_names_data_and_machine(finished: TrainResult) -> None:
    record = load_record(finished.run_dir / "run.json")
    assert (record.recipe, record.epochs, record.accuracy) == ("tiny", 3, finished.accuracy)
    assert record.train_sha256 == load_dataset("digits:train").sha256
    assert (record.train_images, record.seed, record.threads, record.devices) == (1437, TINY.seed, 2, 1)
    assert record.processor
    assert (record.started_from, record.start_sha256) == (None, None)


def test_curves_are_a_picture(finished: TrainResult) -> None:
    assert (finished.run_dir / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_checkpoint_gives_the_trained_model(finished: TrainResult) -> None:
    loaded = load_checkpoint(finished.checkpoint, recipe=TINY)
    assert (loaded.accuracy, loaded.epochs, loaded.seed) == (finished.accuracy, 3, TINY.seed)
    assert loaded.metadata == TINY.metadata()
    assert not loaded.module.training
    assert loaded.example_input.shape == (1, 1, 8, 8)
    assert all(weight.abs().max() <= 1 for weight in binary_weights(loaded.module))


def test_accuracy_is_that_of_the_saved_model(finished: TrainResult) -> None:
    from onebit.core.datasets import load_dataset

    loaded = load_checkpoint(finished.checkpoint, recipe=TINY)
    test = load_dataset("digits:test")
    x = loaded.metadata.preprocessing.apply(test.x, np.float32).transpose(0, 3, 1, 2)
    with torch.no_grad():
        answers = loaded.module(torch.from_numpy(np.ascontiguousarray(x))).argmax(1).numpy()
    assert np.mean(answers == test.y) == finished.accuracy


def test_interrupted_and_resumed_equals_straight(
    finished: TrainResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        interrupt_at(patch, 1.5)
        with pytest.raises(KeyboardInterrupt):
            train(TINY, out=tmp_path, progress=False)
    assert not (tmp_path / "model.pt").exists()
    assert len(load_run_state(tmp_path / "last.ckpt").rows) == 1
    result = train(TINY, out=tmp_path, resume=True, progress=False)
    assert (result.epochs, result.accuracy) == (3, finished.accuracy)
    assert same_weights(result.checkpoint, finished.checkpoint)


def test_two_steps_are_two_runs_in_one_and_resume_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = dataclasses.replace(
        TINY, epochs=2, methods=(TwoStep(),), optimizer=Adam(weight_decay=1e-3), schedule=TwoStepSchedule(peak=5e-3)
    )
    straight = train(recipe, out=tmp_path / "straight", progress=False)
    decays: list[float] = []
    step = torch.optim.Adam.step

    def interrupted(self: torch.optim.Adam, closure: Callable[[], float]) -> object:
        decays.append(max(group["weight_decay"] for group in self.param_groups))
        if len(decays) == 30:
            raise KeyboardInterrupt
        return step(self, closure)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, out=tmp_path / "cut", progress=False)
    assert decays == [1e-3] * 22 + [0.0] * 8  # 22 batches an epoch
    resumed = train(recipe, out=tmp_path / "cut", progress=False, resume=True)
    assert resumed.accuracy == straight.accuracy
    assert same_weights(resumed.checkpoint, straight.checkpoint)
    optimizer = load_run_state(tmp_path / "cut" / "last.ckpt").optimizer
    assert {int(state["step"]) for state in optimizer["state"].values()} == {22}  # those of the second step alone


def test_interrupted_in_the_first_epoch_can_be_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        interrupt_at(patch, 0.5)
        with pytest.raises(KeyboardInterrupt):
            train(TINY, out=tmp_path / "run", progress=False)
    with pytest.raises(BadInputError, match="no run to resume"):
        train(TINY, out=tmp_path / "run", resume=True, progress=False)
    assert train(TINY, out=tmp_path / "run", epochs=1, progress=False).epochs == 1


def cut(monkeypatch: pytest.MonkeyPatch, out: Path, recipe: Recipe = TINY, **options: Any) -> None:
    """A run that is interrupted in its second epoch."""
    with monkeypatch.context() as patch:
        interrupt_at(patch, 1.2)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, out=out, progress=False, **options)
    assert load_record(out / "run.json").accuracy is None


def test_a_resume_takes_over_what_the_run_was_started_with(
    finished: TrainResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = tmp_path / "start.pt"
    start.write_bytes(finished.checkpoint.read_bytes())
    options = {"start": start, "threads": 1, "epochs": 2, "seed": 7}
    straight = train(TINY, out=tmp_path / "straight", progress=False, **options)
    for name in ("named", "left out"):
        cut(monkeypatch, tmp_path / name, **options)
    named = train(TINY, out=tmp_path / "named", resume=True, progress=False, **options)
    with pytest.raises(BadInputError, match=f"from {start}, 3 epochs, and .*model.pt is another model; leave out"):
        train(TINY, out=tmp_path / "left out", resume=True, progress=False, start=straight.checkpoint)
    start.unlink()  # its weights are those of last.ckpt by now
    left_out = train(TINY, out=tmp_path / "left out", resume=True, progress=False)
    assert same_weights(named.checkpoint, straight.checkpoint)
    assert same_weights(left_out.checkpoint, straight.checkpoint)
    records = [load_record(result.run_dir / "run.json") for result in (straight, named, left_out)]
    assert {(r.started_from, r.start_sha256, r.threads, r.epochs, r.seed) for r in records} == {
        (f"{start}, 3 epochs", hashlib.sha256(finished.checkpoint.read_bytes()).hexdigest(), 1, 2, 7)
    }


def test_a_run_from_random_weights_is_not_resumed_from_a_model(
    finished: TrainResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut(monkeypatch, tmp_path)
    with pytest.raises(BadInputError, match="was started from random weights, and .* is another model"):
        train(TINY, out=tmp_path, resume=True, progress=False, start=finished.checkpoint)


def test_a_resume_must_find_the_same_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut(monkeypatch, tmp_path)

    def one_fewer(split: str) -> Callable[..., Dataset]:
        def load(name: str, **options: Any) -> Dataset:
            data = load_dataset(name, **options)
            return data.take(len(data) - 1) if name.endswith(split) else data

        return load

    for split, message in (("train", "other training images"), ("test", "other test images")):
        with monkeypatch.context() as patch:
            patch.setattr(engine, "load_dataset", one_fewer(split))
            with pytest.raises(BadInputError, match=f"was started with {message}; give the --data-dir that"):
                train(TINY, out=tmp_path, resume=True, progress=False)


def test_a_resume_must_find_the_same_teacher(
    finished: TrainResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = tmp_path / "teacher.pt"
    stored = torch.load(finished.checkpoint, weights_only=True)
    torch.save(stored, teacher)
    monkeypatch.setattr("onebit.train.checkpoint.get_recipe", lambda _: TINY)
    taught = dataclasses.replace(TINY, methods=(Distillation(teacher=str(teacher)),))
    cut(monkeypatch, tmp_path / "run", taught)
    torch.save({**stored, "seed": 9}, teacher)
    with pytest.raises(BadInputError, match="was started with other content of the teacher's file; put"):
        train(taught, out=tmp_path / "run", resume=True, progress=False)


def test_a_state_of_an_earlier_version_is_resumed(
    finished: TrainResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut(monkeypatch, tmp_path)
    stored = torch.load(tmp_path / "last.ckpt", weights_only=True)
    later = ("methods", "train_sha256", "test_sha256", "started_from", "start_sha256", "teacher_sha256", "resized")
    torch.save({name: value for name, value in stored.items() if name not in later}, tmp_path / "last.ckpt")
    assert same_weights(train(TINY, out=tmp_path, resume=True, progress=False).checkpoint, finished.checkpoint)


@pytest.mark.parametrize("lost", ["save_record", "save_model"])
def test_a_run_that_died_while_its_last_files_were_written_is_completed(
    finished: TrainResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    def dies(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(engine, lost, dies)
        with pytest.raises(KeyboardInterrupt):
            train(TINY, out=tmp_path, progress=False)
    result = train(TINY, out=tmp_path, resume=True, progress=False)
    assert result.checkpoint.read_bytes() == finished.checkpoint.read_bytes()
    assert load_record(tmp_path / "run.json").accuracy == finished.accuracy
    (tmp_path / "run.json").unlink()
    train(TINY, out=tmp_path, resume=True, progress=False)
    assert load_record(tmp_path / "run.json").accuracy == finished.accuracy


def test_resuming_a_finished_run_trains_nothing(finished: TrainResult) -> None:
    before = finished.checkpoint.stat().st_mtime_ns
    assert train(TINY, out=finished.run_dir, resume=True, progress=False) == finished
    assert finished.checkpoint.stat().st_mtime_ns == before


def test_same_seed_same_model_other_seed_other_model(finished: TrainResult, tmp_path: Path) -> None:
    again = train(TINY, out=tmp_path / "again", progress=True)
    assert same_weights(again.checkpoint, finished.checkpoint)
    assert again.checkpoint.read_bytes() == finished.checkpoint.read_bytes()
    other = train(TINY, out=tmp_path / "other", seed=2, progress=False)
    assert not same_weights(other.checkpoint, finished.checkpoint)


def test_caller_state_is_put_back(tmp_path: Path) -> None:
    import signal

    threads, handler = torch.get_num_threads(), signal.getsignal(signal.SIGINT)
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    train(TINY, out=tmp_path, epochs=1, progress=False, threads=1)
    assert torch.equal(torch.rand(1), expected)
    assert (torch.get_num_threads(), signal.getsignal(signal.SIGINT)) == (threads, handler)


def test_refuses_to_overwrite_a_run(finished: TrainResult) -> None:
    with pytest.raises(BadInputError, match=r"already holds a run \(model.pt, last.ckpt\); use --resume"):
        train(TINY, out=finished.run_dir, progress=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recipe": "digits"}, "was started with recipe tiny, not digits"),
        ({"recipe": dataclasses.replace(TINY, batch_size=32)}, "recipe tiny has changed"),
        ({"epochs": 9}, "was started with epochs 3, not 9"),
        ({"seed": 9}, "was started with seed 1, not 9"),
        ({"threads": 1}, "was started with threads 2, not 1"),
        (
            {"recipe": dataclasses.replace(TINY, methods=(TwoStep(),))},
            r"was started with other methods: none; now TwoStep\(share=0.5\); give the same --method, or use another",
        ),
    ],
)
def test_resume_must_be_the_same_run(finished: TrainResult, change: dict, message: str) -> None:
    options = {"recipe": TINY, "out": finished.run_dir, "resume": True, "progress": False, **change}
    with pytest.raises(BadInputError, match=message):
        train(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"recipe": "digitz"}, "unknown recipe 'digitz'; known: .*digits, digits-full"),
        ({"epochs": 0}, "0 epochs"),
        ({"devices": 0}, "0 devices"),
        ({"devices": 3}, "batch of 64 images cannot be shared by 3 devices"),
        ({"threads": 0}, "0 threads"),
        ({"resume": True}, "holds no run to resume"),
        ({"data_dir": "/nonexistent"}, "no such folder"),
    ],
)
def test_bad_options(tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        train(**{"recipe": TINY, "out": tmp_path / "run", "progress": False, **options})


def test_out_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInputError, match="cannot be used as a folder"):
        train(TINY, out=tmp_path / "file", progress=False)


def test_divergence_is_an_error_and_leaves_no_model(tmp_path: Path) -> None:
    wild = dataclasses.replace(TINY, schedule=CosineSchedule(peak=float("inf")))
    with pytest.raises(
        BadInputError, match=r"diverged in epoch 1: the loss is nan, the first layer that is not finite is 0"
    ):
        train(wild, out=tmp_path, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
    assert load_record(tmp_path / "run.json").accuracy is None


def test_a_full_disk_keeps_the_last_epoch_that_was_written(
    finished: TrainResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []

    def full(path: Path, state: RunState | None) -> None:
        if len(written) == 1:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        assert state is not None
        written.append(path)
        save_run_state(path, state)

    with monkeypatch.context() as patch:
        patch.setattr(recording, "save_run_state", full)
        patch.setattr(recording, "save_curves", lambda path, *_: full(path, None))
        with pytest.raises(OSError, match="No space left") as caught:  # one line on the command line: test_cli_contract
            train(TINY, out=tmp_path, progress=False)
    assert caught.value.filename == str(tmp_path / "last.ckpt")
    assert not (tmp_path / "model.pt").exists()
    assert len(load_run_state(tmp_path / "last.ckpt").rows) == 1
    assert same_weights(train(TINY, out=tmp_path, resume=True, progress=False).checkpoint, finished.checkpoint)


def test_divergence_in_a_later_epoch_keeps_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rate = CosineSchedule.rate
    with monkeypatch.context() as patch:
        patch.setattr(CosineSchedule, "rate", lambda self, at, n: float("inf") if 1.2 < at < 1.3 else rate(self, at, n))
        with pytest.raises(BadInputError, match=r"diverged in epoch 2: .* the first layer that is not finite is 0"):
            train(TINY, out=tmp_path, progress=False)
    assert len(load_run_state(tmp_path / "last.ckpt").rows) == 1


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"\x80\x02]q\x00.", None])
def test_damaged_checkpoint(tmp_path: Path, content: bytes | None, finished: TrainResult) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(finished.checkpoint.read_bytes()[:-200] if content is None else content)
    with pytest.raises(BadInputError, match="cannot be read as a checkpoint|is no onebit-model file"):
        load_checkpoint(path)


def test_foreign_checkpoints(tmp_path: Path, finished: TrainResult) -> None:
    with pytest.raises(BadInputError, match="no such file"):
        load_checkpoint(tmp_path / "model.pt")
    torch.save({"state_dict": {}}, tmp_path / "other.pt")
    with pytest.raises(BadInputError, match="is no onebit-model file"):
        load_checkpoint(tmp_path / "other.pt")
    with pytest.raises(BadInputError, match="is no onebit-model file"):
        load_checkpoint(finished.run_dir / "last.ckpt")
    with pytest.raises(BadInputError, match="unknown recipe 'tiny'"):
        load_checkpoint(finished.checkpoint)
    stored = torch.load(finished.checkpoint, weights_only=True)
    for change, message in (
        ({"format": 2}, "has format 2"),
        ({"recipe": "digits"}, "does not fit the model of recipe digits"),
        ({"recipe": None}, "no usable entry 'recipe'"),
    ):
        torch.save({**stored, **change}, tmp_path / "changed.pt")
        with pytest.raises(BadInputError, match=message):
            load_checkpoint(tmp_path / "changed.pt")


def test_two_processes_share_every_batch(tmp_path: Path) -> None:
    """Through the command line, since Lightning starts the same command again for the second process."""
    arguments = ["train", "digits", "--epochs", "1", "--devices", "2", "--out", str(tmp_path / "run"), "--json"]
    result = subprocess.run(
        [sys.executable, "-m", "onebit.cli", *arguments], capture_output=True, text=True, check=True
    )
    printed = json.loads(result.stdout)
    assert {path.name for path in (tmp_path / "run").iterdir()} == FILES
    loaded = load_checkpoint(tmp_path / "run" / "model.pt")
    assert loaded.accuracy == printed["accuracy"] > 0.5
    test = load_dataset("mnist5k:test")
    x = loaded.metadata.preprocessing.apply(test.x, np.float32).transpose(0, 3, 1, 2)
    with torch.no_grad():
        answers = loaded.module(torch.from_numpy(np.ascontiguousarray(x))).argmax(1).numpy()
    assert np.mean(answers == test.y) == loaded.accuracy


def test_shares_make_up_the_batch() -> None:
    images = TensorImages(load_dataset("digits:train"), TINY.preprocessing, torch.device("cpu"))
    whole, *shares = (TrainBatches(images, 64, Augmentation(), seed=3) for _ in range(3))
    for rank, share in enumerate(shares):
        share.shard(rank, 2)
    for (_, labels), (_, first), (_, second) in zip(whole, *shares, strict=True):
        assert torch.equal(labels[0::2], first)
        assert torch.equal(labels[1::2], second)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, while it compiles
def test_compiled_training_gives_a_plain_model(tmp_path: Path) -> None:
    pytest.importorskip("torch._inductor")
    result = train(TINY, out=tmp_path, progress=False, epochs=1, compiled=True)
    assert result.accuracy > 0.3
    assert set(load_checkpoint(result.checkpoint, recipe=TINY).module.state_dict()) == set(tiny_net().state_dict())
