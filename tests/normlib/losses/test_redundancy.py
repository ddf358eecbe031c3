"""Losses beside InfoNCE: against lightly's, against their definitions, and what they ignore."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightly.loss import BarlowTwinsLoss, DCLLoss, NegativeCosineSimilarity, VICRegLoss
from torch.nn.functional import binary_cross_entropy_with_logits

from normlib import losses

DIRECTIONAL = {
    "info_nce": losses.info_nce,
    "decoupled": lambda z1, z2: losses.info_nce(z1, z2, denominator="decoupled"),
    "sigmoid": losses.sigmoid_loss,
    "negative_cosine": losses.negative_cosine,
}


def pair(n=12, d=6, seed=0, scale=1.0, dtype=torch.float64):
    z1, z2 = scale * torch.randn(2, n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return z1, z1 + 0.7 * z2 + 0.2


@settings(max_examples=25, deadline=None)
@given(n=st.integers(2, 40), d=st.integers(2, 20), seed=st.integers(0, 10**6), scale=st.sampled_from([0.05, 1.0, 20.0]))
def test_values_and_gradients_equal_those_of_lightly(n, d, seed, scale):
    peers = [
        (losses.barlow_twins, BarlowTwinsLoss()),
        (losses.vicreg, VICRegLoss()),
        (losses.negative_cosine, lambda p, z: NegativeCosineSimilarity()(p, z.detach())),
        (lambda z1, z2: losses.barlow_twins(z1, z2, redundancy=0.3), BarlowTwinsLoss(lambda_param=0.3)),
        (
            lambda z1, z2: losses.vicreg(z1, z2, invariance=3.0, variance=2.0, covariance=0.5, eps=1e-3),
            VICRegLoss(lambda_param=3.0, mu_param=2.0, nu_param=0.5, eps=1e-3),
        ),
    ]
    for ours, theirs in peers:
        z = [view.requires_grad_() for view in pair(n, d, seed, scale)]
        one, other = ours(*z), theirs(*z)
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)
        for a, b in zip(*(torch.autograd.grad(loss, z, allow_unused=True) for loss in (one, other)), strict=True):
            assert (a is None) == (b is None)
            if a is not None:
                torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)


def test_decoupled_info_nce_is_lightlys_on_all_views():
    """lightly's sum leaves out an anchor's own image; its loss of unit rows equals ours."""
    z1, z2 = pair()
    u1, u2 = losses.unit(z1), losses.unit(z2)
    theirs = DCLLoss(temperature=0.3)(u1, u2)
    ours = losses.info_nce(z1, z2, 0.3, denominator="decoupled")
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)


@pytest.mark.parametrize(("temperature", "bias"), [(0.1, -10.0), (0.5, 0.0), (1.0, 3)])
def test_sigmoid_loss_is_binary_cross_entropy_of_all_pairs(temperature, bias):
    z1, z2 = pair()
    logits = losses.unit(z1) @ losses.unit(z2).T / temperature + bias
    expected = binary_cross_entropy_with_logits(logits, torch.eye(len(z1), dtype=z1.dtype), reduction="sum") / len(z1)
    torch.testing.assert_close(losses.sigmoid_loss(z1, z2, temperature, bias), expected, rtol=1e-12, atol=0)


def test_sigmoid_loss_keeps_tiny_and_huge_logits():
    z = torch.eye(3)
    assert losses.sigmoid_loss(z, -z, 1e-3, 0.0).item() == pytest.approx(1000 + 2 * math.log(2), rel=1e-6)


def test_barlow_twins_sees_the_direction_of_columns_and_vicreg_their_length():
    z1, z2 = pair()
    longer, shift = torch.linspace(0.1, 9, 6, dtype=z1.dtype), torch.linspace(-3, 3, 6, dtype=z1.dtype)
    moved = (longer * z1 + shift, z2.flip(1).flip(1) * 5)
    exact = losses.barlow_twins(z1, z2, eps=0)
    torch.testing.assert_close(losses.barlow_twins(*moved, eps=0), exact, rtol=1e-12, atol=0)
    torch.testing.assert_close(losses.barlow_twins(100 * z1, 100 * z2), exact, rtol=1e-7, atol=0)
    stretched_rows = z1 * torch.linspace(1, 3, len(z1), dtype=z1.dtype)[:, None]
    assert abs(losses.barlow_twins(stretched_rows, z2, eps=0) - exact) > 1e-3
    both = (z1 + shift, z2 + shift)
    torch.testing.assert_close(losses.vicreg(*both), losses.vicreg(z1, z2), rtol=1e-12, atol=0)
    assert abs(losses.vicreg(2 * z1, 2 * z2) - losses.vicreg(z1, z2)) > 1


@pytest.mark.parametrize("name", DIRECTIONAL)
def test_losses_of_directions_do_not_see_lengths(name):
    z1, z2 = pair()
    lengths = torch.logspace(-3, 3, len(z1), dtype=z1.dtype)[:, None]
    torch.testing.assert_close(
        DIRECTIONAL[name](lengths * z1, z2 / lengths), DIRECTIONAL[name](z1, z2), rtol=1e-12, atol=0
    )


def test_a_constant_column_has_no_correlation_and_a_finite_gradient():
    z1, z2 = pair()
    z1 = torch.cat([z1[:, :-1], torch.full((len(z1), 1), 3.0, dtype=z1.dtype)], dim=1).requires_grad_()
    for eps in (0, 1e-5):
        loss = losses.barlow_twins(z1, z2, eps=eps)
        assert loss >= 1  # its own diagonal entry is 0
        assert torch.autograd.grad(loss, z1)[0].isfinite().all()


def test_half_precision_is_computed_in_single():
    z1, z2 = pair(dtype=torch.float32)
    for loss in (losses.barlow_twins, losses.vicreg, losses.sigmoid_loss):
        half = loss(z1.bfloat16(), z2.bfloat16())
        torch.testing.assert_close(half, loss(z1.bfloat16().float(), z2.bfloat16().float()), rtol=1e-6, atol=0)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            torch.testing.assert_close(loss(z1, z2), loss(z1, z2), rtol=0, atol=0)
            inside = loss(z1, z2)
        torch.testing.assert_close(inside, loss(z1, z2), rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda z: losses.barlow_twins(z, z, redundancy=-1), "redundancy must be a number ≥ 0, got -1"),
        (lambda z: losses.barlow_twins(z, z, eps=-1e-5), "eps must be a number ≥ 0"),
        (lambda z: losses.barlow_twins(z[:1], z[:1]), "N ≥ 2 rows, got N = 1"),
        (lambda z: losses.vicreg(z, z, covariance=math.nan), "covariance must be a number ≥ 0, got nan"),
        (lambda z: losses.vicreg(z, z, eps=0), "eps must be a number > 0, got 0"),
        (lambda z: losses.vicreg(z, z[:3]), "must have the same shape"),
        (lambda z: losses.sigmoid_loss(z, z, temperature=0), "temperature must be a number > 0, got 0"),
        (lambda z: losses.sigmoid_loss(z, z, bias=math.inf), "bias must be a number"),
        (lambda z: losses.sigmoid_loss(z, z * math.nan), "z2 holds NaN or infinity in 12 of 12 rows"),
    ],
)
def test_wrong_input_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call(pair()[0])
