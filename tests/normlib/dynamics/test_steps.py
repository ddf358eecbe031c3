"""Laws of steps, paths and equilibria against autograd and real optimisers."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from normlib import dynamics, gradients, losses
from normlib.interventions import grad_scale

LAWS = ("exact", "continuous")
ANGLES, NORMS, RATES = st.floats(0.01, 3.13), st.floats(0.05, 20), st.floats(1e-4, 20)


def pair_in(dim, angle, norm1, norm2, seed=0):
    """Two float64 embeddings of these norms with this angle between them, in a random plane."""
    u, v = torch.randn(2, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    u = u / u.norm()
    v = v - (u @ v) * u
    return (norm1 * u)[None], norm2 * (math.cos(angle) * u + math.sin(angle) * v / v.norm())[None]


def step_by_autograd(z1, z2, lr, power=0.0):
    z = [z1.clone().requires_grad_(), z2.clone().requires_grad_()]
    grads = torch.autograd.grad(losses.cosine_loss(*(grad_scale(part, power) for part in z)), z)
    return [(part - lr * grad).detach() for part, grad in zip(z, grads, strict=True)]


def angle_between(z1, z2):
    """Exact near 0 and π, where the arccosine is not."""
    u, v = losses.unit(z1), losses.unit(z2)
    return 2 * torch.atan2((u - v).norm(dim=1), (u + v).norm(dim=1))[0].item()


@settings(deadline=None, max_examples=200)
@given(ANGLES, NORMS, NORMS, RATES, st.sampled_from([0.0, 0.5, 1.0, 2.0]), st.integers(2, 30))
def test_cosine_step_is_one_step_of_autograd_in_any_dimension(angle, norm1, norm2, lr, power, dim):
    z1, z2 = step_by_autograd(*pair_in(dim, angle, norm1, norm2), lr, power)
    state = dynamics.cosine_step(math.cos(angle), math.sin(angle), norm1, norm2, lr, power)
    assert state[0] ** 2 + state[1] ** 2 == pytest.approx(1, abs=1e-12)
    assert math.atan2(state[1], state[0]) == pytest.approx(angle_between(z1, z2), abs=1e-9)
    assert state[2] == pytest.approx(z1.norm().item(), rel=1e-10)
    assert state[3] == pytest.approx(z2.norm().item(), rel=1e-10)


@settings(deadline=None, max_examples=50)
@given(st.sampled_from(["cosine", "nt-xent", "decoupled", "cross-view"]), NORMS, RATES, st.integers(0, 2**31))
def test_norm_after_step_is_that_of_a_real_step(loss, norm, lr, seed):
    z1, z2 = norm * torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    leaf = z1.clone().requires_grad_()
    value = losses.cosine_loss(leaf, z2) if loss == "cosine" else losses.info_nce(leaf, z2, denominator=loss)
    (grad,) = torch.autograd.grad(value, leaf)
    predicted = dynamics.norm_after_step(z1, grad, lr)
    torch.testing.assert_close(predicted, (z1 - lr * grad).norm(dim=1), rtol=1e-10, atol=0)
    assert (predicted >= z1.norm(dim=1)).all()


@settings(deadline=None, max_examples=300)
@given(st.floats(0, math.pi), NORMS, NORMS, RATES)
def test_no_step_raises_the_cosine_by_more_than_the_bound(angle, norm1, norm2, lr):
    after, *_ = dynamics.cosine_step(math.cos(angle), math.sin(angle), norm1, norm2, lr)
    bound = dynamics.cosine_change_bound(angle, norm1, lr, norm2=norm2).item()
    assert after - math.cos(angle) <= bound * (1 + 1e-9) + 1e-12


def test_bound_on_the_cosine_is_sharp_for_small_steps_and_reads_as_stated():
    angle, ratio = 2.0, 1e-4
    after, *_ = dynamics.cosine_step(math.cos(angle), math.sin(angle), 3.0, 3.0, 9 * ratio)
    bound = dynamics.cosine_change_bound(angle, 3.0, lr=9 * ratio).item()
    assert (after - math.cos(angle)) / bound == pytest.approx(1, abs=1e-6)
    stated = 2 * ratio * math.sin(angle) ** 2 * (1 + ratio * abs(math.cos(angle)))
    assert bound == pytest.approx(stated, rel=1e-12)


def test_bound_often_quoted_fails_for_obtuse_pairs_and_for_long_steps():
    """(η sin² φ / ρ²)(2 - η cos φ / ρ²), with the smaller norm ρ, is less than what a step can do."""

    def quoted(angle, norm, lr):
        return lr * math.sin(angle) ** 2 / norm**2 * (2 - lr * math.cos(angle) / norm**2)

    for angle, lr in ((2.5, 0.1), (1.0, 5.0)):
        after, *_ = dynamics.cosine_step(math.cos(angle), math.sin(angle), 1.0, 1.0, lr)
        change = after - math.cos(angle)
        assert change > quoted(angle, 1.0, lr)
        assert change <= dynamics.cosine_change_bound(angle, 1.0, lr).item()


@settings(deadline=None, max_examples=30)
@given(ANGLES, st.floats(0.3, 5), st.floats(0.3, 5), st.floats(1e-3, 5), st.integers(0, 12))
def test_exact_path_is_that_of_autograd(angle, norm1, norm2, lr, steps):
    z = pair_in(5, angle, norm1, norm2)
    for _ in range(steps):
        z = step_by_autograd(*z, lr)
    found = dynamics.angle_after_steps(angle, norm1, lr, steps, norm2=norm2)
    assert found.item() == pytest.approx(angle_between(*z), abs=1e-8)


def test_continuous_path_is_the_limit_of_small_steps_with_an_error_of_first_order():
    errors = []
    for lr in (0.02, 0.01, 0.005):
        exact, limit = (
            dynamics.angle_after_steps(2.5, 1.0, lr, round(2 / lr), norm2=2.0, law=law).item() for law in LAWS
        )
        errors.append(abs(exact - limit))
    assert errors[2] < 5e-3
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.05)
    assert errors[1] / errors[2] == pytest.approx(2, rel=0.05)


@pytest.mark.parametrize("law", LAWS)
def test_paths_broadcast_and_stack_over_several_steps(law):
    angles, norms = torch.tensor([[0.5], [2.0]]), torch.tensor([1.0, 2.0, 4.0])
    path = dynamics.angle_after_steps(angles, norms, 0.1, [0, 3, 3, 10], law=law)
    assert path.shape == (4, 2, 3)
    torch.testing.assert_close(path[0], angles.double().expand(2, 3))
    assert torch.equal(path[1], path[2])
    one = dynamics.angle_after_steps(2.0, 4.0, 0.1, 10, law=law)
    torch.testing.assert_close(path[3, 1, 2], one)


@pytest.mark.parametrize("law", LAWS)
def test_opposition_stays_and_agreement_stays(law):
    path = dynamics.angle_after_steps([0.0, math.pi], 0.1, 5.0, 7, law=law)
    torch.testing.assert_close(path, torch.tensor([0.0, math.pi], dtype=torch.float64))


@settings(deadline=None, max_examples=50)
@given(
    st.floats(0.5, 3.1), st.floats(0.05, 0.9), st.floats(0.5, 5), st.floats(0.5, 5), st.sampled_from([0.0, 1.0, 2.0])
)
def test_time_to_align_inverts_the_continuous_path(angle, share, norm1, norm2, power):
    target = share * angle
    time = dynamics.time_to_align(angle, target, norm1, 1e-3, norm2=norm2, power=power).item()
    pair = {"norm2": norm2, "power": power, "law": "continuous"}
    before, after = dynamics.angle_after_steps(angle, norm1, 1e-3, [math.floor(time), math.ceil(time)], **pair)
    assert after.item() - 1e-12 <= target <= before.item() + 1e-12


def test_time_to_align_is_quadratic_in_the_norm_and_endless_from_opposition():
    times = dynamics.time_to_align(2.0, 0.1, [1.0, 3.0], 0.01)
    assert (times[1] / times[0]).item() == pytest.approx(9)
    assert dynamics.time_to_align(math.pi, 0.1, 1.0, 0.01).item() == math.inf
    assert dynamics.time_to_align(0.3, 0.3, 1.0, 0.01).item() == 0


def settle(make_optimizer, start, noise, steps, power=0.0, dim=50, points=40):
    """Free points under fresh tangential noise of size noise · ‖z‖^(p-1); root mean square of the norms at the end."""
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(points, dim, generator=generator, dtype=torch.float64)
    z = (start * z / z.norm(dim=1, keepdim=True)).requires_grad_()
    optimizer = make_optimizer([z])
    norms = []
    for step in range(steps):
        with torch.no_grad():
            push = gradients.tangent(z, torch.randn(points, dim, generator=generator, dtype=torch.float64))
            z.grad = noise * push / push.norm(dim=1, keepdim=True) * z.norm(dim=1, keepdim=True) ** (power - 1)
        optimizer.step()
        if step > 0.8 * steps:
            norms.append(z.detach().norm(dim=1).mean().item())
    return sum(norms) / len(norms)


@pytest.mark.parametrize("start", [0.3, 3.0])
@pytest.mark.parametrize(("momentum", "power"), [(0.0, 0.0), (0.8, 0.0), (0.0, 1.0)])
def test_equilibrium_of_sgd_is_where_noisy_points_settle(start, momentum, power):
    rate = {"lr": 0.05, "weight_decay": 0.1, "momentum": momentum}
    found = settle(lambda z: torch.optim.SGD(z, **rate), start, noise=1.0, steps=3000, power=power)
    expected = dynamics.equilibrium_norm("sgd", noise=1.0, power=power, **rate)
    assert found == pytest.approx(expected, rel=0.03)


def test_equilibrium_of_adamw_is_where_noisy_points_settle_whatever_the_noise():
    rate = {"lr": 0.01, "weight_decay": 0.5}
    expected = dynamics.equilibrium_norm("adamw", dim=50, **rate)
    for noise in (0.1, 10.0):
        found = settle(lambda z: torch.optim.AdamW(z, **rate), 1.0, noise=noise, steps=1500)
        assert found == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: dynamics.norm_after_step(torch.ones(2, 3), torch.ones(3), 0.1),
            r"same shape, got \(2, 3\) and \(3,\)",
        ),
        (lambda: dynamics.norm_after_step(torch.ones(3), torch.ones(3), 0), "lr must be a number > 0"),
        (lambda: dynamics.cosine_change_bound(4.0, 1.0, 0.1), "radians, from 0 to π, got 4.0"),
        (lambda: dynamics.cosine_change_bound(1.0, 0.0, 0.1), "norm must be a number > 0, got 0.0"),
        (lambda: dynamics.cosine_change_bound(1.0, 1.0, 0.1, norm2=-1.0), "norm2 must be a number > 0"),
        (lambda: dynamics.angle_after_steps(1.0, 1.0, 0.1, -1), "steps must be a number ≥ 0, got -1.0"),
        (lambda: dynamics.angle_after_steps(1.0, 1.0, 0.1, [5, 2]), "whole numbers ≥ 0 in rising order"),
        (lambda: dynamics.angle_after_steps(1.0, 1.0, 0.1, 2.5), "whole numbers ≥ 0 in rising order, got 2.5"),
        (
            lambda: dynamics.angle_after_steps(1.0, 1.0, 0.1, 2, law="fast"),
            "law must be one of 'exact', 'continuous', got",
        ),
        (lambda: dynamics.angle_after_steps(float("nan"), 1.0, 0.1, 2), "angle must be a number ≥ 0, got nan"),
        (lambda: dynamics.angle_after_steps(1.0, 1.0, 0.1, 2, power=-1), "power must be a number ≥ 0"),
        (lambda: dynamics.time_to_align(1.0, 2.0, 1.0, 0.1), "target must not exceed angle"),
        (lambda: dynamics.time_to_align(1.0, 0.0, 1.0, 0.1), "target must be a number > 0"),
        (lambda: dynamics.equilibrium_norm("lars", lr=1, weight_decay=1), "'sgd', 'adamw', got 'lars'"),
        (lambda: dynamics.equilibrium_norm("sgd", lr=1, weight_decay=0, noise=1), "without decay"),
        (lambda: dynamics.equilibrium_norm("sgd", lr=1, weight_decay=1), "noise must be a number > 0, got None"),
        (lambda: dynamics.equilibrium_norm("sgd", lr=1, weight_decay=1, noise=1, power=2), "explodes or collapses"),
        (
            lambda: dynamics.equilibrium_norm("sgd", lr=1, weight_decay=1, noise=1, momentum=1),
            "momentum must be a number ≥ 0 and < 1",
        ),
        (lambda: dynamics.equilibrium_norm("adamw", lr=1, weight_decay=1), "dim must be an integer ≥ 1, got None"),
    ],
)
def test_bad_settings_of_the_laws_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
