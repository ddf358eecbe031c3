"""Losses against their definitions, against autograd, against other libraries and against bad input."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from normlib import gradients, losses
from normlib.losses import logsumexp

DENOMINATORS = ["nt-xent", "decoupled", "cross-view"]


def plain(z1, z2, temperature, denominator):
    """The definition, with the whole matrix and autograd."""
    n = len(z1)
    u1, u2 = F.normalize(z1, dim=1), F.normalize(z2, dim=1)
    if denominator == "cross-view":
        similarities = u1 @ u2.T / temperature
        positive = similarities.diagonal()
        return (similarities.masked_fill(torch.eye(n, dtype=torch.bool), -math.inf).logsumexp(1) - positive).mean()
    u = torch.cat([u1, u2])
    similarities = u @ u.T / temperature
    target = torch.arange(2 * n).roll(n)
    left_out = torch.eye(2 * n, dtype=torch.bool)
    positive = similarities[torch.arange(2 * n), target]
    if denominator == "decoupled":
        left_out[torch.arange(2 * n), target] = True
    return (similarities.masked_fill(left_out, -math.inf).logsumexp(1) - positive).mean()


def gradients_of(loss, *tensors):
    leaves = [t.detach().clone().requires_grad_() for t in tensors]
    return torch.autograd.grad(loss(*leaves), leaves)


def random_pairs(n, d, seed, log10_norms=(-6.0, 6.0), dtype=torch.float64):
    """Directions uniform on the sphere, norms log-uniform: short and long embeddings in one batch."""
    generator = torch.Generator().manual_seed(seed)
    low, high = log10_norms

    def draw():
        exponent = low + (high - low) * torch.rand(n, 1, generator=generator, dtype=torch.float64)
        return (F.normalize(torch.randn(n, d, generator=generator, dtype=torch.float64), dim=1) * 10**exponent).to(
            dtype
        )

    return draw(), draw()


pairs = st.builds(random_pairs, n=st.integers(2, 40), d=st.integers(2, 64), seed=st.integers(0, 2**31))
temperatures = st.floats(math.log(0.01), math.log(10)).map(math.exp)


def assert_gradients_agree(actual, expected, pull):
    """Within 1e-10 of the pull everywhere, and within 1e-10 of the gradient wherever it is not tiny beside the pull."""
    error = (actual - expected).norm(dim=1)
    size = expected.norm(dim=1)
    assert (error <= 1e-10 * pull).all(), f"{(error / pull).max():.1e} of the pull"
    large = size > 1e-3 * pull
    assert (error[large] <= 1e-10 * size[large]).all()


@settings(deadline=None, max_examples=150)
@given(pairs, temperatures, st.sampled_from(DENOMINATORS))
def test_info_nce_is_its_definition_and_its_gradient_the_closed_form(z, temperature, denominator):
    loss = losses.info_nce(*z, temperature, denominator=denominator)
    torch.testing.assert_close(loss, plain(*z, temperature, denominator), rtol=1e-12, atol=1e-12)
    by_autograd = gradients_of(lambda a, b: plain(a, b, temperature, denominator), *z)
    by_blocks = gradients_of(lambda a, b: losses.info_nce(a, b, temperature, denominator=denominator), *z)
    by_formula = gradients.info_nce_grad(*z, temperature, denominator)
    anchors = len(z[0]) if denominator == "cross-view" else 2 * len(z[0])
    for view, autograd, blocks, formula in zip(z, by_autograd, by_blocks, by_formula, strict=True):
        pull = 1 / (anchors * temperature * view.norm(dim=1))
        assert_gradients_agree(formula, autograd, pull)
        assert_gradients_agree(blocks, autograd, pull)


@settings(deadline=None, max_examples=100)
@given(pairs)
def test_cosine_loss_and_its_closed_form(z):
    torch.testing.assert_close(losses.cosine_loss(*z), -F.cosine_similarity(*z, eps=0).mean(), rtol=1e-12, atol=1e-12)
    by_autograd = gradients_of(lambda a, b: -F.cosine_similarity(a, b, eps=0).mean(), *z)
    by_loss = gradients_of(losses.cosine_loss, *z)
    for view, autograd, loss, formula in zip(z, by_autograd, by_loss, gradients.cosine_loss_grad(*z), strict=True):
        pull = 1 / (len(view) * view.norm(dim=1))
        assert_gradients_agree(formula, autograd, pull)
        assert_gradients_agree(loss, autograd, pull)


@pytest.mark.parametrize("denominator", DENOMINATORS)
@pytest.mark.parametrize("n", [127, 128, 129, 256, 300, 700])
@pytest.mark.parametrize("temperature", [0.5, 0.002])
def test_every_way_of_cutting_into_blocks_gives_the_same(n, temperature, denominator):
    z = random_pairs(n, 16, seed=n)
    torch.testing.assert_close(
        losses.info_nce(*z, temperature, denominator=denominator),
        plain(*z, temperature, denominator),
        rtol=1e-12,
        atol=1e-12,
    )
    by_blocks = gradients_of(lambda a, b: losses.info_nce(a, b, temperature, denominator=denominator), *z)
    for view, actual, expected in zip(z, by_blocks, gradients.info_nce_grad(*z, temperature, denominator), strict=True):
        assert_gradients_agree(actual, expected, 1 / (n * temperature * view.norm(dim=1)))


def test_strips_shorter_than_the_batch_give_the_same(monkeypatch):
    z = random_pairs(50, 8, seed=1)
    monkeypatch.setattr(logsumexp, "_STRIP", 700)
    for denominator in DENOMINATORS:
        torch.testing.assert_close(
            losses.info_nce(*z, 0.002, denominator=denominator), plain(*z, 0.002, denominator), rtol=1e-12, atol=0
        )
        actual = gradients_of(lambda a, b, d=denominator: losses.info_nce(a, b, 0.002, denominator=d), *z)
        for view, g, expected in zip(z, actual, gradients.info_nce_grad(*z, 0.002, denominator), strict=True):
            assert_gradients_agree(g, expected, 1 / (50 * 0.002 * view.norm(dim=1)))


@pytest.mark.parametrize(("n", "temperature"), [(2, 0.1), (32, 0.5), (64, 0.07), (32, 1.0)])
def test_equals_lightly_and_pytorch_metric_learning(n, temperature):
    from lightly.loss import DCLLoss, NTXentLoss
    from pytorch_metric_learning.losses import NTXentLoss as MetricLearningNTXent

    z1, z2 = random_pairs(n, 32, seed=n, log10_norms=(-1.0, 1.0))
    ours = losses.info_nce(z1, z2, temperature)
    labels = torch.arange(n).repeat(2)
    others = [
        NTXentLoss(temperature=temperature)(z1, z2),
        MetricLearningNTXent(temperature=temperature)(torch.cat([z1, z2]), labels),
    ]
    for other in others:
        torch.testing.assert_close(ours, other, rtol=1e-6, atol=0)
    decoupled = losses.info_nce(z1, z2, temperature, denominator="decoupled")
    torch.testing.assert_close(decoupled, DCLLoss(temperature=temperature)(z1, z2), rtol=1e-6, atol=0)


@pytest.mark.parametrize("denominator", DENOMINATORS)
@pytest.mark.parametrize("temperature", [0.01, 0.03, 0.5])
def test_float32_matches_float64_even_for_antipodal_clusters(temperature, denominator):
    generator = torch.Generator().manual_seed(0)
    centre = F.normalize(torch.randn(1, 32, generator=generator, dtype=torch.float64), dim=1)
    side = torch.where(torch.arange(64) < 32, 1.0, -1.0)[:, None]
    noise = torch.randn(2, 64, 32, generator=generator, dtype=torch.float64) * 0.01
    z1, z2 = centre * side + noise[0], -centre * side + noise[1]  # every positive on the other side
    exact = losses.info_nce(z1, z2, temperature, denominator=denominator)
    single = losses.info_nce(z1.float(), z2.float(), temperature, denominator=denominator)
    assert exact > 1 / temperature
    torch.testing.assert_close(single.double(), exact, rtol=1e-5, atol=0)
    ours = gradients_of(
        lambda a, b: losses.info_nce(a, b, temperature, denominator=denominator), z1.float(), z2.float()
    )
    for view, actual, expected in zip(
        (z1, z2), ours, gradients.info_nce_grad(z1, z2, temperature, denominator), strict=True
    ):
        pull = 1 / (64 * temperature * view.norm(dim=1))
        assert ((actual.double() - expected).norm(dim=1) <= 1e-4 * pull).all()


def test_two_far_clusters_do_not_underflow_with_a_lone_member():
    """One embedding alone on its side: all its similarities are as small as they can be."""
    generator = torch.Generator().manual_seed(0)
    z = torch.nn.functional.normalize(torch.randn(16, 8, generator=generator) * 1e-3 + torch.eye(8)[0], dim=1)
    z1, z2 = z.clone(), z.clone()
    z1[0] = -z1[0]
    for temperature in (0.01, 0.02, 0.0257, 0.03):
        single = losses.info_nce(z1, z2, temperature, denominator="decoupled")
        double = plain(z1.double(), z2.double(), temperature, "decoupled")
        torch.testing.assert_close(single.double(), double, rtol=1e-5, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("denominator", DENOMINATORS)
def test_half_precision_computes_in_float32(dtype, denominator):
    z1, z2 = (z.to(dtype) for z in random_pairs(20, 16, seed=3, log10_norms=(-3.0, 3.0)))
    loss = losses.info_nce(z1, z2, 0.1, denominator=denominator)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, losses.info_nce(z1.float(), z2.float(), 0.1, denominator=denominator))
    half = gradients_of(lambda a, b: losses.info_nce(a, b, 0.1, denominator=denominator), z1, z2)
    full = gradients.info_nce_grad(z1.double(), z2.double(), 0.1, denominator)
    for actual, expected in zip(half, full, strict=True):
        assert actual.dtype == dtype
        torch.testing.assert_close(actual, expected.to(dtype), rtol=2 * torch.finfo(dtype).eps, atol=1e-4)


@pytest.mark.parametrize("denominator", DENOMINATORS)
def test_autocast_changes_nothing(denominator):
    z = random_pairs(300, 16, seed=3, dtype=torch.float32)

    def both(*views):
        leaves = [v.clone().requires_grad_() for v in views]
        loss = losses.info_nce(*leaves, 0.1, denominator=denominator)
        return [loss.detach(), *torch.autograd.grad(loss, leaves)]

    expected = both(*z)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = both(*z)
        assert losses.cosine_loss(*z).dtype == torch.float32
    for one, other in zip(actual, expected, strict=True):
        assert torch.equal(one, other)


@settings(deadline=None, max_examples=30)
@given(pairs, st.sampled_from(DENOMINATORS), st.integers(0, 2**31))
def test_only_directions_count(z, denominator, seed):
    scale = 10 ** torch.empty(2, len(z[0]), 1, dtype=torch.float64).uniform_(
        -3, 3, generator=torch.Generator().manual_seed(seed)
    )
    loss = losses.info_nce(*z, denominator=denominator)
    torch.testing.assert_close(losses.info_nce(z[0] * scale[0], z[1] * scale[1], denominator=denominator), loss)
    for view, grad in zip(z, gradients.info_nce_grad(*z, denominator=denominator), strict=True):
        assert ((view * grad).sum(1).abs() <= 1e-12 / len(view)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_zero_row_has_cosine_zero_and_no_gradient(dtype):
    z1, z2 = random_pairs(6, 4, seed=0, log10_norms=(0.0, 0.0), dtype=dtype)
    z1[2] = 0
    for denominator in DENOMINATORS:
        g1, g2 = gradients_of(lambda a, b, d=denominator: losses.info_nce(a, b, denominator=d), z1, z2)
        assert (g1[2] == 0).all()
        assert torch.isfinite(g1).all()
        assert torch.isfinite(g2).all()
        if dtype is torch.float64:
            f1, f2 = gradients.info_nce_grad(z1, z2, denominator=denominator)
            torch.testing.assert_close((g1, g2), (f1, f2), rtol=1e-10, atol=1e-14)
    zero = torch.zeros(3, 4, dtype=dtype)
    assert losses.cosine_loss(zero, torch.ones_like(zero)) == 0
    assert losses.info_nce(zero, zero, denominator="decoupled").item() == pytest.approx(math.log(4))
    assert (gradients.tangent(zero, torch.ones_like(zero)) == 0).all()


@pytest.mark.parametrize("exponent", [-42, -38, -30, -23, -19, 18, 19, 30, 37])
def test_no_norm_is_too_small_or_too_large_for_float32(exponent):
    """Squares of these norms vanish or overflow; the last few bits of subnormal numbers are lost before we see them."""
    z1, z2 = random_pairs(20, 8, seed=0, log10_norms=(0.0, 0.0))
    small = 10.0**exponent
    rtol = 2e-2 if exponent < -38 else 1e-5
    torch.testing.assert_close(
        losses.info_nce((z1 * small).float(), z2.float()).double(), losses.info_nce(z1, z2), rtol=rtol, atol=0
    )
    assert losses.cosine_loss((z1 * small).float(), (z1 * small).float()) == pytest.approx(-1, abs=1e-5)
    if -30 <= exponent <= 30:
        (grad,) = gradients_of(lambda z: losses.info_nce(z, z2.float()), (z1 * small).float())
        torch.testing.assert_close(grad.double() * small, gradients.info_nce_grad(z1, z2)[0], rtol=1e-4, atol=1e-7)


def test_numbers_of_numpy_are_numbers_and_mixed_types_are_promoted():
    z1, z2 = random_pairs(6, 4, seed=0, log10_norms=(0.0, 0.0))
    assert losses.info_nce(z1, z2, np.float32(0.5)) == losses.info_nce(z1, z2, 0.5)
    for denominator in DENOMINATORS:
        mixed = losses.info_nce(z1.float(), z2, denominator=denominator)
        assert mixed.dtype == torch.float64
        assert gradients.info_nce_grad(z1.float(), z2, denominator=denominator)[0].dtype == torch.float64


@pytest.mark.parametrize("denominator", DENOMINATORS)
@pytest.mark.parametrize("temperature", [0.0255, 0.05, 0.052, 0.5])
def test_gradients_survive_the_scale_of_mixed_precision(denominator, temperature):
    """AMP multiplies a loss by 2^16 and more; antipodal clusters make the largest gradients."""
    z1 = F.normalize(torch.randn(4, 8, generator=torch.Generator().manual_seed(0)) * 1e-3 + torch.eye(8)[0], dim=1)
    z1[0] = -z1[0]
    z2 = z1.roll(1, 0)
    scaled = gradients_of(lambda a, b: 2.0**20 * losses.info_nce(a, b, temperature, denominator=denominator), z1, z2)
    exact = gradients.info_nce_grad(z1.double(), z2.double(), temperature, denominator)
    for actual, expected in zip(scaled, exact, strict=True):
        assert actual.isfinite().all()
        torch.testing.assert_close(actual.double() / 2**20, expected, rtol=1e-3, atol=1e-4 / temperature)


def test_backward_frees_what_forward_kept():
    z1, z2 = (view.requires_grad_() for view in random_pairs(64, 8, seed=0))
    held = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: held.append(tuple(t.shape)) or t, lambda t: t):
        losses.info_nce(z1, z2)
    assert (128, 128) in held  # known to autograd, which frees it


def test_negative_cosine_stops_the_gradient_on_the_target():
    p, z = (view.requires_grad_() for view in random_pairs(7, 5, seed=2))
    loss = losses.negative_cosine(p, z)
    loss.backward()
    assert z.grad is None
    torch.testing.assert_close(p.grad, gradients.cosine_loss_grad(p.detach(), z.detach())[0])
    assert loss == losses.cosine_loss(p, z)


@pytest.mark.parametrize("n", [100, 400])
def test_backward_runs_twice_when_the_graph_is_kept_and_refuses_a_second_derivative(n):
    z1, z2 = (view.requires_grad_() for view in random_pairs(n, 5, seed=2))
    loss = losses.info_nce(z1, z2)
    first = torch.autograd.grad(loss, z1, retain_graph=True)[0]
    assert torch.equal(first, torch.autograd.grad(loss, z1, retain_graph=True)[0])
    with pytest.raises(RuntimeError, match="create_graph=True asks for a second time"):
        torch.autograd.grad(loss, z1, create_graph=True)


@pytest.mark.parametrize("denominator", DENOMINATORS)
def test_the_closed_form_gives_second_derivatives(denominator):
    z1, z2 = (view.requires_grad_() for view in random_pairs(4, 3, seed=5, log10_norms=(-0.3, 0.3)))
    (expected,) = torch.autograd.grad(plain(z1, z2, 0.5, denominator), z1, create_graph=True)
    probe = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    hessian = torch.autograd.grad((expected * probe).sum(), z2)[0]
    actual = torch.autograd.grad((gradients.info_nce_grad(z1, z2, 0.5, denominator)[0] * probe).sum(), z2)[0]
    torch.testing.assert_close(actual, hessian, rtol=1e-9, atol=1e-12)


def test_never_materialises_the_matrix_when_n_is_large():
    """The largest tensor made for N = 4096 pairs holds far fewer numbers than the 8192² similarities."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        numel = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                self.numel = max(self.numel, out.untyped_storage().nbytes() // out.element_size())
            return out

    for denominator, temperature in [("nt-xent", 0.5), ("cross-view", 0.5), ("nt-xent", 0.01)]:
        z1, z2 = (view.requires_grad_() for view in random_pairs(4096, 8, seed=0, dtype=torch.float32))
        with Largest() as largest:
            losses.info_nce(z1, z2, temperature, denominator=denominator).backward()
        assert largest.numel <= 2**22


