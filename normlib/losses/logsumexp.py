"""Log-sum-exp of similarities without the matrix of all of them: block by block, forwards and backwards."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from normlib._utils.tensors import no_autocast

_BLOCK = {"cpu": 256}  # side of a block of similarities: what a core's cache holds; a GPU wants fewer, larger ones
_BLOCK_ELSEWHERE = 2048
_STRIP = 2**22  # similarities in a strip of rows


class SymmetricLogSumExp(Function):
    """``log Σ_b exp(u_a · u_b / τ)`` of every row a, from the blocks on and above the main diagonal alone.

    ``left_out`` names the diagonals ``b - a`` that the sum skips; it is symmetric.
    """

    @staticmethod
    def forward(ctx: Any, u: Tensor, temperature: float, left_out: tuple[int, ...]) -> Tensor:
        """Log-sum-exp of each row, shape ``(rows,)``."""
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
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """Gradients with respect to the embeddings, block by block."""
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


class RowLogSumExp(Function):
    """``log Σ_j exp(a_i · b_j / τ)`` of every row i, at any temperature; diagonals ``j - i`` in ``left_out`` skipped.

    Strips of whole rows allow each row its own shift, which small temperatures need.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, temperature: float, left_out: tuple[int, ...]) -> Tensor:
        """Log-sum-exp of each row, shape ``(rows,)``."""
        ctx.temperature, ctx.left_out = temperature, left_out
        lse = a.new_empty(len(a))
        for rows in _strips(a, b):
            lse[rows] = _similarities(a, b, rows, temperature, left_out).logsumexp(dim=1)
        ctx.save_for_backward(a, b, lse)
        return lse

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """Gradients with respect to the embeddings, block by block."""
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
