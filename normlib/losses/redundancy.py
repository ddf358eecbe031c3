"""Losses of statistics of a batch, which see more of an embedding than its direction: Barlow Twins and VICReg."""

import torch
from torch import Tensor

from normlib._utils.arguments import check_number
from normlib._utils.tensors import check_pairs, directions_and_inverse_norms, no_autocast, widened


def barlow_twins(
    z1: Tensor,
    z2: Tensor,
    *,
    redundancy: float = 5e-3,
    eps: float = 1e-5,
    check_finite: bool | None = None,
) -> Tensor:
    """Squared distance of the correlations between two views from the identity matrix.

    ``C_jk`` is the correlation of coordinate ``j`` of view 1 with coordinate ``k`` of view 2 over the batch. It is the
    cosine of two columns, each less its mean: the loss sees the direction of a *column*, and the length of a row.

    Args:
        z1: Embeddings of view 1, shape ``(N, D)``, N ≥ 2.
        z2: Embeddings of view 2, shape ``(N, D)``.
        redundancy: Weight of the correlations of different coordinates, ≥ 0.
        eps: Added to each variance, ≥ 0, as the code of the paper does. 0 makes the loss exactly independent of the
            length of a column.
        check_finite: As in :func:`cosine_loss`.

    Returns:
        Scalar ``Σ_j (1 - C_jj)² + redundancy · Σ_{j≠k} C_jk²``, float32 (float64 for float64 input).

    Raises:
        TypeError: An argument is not a floating-point tensor.
        ValueError: Shapes differ, are not ``(N, D)`` or N < 2; devices differ; a weight is negative; a value is not
            finite.

    Source: Zbontar et al. 2021 (Barlow Twins), equations (1) and (2). What it does to norms: the
    chapter beyond SimCLR derives it.

    >>> z = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    >>> round(barlow_twins(z, z.flip(1)).item(), 4)  # each coordinate agrees with the other one: 2 + 2 · 0.005
    2.01
    """
    _check_batch(z1, z2, check_finite)
    check_number("redundancy", redundancy, at_least=0)
    check_number("eps", eps, at_least=0)
    with no_autocast(z1):
        correlation = _columns(z1, eps) @ _columns(z2, eps).T
        diagonal = correlation.diagonal()
        others = correlation.square().sum() - diagonal.square().sum()
        return (1 - diagonal).square().sum() + redundancy * others


def vicreg(
    z1: Tensor,
    z2: Tensor,
    *,
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
    eps: float = 1e-4,
    check_finite: bool | None = None,
) -> Tensor:
    """Weighted sum of three terms, nothing normalised: views agree, coordinates spread and do not repeat each other.

    - invariance: mean square of ``z1 - z2`` over pairs and coordinates;
    - variance: mean of ``max(0, 1 - s_j)`` over coordinates and views, with ``s_j² = Var(z_j) + eps`` over the batch;
    - covariance: ``Σ_{j≠k} Cov(z_j, z_k)² / D``, summed over both views.

    Args:
        z1: Embeddings of view 1, shape ``(N, D)``, N ≥ 2.
        z2: Embeddings of view 2, shape ``(N, D)``.
        invariance, variance, covariance: Weights of the three terms, ≥ 0.
        eps: Added to each variance, > 0: the root has no slope at 0.
        check_finite: As in :func:`cosine_loss`.

    Returns:
        Scalar, float32 (float64 for float64 input).

    Raises:
        TypeError: An argument is not a floating-point tensor.
        ValueError: Shapes differ, are not ``(N, D)`` or N < 2; devices differ; a weight is negative, or ``eps`` not
            positive; a value is not finite.

    Source: Bardes et al. 2022 (VICReg), equations (1) to (6), with the division by the dimensions of its code. What it
    does to norms: the chapter beyond SimCLR derives it.

    >>> z = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    >>> round(vicreg(z, -z).item(), 2)  # spread and uncorrelated, but each view is the other's opposite: 25 · 4
    100.0
    """
    _check_batch(z1, z2, check_finite)
    for name, weight in (("invariance", invariance), ("variance", variance), ("covariance", covariance)):
        check_number(name, weight, at_least=0)
    check_number("eps", eps, above=0)
    with no_autocast(z1):
        views = [widened(z) for z in (z1, z2)]
        distance = (views[0] - views[1]).square().mean()
        spread = sum((1 - (view.var(dim=0) + eps).sqrt()).relu().mean() for view in views) / 2
        return invariance * distance + variance * spread + covariance * sum(map(_squared_covariances, views))


def _check_batch(z1: Tensor, z2: Tensor, check_finite: bool | None) -> None:
    check_pairs(z1=z1, z2=z2, smallest=2, check_finite=check_finite)


def _columns(z: Tensor, eps: float) -> Tensor:
    """Columns less their means and divided by their lengths, as rows, shape ``(D, N)``; zero for a constant column."""
    centred = (widened(z) - widened(z).mean(dim=0)).T
    if eps == 0:
        return directions_and_inverse_norms(centred)[0]
    return centred / (centred.square().mean(dim=1, keepdim=True) + eps).sqrt() / centred.shape[1] ** 0.5


def _squared_covariances(z: Tensor) -> Tensor:
    """``Σ_{j≠k} Cov(z_j, z_k)² / D``."""
    covariance = torch.cov(z.T).reshape(z.shape[1], z.shape[1])
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / z.shape[1]
