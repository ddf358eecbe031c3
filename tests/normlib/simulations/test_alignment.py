"""Free points against a D-dimensional autograd loop."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from normlib import losses, simulations
from normlib.simulations import alignment


def pairs(angles, norm, dim, seed):
    """Two float64 tensors of rows that have these angles between them and this norm, in random planes."""
    generator = torch.Generator().manual_seed(seed)
    u, v = torch.randn(2, len(angles), dim, generator=generator, dtype=torch.float64)
    u = u / u.norm(dim=1, keepdim=True)
    v = v - (u * v).sum(1, keepdim=True) * u
    v = v / v.norm(dim=1, keepdim=True)
    angles = torch.as_tensor(angles)[:, None]
    return norm * u, norm * (angles.cos() * u + angles.sin() * v)


def steps_by_autograd(z1, z2, lr, tol, power=0.0, max_steps=5000):
    """The plain loop: embeddings in D dimensions, a loss, autograd, SGD."""
    z = [z1.clone().requires_grad_(), z2.clone().requires_grad_()]
    for step in range(max_steps):
        loss = losses.cosine_loss(*z)
        if -loss.item() >= 1 - tol:
            return step
        grads = torch.autograd.grad(loss, z)
        with torch.no_grad():
            for part, grad in zip(z, grads, strict=True):
                part -= lr * grad * part.norm(dim=1, keepdim=True) ** power
    return max_steps


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("norm", [0.02, 0.1, 0.25, 1.0, 2.0])
def test_steps_equal_those_of_an_autograd_loop(norm, power):
    angles = alignment._random_angles(60, 20, seed=3)
    expected = steps_by_autograd(*pairs(angles, norm, 20, seed=4), lr=1.2, tol=1e-3, power=power)
    row = simulations.steps_to_align([norm], n_pairs=60, dim=20, lr=1.2, seed=3, power=power, max_steps=5000).iloc[0]
    assert row["steps"] == expected
    assert row["converged"] == (expected < 5000)


@settings(deadline=None, max_examples=30)
@given(st.floats(0.05, 3.1), st.floats(0.2, 3.0), st.floats(0.5, 40.0), st.integers(2, 30))
def test_steps_from_one_angle_equal_those_of_an_autograd_loop(angle, norm, lr, n_pairs):
    row = simulations.steps_to_align([norm], [angle], n_pairs=n_pairs, lr=lr, max_steps=400).iloc[0]
    z1, z2 = pairs(np.full(n_pairs, angle), norm, 5, seed=0)
    assert row["steps"] == steps_by_autograd(z1, z2, lr, 1e-3, max_steps=400)


def test_directions_are_uniform_on_the_sphere():
    """cos φ of uniform directions has mean 0 and variance 1/D."""
    cosine = np.cos(alignment._random_angles(100_000, 7, seed=0))
    assert abs(cosine.mean()) < 4 / math.sqrt(7 * 100_000)
    assert cosine.var() == pytest.approx(1 / 7, rel=0.03)


def test_conditions_are_the_product_of_norms_and_angles_and_do_not_touch_each_other():
    table = simulations.steps_to_align([0.5, 2.0], [0.3, 1.0, 2.0])
    assert list(table.columns) == ["norm", "angle", "steps", "converged"]
    assert table["norm"].tolist() == [0.5] * 3 + [2.0] * 3
    assert table["angle"].tolist() == pytest.approx([0.3, 1.0, 2.0] * 2)
    alone = [
        simulations.steps_to_align([row.norm_], [row.angle]).steps[0]
        for row in table.rename(columns={"norm": "norm_"}).itertuples()
    ]
    assert table["steps"].tolist() == alone


def test_pairs_of_one_condition_may_have_angles_of_their_own():
    own = np.linspace(0.1, 3.0, 500)
    table = simulations.steps_to_align([1.0], [own, 1.0])
    assert table["angle"].tolist() == pytest.approx([own.mean(), 1.0])
    assert table["steps"][0] == steps_by_autograd(*pairs(own, 1.0, 6, seed=0), lr=10.0, tol=1e-3)


def test_agreement_needs_no_step_and_opposition_never_ends():
    table = simulations.steps_to_align([1.0], [0.0, math.pi], max_steps=50)
    assert table["steps"].tolist() == [0, 50]
    assert table["converged"].tolist() == [True, False]


def test_steps_grow_with_the_square_of_the_norm_and_grad_scale_takes_it_away():
    for power, exponent in ((0, 2), (1, 1), (2, 0)):
        steps = simulations.steps_to_align([2.0, 8.0], power=power)["steps"]
        assert math.log(steps[1] / steps[0], 4) == pytest.approx(exponent, abs=0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"norms": [1.0, 0.0]}, "norms must be a number > 0, got 0.0"),
        ({"angles": [4.0]}, "radians, from 0 to π"),
        ({"angles": [[0.1, 0.2]]}, "a number or 500 numbers, got shape"),
        ({"lr": -1}, "lr must be a number > 0"),
        ({"tol": 0}, "tol must be a number > 0"),
        ({"power": 2.5}, "power must be a number ≥ 0 and ≤ 2"),
        ({"n_pairs": 0}, "n_pairs must be an integer ≥ 1"),
        ({"dim": 1}, "dim must be an integer ≥ 2"),
        ({"norms": []}, "norms is empty"),
    ],
)
def test_bad_settings_of_free_points_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        simulations.steps_to_align(**arguments)
