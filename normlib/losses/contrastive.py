"""Losses of directions: the cosine loss, InfoNCE with its denominators, and the sigmoid loss of SigLIP."""

import math

import torch
from torch import Tensor
from torch.nn.functional import softplus

from normlib._utils.arguments import check_number
from normlib._utils.tensors import (
    Denominator,
    check_contrast,
    check_floating,
    check_pairs,
    directions_and_inverse_norms,
    no_autocast,
)
from normlib.losses.logsumexp import RowLogSumExp, SymmetricLogSumExp


def unit(z: Tensor) -> Tensor:
    """Direction of each embedding, ``u = z / ‖z‖``.

    A zero row has no direction: it is returned as zero, so its cosine with everything is 0 and its gradient is 0.

    Args:
        z: Embeddings, floating point, shape ``(..., D)``. Half precision is computed in float32.

    Returns:
        Directions, same shape, float32 or float64.

    Raises:
        TypeError: ``z`` is not a floating-point tensor.

    >>> unit(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    tensor([[0.6000, 0.8000],
            [0.0000, 0.0000]])
    """
    check_floating(z=z)
    return directions_and_inverse_norms(z)[0]


def cosine_loss(z1: Tensor, z2: Tensor, *, check_finite: bool | None = None) -> Tensor:
    """Mean of ``-cos φ`` over pairs (embeddings are normalised inside).

    Args:
        z1: Embeddings of view 1, shape ``(N, D)``.
        z2: Embeddings of view 2, shape ``(N, D)``; row ``i`` is the positive of row ``i`` of ``z1``.
        check_finite: Refuse NaN and infinity. ``None``: on the CPU only, because the check would make a GPU wait.

    Returns:
        Scalar in [-1, 1], float32 (float64 for float64 input).

    Raises:
        TypeError: An argument is not a floating-point tensor.
        ValueError: Shapes differ or are not ``(N, D)``, devices differ, or a value is not finite.

    Source: Draganov et al. 2025; derived in the chapter on the hypersphere paradox.

    >>> cosine_loss(torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[5.0, 0.0], [3.0, 0.0]]))
    tensor(-0.5000)
    """
    check_pairs(z1=z1, z2=z2, smallest=1, check_finite=check_finite)
    with no_autocast(z1):
        return -(unit(z1) * unit(z2)).sum(dim=1).mean()


def negative_cosine(p: Tensor, z: Tensor, *, check_finite: bool | None = None) -> Tensor:
    """Mean of ``-cos`` between predictions and targets, with a stop-gradient on the targets (SimSiam, BYOL).

    Args:
        p: Predictions, shape ``(N, D)``; they receive the gradient.
        z: Targets, shape ``(N, D)``; held constant.
        check_finite: As in :func:`cosine_loss`.

    Returns:
        Scalar in [-1, 1].

    Raises:
        TypeError: An argument is not a floating-point tensor.
        ValueError: Shapes differ or are not ``(N, D)``, devices differ, or a value is not finite.

    Source: Chen & He 2021 (SimSiam), equation (1); Grill et al. 2020 (BYOL), equation (2) but for a factor and a
    constant.

    >>> p, z = torch.tensor([[1.0, 1.0]], requires_grad=True), torch.tensor([[0.0, 1.0]], requires_grad=True)
    >>> negative_cosine(p, z).backward()
    >>> p.grad, z.grad
    (tensor([[ 0.3536, -0.3536]]), None)
    """
    check_pairs(p=p, z=z, smallest=1, check_finite=check_finite)
    return cosine_loss(p, z.detach(), check_finite=False)


