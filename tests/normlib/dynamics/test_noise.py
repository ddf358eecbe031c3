"""Growth of free embeddings under noise: the real optimisers against the law of each."""

import pytest
import torch

from normlib import dynamics, gradients
from normlib.losses import unit
from normlib.training import LARS

POINTS, D = 48, 16


def shaken(make, steps, start, noise, seed=0):
    """Mean square and mean fourth power of the norms after some steps along tangential noise of size G/‖z‖."""
    generator = torch.Generator().manual_seed(seed)
    points = unit(torch.randn(POINTS, D, generator=generator, dtype=torch.float64)) * start
    z = [torch.nn.Parameter(point) for point in points]  # LARS takes the norm of a whole tensor
    optimizer = make(z)
    for _ in range(steps):
        pull = torch.randn(POINTS, D, generator=generator, dtype=torch.float64)
        for point, direction in zip(z, pull, strict=True):
            side = gradients.tangent(point.detach(), direction)
            point.grad = noise * side / side.norm() / point.detach().norm()
        optimizer.step()
    return torch.stack([point.detach().norm() for point in z])


@pytest.mark.parametrize(
    ("law", "make", "setting", "start"),
    [
        ("sgd", lambda z: torch.optim.SGD(z, lr=0.1), {"lr": 0.1, "noise": 2.0}, 1.0),
        ("sgd", lambda z: torch.optim.SGD(z, lr=0.1, momentum=0.8), {"lr": 0.1, "noise": 1.0, "momentum": 0.8}, 2.0),
        ("adamw", lambda z: torch.optim.AdamW(z, lr=0.02, weight_decay=0, betas=(0.9, 0.99)),
         {"lr": 0.02, "dim": D}, 2.0),
        ("lars", lambda z: LARS(z, lr=1.0, trust_coefficient=0.1), {"lr": 1.0, "trust": 0.1}, 1.0),
        ("lars", lambda z: LARS(z, lr=0.5, trust_coefficient=0.04, momentum=0.5),
         {"lr": 0.5, "trust": 0.04, "momentum": 0.5}, 1.0),
    ],
)  # fmt: skip
def test_optimisers_grow_free_embeddings_as_their_law_says(law, make, setting, start):
    norms = shaken(make, 300, start, setting.get("noise", 3.0))
    expected = dynamics.norm_after_noise(law, start, 300, **setting).item()
    assert norms.mean().item() == pytest.approx(expected, rel=0.03)
    assert expected > 1.2 * start


def test_lars_is_exact_at_every_length_and_blind_to_the_size_of_the_noise():
    for noise in (1e-3, 10.0):
        norms = shaken(lambda z: LARS(z, lr=2.0, trust_coefficient=0.05, eps=0.0), 40, 0.7, noise)
        expected = dynamics.norm_after_noise("lars", 0.7, 40, lr=2.0, trust=0.05)
        torch.testing.assert_close(norms, expected.expand(POINTS), rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    ("arguments", "setting", "words"),
    [
        (("rmsprop", 1.0, 1), {"lr": 0.1}, "optimizer must be one of 'sgd', 'adamw', 'lars', got 'rmsprop'"),
        (("sgd", 1.0, 1), {"lr": 0.1}, "noise must be a number > 0, got None; SGD's growth"),
        (("adamw", 1.0, 1), {"lr": 0.1}, "dim must be an integer ≥ 1, got None; AdamW's growth"),
        (("sgd", 0.0, 1), {"lr": 0.1, "noise": 1.0}, "norm must be a number > 0"),
        (("sgd", 1.0, -1), {"lr": 0.1, "noise": 1.0}, "steps must be a number ≥ 0, got -1"),
        (("lars", 1.0, 1), {"lr": 0.1, "momentum": 1.0}, "momentum must be a number ≥ 0 and < 1, got 1.0"),
    ],
)
def test_wrong_settings_are_refused(arguments, setting, words):
    with pytest.raises(ValueError, match=words):
        dynamics.norm_after_noise(*arguments, **setting)
