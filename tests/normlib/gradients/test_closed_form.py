"""What the closed forms promise beside agreeing with autograd (which losses/test_contrastive.py holds them to)."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from normlib import gradients


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 20), st.integers(2, 32), st.integers(0, 2**31))
def test_tangent_is_an_orthogonal_projection(n, d, seed):
    generator = torch.Generator().manual_seed(seed)
    z, v = torch.randn(2, n, d, generator=generator, dtype=torch.float64)
    once = gradients.tangent(z, v)
    torch.testing.assert_close((once * z).sum(1), torch.zeros(n, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(gradients.tangent(z, once), once, rtol=0, atol=1e-12)
    removed = v - once
    torch.testing.assert_close(removed, z * (z * v).sum(1, keepdim=True) / (z * z).sum(1, keepdim=True))


@settings(deadline=None, max_examples=50)
@given(st.floats(0.01, 3.13), st.floats(0.01, 100), st.floats(0.01, 100))
def test_size_of_the_cosine_gradient_is_sin_over_norm(angle, norm1, norm2):
    angle, norms = torch.tensor(angle, dtype=torch.float64), torch.tensor([norm1, norm2], dtype=torch.float64)
    z1 = norms[0] * torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    z2 = norms[1] * torch.stack([angle.cos(), angle.sin()])[None]
    for grad, norm in zip(gradients.cosine_loss_grad(z1, z2), norms, strict=True):
        torch.testing.assert_close(grad.norm(), angle.sin() / norm, rtol=1e-9, atol=1e-14)


def test_gradient_points_away_from_the_positive():
    """A descent step along minus the gradient raises the cosine: the sign is right."""
    z1, z2 = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.6, 0.8]])
    g1, g2 = gradients.cosine_loss_grad(z1, z2)
    assert (g1 * z2).sum() < 0
    assert (g2 * z1).sum() < 0


def test_bad_input_is_refused_by_name():
    z = torch.eye(3)
    with pytest.raises(ValueError, match=r"same shape, got \(3, 3\) and \(2, 3\)"):
        gradients.tangent(z, z[:2])
    with pytest.raises(TypeError, match=r"v must be a floating-point tensor, got torch.int64"):
        gradients.tangent(z, z.long())
    for function in (gradients.cosine_loss_grad, gradients.info_nce_grad):
        with pytest.raises(ValueError, match=r"same shape .* got \(3, 3\) and \(2, 3\)"):
            function(z, z[:2])
        with pytest.raises(ValueError, match=r"got \(3,\)"):
            function(z[0], z[0])
        with pytest.raises(TypeError, match=r"z2 must be a floating-point tensor, got list"):
            function(z, [[1.0]])
        with pytest.raises(ValueError, match="z1 holds NaN or infinity in 3 of 3 rows"):
            function(z / 0, z)
        with pytest.raises(ValueError, match="on cpu but z2 on meta"):
            function(z, z.to("meta"))
    with pytest.raises(ValueError, match="N ≥ 2 rows, got N = 1"):
        gradients.info_nce_grad(z[:1], z[:1])


@pytest.mark.parametrize("denominator", ["nt-xent", "decoupled", "cross-view"])
def test_half_precision_and_autocast_compute_in_float32(denominator):
    z1, z2 = torch.randn(2, 12, 8, generator=torch.Generator().manual_seed(0))
    expected = gradients.info_nce_grad(z1.double(), z2.double(), 0.1, denominator)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under_autocast = gradients.info_nce_grad(z1, z2, 0.1, denominator)
    half = gradients.info_nce_grad(z1.half(), z2.half(), 0.1, denominator)
    of_half = gradients.info_nce_grad(z1.half().double(), z2.half().double(), 0.1, denominator)
    for actual, exact in ((under_autocast, expected), (half, of_half)):
        for one, other in zip(actual, exact, strict=True):
            torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-6)
