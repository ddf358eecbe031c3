"""What one step of SGD does to the norm of a free embedding, and to the angle of a pair: exact laws, and a bound."""

import math
from typing import Any

import torch
from torch import Tensor

from normlib._utils.arguments import check_number
from normlib._utils.tensors import check_alike, float64_of, widened


def norm_after_step(z: Tensor, grad: Tensor, lr: float) -> Tensor:
    """Norm of each embedding after one step of SGD: ``sqrt(‖z‖² + η² ‖∇‖²)``.

    The gradient of a loss that sees only directions is orthogonal to ``z``, so step and embedding are the legs of a
    right triangle. The law is exact for any step size, and no step can shorten an embedding.

    Args:
        z: Embeddings before the step, shape ``(..., D)``.
        grad: Gradient of the loss with respect to ``z``, same shape, orthogonal to ``z`` row by row (not checked).
        lr: Step size η > 0.

    Returns:
        Norms after the step, shape ``(...)``, float32 or float64.

    Raises:
        TypeError: An argument is not a floating-point tensor.
        ValueError: The shapes differ, or ``lr`` is not positive.

    Source: Draganov et al. 2025; derived in the chapter on the gradient, put to use in that on norm growth.

    >>> norm_after_step(torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 8.0]]), lr=0.5)
    tensor([5.])
    """
    check_alike(z=z, grad=grad)
    check_number("lr", lr, above=0)
    norm, grad_norm = (torch.linalg.vector_norm(widened(rows), dim=-1) for rows in (z, grad))
    return torch.hypot(norm, lr * grad_norm)


def cosine_step(cosine: Any, sine: Any, norm1: Any, norm2: Any, lr: float, power: float = 0.0) -> tuple:
    """One step of SGD on both embeddings of a pair under ``-cos φ``, exactly, whatever their dimension.

    Each embedding turns towards the other by ``arctan(a sin φ)`` with its own step ratio ``a = η ‖z‖^(p-2)``, and grows
    by the factor ``sqrt(1 + a² sin² φ)``. Both stay in the plane that they span, so four numbers a pair are enough.

    Args:
        cosine: cos φ; this and the next three are floats, NumPy arrays or tensors that broadcast.
        sine: sin φ ≥ 0. Both are asked for, since neither is exact near 0 and π when computed from the other.
        norm1: Norm of the first embedding, > 0.
        norm2: Norm of the second embedding, > 0.
        lr: Step size η of the pair: that of the loss, over N where the loss is a mean over N pairs.
        power: GradScale power p.

    Returns:
        The four numbers after the step, in the same order.

    Source: ours; derived in the chapter on convergence. The arguments are not checked: this is the inside of a
    loop.

    >>> [round(value, 4) for value in cosine_step(0.0, 1.0, 1.0, 1.0, lr=0.5)]  # each turns by arctan(0.5)
    [0.8, 0.6, 1.118, 1.118]
    """
    tan1, growth1 = _turn_and_growth(sine, norm1, lr, power)
    tan2, growth2 = (tan1, growth1) if norm2 is norm1 else _turn_and_growth(sine, norm2, lr, power)
    both = growth1 * growth2
    cos_turn, sin_turn = (1 - tan1 * tan2) / both, (tan1 + tan2) / both
    new_cosine = cosine * cos_turn + sine * sin_turn
    new_sine = abs(sine * cos_turn - cosine * sin_turn)  # past the target: the angle counts from the other side
    return new_cosine, new_sine, norm1 * growth1, norm2 * growth2


def _turn_and_growth(sine: Any, norm: Any, lr: float, power: float) -> tuple:
    """Tangent of the angle by which a step turns an embedding, and the factor by which it lengthens it."""
    tan = lr * sine / norm ** (2 - power)
    return tan, (1 + tan * tan) ** 0.5


def cosine_change_bound(angle: Any, norm: Any, lr: float, *, norm2: Any = None) -> Tensor:
    """Most that one step of SGD on both embeddings can raise cos φ: ``A sin² φ (1 + A |cos φ| / 2)``.

    ``A = η/‖z1‖² + η/‖z2‖²`` adds up both step ratios. For equal norms with step ratio ``a`` the bound reads
    ``2a sin² φ (1 + a |cos φ|)``.

    Args:
        angle: φ in [0, π], radians; this and the norms are numbers, arrays or tensors that broadcast.
        norm: Norm of both embeddings, > 0, or of the first one.
        lr: Step size η > 0 of the pair.
        norm2: Norm of the second embedding where it differs.

    Returns:
        Bound on the change of cos φ, float64. The change itself may be negative, since a step can pass its target.

    Raises:
        ValueError: An angle outside [0, π], a norm or ``lr`` that is not positive.

    Source: ours; proved in the chapter on convergence.

    >>> cosine_change_bound(torch.pi / 2, 1.0, lr=0.5)
    tensor(1., dtype=torch.float64)
    """
    angle, norm, norm2 = checked_pair(angle, norm, norm2, lr)
    ratio = ratio_sum(norm, norm2, lr)
    return ratio * angle.sin() ** 2 * (1 + ratio * angle.cos().abs() / 2)


def checked_pair(angle: Any, norm: Any, norm2: Any, lr: float, **others: Tensor) -> tuple[Tensor, ...]:
    """Angle and norms of a pair, and what else there is, as float64 tensors of one shape."""
    check_number("lr", lr, above=0)
    angle = float64_of("angle", angle, at_least=0)
    if not (angle <= math.pi).all():
        raise ValueError(f"angle must be in radians, from 0 to π, got {float(angle.max())}")
    norm = float64_of("norm", norm, above=0)
    norm2 = norm if norm2 is None else float64_of("norm2", norm2, above=0)
    parts = {"angle": angle, "norm": norm, "norm2": norm2, **others}
    try:
        return torch.broadcast_tensors(*parts.values())
    except RuntimeError:
        shapes = ", ".join(str(tuple(part.shape)) for part in parts.values())
        raise ValueError(f"{', '.join(parts)} must broadcast, got the shapes {shapes}") from None


def ratio_sum(norm: Tensor, norm2: Tensor, lr: float, power: float = 0.0) -> Tensor:
    """Step ratios of both embeddings together: ``η / ‖z1‖^(2 - p) + η / ‖z2‖^(2 - p)``."""
    return lr / norm ** (2 - power) + lr / norm2 ** (2 - power)
