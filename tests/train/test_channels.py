"""Widening and squeezing: groups of channels, gates, removal with identical outputs, and fitting a budget."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from onebit.core.errors import BadInputError
from onebit.train.channels import (
    Resized,
    channel_graph,
    constant_channels,
    fit_channels,
    keep_channels,
    narrowest,
    representable_width,
    squeeze,
    widened,
    widened_model,
)
from onebit.train.layers import ChannelPReLU, QuantConv2d, QuantLinear, SameConv2d, binary_layers
from onebit.train.methods.channel_gates import ChannelGates
from onebit.train.models import build_architecture
from onebit.train.models.blocks import Residual, binary_conv, pooled_head, real_conv, real_shortcut
from onebit.train.models.residual import bireal_resnet
from support.method_runs import Run


def alive(net: nn.Module, seed: int = 3) -> nn.Module:
    """Batch norms and per-channel parameters as if trained: no symmetric or trivial values."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.running_mean.copy_(torch.randn(module.num_features, generator=generator))
                module.running_var.copy_(torch.rand(module.num_features, generator=generator) * 20 + 5)
                module.weight.copy_(torch.rand(module.num_features, generator=generator) + 0.5)
                module.bias.copy_(torch.randn(module.num_features, generator=generator))
        for name, parameter in net.named_parameters():
            if name.endswith(("threshold", "shift")):
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return net.eval()


def silence(net: nn.Module, group: str, channels: list[int], value: float = 0.0) -> None:
    (found,) = [g for g in channel_graph(net).free() if g.writers[0] == group]
    with torch.no_grad():
        for norm in found.norms(net):
            norm.weight[channels] = 0.0
            norm.bias[channels] = value


def outputs(net: nn.Module, shape: tuple[int, ...], count: int = 8) -> Tensor:
    x = torch.randn(count, *shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        y: Tensor = net.eval()(x)
    return y


def assert_same_outputs(a: nn.Module, b: nn.Module, shape: tuple[int, ...]) -> None:
    wanted, got = outputs(a, shape), outputs(b, shape)
    assert wanted.std() > 0
    assert torch.allclose(got, wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))


def wide_net() -> nn.Sequential:
    torch.manual_seed(2)
    return nn.Sequential(
        SameConv2d(2, 96, 3, bias=False), nn.BatchNorm2d(96), nn.ReLU(),
        SameConv2d(96, 64, 3), nn.BatchNorm2d(64),
        QuantConv2d(64, 96, 3), nn.BatchNorm2d(96), nn.MaxPool2d(2),
        QuantConv2d(96, 64, 3, stride=2), nn.BatchNorm2d(64), nn.Hardtanh(),
        nn.Flatten(), QuantLinear(4 * 64, 64), nn.BatchNorm1d(64), nn.Linear(64, 5),
    )  # fmt: skip


WIDE_SHAPE = (2, 8, 8)


def test_groups_of_a_chain() -> None:
    groups = channel_graph(wide_net()).free()
    assert [(g.writers, g.readers, g.inside, g.size) for g in groups] == [
        (["0"], ["3"], ["1"], 96),
        (["3"], ["5"], ["4"], 64),
        (["5"], ["8"], ["6"], 96),
        (["8"], ["12"], ["9"], 64),
        (["12"], ["14"], ["13"], 64),
    ]


def residual_net() -> nn.Sequential:
    return nn.Sequential(
        real_conv(2, 64),
        Residual(nn.Sequential(*binary_conv(64, 64, quantizer="ste_sign"))),
        Residual(nn.Sequential(*binary_conv(64, 96, stride=2, quantizer="ste_sign")), real_shortcut(64, 96, 2)),
        Residual(nn.Sequential(*binary_conv(96, 96, quantizer="ste_sign")), after=ChannelPReLU(96)),
        pooled_head(96, 5),
    )


