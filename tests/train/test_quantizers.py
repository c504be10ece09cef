"""Quantizers: the protocol that converter and recipes rely on, parameters, corner cases.

`test_quantizers_against_larq` compares what they compute.
"""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from onebit.core.errors import BadInputError
from onebit.train.checkpoint import load_checkpoint, save_model
from onebit.train.layers import QuantConv2d, QuantLinear
from onebit.train.quantizers import (
    ApproxSign,
    DoReFa,
    MagnitudeAwareSign,
    NoOp,
    Quantizer,
    SteHeaviside,
    SteSign,
    SteTern,
    SwishSign,
    get_quantizer,
    quantizer_names,
)
from onebit.train.recipes import Recipe, get_recipe

POINTS = [-2.0, -1.0000001, -1.0, -0.5, -1e-30, -0.0, 0.0, 1e-30, 0.25, 1.0, 1.0000001, 2.0]

DEPLOYED = {
    "ste_sign": "sign",
    "approx_sign": "sign",
    "swish_sign": "sign",
    "swish_sign(beta=1.5)": "sign",
    "ste_sign(clip_value=None)": "sign",
    "dorefa_quantizer(k_bit=1, mode='weights')": "sign",
    "magnitude_aware_sign": "scaled_sign",
    "magnitude_aware_sign(clip_value=0.5, channel_axis=1)": "scaled_sign",
    "ste_tern": "ternary",
    "ste_tern(threshold_value=0.2, ternary_weight_networks=True)": "ternary",
    "ste_heaviside": "heaviside",
    "dorefa_quantizer": "multibit",
    "dorefa_quantizer(k_bit=1)": "multibit",
    "dorefa_quantizer(k_bit=3, mode='weights')": "multibit",
    "no_op": "identity",
    "no_op(precision=1)": "identity",
}


def test_every_registered_quantizer_says_what_it_deploys_as() -> None:
    assert {get_quantizer(spec).name for spec in DEPLOYED} == set(quantizer_names())


@pytest.mark.parametrize("spec", DEPLOYED)
def test_protocol(spec: str) -> None:
    quantizer = get_quantizer(spec)
    assert quantizer.deploys_as == DEPLOYED[spec]
    assert bool(quantizer.alternative) == (DEPLOYED[spec] != "sign")
    assert all(word in (quantizer.__doc__ or "") for word in ("Forward", "Gradient", "Source"))


@pytest.mark.parametrize("spec", DEPLOYED)
def test_text_copy_and_pickle_keep_name_and_parameters(spec: str) -> None:
    quantizer = get_quantizer(spec)
    assert quantizer.spec == spec
    for other in (get_quantizer(quantizer.spec), copy.deepcopy(quantizer), pickle.loads(pickle.dumps(quantizer))):  # noqa: S301
        assert other == quantizer
        assert isinstance(other, Quantizer)


@pytest.mark.parametrize("name", ["ste_sign", "approx_sign", "swish_sign"])
def test_forward_is_sign_with_plus_one_at_zero(name: str) -> None:
    q = get_quantizer(name)(torch.tensor([*POINTS, torch.nan]))
    assert q.tolist() == [*(-1.0 if x < 0 else 1.0 for x in POINTS), 1.0]
    assert q.dtype == torch.float32


def test_parameters_by_keyword_text_or_class_are_the_same() -> None:
    assert get_quantizer("swish_sign", beta=2.0) == get_quantizer("swish_sign(beta=2.0)") == SwishSign(beta=2.0)
    assert get_quantizer("swish_sign") == SwishSign() != SwishSign(beta=2.0)
    assert get_quantizer(ApproxSign()) == ApproxSign()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("dorefa", r"^unknown quantizer 'dorefa'; known: approx_sign, dorefa_quantizer, .*, swish_sign"),
        ("ste_sign(beta=1)", r"^quantizer ste_sign: has no parameter 'beta'; it takes: clip_value"),
        ("approx_sign(clip_value=1)", r"^quantizer approx_sign: .*it takes: none"),
        ("swish_sign(5)", r"^quantizer 'swish_sign\(5\)'; write name or name\(parameter=value, ...\)"),
        ("swish_sign(beta=__import__('os'))", r"write name or name\(parameter=value"),
        ("swish_sign(beta=", r"write name or name\(parameter=value"),
        ("swish_sign(beta=0)", r"^quantizer swish_sign: beta=0; give a positive number"),
        ("ste_sign(clip_value=-1.0)", r"clip_value=-1.0; give a positive number, or None"),
        ("ste_tern(threshold_value=-0.1)", r"threshold_value=-0.1; give 0 or more"),
        ("ste_tern(ternary_weight_networks=1)", r"ternary_weight_networks=1; give True or False"),
        ("dorefa_quantizer(k_bit=0)", r"k_bit=0; give 1 to 16"),
        ("dorefa_quantizer(mode='bits')", r"mode='bits'; give activations or weights"),
        ("magnitude_aware_sign(channel_axis=0.5)", r"channel_axis=0.5; give the index of an axis"),
        ("no_op(precision=0)", r"precision=0; give a number of bits, or None"),
    ],
)
def test_wrong_names_and_parameters(spec: str, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        get_quantizer(spec)


def test_gradient_of_a_clip_value_of_none_is_the_incoming_one() -> None:
    for quantizer in (SteSign(None), SteTern(None), SteHeaviside(None), NoOp()):
        x = torch.tensor(POINTS, requires_grad=True)
        quantizer(x).backward(torch.arange(float(len(POINTS))))
        assert x.grad is not None
        assert x.grad.tolist() == list(range(len(POINTS)))


def test_a_scaled_sign_of_a_dense_kernel_has_one_magnitude_per_output() -> None:
    torch.manual_seed(1)
    weight = torch.randn(7, 50)
    q = MagnitudeAwareSign()(weight)
    assert torch.equal(q.abs().amax(dim=1), q.abs().amin(dim=1))
    torch.testing.assert_close(q[:, 0].abs(), weight.abs().mean(dim=1))


def network() -> nn.Module:
    """A model of its own recipe, with parameterised quantizers."""
    return nn.Sequential(
        QuantConv2d(1, 4, 3, input_quantizer="swish_sign(beta=2.0)", kernel_quantizer=SteSign(clip_value=1.3)),
        nn.Flatten(),
        QuantLinear(4 * 28 * 28, 10, kernel_quantizer=DoReFa(k_bit=1, mode="weights")),
    )


def test_parameters_survive_a_checkpoint(tmp_path: Path) -> None:
    recipe: Recipe = replace(get_recipe("digits"), name="own", model=network)
    trained = network()
    save_model(tmp_path / "model.pt", trained, recipe, accuracy=0.5, epochs=1, seed=0)
    loaded = load_checkpoint(tmp_path / "model.pt", recipe=recipe).module
    for mine, theirs in zip(trained.children(), loaded.children(), strict=True):
        for name in ("input_quantizer", "kernel_quantizer"):
            assert getattr(mine, name, None) == getattr(theirs, name, None)
    x = torch.randn(2, 1, 28, 28)
    assert torch.equal(trained(x), loaded(x))
    assert loaded[0].input_quantizer == SwishSign(beta=2.0)  # type: ignore[index]