def info_nce(
    z1: Tensor,
    z2: Tensor,
    temperature: float = 0.5,
    *,
    denominator: Denominator = "nt-xent",
    check_finite: bool | None = None,
) -> Tensor:
    """Contrastive loss of two views (embeddings are normalised inside, similarities are computed in float32 or better).

    For an anchor ``a`` with positive ``a+`` and similarities ``s_ab = cos(z_a, z_b) / τ``, the loss of ``a`` is
    ``log Σ_b exp(s_ab) - s_aa+``; the result is its mean over the anchors. ``denominator`` says who the anchors are and
    which ``b`` stand in the sum:

    ==============  ===================  ================================================================
    denominator     anchors              sum over b
    ==============  ===================  ================================================================
    ``nt-xent``     all 2N views         all views but ``a`` itself: the positive is among them (SimCLR)
    ``decoupled``   all 2N views         all views but ``a`` and its positive
    ``cross-view``  the N first views    second views but the positive (what the code of the paper computes)
    ==============  ===================  ================================================================

    Memory grows with N, not with N². The gradient is the closed form in the chapter on the gradient; it can be
    differentiated once only (for a second derivative, differentiate :func:`normlib.gradients.info_nce_grad`).

    Args:
        z1: Embeddings of view 1, shape ``(N, D)``, N ≥ 2, any floating-point type.
        z2: Embeddings of view 2, shape ``(N, D)``.
        temperature: τ > 0.
        denominator: ``"nt-xent"``, ``"decoupled"`` or ``"cross-view"``.
        check_finite: As in :func:`cosine_loss`.

    Returns:
        Scalar, float32 (float64 for float64 input).

    Raises:
        TypeError: An argument is not a floating-point tensor.
        ValueError: Shapes differ, are not ``(N, D)`` or N < 2; devices differ; ``temperature`` is not positive; an
            unknown ``denominator``; a value is not finite.

    Source: Chen et al. 2020 (SimCLR), equation (1); Yeh et al. 2022 (decoupled); the code released with Draganov et
    al. 2025 (cross-view). Derived in the chapter on the gradient.

    >>> z = torch.eye(4)
    >>> round(info_nce(z, z, temperature=1.0).item(), 4)  # log(e + 6) - 1
    1.1654
    >>> round(info_nce(z, z, temperature=1.0, denominator="decoupled").item(), 4)  # log(6) - 1
    0.7918
    >>> round(info_nce(z, z, temperature=1.0, denominator="cross-view").item(), 4)  # log(3) - 1
    0.0986
    """
    check_pairs(z1=z1, z2=z2, smallest=2, check_finite=check_finite)
    check_contrast(temperature, denominator)
    with no_autocast(z1):
        n = len(z1)
        u = unit(torch.cat([z1, z2]))
        u1, u2 = u[:n], u[n:]
        positive = (u1 * u2).sum(dim=1).mean() / temperature
        if denominator == "cross-view":
            return RowLogSumExp.apply(u1, u2, temperature, (0,)).mean() - positive
        left_out = (0,) if denominator == "nt-xent" else (-n, 0, n)
        # One shift for all rows keeps every exponential a normal number only while their range, 2/τ, fits the type;
        # half of the type's range is left to what the loss may be multiplied by before its backward pass.
        if 2 / temperature < -0.45 * math.log(torch.finfo(u.dtype).tiny):
            return SymmetricLogSumExp.apply(u, temperature, left_out).mean() - positive
        return RowLogSumExp.apply(u, u, temperature, left_out).mean() - positive


def sigmoid_loss(
    z1: Tensor, z2: Tensor, temperature: float = 0.1, bias: float = -10.0, *, check_finite: bool | None = None
) -> Tensor:
    """Contrastive loss of two views in which every pair of views is a yes-or-no question (embeddings are normalised).

    With ``s_ij = cos(z1_i, z2_j) / τ + bias``, the loss is ``-1/N Σ_ij log σ(± s_ij)``, with plus where ``i = j`` and
    minus elsewhere. No softmax ties the pairs together. Both constants are fixed; in the paper they are learned, from
    the defaults here. The matrix of all N² similarities is held in memory.

    Args:
        z1: Embeddings of view 1, shape ``(N, D)``, N ≥ 2.
        z2: Embeddings of view 2, shape ``(N, D)``.
        temperature: τ > 0.
        bias: Added to every similarity; negative, since most pairs are negatives.
        check_finite: As in :func:`cosine_loss`.

    Returns:
        Scalar, float32 (float64 for float64 input).

    Raises:
        TypeError: An argument is not a floating-point tensor.
        ValueError: Shapes differ, are not ``(N, D)`` or N < 2; devices differ; ``temperature`` is not positive, or
            ``bias`` not a number; a value is not finite.

    Source: Zhai et al. 2023 (SigLIP), algorithm 1, with two views in place of image and text.

    >>> round(sigmoid_loss(torch.eye(4), torch.eye(4), temperature=1.0, bias=0.0).item(), 4)  # log(1 + 1/e) + 3 log 2
    2.3927
    """
    check_pairs(z1=z1, z2=z2, smallest=2, check_finite=check_finite)
    check_number("temperature", temperature, above=0)
    check_number("bias", bias)
    with no_autocast(z1):
        similarities = unit(z1) @ unit(z2).T / temperature + bias
        positives = similarities.diagonal()
        # -log σ(-s) of all pairs, and for the positives -log σ(s) = -log σ(-s) - s instead
        return (softplus(similarities).sum() - positives.sum()) / len(z1)
