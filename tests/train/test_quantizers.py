"""Quantizers: forward at the corner cases, gradient against the closed form."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

from onebit.core.errors import BadInputError
from onebit.train.quantizers import Quantizer, get_quantizer, quantizer_names

POINTS = [-2.0, -1.0000001, -1.0, -0.5, -1e-30, -0.0, 0.0, 1e-30, 0.25, 1.0, 1.0000001, 2.0]

GRADIENTS = {
    "ste_sign": lambda x: 1.0 if abs(x) <= 1 else 0.0,
    "approx_sign": lambda x: max(2.0 - 2.0 * abs(x), 0.0),
}


def test_every_registered_quantizer_has_its_gradient_tested() -> None:
    assert quantizer_names() == sorted(GRADIENTS)


@pytest.mark.parametrize("name", sorted(GRADIENTS))
def test_forward_is_sign_with_plus_one_at_zero(name: str) -> None:
    q = get_quantizer(name)(torch.tensor(POINTS))
    assert q.tolist() == [-1.0 if x < 0 else 1.0 for x in POINTS]
    assert q.dtype == torch.float32


@pytest.mark.parametrize("name", sorted(GRADIENTS))
def test_gradient_is_the_closed_form(name: str) -> None:
    x = torch.tensor(POINTS, requires_grad=True)
    incoming = torch.linspace(-3, 3, len(POINTS))
    get_quantizer(name)(x).backward(incoming)
    stored = x.detach().tolist()  # float32: -1.0000001 is rounded to its neighbour
    expected = torch.tensor([GRADIENTS[name](value) for value in stored]) * incoming
    assert x.grad is not None
    assert torch.equal(x.grad, expected)


@pytest.mark.parametrize("name", sorted(GRADIENTS))
def test_docstring_and_protocol(name: str) -> None:
    quantizer = get_quantizer(name)
    assert (quantizer.name, quantizer.deploys_as) == (name, "sign")
    assert all(word in (quantizer.__doc__ or "") for word in ("Forward", "Gradient", "Source"))


def test_copies_are_the_registered_object() -> None:
    quantizer = get_quantizer("ste_sign")
    assert isinstance(quantizer, Quantizer)
    assert copy.deepcopy(quantizer) is quantizer
    assert pickle.loads(pickle.dumps(quantizer)) is quantizer  # noqa: S301 - made one expression earlier


def test_unknown_name_lists_the_known() -> None:
    with pytest.raises(BadInputError, match=r"'dorefa'.*approx_sign, ste_sign"):
        get_quantizer("dorefa")
