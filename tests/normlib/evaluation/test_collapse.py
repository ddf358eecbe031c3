"""Collapse, complete and dimensional: what it is called, how far directions spread, and what is refused."""

import pytest
import torch

from normlib.evaluation import detect_collapse
from normlib.losses import unit


def test_collapse_is_named_by_its_kind():
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(200, 8, generator=generator, dtype=torch.float64)
    bundle = torch.ones(8, dtype=torch.float64) + 0.01 * noise
    line = noise[:, :1] * torch.ones(8, dtype=torch.float64) + 0.01 * noise
    assert (detect_collapse(bundle).name, detect_collapse(line).name, detect_collapse(noise).name) == (
        "complete",
        "dimensional",
        "",
    )
    assert detect_collapse(noise).rank == pytest.approx(8, rel=0.05)
    assert detect_collapse(noise).spread == pytest.approx(1, abs=0.05)
    assert detect_collapse(noise * torch.logspace(-3, 3, 200, dtype=torch.float64)[:, None]) == pytest.approx(
        detect_collapse(noise)
    )


def test_rows_without_a_direction_do_not_spread():
    assert detect_collapse(torch.zeros(5, 3)) == ("complete", 0.0, 0.0)
    z = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    assert detect_collapse(torch.cat([z, torch.zeros(4, 3)])) == pytest.approx(detect_collapse(z))
    assert detect_collapse(torch.tensor([[3.0, 0.0], [0.0, 0.0], [0.0, 0.0]])).name == "complete"


def test_the_spread_of_a_collapse_is_one_minus_the_mean_cosine():
    z = torch.randn(30, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 1
    u = unit(z)
    assert detect_collapse(z).spread == pytest.approx(1 - (u @ u.T).mean().item())


@pytest.mark.parametrize("z", [torch.ones(1, 3), torch.ones(3), torch.tensor([[1.0, torch.nan], [0.0, 1.0]])])
def test_collapse_refuses_what_is_no_set_of_embeddings(z):
    with pytest.raises(ValueError, match=r"z must be finite and of shape \(N, D\) with N ≥ 2"):
        detect_collapse(z)