def z(*shape, dtype=torch.float32):
    return torch.ones(shape, dtype=dtype)


@pytest.mark.parametrize("loss", [losses.cosine_loss, losses.info_nce, losses.negative_cosine])
@pytest.mark.parametrize(
    ("first", "second", "error", "words"),
    [
        (z(4), z(4), ValueError, r"shape \(N, D\), got \(4,\)"),
        (z(2, 3, 4), z(2, 3, 4), ValueError, r"got \(2, 3, 4\)"),
        (z(4, 0), z(4, 0), ValueError, r"got \(4, 0\)"),
        (z(4, 2), z(5, 2), ValueError, r"same shape .* got \(4, 2\) and \(5, 2\)"),
        (z(4, 2), z(4, 3), ValueError, r"got \(4, 2\) and \(4, 3\)"),
        (z(4, 2), z(4, 2, dtype=torch.int64), TypeError, r"floating-point tensor, got torch.int64"),
        (z(4, 2), z(4, 2, dtype=torch.complex64), TypeError, r"got torch.complex64"),
        ([[1.0]], z(1, 1), TypeError, r"got list"),
        (z(4, 2), z(4, 2) / 0, ValueError, r"NaN or infinity in 4 of 4 rows"),
        (z(0, 2), z(0, 2), ValueError, r"got N = 0"),
        (z(4, 2), z(4, 2).to("meta"), ValueError, r"on cpu but .* on meta"),
    ],
)
def test_bad_embeddings_are_refused_by_name(loss, first, second, error, words):
    with pytest.raises(error, match=words):
        loss(first, second)


