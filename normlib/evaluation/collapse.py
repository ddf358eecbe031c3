"""Collapse: embeddings that have stopped telling inputs apart, or do so along too few directions."""

from typing import NamedTuple

import torch
from torch import Tensor

from normlib._utils.arguments import check_number
from normlib._utils.tensors import check_floating, directions_and_inverse_norms


class Collapse(NamedTuple):
    """How far directions spread, and the name of the collapse, ``""`` for none; see :func:`detect_collapse`."""

    name: str
    spread: float
    rank: float


@torch.no_grad()
def spread(z: Tensor) -> float:
    """1 less the mean cosine between the embeddings of *different* inputs: 0 where all directions agree.

    A pair of an input with itself does not count, unlike in the spread of :func:`detect_collapse`, which is a share of
    ``(N - 1) / N`` of this one.

    Args:
        z: Embeddings of different inputs, shape ``(N, D)``, N ≥ 2; computed in float64. A zero row has the cosine 0
            with every other.

    Raises:
        TypeError: ``z`` is not a floating-point tensor.
        ValueError: ``z`` is no matrix of two rows or more, or holds NaN or infinity.

    >>> spread(torch.tensor([[1.0, 0.0], [0.0, 3.0]]))
    1.0
    """
    _check_matrix(z)
    n, total = len(z), directions_and_inverse_norms(z.double())[0].sum(dim=0)
    return ((n**2 - total.square().sum()) / (n * (n - 1))).item()


@torch.no_grad()
def detect_collapse(z: Tensor, *, least_spread: float = 0.05, least_rank: float = 2.0) -> Collapse:
    """Whether the directions of embeddings of *different* inputs have collapsed, to a point or to a line.

    - ``spread`` is ``1 - ‖mean u‖²``, the mean of ``1 - cos φ`` over all ordered pairs: 0 where all directions agree, 1
      where they cancel. Zero rows have no direction and do not count; if all rows are zero, spread and rank are 0.
    - ``rank`` is the effective rank of the directions less their mean: ``exp`` of the entropy of the normalised
      squared singular values, from 1 for a line to D for equal variance everywhere.

    ``name`` is ``"complete"`` below ``least_spread``, else ``"dimensional"`` below ``least_rank``, else empty.

    Args:
        z: Embeddings of different inputs, shape ``(N, D)``, N ≥ 2.
        least_spread: Spread below which the collapse is complete.
        least_rank: Effective rank below which it is dimensional.

    Raises:
        TypeError: ``z`` is not a floating-point tensor.
        ValueError: ``z`` is no matrix of two rows or more, or holds NaN or infinity; a bound is negative.

    Source: the two kinds as in Jing et al. 2022; the effective rank of Roy & Vetterli 2007 on squared singular values.

    >>> detect_collapse(torch.tensor([[1.0, 0.01], [5.0, 0.02], [2.0, -0.01]])).name
    'complete'
    >>> detect_collapse(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    Collapse(name='dimensional', spread=1.0, rank=1.0)
    >>> detect_collapse(torch.eye(4)).name
    ''
    """
    _check_matrix(z)
    check_number("least_spread", least_spread, at_least=0)
    check_number("least_rank", least_rank, at_least=0)
    u = directions_and_inverse_norms(z[z.any(dim=1)])[0]
    if len(u) == 0:
        return Collapse("complete", 0.0, 0.0)
    mean = u.mean(dim=0)
    found = 1 - mean.square().sum().item()
    weights = torch.linalg.svdvals(u - mean).square()
    weights = weights / weights.sum().clamp(min=torch.finfo(u.dtype).tiny)
    rank = torch.special.entr(weights).sum().exp().item()
    name = "complete" if found < least_spread else "dimensional" if rank < least_rank else ""
    return Collapse(name, found, rank)


def _check_matrix(z: Tensor) -> None:
    check_floating(z=z)
    if z.ndim != 2 or len(z) < 2 or z.shape[1] == 0 or not z.isfinite().all():
        raise ValueError(
            f"z must be finite and of shape (N, D) with N ≥ 2, got {tuple(z.shape)}; did training diverge?"
        )