def test_a_residual_stream_is_one_group() -> None:
    groups = channel_graph(residual_net()).free()
    assert [(g.writers, g.size) for g in groups] == [
        (["0.0", "1.body.0"], 64),
        (["2.body.0", "2.shortcut.1.0", "3.body.0"], 96),
    ]
    net = alive(residual_net())
    silence(net, "0.0", list(range(20, 60)))
    silence(net, "2.body.0", list(range(70)))
    small = squeeze(net)
    assert_same_outputs(net, small, (2, 8, 8))
    assert [len(layer.weight) for layer in binary_layers(small).values()] == [32, 32, 32]
    # one live writer keeps the channel of all
    net[1].body[1].weight.data[20:60] = 1.0
    assert constant_channels(net)["0.0"] == []


def repeating_net() -> nn.Module:
    return bireal_resnet((3, 8, 8), 5, blocks=(1, 1), widths=(64, 128), activation="prelu")


REPEATING_SHAPE = (3, 8, 8)


def test_a_stream_that_repeats_another_one_depends_on_it() -> None:
    channels = channel_graph(repeating_net())
    groups = channels.free()
    assert [(g.writers, g.repeats, g.size) for g in groups] == [
        (["0.0", "1.body.0", "2.body.0"], [], 64),
        (["3.body.0", "4.body.0"], ["3.shortcut.1"], 128),
    ]
    assert channels.base_of(groups[1]) is groups[0]


@pytest.mark.parametrize(
    ("stream", "copies", "left"),
    [
        (range(0), range(60), (64, 96)),  # one and a half copies: a slice is joined to the stream
        (range(0), range(90), (64, 64)),  # channels 0 to 25 live in no copy, 26 to 37 in the second one only
        (range(30, 62), [*range(30, 62), *range(94, 126)], (32, 64)),
        (range(32), [*range(128)][3:], (64, 32)),  # a channel lives in the stream or in a copy: it stays
    ],
)
def test_repeated_channels_go_with_identical_outputs(
    stream: Sequence[int], copies: Sequence[int], left: tuple[int, int]
) -> None:
    net = alive(repeating_net())
    silence(net, "0.0", list(stream))
    silence(net, "3.body.0", list(copies))
    small = squeeze(net)
    assert_same_outputs(net, small, REPEATING_SHAPE)
    assert tuple(len(small.get_submodule(name).weight) for name in ("0.0", "3.body.0")) == left


def test_channels_that_are_no_copies_are_refused() -> None:
    net = repeating_net()
    small = keep_channels(net, {"0.0": list(range(5, 37))})
    assert len(small.get_submodule("3.body.0").weight) == 64
    with pytest.raises(BadInputError, match=r"^3\.body\.0: its channels repeat those of another group"):
        keep_channels(net, {"0.0": list(range(5, 37)), "3.body.0": list(range(32))})


def test_a_budget_squeezes_streams_that_repeat() -> None:
    net = alive(repeating_net())

    def weights(module: nn.Module) -> int:
        return sum(layer.weight.numel() for layer in binary_layers(module).values())

    for share in (0.9, 0.4, 0.13):
        small = fit_channels(net, lambda module, share=share: weights(module) <= share * weights(net))
        assert weights(small) <= share * weights(net)
        assert outputs(small, REPEATING_SHAPE).shape == (8, 5)
        loaded = Resized.of(repeating_net, small)()
        loaded.load_state_dict(small.state_dict())
        assert torch.equal(outputs(loaded, REPEATING_SHAPE), outputs(small, REPEATING_SHAPE))
    assert weights(narrowest(net)) == 4 * 9 * 32 * 32


def test_a_widened_network_is_initialized_like_one_of_that_width() -> None:
    torch.manual_seed(5)
    wide = widened_model(repeating_net, 1.3, 32)()
    assert [len(layer.weight) for layer in binary_layers(wide).values()] == [96, 96, 192, 192]
    weight = binary_layers(wide)["4.body.0"].weight
    assert float(weight.detach().abs().max()) == pytest.approx((192 * 9) ** -0.5, rel=0.01)  # torch's uniform bound
    assert outputs(wide, REPEATING_SHAPE).shape == (8, 5)