def test_bad_numbers_are_refused():
    one_nan = torch.eye(3)
    one_nan[1, 1] = math.nan
    with pytest.raises(ValueError, match=r"z2 holds NaN or infinity in 1 of 3 rows, first in row 1"):
        losses.info_nce(torch.eye(3), one_nan)
    assert losses.info_nce(torch.eye(3), one_nan, check_finite=False).isnan()
    with pytest.raises(ValueError, match="N ≥ 2 rows, got N = 1; a contrastive loss needs negatives"):
        losses.info_nce(z(1, 3), z(1, 3))
    for temperature in (0, -1.0, math.nan, math.inf, "hot", True, torch.tensor(0.5)):
        with pytest.raises(ValueError, match="temperature must be a number > 0"):
            losses.info_nce(torch.eye(3), torch.eye(3), temperature)
        with pytest.raises(ValueError, match="temperature must be a number > 0"):
            gradients.info_nce_grad(torch.eye(3), torch.eye(3), temperature)
    for function in (losses.info_nce, gradients.info_nce_grad):
        with pytest.raises(
            ValueError, match="denominator must be one of 'nt-xent', 'decoupled', 'cross-view', got 'ntxent'"
        ):
            function(torch.eye(3), torch.eye(3), denominator="ntxent")


def test_value_checks_stay_off_other_devices():
    """On a device that cannot show its values, the loss is built all the same: nothing there waits for them."""
    meta = torch.empty(600, 8, device="meta", requires_grad=True)
    for denominator in DENOMINATORS:
        losses.info_nce(meta, meta, denominator=denominator).backward()
    losses.cosine_loss(meta, meta).backward()
