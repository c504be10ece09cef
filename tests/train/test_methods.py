"""The rules of onebit.train.methods.base, held against every registered method, and the registry."""

from __future__ import annotations

import copy
import dataclasses
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from onebit.core.errors import BadInputError
from onebit.train.checkpoint import load_checkpoint, save_model
from onebit.train.layers import QuantConv2d, QuantLinear, SameConv2d, XnorConv2d, bake_weights, binary_layers
from onebit.train.methods import METHODS, get_method, method_names, method_text
from onebit.train.options import allowed_values
from onebit.train.quantizers import Quantizer
from onebit.train.recipes import Augmentation, CosineSchedule, Recipe
from support.method_runs import SIZE, Run, make, small_net

VARIANTS = (
    *method_names(),
    "weight_constraint:reading=reach",
    "weight_constraint:reading=fixed",
    "w_regularization:shape=w1,decoupled=true",
    "w_regularization:shape=w3,tail=0",
    "recu:variant=ste",
    "recu:variant=projection",
    "dynamic_distribution:refine=true",
)
COMBINATIONS = (
    ("er_weights", "er_activations", "er_gradient"),
    ("weight_transition", "weight_constraint", "ede", "w_regularization"),
    ("xnor", "er_weights", "approx_sign"),
    ("recu", "xnor"),
    ("two_step:share=0.25", "distillation:weight=0.5", "er_weights"),
    ("feature_distribution", "detail_semantic", "symmetric_classifier", "normalizer_free"),
)
ALL = (*((text,) for text in VARIANTS), *COMBINATIONS)
IDS = ["+".join(names) for names in ALL]


def trained(names: tuple[str, ...], steps: int = 4) -> Run:
    run = Run([make(name) for name in names])
    run.steps(0, steps, of=steps)
    return run


@pytest.mark.parametrize("names", ALL, ids=IDS)
def test_finish_leaves_plain_layers_with_the_same_outputs(names: tuple[str, ...]) -> None:
    run = trained(names)
    before = run.outputs()
    run.finish()
    after = run.outputs()
    assert torch.allclose(after, before, rtol=1e-4, atol=1e-4 * float(before.abs().max()))
    assert torch.equal(after.argmax(1), before.argmax(1))
    for layer in binary_layers(run.net).values():
        assert not list(layer.children())
        assert not layer._forward_hooks
        assert not layer._forward_pre_hooks
        assert isinstance(layer.input_quantizer, Quantizer)
        assert isinstance(layer.kernel_quantizer, Quantizer)
        assert layer.weight_transform is None
        magnitude = layer.quantized_weight().abs().flatten(1)
        assert torch.equal(magnitude, torch.ones_like(magnitude))
    run.finish()
    assert torch.equal(run.outputs(), after)


@pytest.mark.parametrize("name", [name for name in VARIANTS if name != "adabin"])
def test_a_run_starts_from_a_model_of_the_same_method(name: str) -> None:
    """Its outputs are those of the model at the start and those that were measured at the end; its weights can flip."""
    net = small_net()
    with torch.no_grad():
        for norm in (net[1], net[3], net[6]):
            norm.bias.fill_(0.5)  # so that thresholds are far from 0
    first = Run([make(name)], net)
    first.steps(0, 6, of=6)
    first.finish()
    model, binary = first.outputs(), [layer.quantized_weight() < 0 for layer in binary_layers(net).values()]
    second = Run([make(name)], net)
    if not name.startswith(("two_step", "dynamic_distribution")):  # real weights at first; a new random layer
        assert torch.allclose(second.outputs(), model, rtol=1e-4, atol=1e-4)
    second.steps(0, 6, of=6)
    measured = second.outputs()
    second.finish()
    assert torch.allclose(second.outputs(), measured, rtol=1e-4, atol=1e-4 * float(measured.abs().max()))
    layers = binary_layers(net).values()
    assert all(((layer.quantized_weight() < 0) != old).any() for layer, old in zip(layers, binary, strict=True))


def test_the_latent_weights_stay_what_they_are_without_a_transform() -> None:
    run = trained(("xnor", "approx_sign"))
    latent = [layer.weight.detach().clone() for layer in binary_layers(run.net).values()]
    run.finish()
    layers = binary_layers(run.net).values()
    assert all(torch.equal(layer.weight, weight) for layer, weight in zip(layers, latent, strict=True))


