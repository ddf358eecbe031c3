"""How a pair turns together over many steps: its angle after some of them, and the time that it needs to align."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from normlib._utils.arguments import check_choice, check_number
from normlib._utils.tensors import float64_of
from normlib.dynamics.steps import checked_pair, cosine_step, ratio_sum


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
    angle, norm, norm2 = checked_pair(angle, norm, norm2, lr)
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
    angle, norm, norm2, target = checked_pair(angle, norm, norm2, lr, target=target)
    check_number("power", power, at_least=0)
    if not (target <= angle).all():
        raise ValueError("target must not exceed angle: a pair only closes when steps are small")
    distance = (_half_tangent(angle) / _half_tangent(target)).log()
    return distance / ratio_sum(norm, norm2, lr, power)


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
    ratio = ratio_sum(norm, norm2, lr, power)
    start = _half_tangent(angle).log()  # a sum of logarithms: infinity times a vanishing factor would be no number
    return [2 * torch.exp(start - ratio * t).atan() for t in times]
