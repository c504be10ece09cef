"""Every recipe builds, takes its own input, and has the cost that its layers' shapes say."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from onebit.core.errors import BadInputError
from onebit.train.cost import model_cost
from onebit.train.data import check_shares
from onebit.train.layers import binary_layers
from onebit.train.methods import METHODS, NormalizerFree, WeightConstraint, WeightTransition, get_method
from onebit.train.methods.weight_constraint import laplace_quantile
from onebit.train.models.residual import residual_net
from onebit.train.optimizers import Adam
from onebit.train.recipes import TwoStepSchedule, get_recipe, list_recipes

FROM_THE_ISSUE = (
    "digits", "fashion", "cifar10-vgg-w32", "cifar10-vgg-small", "cifar10-resnet20", "cifar10-resnet18",
    "cifar10-reactnet18", "smallcifar", "resnet8-hybrid",
)  # fmt: skip


@pytest.mark.parametrize("name", FROM_THE_ISSUE)
def test_recipe_exists(name: str) -> None:
    assert get_recipe(name).epochs >= 1


@pytest.mark.parametrize("recipe", list_recipes(), ids=lambda recipe: recipe.name)
def test_recipe_is_consistent(recipe) -> None:  # type: ignore[no-untyped-def]
    with torch.device("meta"):
        module = recipe.model().eval()
        assert module(torch.zeros(2, *recipe.input_shape)).shape == (2, len(recipe.classes))
        for method in recipe.methods:
            assert type(method) is METHODS[method.name]
    check_shares(recipe.batch_size, 4)
    crop = recipe.augmentation.crop
    assert crop is None or crop.size <= recipe.input_shape[1]
    assert recipe.schedule.rate(recipe.epochs, recipe.epochs) < 0.2 * recipe.schedule.peak


def test_weights_decay_and_nothing_else() -> None:
    net = residual_net((3, 16, 16), 10, widths=(32,), units=(1,), activation="rprelu", threshold=True)
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    groups = Adam(weight_decay=0.5, binary_weight_decay=0.25).groups(net)
    decays = {names[id(p)]: group["weight_decay"] for group in groups for p in group["params"]}
    assert set(decays) == set(names.values())
    layers = dict(net.named_modules())
    for name, decay in decays.items():
        layer, _, kind = name.rpartition(".")
        weight = kind == "weight" and isinstance(layers[layer], nn.Conv2d | nn.Linear)
        assert decay == (0.0 if not weight else 0.25 if layer in binary_layers(net) else 0.5), name
    assert any(p.ndim > 1 for p in groups[-1]["params"])  # thresholds and slopes are [1, C, 1, 1]


def test_real_valued_weights_of_binary_layers_decay_in_step_one_only() -> None:
    recipe = get_recipe("cifar10-reactnet18-two-step")
    assert recipe.optimizer.binary_weight_decay == recipe.optimizer.weight_decay == 1e-5
    assert [recipe.schedule.decays(done) for done in (0.0, 0.49, 0.5, 0.99)] == [True, True, False, False]
    assert get_recipe("cifar10-reactnet18").optimizer.binary_weight_decay == 0.0


def test_a_two_step_schedule_is_two_linear_runs() -> None:
    schedule = TwoStepSchedule(peak=0.4, warmup_epochs=1.0, share=0.25)
    assert [schedule.rate(epoch, 8) for epoch in (0, 1, 2, 3, 5, 8)] == pytest.approx([0.0, 0.2, 0.0, 1 / 3, 0.2, 0.0])
    assert [schedule.step(done) for done in (0.0, 0.24, 0.25, 1.0)] == [0, 0, 1, 1]
    assert [schedule.decays(done) for done in (0.0, 0.24, 0.25)] == [True, True, False]


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, float("nan")])
def test_both_steps_take_time(share: float) -> None:
    with pytest.raises(BadInputError, match=rf"^TwoStepSchedule: share={share}; use a finite number above 0 and below"):
        TwoStepSchedule(peak=0.1, share=share)


def test_the_second_step_begins_once() -> None:
    recipe = get_recipe("cifar10-reactnet18-two-step")
    message = (
        r"^recipe cifar10-reactnet18-two-step: method two_step begins step 2 at share=0.3, the schedule at share=0.5"
    )
    with pytest.raises(BadInputError, match=message):
        replace(recipe, methods=(get_method("two_step:share=0.3"),))
    schedule = TwoStepSchedule(peak=0.1, share=0.3)
    assert replace(recipe, schedule=schedule, methods=(get_method("two_step:share=0.3"),)).schedule == schedule


def test_a_published_accuracy_comes_with_what_differs() -> None:
    published = [recipe for recipe in list_recipes() if recipe.expected_source not in ("", "measured")]
    assert published
    assert [recipe.name for recipe in published if ", but for: " not in recipe.expected_source] == []


def test_a_flipped_weight_is_reset_before_it_is_constrained() -> None:
    names = [[method.name for method in recipe.methods] for recipe in list_recipes()]
    both = [order for order in names if {"weight_transition", "weight_constraint"} <= set(order)]
    assert both
    assert WeightTransition().rho < laplace_quantile(WeightConstraint().tau_start), "s_th above T from the start"
    assert all(order.index("weight_transition") < order.index("weight_constraint") for order in both)


def test_a_network_without_batch_norm_keeps_results_of_unit_size() -> None:
    torch.manual_seed(1)
    options = {"widths": (32, 64), "units": (2, 2), "activation": "rprelu", "threshold": True}
    net = residual_net((3, 16, 16), 10, norm=False, **options)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in net.modules())
    NormalizerFree().attach(net)
    sizes = []
    for layer in binary_layers(net).values():
        layer.register_forward_hook(lambda _layer, _x, y: sizes.append(float(y.detach().std())))
    net(torch.randn(8, 3, 16, 16))
    assert len(sizes) == 4
    assert all(0.5 < size < 2.0 for size in sizes)


def test_costs_are_those_of_the_layers() -> None:
    """SmallCifar by hand: 5x5 convolutions at 32x32, 16x16 and 8x8, then 1024-10."""
    first, second, third = 25 * 3 * 32, 25 * 32 * 32, 25 * 32 * 64
    cost = model_cost(get_recipe("smallcifar"))
    assert (cost.weights, cost.binary_weights) == (first + second + third + 10240, second + third + 10240)
    assert cost.binary_macs == second * 256 + third * 64 + 10240
    assert cost.macs == cost.binary_macs + first * 1024


def test_nothing_of_a_real_valued_teacher_is_binary() -> None:
    student, teacher = (model_cost(get_recipe(f"cifar10-comparison{role}")) for role in ("", "-teacher"))
    assert student.binary_macs > 0
    assert (teacher.binary_weights, teacher.binary_macs) == (0, 0)
    assert (teacher.weights, teacher.macs) == (student.weights, student.macs)
