"""What steps of SGD do to norms and angles of free embeddings, which it moves directly: exact laws and their limits."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from normlib._utils.arguments import check_choice, check_count, check_number
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
    angle, norm, norm2 = _pair(angle, norm, norm2, lr)
    ratio = _ratio_sum(norm, norm2, lr)
    return ratio * angle.sin() ** 2 * (1 + ratio * angle.cos().abs() / 2)


def angle_after_steps(
    angle: Any,
    norm: Any,
    lr: float,
    steps: int | Sequence[int],
    *,
    norm2: Any = None,
    power: float = 0.0,
    law: str = "exact",
) -> Tensor:
    """Angle of a pair after some steps of SGD on both embeddings under ``-cos φ``.

    - ``law="exact"`` repeats the one-step law :func:`cosine_step`: the angle turns by the arctangent, norms grow.
    - ``law="continuous"`` is the limit of small steps, in which norms stand still: with ``A`` the sum of both step
      ratios, ``tan(φ/2) = tan(φ₀/2) exp(-A t)``.

    Args:
        angle: φ₀ in [0, π], radians; this and the norms are numbers, arrays or tensors that broadcast.
        norm: Norm of both embeddings before the first step, > 0, or of the first one.
        lr: Step size η > 0 of the pair.
        steps: Number of steps t ≥ 0, or several in rising order.
        norm2: Norm of the second embedding where it differs.
        power: GradScale power p ≥ 0: the step ratio is ``η ‖z‖^(p-2)``.
        law: ``"exact"`` or ``"continuous"``.

    Returns:
        Angles in [0, π], float64, in the shape of the arguments; for several ``steps`` stacked along a new first axis.

    Raises:
        ValueError: An angle outside [0, π]; a norm or ``lr`` that is not positive; steps that are negative, fractional
            or fall; a negative ``power``; an unknown ``law``.

    Source: ours; derived in the chapter on convergence. The predecessor paper (Draganov et al. 2024) bounds the same
    motion.

    >>> angle_after_steps(2.0, 1.0, lr=0.1, steps=[0, 10, 20]).numpy().round(3)
    array([2.   , 0.416, 0.054])
    >>> angle_after_steps(2.0, 1.0, lr=0.1, steps=[0, 10, 20], law="continuous").numpy().round(3)
    array([2.   , 0.415, 0.057])
    """
    angle, norm, norm2 = _pair(angle, norm, norm2, lr)
    check_number("power", power, at_least=0)
    given = float64_of("steps", steps, at_least=0)
    times = [int(t) for t in given.flatten()]
    if given.ndim > 1 or given.flatten().tolist() != sorted(times):
        raise ValueError(f"steps must be whole numbers ≥ 0 in rising order, got {steps!r}")
    check_choice("law", law, ("exact", "continuous"))
    path = _exact_path if law == "exact" else _continuous_path
    angles = torch.stack(path(angle, norm, norm2, lr, times, power))
    return angles if given.ndim else angles[0]


def time_to_align(angle: Any, target: Any, norm: Any, lr: float, *, norm2: Any = None, power: float = 0.0) -> Tensor:
    """Steps that a pair takes from one angle to a smaller one, when steps are small.

    ``T = ln[tan(φ₀/2) / tan(φ/2)] / A``, with ``A`` the sum of both step ratios. For equal norms ``A = 2η/‖z‖²``: the
    time grows with the square of the norm, but only with the logarithm of the distance from π.

    Args:
        angle: φ₀ in [0, π], radians; this, ``target`` and the norms are numbers, arrays or tensors that broadcast.
        target: The angle to reach, φ in (0, φ₀].
        norm: Norm of both embeddings, > 0, or of the first one.
        lr: Step size η > 0 of the pair.
        norm2: Norm of the second embedding where it differs.
        power: GradScale power p ≥ 0: the step ratio is ``η ‖z‖^(p-2)``.

    Returns:
        Number of steps, not rounded, float64; infinite from φ₀ = π, where the gradient is zero.

    Raises:
        ValueError: An angle outside [0, π], a target outside (0, φ₀], a norm or ``lr`` that is not positive, or a
            negative ``power``.

    Source: ours; derived in the chapter on convergence.

    >>> time_to_align(torch.pi / 2, 0.01, norm=torch.tensor([1.0, 2.0]), lr=0.01)
    tensor([ 264.9155, 1059.6618], dtype=torch.float64)
    """
    target = float64_of("target", target, above=0)
    angle, norm, norm2, target = _pair(angle, norm, norm2, lr, target=target)
    check_number("power", power, at_least=0)
    if not (target <= angle).all():
        raise ValueError("target must not exceed angle: a pair only closes when steps are small")
    distance = (_half_tangent(angle) / _half_tangent(target)).log()
    return distance / _ratio_sum(norm, norm2, lr, power)


def equilibrium_norm(
    optimizer: str,
    *,
    lr: float,
    weight_decay: float,
    noise: float | None = None,
    dim: int | None = None,
    momentum: float = 0.0,
    power: float = 0.0,
) -> float:
    """Norm at which growth by noisy gradients and weight decay balance.

    A free embedding receives tangential gradients of random direction and size G/‖z‖. Then

    - ``"sgd"``: ``‖z‖* = [η G² / (2λ(1-μ))]^(1/(4-2p))``, the fourth root without GradScale, the square root for p = 1;
    - ``"adamw"``: ``‖z‖* = sqrt(η D / (2λ))``: Adam divides by the size of the gradient, so G and p drop out.

    Args:
        optimizer: ``"sgd"`` or ``"adamw"``.
        lr: Step size η > 0.
        weight_decay: λ > 0; as ``torch.optim`` applies it: in the gradient for SGD, decoupled for AdamW.
        noise: G > 0, the size of the gradient at norm 1; needed for SGD.
        dim: D, number of coordinates; needed for AdamW.
        momentum: μ in [0, 1), of SGD.
        power: GradScale power p in [0, 2), for SGD.

    Returns:
        The norm.

    Raises:
        ValueError: An unknown optimizer, a setting missing or out of range. ``weight_decay=0`` has no equilibrium, nor
            has p = 2: growth and decay are then both proportional to the norm, and one of them wins.

    Source: ours; derived in the chapter on norm growth, for GradScale in that on interventions. For normalised weights:
    van Laarhoven 2017; Wan et al. 2021; Kosson et al. 2024.

    >>> round(equilibrium_norm("sgd", lr=0.1, weight_decay=5e-4, noise=0.1, momentum=0.9), 3)
    1.778
    """
    check_choice("optimizer", optimizer, ("sgd", "adamw"))
    check_number("lr", lr, above=0)
    check_number("weight_decay", weight_decay, above=0, hint="without decay there is no equilibrium")
    check_number("momentum", momentum, at_least=0, below=1)
    check_number("power", power, at_least=0, below=2, hint="with p = 2 the norm explodes or collapses")
    if optimizer == "adamw":
        check_count("dim", dim, hint="AdamW's equilibrium depends on the dimension")
        assert dim is not None  # that was refused
        return math.sqrt(lr * dim / (2 * weight_decay))
    check_number("noise", noise, above=0, hint="SGD's equilibrium depends on the size of the gradient")
    assert noise is not None  # that was refused
    return (lr * noise**2 / (2 * weight_decay * (1 - momentum))) ** (1 / (4 - 2 * power))


def _pair(angle: Any, norm: Any, norm2: Any, lr: float, **others: Tensor) -> tuple[Tensor, ...]:
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


def _ratio_sum(norm: Tensor, norm2: Tensor, lr: float, power: float = 0.0) -> Tensor:
    return lr / norm ** (2 - power) + lr / norm2 ** (2 - power)


def _half_tangent(angle: Tensor) -> Tensor:
    return torch.where(angle == math.pi, math.inf, (angle / 2).tan())  # the float π lies a little below π


def _exact_path(angle: Tensor, norm: Tensor, norm2: Tensor, lr: float, times: list[int], power: float) -> list[Tensor]:
    state = (angle.cos(), torch.where(angle == math.pi, 0, angle.sin()), norm, norm2)
    path, done = [], 0
    for t in times:
        for _ in range(t - done):
            state = cosine_step(*state, lr, power)
        done = t
        path.append(torch.atan2(state[1], state[0]))
    return path


def _continuous_path(
    angle: Tensor, norm: Tensor, norm2: Tensor, lr: float, times: list[int], power: float
) -> list[Tensor]:
    ratio = _ratio_sum(norm, norm2, lr, power)
    start = _half_tangent(angle).log()  # a sum of logarithms: infinity times a vanishing factor would be no number
    return [2 * torch.exp(start - ratio * t).atan() for t in times]
