"""Gradients of cosine losses in closed form: the formulas of the chapter on the gradient, plainly.

They hold the whole matrix of similarities, so they are for reading, checking and simulating; training uses
:mod:`normlib.losses`.
"""

import math

import torch
from torch import Tensor

from normlib._utils.tensors import check_alike, check_contrast, check_pairs, directions_and_inverse_norms, no_autocast


def tangent(z: Tensor, v: Tensor) -> Tensor:
    """Part of each ``v`` at right angles to ``z``: ``P_z v = v - u (u · v)`` with ``u = z / ‖z‖``.

    Args:
        z: Embeddings, shape ``(..., D)``. For a zero row, which has no direction, the result is zero.
        v: Vectors to project, same shape.

    Returns:
        Projections, same shape.

    Raises:
        TypeError: An argument is not a floating-point tensor.
        ValueError: The shapes differ.

    Source: derived in the chapter on the gradient.

    >>> tangent(torch.tensor([[2.0, 0.0]]), torch.tensor([[3.0, 4.0]]))
    tensor([[0., 4.]])
    """
    check_alike(z=z, v=v)
    with no_autocast(z):
        u, inverse_norm = directions_and_inverse_norms(z)
        return (v - u * (u * v).sum(dim=-1, keepdim=True)) * (inverse_norm > 0)


def cosine_loss_grad(z1: Tensor, z2: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient of :func:`normlib.losses.cosine_loss`: ``∂ℒ/∂z1_i = -P u2_i / (N ‖z1_i‖)``.

    Its size is ``sin φ / (N ‖z1_i‖)``: the same pull turns a long embedding less.

    Args:
        z1: Embeddings of view 1, shape ``(N, D)``.
        z2: Embeddings of view 2, shape ``(N, D)``.

    Returns:
        Gradients with respect to ``z1`` and ``z2``, each ``(N, D)``, float32 or float64, and orthogonal, row by row, to
        its embedding.

    Raises:
        TypeError: An argument is not a floating-point tensor.
        ValueError: The shapes differ or are not ``(N, D)``.

    Source: Draganov et al. 2025; derived in the chapter on the gradient.

    >>> z2 = torch.tensor([[0.0, 1.0]])
    >>> cosine_loss_grad(torch.tensor([[1.0, 1.0]]), z2)[0]
    tensor([[ 0.3536, -0.3536]])
    >>> cosine_loss_grad(torch.tensor([[10.0, 10.0]]), z2)[0]
    tensor([[ 0.0354, -0.0354]])
    """
    check_pairs(z1=z1, z2=z2, smallest=1, check_finite=None)
    (u1, inverse1), (u2, inverse2) = directions_and_inverse_norms(z1), directions_and_inverse_norms(z2)
    n = len(z1)
    return -tangent(u1, u2) * inverse1 / n, -tangent(u2, u1) * inverse2 / n


def info_nce_grad(
    z1: Tensor, z2: Tensor, temperature: float = 0.5, denominator: str = "nt-xent"
) -> tuple[Tensor, Tensor]:
    """Gradient of :func:`normlib.losses.info_nce`, in closed form.

    With softmax weights ``w_ab`` over the embeddings that stand in the denominator of anchor ``a``:

    - ``"nt-xent"``, ``"decoupled"``: ``∂ℒ/∂z_a = -P [2 u_a+ - Σ_b (w_ab + w_ba) u_b] / (2Nτ ‖z_a‖)``;
    - ``"cross-view"``: ``∂ℒ/∂z1_i = -P [u2_i - Σ_k w_ik u2_k] / (Nτ ‖z1_i‖)`` and, with the columns,
      ``∂ℒ/∂z2_j = -P [u1_j - Σ_i w_ij u1_i] / (Nτ ‖z2_j‖)``.

    Args:
        z1: Embeddings of view 1, shape ``(N, D)``, N ≥ 2.
        z2: Embeddings of view 2, shape ``(N, D)``.
        temperature: τ > 0.
        denominator: ``"nt-xent"``, ``"decoupled"`` or ``"cross-view"``.

    Returns:
        Gradients with respect to ``z1`` and ``z2``, each ``(N, D)``, float32 or float64, and orthogonal, row by row, to
        its embedding.

    Raises:
        TypeError: An argument is not a floating-point tensor.
        ValueError: The shapes differ, are not ``(N, D)`` or N < 2; ``temperature`` is not positive; an unknown
            ``denominator``.

    Source: derived in the chapter on the gradient; the cross-view form is that of the code released with Draganov et
    al. 2025.

    >>> z1, z2 = torch.eye(2, dtype=torch.float64), torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    >>> info_nce_grad(3 * z1, z2, temperature=1.0, denominator="cross-view")[0].norm(dim=1)
    tensor([0.1667, 0.1667], dtype=torch.float64)
    """
    check_pairs(z1=z1, z2=z2, smallest=2, check_finite=None)
    check_contrast(temperature, denominator)
    dtype = torch.promote_types(z1.dtype, z2.dtype)
    with no_autocast(z1):
        if denominator == "cross-view":
            return _cross_view_grad(z1.to(dtype), z2.to(dtype), temperature)
        return _symmetric_grad(z1.to(dtype), z2.to(dtype), temperature, positive_counts=denominator == "nt-xent")


def _symmetric_grad(z1: Tensor, z2: Tensor, temperature: float, *, positive_counts: bool) -> tuple[Tensor, Tensor]:
    n = len(z1)
    u, inverse_norm = directions_and_inverse_norms(torch.cat([z1, z2]))
    positive = torch.arange(2 * n, device=u.device).roll(n)
    similarities = u @ u.T / temperature
    similarities.fill_diagonal_(-math.inf)
    if not positive_counts:
        similarities[torch.arange(2 * n, device=u.device), positive] = -math.inf
    w = similarities.softmax(dim=1)
    pull = 2 * u[positive] - (w + w.T) @ u
    grad = -tangent(u, pull) * inverse_norm / (2 * n * temperature)
    return grad[:n], grad[n:]


def _cross_view_grad(z1: Tensor, z2: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    (u1, inverse1), (u2, inverse2) = directions_and_inverse_norms(z1), directions_and_inverse_norms(z2)
    similarities = u1 @ u2.T / temperature
    similarities.fill_diagonal_(-math.inf)
    w = similarities.softmax(dim=1)
    scale = len(z1) * temperature
    return -tangent(u1, u2 - w @ u2) * inverse1 / scale, -tangent(u2, u1 - w.T @ u1) * inverse2 / scale
