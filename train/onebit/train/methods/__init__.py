"""Training methods by name.

    from onebit.train.methods import get_method, method_names
    method = get_method("recu")
    method = get_method("recu:variant=ste,tau_end=0.95")

A new method is a frozen dataclass in a module of its own, and an entry in `METHODS`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from onebit.core.errors import BadInputError
from onebit.train.methods.adabin import AdaBin
from onebit.train.methods.base import Attached, Method, Step
from onebit.train.methods.baselines import ApproxSign, Ste
from onebit.train.methods.channel_gates import ChannelGates
from onebit.train.methods.distillation import Distillation, TwoStep
from onebit.train.methods.dynamic_distribution import DynamicDistribution
from onebit.train.methods.ede import Ede
from onebit.train.methods.enhancement import DetailSemantic
from onebit.train.methods.er_bnn import ErActivations, ErGradient, ErWeights
from onebit.train.methods.feature_distribution import FeatureDistribution
from onebit.train.methods.latent_scale import LatentScale
from onebit.train.methods.normalizer_free import NormalizerFree
from onebit.train.methods.recu import Recu
from onebit.train.methods.scale import MagnitudeAware, Xnor
from onebit.train.methods.symmetric_classifier import SymmetricClassifier
from onebit.train.methods.w_regularization import WRegularization
from onebit.train.methods.weight_constraint import WeightConstraint, WeightTransition

__all__ = [
    "MEASURED", "METHODS", "AdaBin", "ApproxSign", "Attached", "ChannelGates", "DetailSemantic", "Distillation",
    "DynamicDistribution", "Ede", "ErActivations", "ErGradient", "ErWeights", "FeatureDistribution", "LatentScale",
    "MagnitudeAware", "Method", "NormalizerFree", "Recu", "Ste", "Step", "SymmetricClassifier", "TwoStep",
    "WRegularization", "WeightConstraint", "WeightTransition", "Xnor", "attach_methods", "get_method", "measured_costs",
    "method_names", "method_text",
]  # fmt: skip

_ALL: tuple[type[Method], ...] = (
    Ste,
    ApproxSign,
    LatentScale,
    WeightTransition,
    WeightConstraint,
    WRegularization,
    FeatureDistribution,
    DynamicDistribution,
    DetailSemantic,
    NormalizerFree,
    ErWeights,
    ErActivations,
    ErGradient,
    ChannelGates,
    Recu,
    SymmetricClassifier,
    Ede,
    Xnor,
    MagnitudeAware,
    AdaBin,
    TwoStep,
    Distillation,
)

MEASURED = Path(__file__).with_name("measured.json")
"""What `python -m benchmarks.methods` measured of every method."""

METHODS: Mapping[str, type[Method]] = {method.name: method for method in _ALL}


def method_names() -> tuple[str, ...]:
    """All names, in the order of `METHODS`."""
    return tuple(METHODS)


def measured_costs() -> dict[str, dict[str, float | int | None]]:
    """By method: `step`, the time of a training step relative to `ste`'s; `chain_bytes` and `residual_bytes`, what the
    int8 file of a small chain or residual net grows by. None where a net was not converted to int8.
    """
    recorded: dict[str, dict[str, Any]] = json.loads(MEASURED.read_text("utf-8"))["methods"]
    base = recorded[Ste.name]
    costs: dict[str, dict[str, float | int | None]] = {}
    for name in METHODS:
        costs[name] = {"step": recorded[name]["step"]}
        for net in ("chain", "residual"):
            same_form = recorded[name][net].get("form") == base[net]["form"]
            costs[name][f"{net}_bytes"] = recorded[name][net]["bytes"] - base[net]["bytes"] if same_form else None
    return costs


def attach_methods(methods: Sequence[Method], net: nn.Module) -> list[Attached]:
    """Hooks the methods into `net`, in their order; BadInputError if one is given twice."""
    names = [method.name for method in methods]
    for name in names:
        if names.count(name) > 1:
            raise BadInputError(f"method {name} is given {names.count(name)} times", fix="give it once")
    return [method.attach(net) for method in methods]


def get_method(text: str) -> Method:
    """The method "name" or "name:option=value,option=value"; BadInputError lists what is known."""
    name, _, options = text.partition(":")
    if name not in METHODS:
        raise BadInputError(f"unknown method {name!r}", fix=f"known: {', '.join(METHODS)}")
    kind = METHODS[name]
    defaults = {field.name: field.default for field in dataclasses.fields(kind)}
    values = {}
    for option in filter(None, options.split(",")):
        key, _, value = option.partition("=")
        if key not in defaults:
            allowed = ", ".join(defaults) or "none"
            raise BadInputError(f"method {name} has no option {key!r}", fix=f"its options: {allowed}")
        values[key] = _parsed(value, defaults[key], f"option {key} of method {name}")
    return kind(**values)


def method_text(method: Method) -> str:
    """What `get_method` makes this method from; options at their defaults are left out."""
    options = [
        f"{field.name}={value}"
        for field in dataclasses.fields(method)
        if (value := getattr(method, field.name)) != field.default
    ]
    return f"{method.name}:{','.join(options)}" if options else method.name


def _parsed(text: str, default: Any, what: str) -> Any:
    """`text` as the type of `default`."""
    if isinstance(default, bool):
        if text.lower() not in ("true", "false"):
            raise BadInputError(f"{what}: {text!r}", fix="use true or false")
        return text.lower() == "true"
    try:
        return type(default)(text)
    except ValueError as error:
        raise BadInputError(f"{what}: {text!r}", fix=f"use a value like {default!r}") from error