def test_nothing_is_removed_from_a_network_whose_channels_all_live() -> None:
    net = alive(wide_net())
    assert constant_channels(net) == {"0": [], "3": [], "5": [], "8": [], "12": []}
    assert [len(layer.weight) for layer in binary_layers(squeeze(net)).values()] == [96, 64, 64]


@pytest.mark.parametrize("value", [0.0, 0.7])
def test_outputs_stay_when_silent_channels_go(value: float) -> None:
    """Constants of 0.7 leave behind the first sign (+1 like the padding), not behind a zero-padded convolution."""
    net = alive(wide_net())
    silent = {"0": range(10, 50), "3": range(33), "5": range(0, 96, 2), "8": [1, 2, 40], "12": range(40)}
    for group, channels in silent.items():
        silence(net, group, list(channels), value)
    small = squeeze(net)
    assert_same_outputs(net, small, WIDE_SHAPE)
    widths = [len(m.weight) for m in small.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert widths == ([64, 32, 64, 64, 32, 5] if value == 0 else [96, 32, 64, 64, 32, 5])
    assert [m.in_channels for m in small.modules() if isinstance(m, nn.Conv2d)] == [2, *widths[:3]]
    assert all(width % 32 == 0 for width in widths[:-1])


def test_a_constant_that_differs_from_the_padding_stays() -> None:
    net = alive(wide_net())
    silence(net, "5", list(range(64)), -0.5)  # sign -1 inside, +1 around the image
    assert constant_channels(net)["5"] == []
    silence(net, "8", list(range(32)), -0.5)  # read by a dense layer, which pads nothing
    assert constant_channels(net)["8"] == list(range(32))
    assert_same_outputs(net, squeeze(net), WIDE_SHAPE)


def test_per_channel_values_of_binary_layers_follow() -> None:
    net = alive(wide_net())
    conv = net[8]
    conv.input_threshold = nn.Parameter(torch.linspace(-1, 1, 96))
    conv.output_scale = nn.Parameter(torch.linspace(0.5, 2, 64))
    conv.bias = nn.Parameter(torch.linspace(-9, 9, 64))
    silence(net, "5", list(range(96)))
    # sign(0 - t) is +1 like the padding only for t <= 0, the first half
    assert constant_channels(net)["5"] == list(range(48))
    silence(net, "8", list(range(30, 64)))
    small = squeeze(net)
    assert_same_outputs(net, small, WIDE_SHAPE)
    assert [len(v) for v in (small[8].input_threshold, small[8].output_scale, small[8].bias)] == [64, 32, 32]


@pytest.mark.parametrize("name", ["bireal-resnet8", "reactnet", "vgg-small", "quicknet", "meliusnet", "real-to-binary"])
def test_architectures_keep_their_outputs(name: str) -> None:
    net = alive(build_architecture(name))
    groups = [g for g in channel_graph(net).free() if g.norms(net) and g.readers and g.size > 32]
    for group in groups:
        silence(net, group.writers[0], list(range(group.size // 2 + 4)))
    small = squeeze(net)
    assert_same_outputs(net, small, (3, 32, 32))
    if name == "vgg-small":
        assert sum(p.numel() for p in small.parameters()) < 0.7 * sum(p.numel() for p in net.parameters())


def test_a_layer_called_twice_keeps_its_channels() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.conv = SameConv2d(2, 64, 3), QuantConv2d(64, 64, 3)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.conv(self.conv(self.first(x))).mean(dim=(2, 3))
            return y

    assert channel_graph(Twice()).free() == []


def test_gates_shrink_by_the_proximal_step_after_the_warmup() -> None:
    run = Run([ChannelGates(strength=2.0, warmup=0.5)], rate=0.1)
    attached = run.attached[0]
    attached.progress(0.4)
    attached.after_step(0.1)
    assert all((gate == 1).all() for gate in attached.gates)
    attached.progress(0.5)
    gate, cost = attached.gates[1], attached.costs[1]
    with torch.no_grad():
        gate[:3] = torch.tensor([0.01, -0.01, -1.0])
    attached.after_step(0.1)
    step = 0.2 * cost
    assert torch.allclose(gate[:4].detach(), torch.tensor([0.0, 0.0, step - 1, 1 - step]), atol=1e-6)
    assert sum(attached.costs) / len(attached.costs) == pytest.approx(1.0)


def test_gated_training_ends_in_a_smaller_network_with_the_same_outputs() -> None:
    torch.manual_seed(1)
    net = nn.Sequential(
        SameConv2d(1, 64, 3), nn.BatchNorm2d(64), QuantConv2d(64, 96, 3), nn.BatchNorm2d(96), nn.MaxPool2d(4),
        nn.Flatten(), QuantLinear(4 * 96, 64), nn.BatchNorm1d(64), nn.Linear(64, 5),
    )  # fmt: skip
    run = Run([ChannelGates(strength=1.5, warmup=0.0)], net)
    run.steps(0, 30, of=30)
    before = run.outputs()
    run.finish()
    assert torch.allclose(run.outputs(), before, atol=1e-5)
    dead = {name: len(channels) for name, channels in constant_channels(net).items()}
    assert any(dead.values())
    small = Run([], squeeze(net))
    assert torch.allclose(small.outputs(), before, rtol=1e-4, atol=1e-4)
    small.steps(0, 2, of=2)  # it can be trained on


def test_a_budget_decides_the_widths() -> None:
    net = alive(wide_net())

    def bits(module: nn.Module) -> int:
        return sum(layer.weight.numel() for layer in binary_layers(module).values())

    whole = bits(net)
    for budget in (whole, whole // 2, whole // 3):
        fitted = fit_channels(net, lambda module, budget=budget: bits(module) <= budget)
        assert bits(fitted) <= budget
        assert all(len(layer.weight) % 32 == 0 for layer in binary_layers(fitted).values())
        assert outputs(fitted, WIDE_SHAPE).shape == (8, 5)
        assert bits(fitted) > 0.4 * budget
    with pytest.raises(BadInputError, match="does not fit the budget even with 32 channels per layer"):
        fit_channels(net, lambda module: bits(module) < 1000)


def test_a_budget_spares_the_channels_with_the_largest_factors() -> None:
    net = alive(wide_net())
    with torch.no_grad():
        net[6].weight.copy_(torch.linspace(0.1, 3.0, 96))
    fitted = fit_channels(net, lambda module: len(module[5].weight) <= 32)
    assert torch.equal(fitted[6].weight, net[6].weight[64:])


def test_unknown_group() -> None:
    with pytest.raises(BadInputError, match="^1: has no channels that can be removed; groups are 0, 3, 5, 8, 12"):
        keep_channels(wide_net(), {"1": [0]})


def test_gates_need_something_to_gate() -> None:
    net = nn.Sequential(QuantConv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Flatten())
    with pytest.raises(BadInputError, match="method channel_gates found no channels between two layers"):
        ChannelGates().attach(net)


def test_widths_are_multiples_of_a_word() -> None:
    assert widened((16, 32, 64), 1.5) == (32, 64, 96)
    assert widened((10, 20), 2, multiple=4) == (20, 40)


def test_few_binary_features_represent_binary_ones_and_many_real_ones() -> None:
    generator = torch.Generator().manual_seed(4)
    low_rank = torch.randn(2000, 2, generator=generator) @ torch.randn(2, 24, generator=generator)
    full_rank = torch.randn(2000, 24, generator=generator)
    assert representable_width(low_rank, share=0.7) < representable_width(full_rank, share=0.7)
    assert representable_width(full_rank, share=1.0) == 96
