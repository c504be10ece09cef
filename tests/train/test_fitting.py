"""Training to a budget, on scikit-learn's 8x8 digits; what a network takes is counted in weights: seconds."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from onebit.core.datasets import DIGIT_NAMES
from onebit.core.errors import BadInputError
from onebit.train import load_checkpoint, train
from onebit.train.channels import Resized
from onebit.train.fitting import Budget, Fitted, Footprint, Settings, train_to_fit
from onebit.train.layers import QuantConv2d, QuantLinear, SameConv2d, binary_layers
from onebit.train.methods import AdaBin
from onebit.train.provenance import load_record
from onebit.train.recipes import Augmentation, CosineSchedule, Recipe

RUN_FILES = {"model.pt", "run.json", "metrics.csv", "layers.csv", "curves.png", "last.ckpt"}


def net() -> nn.Module:
    return nn.Sequential(
        SameConv2d(1, 32, 3, stride=2, bias=False),
        nn.BatchNorm2d(32),
        QuantConv2d(32, 96, 3, stride=2),
        nn.BatchNorm2d(96),
        nn.Flatten(),
        QuantLinear(384, 64),
        nn.BatchNorm1d(64),
        QuantLinear(64, 10),
        nn.BatchNorm1d(10),
    )


def narrow_net() -> nn.Module:
    return nn.Sequential(*list(net())[:2], nn.Flatten(), QuantLinear(512, 10))


RECIPE = Recipe(
    name="tiny", description="for tests", model=net, dataset="digits", input_shape=(1, 8, 8), classes=DIGIT_NAMES,
    epochs=3, batch_size=64, schedule=CosineSchedule(peak=5e-3), augmentation=Augmentation(),
)  # fmt: skip
WHOLE = 32 * 9 * 96 + 384 * 64 + 640
BUDGET = Budget(flash_bytes=30_000)
QUIET = Settings(progress=False, threads=1)


def measure(module: nn.Module) -> Footprint:
    return Footprint(sum(layer.weight.numel() for layer in binary_layers(module).values()), 100)


@pytest.fixture(autouse=True)
def _needs_digits(requires_package: Callable[[str], None]) -> None:
    requires_package("sklearn")


def fit(out: Path, **options: object) -> Fitted:
    given = {"recipe": RECIPE, "budget": BUDGET, "measure": measure, "settings": QUIET, **options}
    return train_to_fit(out=out, **given)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    return fit(tmp_path_factory.mktemp("fit") / "run")


def interrupt_at(monkeypatch: pytest.MonkeyPatch, peak: float, epoch: float) -> None:
    """Ctrl-C in the run whose schedule has that peak, when the learning rate of that epoch is asked for."""
    rate = CosineSchedule.rate

    def interrupted(self: CosineSchedule, at: float, epochs: int) -> float:
        if self.peak == pytest.approx(peak) and at >= epoch:
            raise KeyboardInterrupt
        return rate(self, at, epochs)

    monkeypatch.setattr(CosineSchedule, "rate", interrupted)


def weights(fitted: Fitted) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = load_checkpoint(fitted.result.checkpoint, recipe=RECIPE).module.state_dict()
    return state


def test_a_network_is_squeezed_to_its_budget(finished: Fitted) -> None:
    out = finished.result.run_dir
    assert {path.name for path in out.iterdir()} == {*RUN_FILES, "fit.json", "whole", "squeezed.pt"}
    assert finished.whole == Footprint(WHOLE, 100)
    assert 15_000 < finished.fitted.flash_bytes <= 30_000
    assert finished.channels["0"] == (32, 32)
    assert all(after % 32 == 0 for _, after in finished.channels.values())
    loaded = load_checkpoint(finished.result.checkpoint, recipe=RECIPE)
    assert measure(loaded.module) == finished.fitted
    assert loaded.accuracy == finished.result.accuracy > 0.6
    assert finished.whole_accuracy == load_checkpoint(out / "whole" / "model.pt", recipe=RECIPE).accuracy
    assert (load_record(out / "whole" / "run.json").epochs, load_record(out / "run.json").epochs) == (3, 1)
    assert load_record(out / "run.json").started_from == f"{out / 'squeezed.pt'}, 3 epochs"
    written = json.loads((out / "fit.json").read_text())
    assert written["fitted"] == dataclasses.asdict(finished.fitted)
    assert written["request"]["flash"] == 30_000


@pytest.mark.parametrize(("peak", "epoch"), [(5e-3, 0.5), (5e-3, 1.5), (5e-4, 0.5)])
def test_interrupted_and_resumed_equals_straight(
    finished: Fitted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, peak: float, epoch: float
) -> None:
    with monkeypatch.context() as patch:
        interrupt_at(patch, peak, epoch)
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path / "run")
    with pytest.raises(BadInputError, match=r"already holds a run \(fit.json\)"):
        fit(tmp_path / "run")
    with pytest.raises(BadInputError, match="was started with flash 30000, not 31000"):
        fit(tmp_path / "run", resume=True, budget=Budget(flash_bytes=31_000))
    resumed = fit(tmp_path / "run", resume=True)
    wanted, got = weights(finished), weights(resumed)
    assert all(torch.equal(got[name], wanted[name]) for name in wanted)
    assert resumed.channels == finished.channels


def test_a_finished_run_is_resumed_without_training(finished: Fitted) -> None:
    before = finished.result.checkpoint.stat().st_mtime_ns
    assert fit(finished.result.run_dir, resume=True) == finished
    assert finished.result.checkpoint.stat().st_mtime_ns == before


def test_a_network_that_fits_is_trained_as_it_is(tmp_path: Path) -> None:
    fitted = fit(tmp_path / "run", budget=Budget(flash_bytes=WHOLE, ram_bytes=100), epochs=1)
    assert fitted.channels == {}
    assert fitted.fitted == fitted.whole
    assert not (tmp_path / "run" / "whole").exists()
    again = train(RECIPE, out=tmp_path / "plain", epochs=1, progress=False, threads=1)
    plain = load_checkpoint(again.checkpoint, recipe=RECIPE).module.state_dict()
    assert all(torch.equal(value, plain[name]) for name, value in weights(fitted).items())


def test_a_trained_model_is_squeezed(finished: Fitted, tmp_path: Path) -> None:
    start = finished.result.run_dir / "whole" / "model.pt"
    fitted = fit(tmp_path / "run", start=start)
    assert not (tmp_path / "run" / "whole").exists()
    wanted, got = weights(finished), weights(fitted)
    assert all(torch.equal(got[name], wanted[name]) for name in wanted)


def test_a_network_that_was_never_measured_is_squeezed(finished: Fitted, tmp_path: Path) -> None:
    start = finished.result.run_dir / "squeezed.pt"
    fitted = fit(tmp_path / "run", start=start, budget=Budget(flash_bytes=15_000), epochs=1)
    assert fitted.whole_accuracy is None


def test_a_resume_takes_over_what_the_run_was_started_with(
    finished: Fitted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = finished.result.run_dir / "whole" / "model.pt"
    with monkeypatch.context() as patch:
        interrupt_at(patch, 5e-4, 1.5)
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path, start=start, epochs=6, settings=dataclasses.replace(QUIET, seed=7))
    with pytest.raises(BadInputError, match="was started with epochs 6, not 5"):
        fit(tmp_path, resume=True, epochs=5)
    fit(tmp_path, resume=True, settings=Settings(progress=False))
    record = load_record(tmp_path / "run.json")
    assert (record.epochs, record.seed, record.threads) == (2, 7, 1)
    assert json.loads((tmp_path / "fit.json").read_text())["request"]["start"] == str(start)


def test_a_network_that_grew_over_its_budget_is_said_to(finished: Fitted, tmp_path: Path) -> None:
    out = tmp_path / "run"

    def growing(module: nn.Module) -> Footprint:
        return Footprint(measure(module).flash_bytes + (10_000 if (out / "model.pt").exists() else 0), 0)

    start = finished.result.run_dir / "whole" / "model.pt"
    with pytest.raises(BadInputError, match="now that it is trained; the budget is 30,000 bytes of flash"):
        fit(out, start=start, measure=growing)
    assert (out / "model.pt").exists()


def test_a_wider_network_is_squeezed_to_the_same_budget(tmp_path: Path) -> None:
    fitted = fit(tmp_path / "run", widen=2.0, epochs=1)
    assert fitted.channels["2"][0] == 192
    assert fitted.fitted.flash_bytes <= 30_000
    model = load_checkpoint(tmp_path / "run" / "whole" / "model.pt", recipe=RECIPE).recipe.model
    assert isinstance(model, Resized)
    assert model.channels == {"0": 64, "2": 192, "5": 128}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": Budget(flash_bytes=1000)}, "takes 13,632 bytes of flash and 100 of RAM with the fewest channels"),
        ({"budget": Budget(ram_bytes=99)}, "the budget is 99 bytes of RAM; use a smaller network, or a larger budget"),
        ({"recipe": dataclasses.replace(RECIPE, methods=(AdaBin(),))}, "method adabin leaves layers of its own"),
        ({"widen": 0.5}, "0.5 times as wide; use a factor from 1 to 8"),
        ({"resume": True}, "holds no run to resume"),
        ({"epochs": -1}, "-1 epochs; give 1 or more"),
        ({"settings": Settings(threads=0)}, "0 threads; give 1 or more"),
        (
            {"recipe": dataclasses.replace(RECIPE, model=narrow_net), "budget": Budget(flash_bytes=1000)},
            "no channels of this network can be removed",
        ),
    ],
)  # fmt: skip
def test_what_cannot_fit_is_said_before_anything_is_trained(tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        fit(tmp_path / "run", **options)
    assert list(tmp_path.iterdir()) == []
