"""Losses of embeddings that see only their directions: pure functions of ``(N, D)`` tensors.

Embeddings are normalised inside every loss here; pass them as the network returns them. The contrastive loss never
holds the matrix of all similarities: it walks over blocks of it, forwards for the log-sum-exp and backwards for the
closed-form gradient of chapter 2.
"""

import math
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor
from torch.autograd import Function

from normlib._rows import check_contrast, check_pairs, directions_and_inverse_norms, no_autocast

Denominator = Literal["nt-xent", "decoupled", "cross-view"]

_BLOCK = {"cpu": 256}  # side of a block of similarities: what a core's cache holds; a GPU wants fewer, larger ones
_BLOCK_ELSEWHERE = 2048
_STRIP = 2**22  # similarities in a strip of rows


def unit(z: Tensor) -> Tensor:
    """Direction of each embedding, ``u = z / ‖z‖``.

    A zero row has no direction: it is returned as zero, so its cosine with everything is 0 and its gradient is 0.

    Args:
        z: Embeddings, floating point, shape ``(..., D)``. Half precision is computed in float32.

    Returns:
        Directions, same shape, float32 or float64.

    >>> unit(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    tensor([[0.6000, 0.8000],
            [0.0000, 0.0000]])
    """
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

    Source: Draganov et al. 2025; derived in chapter 1.

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

    Memory grows with N, not with N². The gradient is the closed form of chapter 2; it can be differentiated once only
    (for a second derivative, differentiate :func:`normlib.gradients.info_nce_grad`).

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
    al. 2025 (cross-view). Derived in chapter 2.

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
            return _RowLogSumExp.apply(u1, u2, temperature, (0,)).mean() - positive
        left_out = (0,) if denominator == "nt-xent" else (-n, 0, n)
        # One shift for all rows keeps every exponential a normal number only while their range, 2/τ, fits the type;
        # half of the type's range is left to what the loss may be multiplied by before its backward pass.
        if 2 / temperature < -0.45 * math.log(torch.finfo(u.dtype).tiny):
            return _SymmetricLogSumExp.apply(u, temperature, left_out).mean() - positive
        return _RowLogSumExp.apply(u, u, temperature, left_out).mean() - positive


class _SymmetricLogSumExp(Function):
    """``log Σ_b exp(u_a · u_b / τ)`` of every row a, from the blocks on and above the main diagonal alone.

    ``left_out`` names the diagonals ``b - a`` that the sum skips; it is symmetric.
    """

    @staticmethod
    def forward(ctx, u: Tensor, temperature: float, left_out: tuple[int, ...]) -> Tensor:
        size = _block_size(u)
        keep = ctx.needs_input_grad[0] and len(u) <= 2 * size  # few blocks are cheaper kept than computed again
        ctx.temperature, ctx.left_out = temperature, left_out
        kept = []
        total = u.new_zeros(len(u))
        for rows, columns in _upper_triangle(len(u), size):
            block = _shifted_exponentials(u, rows, columns, temperature, left_out)
            total[rows] += block.sum(dim=1)
            if rows != columns:
                total[columns] += block.sum(dim=0)
            if keep:
                kept.append(block)
        ctx.save_for_backward(u, total, *kept)
        return total.log() + 1 / temperature

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        _refuse_second_derivative()
        u, total, *kept = ctx.saved_tensors
        pull = grad / (total * ctx.temperature)
        grad_u = torch.zeros_like(u)
        with no_autocast(u):
            for i, (rows, columns) in enumerate(_upper_triangle(len(u), _block_size(u))):
                block = kept[i] if kept else _shifted_exponentials(u, rows, columns, ctx.temperature, ctx.left_out)
                # w_ab + w_ba: what a feels as an anchor, and as a negative of the anchor b
                weights = (pull[rows, None] + pull[None, columns]).mul_(block)
                grad_u[rows].addmm_(weights, u[columns])
                if rows != columns:
                    grad_u[columns].addmm_(weights.T, u[rows])
        return grad_u, None, None


class _RowLogSumExp(Function):
    """``log Σ_j exp(a_i · b_j / τ)`` of every row i, at any temperature; diagonals ``j - i`` in ``left_out`` skipped.

    Strips of whole rows allow each row its own shift, which small temperatures need.
    """

    @staticmethod
    def forward(ctx, a: Tensor, b: Tensor, temperature: float, left_out: tuple[int, ...]) -> Tensor:
        ctx.temperature, ctx.left_out = temperature, left_out
        lse = a.new_empty(len(a))
        for rows in _strips(a, b):
            lse[rows] = _similarities(a, b, rows, temperature, left_out).logsumexp(dim=1)
        ctx.save_for_backward(a, b, lse)
        return lse

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        _refuse_second_derivative()
        a, b, lse = ctx.saved_tensors
        grad_a, grad_b = torch.empty_like(a), torch.zeros_like(b)
        with no_autocast(a):
            for rows in _strips(a, b):
                weights = _similarities(a, b, rows, ctx.temperature, ctx.left_out).sub_(lse[rows, None]).exp_()
                weights *= grad[rows, None] / ctx.temperature
                grad_a[rows] = weights @ b
                grad_b.addmm_(weights.T, a[rows])
        return grad_a, grad_b, None, None


def _shifted_exponentials(
    u: Tensor, rows: slice, columns: slice, temperature: float, left_out: tuple[int, ...]
) -> Tensor:
    """``exp((u_a · u_b - 1) / τ)`` for one block, 0 where left out. Cosines are at most 1, so nothing overflows."""
    block = (u[rows] @ u[columns].T).sub_(1).div_(temperature).exp_()
    return _fill_diagonals(block, rows.start - columns.start, left_out, 0.0)


def _similarities(a: Tensor, b: Tensor, rows: slice, temperature: float, left_out: tuple[int, ...]) -> Tensor:
    """``a_i · b_j / τ`` for a strip of rows and all columns, -inf where left out."""
    return _fill_diagonals((a[rows] @ b.T).div_(temperature), rows.start, left_out, -math.inf)


def _fill_diagonals(block: Tensor, first: int, diagonals: tuple[int, ...], value: float) -> Tensor:
    """Fill those diagonals of the whole matrix that cross a block starting ``first`` rows below its own columns."""
    for diagonal in diagonals:
        if -block.shape[0] < diagonal + first < block.shape[1]:
            block.diagonal(diagonal + first).fill_(value)
    return block


def _refuse_second_derivative() -> None:
    if torch.is_grad_enabled():  # inside a backward pass: create_graph=True
        raise RuntimeError(
            "info_nce can be differentiated once only, but create_graph=True asks for a second time; take the gradient "
            "from normlib.gradients.info_nce_grad, which autograd can differentiate"
        )


def _upper_triangle(n: int, size: int) -> Iterator[tuple[slice, slice]]:
    starts = [slice(start, min(start + size, n)) for start in range(0, n, size)]
    return ((rows, columns) for i, rows in enumerate(starts) for columns in starts[i:])


def _block_size(u: Tensor) -> int:
    return _BLOCK.get(u.device.type, _BLOCK_ELSEWHERE)


def _strips(a: Tensor, b: Tensor) -> Iterator[slice]:
    size = max(1, _STRIP // len(b))
    return (slice(start, min(start + size, len(a))) for start in range(0, len(a), size))
