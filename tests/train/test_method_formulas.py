"""What each method computes, against its formula: schedules, projections, gradients, statistics."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from onebit.train.layers import QuantConv2d, QuantLinear, binary_layers
from onebit.train.methods.adabin import AdaBin, AdaBinLayer
from onebit.train.methods.distillation import TwoStep, distributional_loss
from onebit.train.methods.dynamic_distribution import DynamicConv2d, GroupedExcitation, Refinement
from onebit.train.methods.ede import Ede, EdeSign
from onebit.train.methods.enhancement import contrastive_loss, detail_loss, edges
from onebit.train.methods.er_bnn import AdaptiveSign, ErActivations, ErGradient, RestoredWeight, spread, subsample
from onebit.train.methods.feature_distribution import FeatureDistribution, imbalance
from onebit.train.methods.latent_scale import LatentScale
from onebit.train.methods.normalizer_free import ScaledStandardisation, clip_gradient
from onebit.train.methods.parts import IdentitySign
from onebit.train.methods.recu import RectifiedWeight, Recu, standardised
from onebit.train.methods.scale import MagnitudeAware, Xnor
from onebit.train.methods.symmetric_classifier import class_vectors
from onebit.train.methods.w_regularization import SHAPES, WRegularization, tail_drift
from onebit.train.methods.weight_constraint import WeightConstraint, WeightTransition, laplace_quantile
from onebit.train.optimizers import Bop
from support.method_runs import Run


def weights(run: Run) -> list[Tensor]:
    return [layer.weight.detach() for layer in binary_layers(run.net).values()]


# ------------------------------------------------------------------------------------------------------------ schedules


@pytest.mark.parametrize(
    ("value", "start", "end"),
    [(Recu().tau_at, 0.85, 0.99), (ErGradient().p_at, 0.8, 0.0), (Ede().t_at, 0.1, 10.0)],
    ids=["tau", "p", "t"],
)
def test_schedules_hit_their_end_points_and_are_monotone(value, start: float, end: float) -> None:
    assert value(0.0) == pytest.approx(start, abs=1e-12)
    assert value(1.0) == pytest.approx(end, abs=1e-12)
    steps = np.diff([value(done) for done in np.linspace(0, 1, 20)])
    assert (steps > 0).all() or (steps < 0).all()


def test_quantile_is_that_of_a_laplace_distribution() -> None:
    x = np.random.default_rng(0).laplace(scale=3.0, size=400_000)
    q = laplace_quantile(0.9) * np.abs(x).mean()
    # of the signed value: 90 % lie below, so 80 % of the magnitudes
    assert np.mean(x <= q) == pytest.approx(0.9, abs=2e-3)


# -------------------------------------------------------------------------------------------- constraint and transition


@pytest.mark.parametrize("reading", ["quantile", "reach", "fixed"])
def test_constraint_holds_after_every_step(reading: str) -> None:
    method = WeightConstraint(reading=reading, steps=5.0, sigmas=0.5)
    run = Run([method])
    (attached,) = run.attached
    clamped = 0
    for i in range(4):
        limits: dict[str, float] = {}
        limit = type(attached).limit

        def recorded(self, name, layer, rate, limits=limits, limit=limit):
            limits[name] = value = limit(self, name, layer, rate)
            return value

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(attached), "limit", recorded)
            run.step(i / 4, seed=i)
        for name, layer in binary_layers(run.net).items():
            assert layer.weight.detach().abs().max() <= limits[name]
            clamped += int((layer.weight.detach().abs() == limits[name]).sum())
    assert clamped > 0


def test_fixed_limit_is_in_units_of_he_s_deviation() -> None:
    run = Run([WeightConstraint(reading="fixed", sigmas=0.3)])
    run.step(0.0)
    first = weights(run)[0]
    assert first.abs().max() == pytest.approx(0.3 * math.sqrt(2 / (9 * 32)), rel=1e-6)


def test_reach_is_what_the_optimizer_moves_in_that_many_steps() -> None:
    run = Run([WeightConstraint(reading="reach", steps=3.0)], rate=0.01)
    before = [w.clone() for w in weights(run)]
    for w in before:
        w.mul_(1.0)
    gradients: list[Tensor] = []
    (attached,) = run.attached
    record = attached.after_backward

    def recorded(rate: float) -> None:
        record(rate)
        gradients.extend(layer.weight.grad.clone() for layer in binary_layers(run.net).values())

    attached.after_backward = recorded
    run.step(0.0)
    for after, start, gradient in zip(weights(run), before, gradients, strict=True):
        limit = 3.0 * 0.01 * gradient.square().mean().sqrt()
        moved = start - 0.01 * gradient
        assert torch.allclose(after, moved.clamp(-limit, limit), rtol=1e-3, atol=1e-7)


def test_transition_sets_exactly_the_threshold_where_signs_flip() -> None:
    method = WeightTransition(rho=0.5)
    run = Run([method], rate=0.5)
    start = [method.rho * w.abs().mean() for w in weights(run)]
    for rate, share in ((0.5, 1.0), (0.2, 0.4)):
        before = [w.clone() for w in weights(run)]
        run.rate = rate
        run.optimizer.param_groups[0]["lr"] = 30.0
        run.step(0.0, seed=3)
        flips = 0
        for old, new, s0 in zip(before, weights(run), start, strict=True):
            flipped = (old < 0) != (new < 0)
            flips += int(flipped.sum())
            magnitude = new[flipped].abs()
            assert torch.allclose(magnitude, (s0 * share).expand_as(magnitude), rtol=1e-6)
        assert flips > 50


# ----------------------------------------------------------------------------------------------------- W regularization


@pytest.mark.parametrize("shape", ["w1", "w2", "w3"])
def test_regularizer_draws_to_plus_and_minus_one(shape: str) -> None:
    u = torch.tensor([-1.5, -1.0, -0.5, 0.5, 1.0, 1.5], requires_grad=True)
    SHAPES[shape](u).sum().backward()
    # a step goes against the gradient: outward inside the wells, inward beyond, at rest in them (W1 has a kink there)
    expected = [-1, 0, 1, -1, 0, 1]
    got = torch.sign(u.grad)
    assert [int(g) for g, e in zip(got, expected, strict=True) if e] == [e for e in expected if e]
    if shape != "w1":
        assert u.grad[1] == u.grad[4] == 0


def test_only_the_smooth_shape_leaves_undecided_weights_alone() -> None:
    slopes = {}
    for name, cost in SHAPES.items():
        u = torch.tensor([1e-4], requires_grad=True)
        cost(u).sum().backward()
        slopes[name] = abs(float(u.grad))
    assert slopes["w1"] == 1.0
    assert slopes["w2"] == pytest.approx(2.0, rel=1e-3)
    assert slopes["w3"] < 1e-3


def test_tail_drift_is_continuous_bounded_and_zero_inside() -> None:
    u = torch.linspace(-3, 3, 6001, dtype=torch.float64)
    drift = tail_drift(u, width=0.5)
    assert (drift[u.abs() <= 1] == 0).all()
    assert torch.equal(drift[u.abs() >= 1.5], torch.sign(u[u.abs() >= 1.5]))
    assert drift.diff().abs().max() < 0.01
    assert (drift * u >= 0).all()


def test_tail_is_added_to_the_gradient_and_fades() -> None:
    def gradient_change(done: float, tail: float) -> Tensor:
        run = Run([WRegularization(strength=0.0, tail=tail)])
        layer = run.net[2]
        layer.weight.grad = torch.ones_like(layer.weight)
        run.attached[0].progress(done)
        run.attached[0].after_backward(0.1)
        return layer.weight.grad - 1.0

    change = gradient_change(0.0, 0.3)
    assert change.abs().max() == pytest.approx(0.3, abs=0.03)  # rms(g) = 1, c = 1 for u >= 2 (uniform latents reach 2)
    assert torch.equal(gradient_change(0.0, 0.0), torch.zeros_like(change))
    assert gradient_change(1.0, 0.3).abs().max() < 1e-6


def test_loss_term_grows_with_the_square_of_progress() -> None:
    run = Run([WRegularization(strength=1.0, tail=0.0)])
    (attached,) = run.attached
    expected = 0.0
    for w in weights(run):
        u = w / w.abs().flatten(1).mean(1).reshape(-1, *(1,) * (w.ndim - 1))
        expected += float((u.abs() - 1).square().mean())
    for done in (0.0, 0.5, 1.0):
        attached.progress(done)
        assert float(attached.loss(torch.zeros(()), None).detach()) == pytest.approx(done**2 * expected, rel=1e-5)


# ------------------------------------------------------------------------------------------------------------- ER-BNN


@pytest.mark.parametrize("shape", [(8, 16, 3, 3), (5, 77)])
def test_restored_weights_have_mean_zero_and_the_length_of_signs(shape: tuple[int, ...]) -> None:
    u = RestoredWeight()(torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 3 + 0.7).flatten(1)
    n = u.shape[1]
    assert u.mean(1).abs().max() < 1e-6
    assert torch.allclose(u.norm(dim=1), torch.full((shape[0],), math.sqrt(n)), rtol=1e-6)


def test_a_constant_filter_stays_finite() -> None:
    assert RestoredWeight()(torch.full((2, 3), 0.5)).isfinite().all()


def test_spread_is_the_larger_quantile_of_the_two_sides() -> None:
    x = torch.cat([-torch.arange(0.0, 101.0), torch.arange(1.0, 11.0)])[torch.randperm(111)]
    for p in (0.0, 0.25, 0.5, 1.0):
        assert float(spread(x, p)) == 100 * p
    assert float(spread(-x, 0.5)) == 50.0
    assert float(spread(torch.tensor([3.0, 1.0, 2.0]), 1.0)) == 3.0  # no negative values at all
    assert float(spread(torch.tensor([-3.0, -1.0]), 1.0)) == 3.0


def test_spread_rises_with_p() -> None:
    x = torch.randn(5000, generator=torch.Generator().manual_seed(2))
    values = [float(spread(x, p)) for p in np.linspace(0, 1, 30)]
    assert values == sorted(values)
    assert values[0] < 0.01
    assert values[-1] == float(x.abs().max())


def test_subsample_is_spread_over_the_whole_tensor() -> None:
    x = torch.arange(1000.0)
    assert torch.equal(subsample(x, 2000), x)
    taken = subsample(x, 100)
    assert len(taken) == 100
    assert float(taken.max()) == 990.0


def test_adaptive_gradient() -> None:
    sign = AdaptiveSign(0.5, 0.01, 4096)
    for r in (0.01, 0.5, 3.0):
        sign.range.fill_(r)
        sign.eval()
        x = torch.linspace(-4, 4, 81, dtype=torch.float64, requires_grad=True)
        sign(x).sum().backward()
        used = max(r, 0.1)
        expected = max(used, 1) / used * (1 - np.tanh(np.linspace(-4, 4, 81) / used) ** 2)
        assert np.allclose(x.grad.numpy(), expected, rtol=1e-5, atol=1e-7)


def test_running_range_is_the_mean_of_the_first_batches() -> None:
    sign = AdaptiveSign(1.0, 0.01, 4096)
    for value in (1.0, 2.0, 6.0):
        sign(torch.tensor([value, -0.5]))
    assert float(sign.range) == pytest.approx(3.0)
    sign.eval()(torch.tensor([100.0]))
    assert float(sign.range) == pytest.approx(3.0)


@pytest.mark.parametrize("kind", ["conv", "linear"])
def test_restored_activations_are_a_convolution_of_a_s_plus_m(kind: str) -> None:
    """Against the definition: A s + M padded with A + M, convolved with the signs of the weight."""
    torch.manual_seed(4)
    layer = QuantConv2d(3, 4, 3) if kind == "conv" else QuantLinear(12, 4)
    x = torch.randn(5, 3, 6, 6) * 2 + 0.8 if kind == "conv" else torch.randn(5, 12) * 2 + 0.8
    net = torch.nn.Sequential(layer)
    attached = ErActivations().attach(net)
    y = net(x)

    flat = x.flatten(1).numpy().astype(np.float64)
    m = flat.mean(1).mean()
    a = np.sqrt(((flat - flat.mean(1, keepdims=True)) ** 2).mean(1)).mean()
    restored = torch.from_numpy(np.where(x.numpy() < m, -a, a) + m)
    signs = torch.where(layer.weight < 0, -1.0, 1.0).double()
    if kind == "conv":
        restored = torch.nn.functional.pad(restored, (1, 1, 1, 1), value=float(a + m))
        wanted = torch.nn.functional.conv2d(restored, signs)
    else:
        wanted = restored @ signs.T
    assert torch.allclose(y.double(), wanted, rtol=1e-5, atol=1e-4)

    attached.finish()
    net.eval()
    # after one batch its statistics are the running ones
    assert torch.allclose(net(x).double(), wanted, rtol=1e-5, atol=1e-4)
    assert layer.input_threshold.numel() == (3 if kind == "conv" else 12)


# --------------------------------------------------------------------------------------------------------------- ReCU


def test_rectified_weights() -> None:
    w = torch.randn(6, 40, generator=torch.Generator().manual_seed(5)) * 0.02 + 0.01
    w1, _, _ = standardised(w * 50)
    assert torch.allclose(w1.std(dim=1), torch.full((6,), 2 * math.sqrt(2)), rtol=1e-4)
    assert w1.mean(1).abs().max() < 1e-5
    transform = RectifiedWeight(0.85, "clamp")
    w2 = transform(w)
    w1 = standardised(w)[0]
    limit = -w1.abs().mean() * math.log(2 - 2 * 0.85)
    assert torch.allclose(w2, w1.clamp(-limit, limit))
    assert 0.1 < float((w2.abs() >= limit * 0.9999).float().mean()) < 0.5


@pytest.mark.parametrize(("variant", "passes"), [("clamp", False), ("ste", True)])
def test_gradient_through_the_clamp(variant: str, passes: bool) -> None:
    w = torch.tensor([[-9.0, -1.0, 0.5, 0.2, 9.3]], requires_grad=True)
    transform = RectifiedWeight(0.85, variant)
    w1 = standardised(w)[0]
    w1.retain_grad()
    clamped = (transform(w) * torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0]])).sum()
    clamped.backward()
    full = torch.autograd.grad((standardised(w)[0] * torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0]])).sum(), w)[0]
    assert torch.allclose(w.grad, full) is passes


def test_projection_clamps_the_latent_weight_itself() -> None:
    run = Run([Recu(variant="projection")])
    before = weights(run)[0].clone()
    before[0, 0, 0, 0] = 5.0
    layer = run.net[2]
    with torch.no_grad():
        layer.weight.copy_(before)
        run.attached[0].after_step(0.1)
    w1, mean, unit = standardised(before)
    limit = -w1.abs().mean() * math.log(2 - 2 * 0.85)
    assert torch.allclose(layer.weight.detach(), mean + w1.clamp(-limit, limit) * unit, atol=1e-6)


# --------------------------------------------------------------------------------------------- gradients of the others


def test_ede_gradient() -> None:
    for t in (0.1, 1.0, 10.0):
        x = torch.linspace(-2, 2, 41, dtype=torch.float64, requires_grad=True)
        EdeSign(t)(x).sum().backward()
        expected = max(1 / t, 1) * t * (1 - np.tanh(t * np.linspace(-2, 2, 41)) ** 2)
        assert np.allclose(x.grad.numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("sign", [EdeSign(1.0), AdaptiveSign(0.5, 0.1, 64), IdentitySign()], ids=lambda s: s.name)
def test_the_sign_of_zero_is_plus_one(sign: torch.nn.Module) -> None:
    x = torch.tensor([0.0, -0.0, 1e-30, -1e-30, 2.0, -2.0])
    assert sign(x).tolist() == [1, 1, 1, -1, 1, -1]
    assert sign.deploys_as == "sign"


def test_xnor_scale_is_in_the_gradient_and_magnitude_aware_is_not() -> None:
    grads = {}
    for method in (Xnor(), MagnitudeAware()):
        torch.manual_seed(6)
        layer = QuantLinear(8, 3)
        net = torch.nn.Sequential(layer)
        method.attach(net)
        x = torch.randn(4, 8)
        upstream = torch.randn(4, 3)
        y = net(x)
        signs_x, signs_w = (torch.where(v < 0, -1.0, 1.0) for v in (x, layer.weight.detach()))
        a = layer.weight.detach().abs().mean(1)
        assert torch.allclose(y, (signs_x @ signs_w.T) * a)
        (y * upstream).sum().backward()
        grads[method.name] = layer.weight.grad
        outer = upstream.T @ signs_x  # dL/dW
        straight = outer * a[:, None]
        through_a = (outer * signs_w).sum(1, keepdim=True) * signs_w / 8
        expected = straight + through_a if method.name == "xnor" else straight
        assert torch.allclose(layer.weight.grad, expected, atol=1e-5)
    assert not torch.allclose(*grads.values())


# --------------------------------------------------------------------------------------------- teachers and classifiers


def test_distributional_loss_is_the_cross_entropy_of_two_distributions() -> None:
    student, teacher = torch.randn(4, 5), torch.randn(4, 5)
    for t in (1.0, 3.0):
        p, q = (torch.softmax(v.double() / t, 1).numpy() for v in (teacher, student))
        expected = t * t * -(p * np.log(q)).sum(1).mean()
        assert float(distributional_loss(student, teacher, t)) == pytest.approx(expected, rel=1e-5)
    assert distributional_loss(teacher, teacher) < distributional_loss(student, teacher)


def test_two_step_has_real_weights_first() -> None:
    run = Run([TwoStep(share=0.5)])
    layer = run.net[2]
    run.attached[0].progress(0.49)
    assert torch.equal(layer.quantized_weight(), layer.weight)
    run.attached[0].progress(0.5)
    assert set(layer.quantized_weight().unique().tolist()) == {-1.0, 1.0}
    x = torch.randn(2, 32, 4, 4)
    a = layer.weight.detach().abs().flatten(1).mean(1)
    signs = torch.where(layer.weight < 0, -1.0, 1.0)
    padded = torch.nn.functional.pad(torch.where(x < 0, -1.0, 1.0), (1, 1, 1, 1), value=1.0)
    assert torch.allclose(layer(x), torch.nn.functional.conv2d(padded, signs) * a[:, None, None], atol=1e-5)


@pytest.mark.parametrize(("arrangement", "cosine"), [("simplex", -1 / 6), ("plane", math.cos(2 * math.pi / 7))])
def test_class_vectors_are_symmetric(arrangement: str, cosine: float) -> None:
    v = class_vectors(7, 12, arrangement).double()
    assert torch.allclose(v.norm(dim=1), torch.ones(7, dtype=torch.float64), atol=1e-6)
    assert v.sum(0).abs().max() < 1e-6
    assert torch.linalg.matrix_rank(v, tol=1e-5) == (6 if arrangement == "simplex" else 2)
    neighbours = (v * v.roll(1, 0)).sum(1)
    assert torch.allclose(neighbours, torch.full((7,), cosine, dtype=torch.float64), atol=1e-6)


def test_edges_see_texture_and_neither_brightness_nor_contrast() -> None:
    x = torch.rand(2, 3, 8, 8)
    assert edges(torch.ones(1, 3, 8, 8)).abs().max() < 1e-6
    assert torch.allclose(edges(x), edges(5 * x), atol=1e-6)
    assert detail_loss(x, x) == 0
    assert detail_loss(x, torch.rand(2, 3, 8, 8)) > 0.1


def test_contrastive_loss_against_loops() -> None:
    x, labels = torch.randn(6, 4, dtype=torch.float64), torch.tensor([0, 1, 0, 2, 1, 0])
    z = x / x.norm(dim=1, keepdim=True)
    terms = []
    for i in range(6):
        others = [a for a in range(6) if a != i]
        total = sum(math.exp(float(z[i] @ z[a]) / 0.5) for a in others)
        same = [a for a in others if labels[a] == labels[i]]
        if same:
            terms.append(-sum(math.log(math.exp(float(z[i] @ z[a]) / 0.5) / total) for a in same) / len(same))
    assert len(terms) == 5
    assert float(contrastive_loss(x, labels, 0.5)) == pytest.approx(sum(terms) / 5, rel=1e-5)
    assert float(contrastive_loss(x, torch.arange(6), 0.5)) == 0.0


# ------------------------------------------------------------------------------------ distribution, no batch norm, Bop


def test_learned_threshold_divides_where_it_says() -> None:
    layer = QuantLinear(3, 2)
    net = torch.nn.Sequential(layer)
    attached = FeatureDistribution().attach(net)
    x = torch.randn(400, 3) * torch.tensor([1.0, 5.0, 0.1]) + torch.tensor([0.0, 3.0, -2.0])
    part = layer.training_parts.inputs[0]
    part.shift.data = torch.tensor([0.0, 1.0, -0.5])
    part.norm.momentum = 1.0
    net(x)
    attached.finish()
    expected = x.mean(0) + torch.tensor([0.0, 1.0, -0.5]) * x.std(0)
    assert torch.allclose(layer.input_threshold, expected, rtol=1e-3, atol=1e-3)


def test_imbalance() -> None:
    z = torch.tensor([[1.0, 1.0, -2.0], [-1.0, 1.0, -0.5], [2.0, 1.0, -1.0], [-3.0, 1.0, 0.5]])
    assert float(imbalance(z)) == pytest.approx((0.0 + 1.0 + 0.25) / 3)
    balanced = z.clone().requires_grad_()
    imbalance(balanced).backward()
    # against the gradient: the constant channel is pushed below 0, the mostly negative one up
    assert (balanced.grad[:, 1] > 0).all()
    assert (balanced.grad[[1, 3], 2] < 0).all()


def test_scaled_standardisation() -> None:
    w = ScaledStandardisation(2.0)(torch.randn(5, 8, 3, 3) + 1).flatten(1)
    assert w.mean(1).abs().max() < 1e-6
    assert torch.allclose(w.square().sum(1), torch.full((5,), 4.0), rtol=1e-4)


def test_gradients_are_clipped_per_unit() -> None:
    p = torch.nn.Parameter(torch.tensor([[3.0, 4.0], [0.0, 0.0], [3.0, 4.0]]))
    p.grad = torch.tensor([[30.0, 40.0], [3.0, 4.0], [0.03, 0.04]])
    clip_gradient(p, 0.02)
    expected = torch.tensor([[0.06, 0.08], [0.6 * 2e-5, 0.8 * 2e-5], [0.03, 0.04]])
    assert torch.allclose(p.grad, expected, rtol=1e-5)


def test_bop_flips_where_the_averaged_gradient_agrees_with_the_sign() -> None:
    layer = QuantLinear(4, 1)
    layer.weight.data = torch.tensor([[0.3, -0.2, 0.0, 0.1]])
    other = torch.nn.Linear(1, 1)
    optimizer = Bop(gamma=0.5, threshold=0.4).build(torch.nn.Sequential(layer, other), 0.1)
    assert layer.weight.tolist() == [[1, -1, 1, 1]]
    for expected in ([[1, 1, 1, 1]], [[-1, 1, 1, 1]]):
        layer.weight.grad = torch.tensor([[0.7, -1.0, 0.2, -9.0]])
        other.weight.grad = torch.ones(1, 1)
        before = other.weight.item()
        optimizer.step()
        # averages: 0.35, -0.5, 0.1, -4.5, then 0.525, -0.75 (whose sign the weight has left), 0.15, -6.75
        assert layer.weight.tolist() == expected
        assert other.weight.item() == pytest.approx(before - 0.1, abs=1e-4)
    again = Bop(gamma=0.5, threshold=0.4).build(torch.nn.Sequential(layer, other), 0.1)
    again.load_state_dict(optimizer.state_dict())
    assert torch.equal(again.state[layer.weight]["average"], optimizer.state[layer.weight]["average"])


def test_bop_slows_down_with_the_learning_rate() -> None:
    layer = QuantLinear(1, 1)
    optimizer = Bop(gamma=0.5, threshold=10.0).build(torch.nn.Sequential(layer), 0.2)
    optimizer.param_groups[0]["lr"] = 0.02
    layer.weight.grad = torch.ones(1, 1)
    optimizer.step()
    assert optimizer.state[layer.weight]["average"].item() == pytest.approx(0.05)


# -------------------------------------------------------------------------------------- methods that leave layers


@pytest.mark.parametrize("kind", ["conv", "strided", "linear"])
def test_adabin_is_a_convolution_of_two_levels_each(kind: str) -> None:
    """Against the definition: A padded with its upper level, convolved with W, at every pixel, borders included."""
    torch.manual_seed(8)
    stride = 2 if kind == "strided" else 1
    layer = QuantLinear(12, 4) if kind == "linear" else QuantConv2d(3, 4, 3, stride=stride)
    x = torch.randn(5, 12) if kind == "linear" else torch.randn(5, 3, 6, 6)
    net = torch.nn.Sequential(layer)
    attached = AdaBin().attach(net)
    levels = net[0].levels
    levels.scale.data.fill_(0.7)
    levels.offset.data.fill_(-0.3)

    w = layer.weight.detach().double().flatten(1)
    mean = w.mean(1, keepdim=True)
    size = (w - mean).square().mean(1, keepdim=True).sqrt()
    two = (torch.where(w < mean, -size, size) + mean).reshape(layer.weight.shape)
    a = 0.7 * (torch.where(x < -0.3, -1.0, 1.0).double() - 0.3)
    if kind == "linear":
        wanted = a @ two.T
    else:
        before, after = (0, 1) if stride == 2 else (1, 1)
        padded = torch.nn.functional.pad(a, (before, after, before, after), value=0.7 * (1 - 0.3))
        wanted = torch.nn.functional.conv2d(padded, two, stride=stride)
    for _ in range(2):
        assert torch.allclose(net(x).double(), wanted, rtol=1e-5, atol=1e-5)
        attached.finish()
    assert isinstance(net[0], AdaBinLayer)
    assert net[0].main.weight_transform is None
    assert net[0].ones.weight.unique().tolist() == [1.0]


def test_adabin_learns_its_levels_and_keeps_the_scale_positive() -> None:
    run = Run([AdaBin()])
    levels = [m.levels for m in run.net.modules() if isinstance(m, AdaBinLayer)]
    run.steps(0, 2, of=2)
    assert all(float(level.scale.detach()) != 1 and float(level.offset.detach()) != 0 for level in levels)
    levels[0].scale.data.fill_(-1.0)
    run.attached[0].after_step(0.1)
    assert float(levels[0].scale.detach()) == pytest.approx(0.01)


def test_excitation_stays_in_its_groups_and_shifts_the_threshold() -> None:
    torch.manual_seed(9)
    part = GroupedExcitation(8, groups=2, reduction=2)
    with torch.no_grad():
        for conv in (part.squeeze, part.excite):
            conv.weight.normal_()
        part.squeeze.bias.fill_(2.0)  # no ReLU is off
    part.mask()
    x = torch.randn(1, 8, 3, 3)
    changed = x.clone()
    changed[:, :4] += 1
    difference = (part(changed) - part(x)).flatten()
    assert (difference[4:] == 0).all()
    assert (difference[:4] != 0).any()
    assert part(x).abs().max() <= 0.1
    conv = QuantConv2d(8, 2, 1, padding="valid")
    layer = DynamicConv2d(conv, 2, 2, refine=False)
    theta = layer.excitation(x)
    signs = torch.where(x < theta, -1.0, 1.0)
    wanted = torch.einsum("nihw,oi->nohw", signs, torch.where(conv.weight < 0, -1.0, 1.0).flatten(1))
    assert torch.equal(layer(x), wanted)


def test_refinement_is_a_convolution_over_the_channels() -> None:
    part = Refinement(6)
    torch.nn.init.normal_(part.mix.weight)
    part.tie()
    y = torch.randn(2, 6, 3, 3)
    matrix = part.mix.weight[:, :, 0, 0].detach()
    taps = torch.tensor([[[matrix[1, 0], matrix[0, 0], matrix[0, 1]]]])
    mixed = torch.nn.functional.conv1d(y.mean((2, 3))[:, None], taps, padding=1)[:, 0]
    assert torch.allclose(part(y)[:, :, 0, 0], 1 + torch.sigmoid(mixed), atol=1e-6)


def test_latent_scale_keeps_signs() -> None:
    before = weights(Run([]))
    after = weights(Run([LatentScale(scale=0.25)]))
    assert all(torch.equal(a, b * 0.25) for a, b in zip(after, before, strict=True))