@pytest.mark.parametrize("kernel_quantizer", ["ste_sign", "magnitude_aware_sign"])
@pytest.mark.parametrize("kind", [QuantConv2d, XnorConv2d])
def test_baked_weights_keep_their_magnitude_or_the_scale_that_depends_on_it(
    kind: type[QuantConv2d], kernel_quantizer: str
) -> None:
    layer = kind(4, 3, 3, kernel_quantizer=kernel_quantizer)
    magnitude = float(layer.weight.detach().abs().mean())
    layer.weight_transform = lambda weight: 40 * (weight - weight.mean())
    wanted = layer.quantized_weight().detach()
    bake_weights(layer)
    assert torch.equal(layer.quantized_weight(), wanted)
    scaled = kind is XnorConv2d or kernel_quantizer != "ste_sign"
    assert float(layer.weight.detach().abs().mean()) == pytest.approx(magnitude) or scaled


@pytest.mark.parametrize("names", ALL, ids=IDS)
def test_the_state_loads_into_the_network_without_the_method(names: tuple[str, ...]) -> None:
    run = trained(names, steps=2)
    run.finish()
    net = small_net(seed=9)
    for name in names:
        make(name).leaves(net)
    plain = Run([], net)
    plain.net.load_state_dict(run.net.state_dict())
    assert torch.equal(plain.outputs(), run.outputs())


@pytest.mark.parametrize("names", ALL, ids=IDS)
def test_a_resumed_run_equals_a_straight_one(names: tuple[str, ...]) -> None:
    straight = trained(names, steps=6)
    first = Run([make(name) for name in names])
    first.steps(0, 3, of=6)
    state = copy.deepcopy((first.net.state_dict(), first.optimizer.state_dict()))
    resumed = Run([make(name) for name in names], small_net(seed=5))
    resumed.net.load_state_dict(state[0])
    resumed.optimizer.load_state_dict(state[1])
    resumed.steps(3, 6, of=6)
    wanted, got = straight.net.state_dict(), resumed.net.state_dict()
    assert list(wanted) == list(got)
    assert [name for name in wanted if not torch.equal(wanted[name], got[name])] == []


@pytest.mark.parametrize("names", ALL, ids=IDS)
def test_every_binary_weight_learns(names: tuple[str, ...]) -> None:
    run = Run([make(name) for name in names])
    learning = {name: layer for name, layer in binary_layers(run.net).items() if layer.weight.requires_grad}
    before = {name: layer.weight.detach().clone() for name, layer in learning.items()}
    run.steps(0, 2, of=8)
    for name, layer in learning.items():
        assert layer.weight.isfinite().all()
        assert (layer.weight.detach() != before[name]).float().mean() > 0.1, name


@pytest.mark.parametrize("name", method_names())
def test_a_network_without_binary_layers_is_refused(name: str) -> None:
    with pytest.raises(BadInputError, match=f"method {name} needs binary layers and Sequential has none"):
        make(name).attach(nn.Sequential(SameConv2d(1, 4, 3)))


@pytest.mark.parametrize("name", method_names())
def test_every_method_says_what_it_is(name: str) -> None:
    kind = METHODS[name]
    assert kind.name == name
    assert 10 < len(kind.summary) <= 90
    assert "Source" in (kind.__doc__ or "") + (__import__(kind.__module__, fromlist=["x"]).__doc__ or "")
    assert dataclasses.is_dataclass(kind)
    assert hash(kind()) == hash(kind())


def test_two_methods_for_one_place_are_an_error() -> None:
    with pytest.raises(BadInputError, match=r"^2: methods ste and ede both replace the input quantizer"):
        Run([get_method("ste"), get_method("ede")])
    with pytest.raises(BadInputError, match="of two methods both change the layer's input"):
        Run([get_method("er_activations"), get_method("recu")])
    for names in (("xnor", "magnitude_aware"), ("two_step", "xnor"), ("normalizer_free", "two_step")):
        with pytest.raises(BadInputError, match="^2: two methods both scale the layer's results by the mean magnitude"):
            Run([get_method(name) for name in names])
    with pytest.raises(BadInputError, match="^2: method adabin treats a layer that another method scales or shifts"):
        Run([get_method("xnor"), get_method("adabin")])
    with pytest.raises(BadInputError, match=r"^2\.main: a method changes a layer that another method has taken over"):
        Run([get_method("adabin"), get_method("ste")])


