"""Functions that are refused, with the reason and what to do instead."""

from __future__ import annotations

import operator
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name PyTorch's own documentation uses

_BINARY_FIX = "use onebit.train.layers.QuantConv2d or QuantLinear, or a module with their attributes (onebit_kind)"
_SIGN = "a quantizer written with sign() or where(): LCE has no such operator, and sign(0) is 0 here but +1 on bits"

#: call target -> (why it is refused, what to do)
REFUSED: dict[Any, tuple[str, str]] = {
    **dict.fromkeys((torch.sign, "sign", "sign_", torch.sgn, "sgn"), (_SIGN, _BINARY_FIX)),
    **dict.fromkeys((torch.where, "where", torch.heaviside), (_SIGN, _BINARY_FIX)),
    **dict.fromkeys(
        (torch.round, "round", torch.floor, "floor", torch.fake_quantize_per_tensor_affine),
        ("a quantizer of several bits: LCE has bits or floats", f"use no quantizer and --int8, or {_BINARY_FIX}"),
    ),
    **dict.fromkeys(
        (F.gelu, F.elu, F.selu, F.softplus, F.mish, torch.exp, "exp"),
        ("an activation without a TFLite operator", "use ReLU, ReLU6, PReLU, Hardswish, Sigmoid, SiLU or Tanh"),
    ),
    **dict.fromkeys(
        (torch.matmul, operator.matmul, torch.bmm, "matmul", "bmm", F.scaled_dot_product_attention),
        ("a product of two computed tensors", "use layers with constant weights"),
    ),
    **dict.fromkeys(
        (F.layer_norm, F.group_norm, F.instance_norm), ("statistics of the input at run time", "use batch norm")
    ),
    **dict.fromkeys(
        (F.log_softmax, torch.log_softmax, "log_softmax"),
        ("a logarithm of the softmax", "leave it out: the logits choose the same class"),
    ),
    torch.stack: ("a new dimension", "use torch.cat along dim=1"),
}
