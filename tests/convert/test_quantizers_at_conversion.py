"""What LCE cannot deploy says so at conversion, with the alternative; what it can converts and passes verification."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from onebit.convert import convert
from onebit.core.errors import UnsupportedError
from onebit.train.layers import QuantConv2d, QuantLinear
from onebit.train.quantizers import get_quantizer, quantizer_names

SPECS = [*quantizer_names(), "dorefa_quantizer(k_bit=1, mode='weights')", "swish_sign(beta=2.0)"]


def network(input_quantizer: str, kernel_quantizer: str) -> nn.Module:
    torch.manual_seed(5)
    quantizers = {"input_quantizer": input_quantizer, "kernel_quantizer": kernel_quantizer}
    return nn.Sequential(
        QuantConv2d(3, 8, 3, **quantizers), nn.BatchNorm2d(8), nn.Flatten(), QuantLinear(8 * 36, 5, **quantizers)
    ).eval()  # type: ignore[arg-type]


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("role", ["input", "kernel"])
def test_a_quantizer_deploys_or_says_what_to_use_instead(role: str, spec: str, tmp_path: Path) -> None:
    quantizer = get_quantizer(spec)
    net = network(spec if role == "input" else "ste_sign", spec if role == "kernel" else "ste_sign")
    out = tmp_path / "m.tflite"
    deployable = ("sign",) if role == "input" else ("sign", "scaled_sign")
    if quantizer.deploys_as in deployable:
        result = convert(net, out, example_input=torch.zeros(1, 3, 6, 6))
        assert result.verified.argmax_equal == result.verified.samples
        assert result.ops["LceBconv2d"] == 2
        return
    with pytest.raises(UnsupportedError) as caught:
        convert(net, out, example_input=torch.zeros(1, 3, 6, 6))
    error = caught.value
    assert error.where == "QuantConv2d '0'"
    assert error.message == (
        f"its {role} quantizer {spec} deploys as '{quantizer.deploys_as}', which LCE has no bits for"
    )
    assert error.fix == f"train it with {quantizer.alternative}"
    assert "_sign" in error.fix or "k_bit=1" in error.fix
    assert not out.exists()