@pytest.mark.parametrize("name", method_names())
def test_a_method_given_twice_is_refused(name: str) -> None:
    with pytest.raises(BadInputError, match=f"^method {name} is given 2 times; give it once"):
        Run([get_method(name), get_method("ste" if name != "ste" else "ede"), get_method(name)])


def test_adabin_refuses_a_model_that_a_method_gave_a_scale() -> None:
    run = trained(("xnor",))
    run.finish()
    with pytest.raises(BadInputError, match="^2: method adabin needs a layer without threshold, scale and bias"):
        Run([get_method("adabin")], run.net)


def test_a_layer_whose_quantizer_is_no_sign_is_refused() -> None:
    net = nn.Sequential(QuantConv2d(4, 4, 3, input_quantizer="ste_tern"))
    with pytest.raises(BadInputError, match="method ede needs a layer whose input quantizer is a sign"):
        get_method("ede").attach(net)


def test_layers_that_a_method_cannot_express_are_refused() -> None:
    for conv, message in (
        (
            QuantConv2d(4, 4, 3, groups=2),
            "^0: method adabin cannot treat QuantConv2d; it treats",
        ),
        (QuantConv2d(4, 4, 3, pad_value=0), "^0: method adabin needs one-padding, this layer pads with 0"),
    ):
        with pytest.raises(BadInputError, match=message):
            get_method("adabin").attach(nn.Sequential(conv))
    with pytest.raises(BadInputError, match="^2: method adabin changes weights that another method changes"):
        Run([get_method("er_weights"), get_method("adabin")])
    with pytest.raises(BadInputError, match="^0: method dynamic_distribution: 6 channels in 4 groups"):
        get_method("dynamic_distribution").attach(nn.Sequential(QuantConv2d(6, 4, 3)))


def test_a_checkpoint_brings_the_layers_that_a_method_left(tmp_path: Path) -> None:
    run = trained(("dynamic_distribution:groups=2", "adabin"))
    run.finish()
    methods = (get_method("dynamic_distribution:groups=2"), get_method("adabin"), get_method("ste"))
    recipe = Recipe(
        name="left", description="", model=small_net, dataset="digits", input_shape=SIZE, classes=tuple("abcde"),
        epochs=1, batch_size=1, schedule=CosineSchedule(peak=1.0), methods=methods,
        augmentation=Augmentation(),
    )  # fmt: skip
    save_model(tmp_path / "model.pt", run.net, recipe, accuracy=0.0, epochs=1, seed=1)
    base = dataclasses.replace(recipe, methods=())
    loaded = load_checkpoint(tmp_path / "model.pt", recipe=base).module
    assert torch.equal(Run([], loaded).outputs(), run.outputs())


def test_options_in_text() -> None:
    method = get_method("recu:variant=ste,tau_end=0.95,scale=false")
    assert dataclasses.asdict(method) == {"variant": "ste", "tau_start": 0.85, "tau_end": 0.95, "scale": False}
    assert get_method("recu") == METHODS["recu"]()
    assert get_method(method_text(method)) == method
    assert method_text(get_method("ste")) == "ste"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("recuu", "unknown method 'recuu'; known: ste, approx_sign"),
        ("recu:tua=1", "method recu has no option 'tua'; its options: variant, tau_start, tau_end, scale"),
        ("ste:x=1", "method ste has no option 'x'; its options: none"),
        ("recu:tau_end=high", "option tau_end of method recu: 'high'; use a value like 0.99"),
        ("recu:scale=1", "option scale of method recu: '1'; use true or false"),
    ],
)
def test_bad_options_in_text(text: str, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        get_method(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("recu:variant=x", "method recu: variant='x'; use clamp, ste, projection"),
        ("recu:tau_start=0.5", "method recu: tau_start=0.5; use a finite number above 0.8161 and below 1"),
        ("weight_constraint:reading=x", "method weight_constraint: reading='x'; use quantile, reach, fixed"),
        (
            "weight_constraint:tau_end=1",
            "method weight_constraint: tau_end=1.0; use a finite number above 0.8161",
        ),
        ("weight_transition:rho=0", "method weight_transition: rho=0.0; use a finite number above 0"),
        ("w_regularization:shape=w9", "method w_regularization: shape='w9'; use w1, w2, w3"),
        ("er_gradient:sample=0", "method er_gradient: sample=0; use a whole number of at least 1"),
        ("distillation:weight=2", "weight=2.0; use a finite number of at least 0 and at most 1"),
        ("symmetric_classifier:arrangement=x", "method symmetric_classifier: arrangement='x'; use simplex, plane"),
        ("detail_semantic:deep=x", "method detail_semantic: no module 'x' in Sequential"),
    ],
)
def test_options_out_of_range(text: str, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        make(text).attach(small_net())


OPTIONS = [
    (name, field.name) for name, kind in METHODS.items() for field in dataclasses.fields(kind)
    if isinstance(field.default, int | float) and not isinstance(field.default, bool)
]  # fmt: skip


@pytest.mark.parametrize(("name", "option"), OPTIONS, ids=lambda text: text)
def test_a_number_is_refused_just_outside_of_its_range(name: str, option: str) -> None:
    kind = METHODS[name]
    allowed = allowed_values(kind)[option]
    whole = isinstance(getattr(kind, option), int)

    def neighbour(end: float, towards: float) -> float:
        return end + math.copysign(1, towards) if whole else math.nextafter(end, towards)

    outside: list[float] = [math.nan, math.inf, -math.inf]
    inside: list[float] = []
    for end, towards, is_open in (
        (allowed.above, math.inf, True), (allowed.least, math.inf, False),
        (allowed.below, -math.inf, True), (allowed.most, -math.inf, False),
    ):  # fmt: skip
        if end is not None:
            inside.append(neighbour(end, towards) if is_open else end)
            outside.append(end if is_open else neighbour(end, -towards))
    assert inside, "no end of the range is declared"
    for value in outside:
        with pytest.raises(BadInputError) as refused:
            kind(**{option: value})
        assert str(refused.value) == f"method {name}: {option}={value!r}; use {allowed}"
    for value in inside:
        assert getattr(kind(**{option: value}), option) == value
    if whole:
        with pytest.raises(BadInputError, match=f"{option}=1.5; use a whole number"):
            kind(**{option: 1.5})


@pytest.mark.parametrize("text", ["ede:t_start=0", "ede:t_end=nan", "w_regularization:width=nan", "two_step:share=0"])
def test_a_bad_number_in_text_is_refused(text: str) -> None:
    with pytest.raises(BadInputError, match=f"^method {text.partition(':')[0]}: .*; use a finite number above 0"):
        get_method(text)


@pytest.mark.parametrize("name", ["distillation", "detail_semantic"])
def test_a_teacher_for_other_images_is_refused(name: str) -> None:
    rgb = nn.Sequential(SameConv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(256, 5))
    options = {"shallow": "1", "deep": "1"} if name == "detail_semantic" else {}
    wrong = dataclasses.replace(get_method(name), teacher=lambda: rgb, **options)
    with pytest.raises(BadInputError, match=rf"^method {name}: the teacher cannot take images of \[1, 8, 8\]: Given"):
        Run([wrong]).step(0.0)


def test_a_teacher_is_needed_and_must_fit() -> None:
    for name in ("distillation", "detail_semantic"):
        with pytest.raises(BadInputError, match=f"method {name} needs a teacher; give {name}:teacher=PATH"):
            get_method(name).attach(small_net())
        with pytest.raises(BadInputError, match="no such file"):
            get_method(f"{name}:teacher=nowhere/model.pt").attach(small_net())
    wrong = dataclasses.replace(
        get_method("distillation"), teacher=lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    )
    with pytest.raises(BadInputError, match="method distillation: the teacher gives 3 logits, the network 5"):
        Run([wrong]).step(0.0)
    pooled = nn.Sequential(nn.MaxPool2d(2), SameConv2d(1, 4, 3), nn.Flatten(), nn.Linear(64, 5))
    smaller = dataclasses.replace(
        get_method("detail_semantic:shallow=1,deep=1"),
        teacher=lambda: pooled,
    )
    with pytest.raises(BadInputError, match=r"^1: method detail_semantic: maps of \[8, 8\] and \[4, 4\] pixels"):
        Run([smaller]).step(0.0)


def test_a_network_without_a_real_valued_head_keeps_its_classifier() -> None:
    net = nn.Sequential(nn.Flatten(), QuantLinear(64, 5), nn.BatchNorm1d(5))
    with pytest.raises(BadInputError, match="^2: method symmetric_classifier needs a network that ends with nn.Linear"):
        get_method("symmetric_classifier").attach(net)
    net = nn.Sequential(QuantLinear(64, 3), nn.Linear(3, 5))
    with pytest.raises(BadInputError, match="needs at least 2 classes and 5 features, this layer has 5 and 3"):
        get_method("symmetric_classifier").attach(net)
