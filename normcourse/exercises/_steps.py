"""Checks of assignment 2: norm growth and the step law."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from normcourse.exercises._variants import variant
from normcourse.exercises._verdicts import Verdict, first_wrong, judge, outcome, rows
from normlib import dynamics, gradients, losses

TOLERANCE = 1e-3  # a pair is closed when cos φ reaches 1 minus this


def hand_step(new_norm: float, turn: float, student_id: str) -> Verdict:
    """Norm after your step, and the angle in radians by which it turns; three digits are enough.

    >>> hand_step(8.544, 1.2120, "ada.lovelace")
    ✓ right: step and embedding are the legs of a right triangle
    >>> hand_step(11.0, 1.2120, "ada.lovelace")
    ✗ norm: lengths at right angles add by their squares
    """
    numbers = variant(student_id, "A2")
    norm, grad, lr = numbers.norm, numbers.grad, numbers.lr
    ratio = lr * grad / norm
    hand: dict[str, Any] = {
        "rtol": 5e-3,
        "unknown": "not right, and no mistake that we know: draw the triangle, its legs ‖z‖ and η‖∇‖",
    }
    growth = {
        "norm: lengths at right angles add by their squares": norm + lr * grad,
        "norm: that is the squared norm": norm**2 + (lr * grad) ** 2,
        "norm: η must be squared too, with the rest of the step": math.sqrt(norm**2 + lr * grad**2),
        "norm: a step of a right angle never shortens": math.sqrt(abs(norm**2 - (lr * grad) ** 2)),
        "norm: the step is η‖∇‖, not ‖∇‖": math.hypot(norm, grad),
    }
    turning = {
        "turn: that is the tangent of the angle": ratio,
        "turn: in radians, please": math.degrees(math.atan(ratio)),
        "turn: that is the angle at the other corner": math.atan(1 / ratio),
        "turn: the adjacent leg is ‖z‖ before the step, not after it": math.atan(ratio / math.hypot(1, ratio)),
        "turn: that is the sine of the angle": ratio / math.hypot(1, ratio),
        "turn: the step is η‖∇‖, not ‖∇‖": math.atan(grad / norm),
    }
    praise = "right: step and embedding are the legs of a right triangle"
    return first_wrong(
        judge(found, right, mistakes, praise=praise, **hand)
        for found, right, mistakes in (
            (new_norm, math.hypot(norm, lr * grad), growth),
            (turn, math.atan(ratio), turning),
        )
    )


def sgd_step(answer: Callable) -> Verdict:
    """``sgd_step(z1, z2, lr)``: both embeddings of every pair after one step of SGD on the sum of ``-cos φ``.

    >>> def answer(z1, z2, lr):
    ...     grad1, grad2 = gradients.cosine_loss_grad(z1, z2)  # of the mean
    ...     return z1 - lr * len(z1) * grad1, z2 - lr * len(z1) * grad2
    >>> sgd_step(answer)
    ✓ right: both have moved, at once
    """
    z1, z2, lr = rows(5, 3, seed=11), rows(5, 3, seed=12), 0.7
    found = outcome(answer, z1, z2, lr)
    if isinstance(found, tuple | list):
        found = outcome(lambda: torch.stack([torch.as_tensor(one) for one in found]))
    grad1, grad2 = (len(z1) * grad for grad in gradients.cosine_loss_grad(z1, z2))
    new1, new2 = z1 - lr * grad1, z2 - lr * grad2
    late = z2 - lr * len(z1) * gradients.cosine_loss_grad(new1, z2)[1]
    unit = torch.stack([losses.unit(new1), losses.unit(new2)])
    return judge(
        found,
        torch.stack([new1, new2]),
        {
            "z2 must be moved by the gradient at the old z1: compute both gradients first": torch.stack([new1, late]),
            "z2 has not moved: a step moves both": torch.stack([new1, z2]),
            "nothing has moved": torch.stack([z1, z2]),
            "it is not to be normalised after the step: the length is the point": unit,
            "the old length is restored after the step: the length is the point": unit * _norms(z1, z2),
            "that is uphill: the step is minus the gradient": torch.stack([z1 + lr * grad1, z2 + lr * grad2]),
            "every pair has its own loss: sum, not mean": torch.stack([z1 - lr * grad1 / 5, z2 - lr * grad2 / 5]),
            "the step size lr is not used": torch.stack([z1 - grad1, z2 - grad2]),
        },
        praise="right: both have moved, at once",
    )


def count_steps(answer: Callable) -> Verdict:
    """``count_steps(angle, norm, lr)``: steps of SGD until ``cos φ ≥ 1 - 10⁻³``, both norms equal at the start.

    >>> count_steps(lambda angle, norm, lr: 20)
    ✗ not right at angle 1, norm 1, lr 0.05: got 20, expected 31
    """
    settings = [(1.0, 1.0, 0.05), (2.5, 0.5, 0.1), (0.5, 0.3, 0.05), (0.01, 1.0, 0.1)]
    found, right = [outcome(answer, *setting) for setting in settings], [_count(*setting) for setting in settings]
    for got in found:
        if isinstance(got, Verdict):
            return got
        if isinstance(got, bool) or not isinstance(got, Integral):
            return Verdict(False, f"expected a whole number of steps, got {got!r} ({type(got).__name__})")
    unknown = ""
    for setting, got, expected in zip(settings, found, right, strict=True):
        if got != expected:
            where = "angle {:g}, norm {:g}, lr {:g}".format(*setting)
            unknown = f"not right at {where}: got {got}, expected {expected}"
            break
    return judge(
        found,
        right,
        {
            "one too many: count the steps, not the states": [n + 1 for n in right],
            "one too few: the last step counts too": [max(n - 1, 0) for n in right],
            "a pair that is closed at the start needs 0 steps: test before you step": [*right[:3], 1],
            "the norm must grow with each step": [_count(*setting, grow=False) for setting in settings],
            "both embeddings must move": [_count(*setting, moved=1) for setting in settings],
            "1/‖z‖ stands in the gradient, and once more in the turn": [_count(*s, power=1) for s in settings],
        },
        praise="right",
        unknown=unknown,
    )


def predicted_steps(answer: Callable) -> Verdict:
    """``predicted_steps(angle, norm, lr)``: steps by the law of small steps, until ``cos φ = 1 - 10⁻³``; not rounded.

    >>> predicted_steps(lambda angle, norm, lr: dynamics.time_to_align(angle, math.acos(1 - 1e-3), norm, lr))
    ✓ right
    """
    angle, norm, lr, target = 1.9, 1.7, 0.03, math.acos(1 - TOLERANCE)
    right = float(dynamics.time_to_align(angle, target, norm, lr))
    both = norm**2 / (2 * lr)
    return judge(
        outcome(answer, angle, norm, lr),
        right,
        {
            "both embeddings move: the angle closes twice as fast": 2 * right,
            "the norm must be squared": right / norm,
            "the norm is missing": right / norm**2,
            "half the angle belongs into the tangent": both * math.log(abs(math.tan(angle)) / math.tan(target)),
            "the angle to reach is missing: the logarithm of a quotient": abs(both * math.log(math.tan(angle / 2))),
            "the natural logarithm is meant": right / math.log(10),
            "a time is positive: which angle is the larger?": -right,
            "the sine is missing from the pull": both * math.log(angle / target),
            "the angle to reach is arccos(1 - 10⁻³), not 10⁻³": both * math.log(math.tan(angle / 2) / math.tan(5e-4)),
        },
        rtol=1e-4,
    )


def noisy_step(answer: Callable) -> Verdict:
    """``noisy_step(z, lr, G, noise)``: a step along the tangential part of ``noise``, scaled to the size ``G/‖z‖``.

    >>> def answer(z, lr, G, noise):
    ...     return z - lr * G * losses.unit(gradients.tangent(z, noise)) / z.norm(dim=1, keepdim=True)
    >>> noisy_step(answer)
    ✓ right: every row of the gradient has the size G/‖z‖ and is at right angles to z
    """
    z, noise, lr, G = rows(5, 4, seed=13), rows(5, 4, seed=14), 0.3, 1.7
    way, raw, norm = losses.unit(gradients.tangent(z, noise)), losses.unit(noise), z.norm(dim=1, keepdim=True)
    return judge(
        outcome(answer, z, lr, G, noise),
        z - lr * G * way / norm,
        {
            "the noise must be projected: what points along z is no gradient of directions": z - lr * G * raw / norm,
            "projected after scaling, the gradient is too short: scale last": (
                z - lr * G * gradients.tangent(z, raw) / norm
            ),
            "each row must be scaled to its size, whatever the length of the noise": (
                z - lr * G * gradients.tangent(z, noise) / norm
            ),
            "the factor 1/‖z‖ is missing": z - lr * G * way,
            "1/‖z‖² is one factor too many": z - lr * G * way / norm**2,
            "G is missing": z - lr * way / norm,
            "the step size lr is missing": z - G * way / norm,
            "that is the step, not where it leads": -lr * G * way / norm,
            "the step is minus the gradient": z + lr * G * way / norm,
        },
        praise="right: every row of the gradient has the size G/‖z‖ and is at right angles to z",
    )


def doubling_steps(plain: float, with_momentum: float, student_id: str) -> Verdict:
    """Steps until noise has doubled your norm, without momentum and with it, by the quarter-power law.

    >>> doubling_steps(3, 4, "ada.lovelace")
    ✗ not right, and no mistake that we know: solve the law for T
    """
    numbers = variant(student_id, "A2")
    norm, lr, G, left = numbers.norm, numbers.lr_noise, numbers.G, 1 - numbers.momentum
    right = 15 * norm**4 / (2 * lr**2 * G**2)
    plainly = {
        "it is ‖z‖⁴ that grows steadily: from 1 to 16 times, so 15 times are to be gained": 16 * right / 15,
        "it is ‖z‖⁴ that grows steadily, not ‖z‖²": 3 * norm**2 / (lr * G) ** 2,
        "the factor 2 in front of η²G² is missing": 2 * right,
        "η and G are both squared": 15 * norm**4 / (2 * lr * G**2),
        "that is where ‖z‖⁴ has doubled": right / 15,
    }
    moving = {message: value * left**2 for message, value in plainly.items()} | {
        "1 - μ is squared: every step is 1/(1-μ) times as long": right * left,
        "momentum makes it faster": right / left**2,
        "momentum changes something": right,
        "1 - μ is the factor, not μ": right * numbers.momentum**2,
    }
    hand: dict[str, Any] = {
        "rtol": 5e-3,
        "praise": "right",
        "unknown": "not right, and no mistake that we know: solve the law for T",
    }
    cases = (("plain", plain, right, plainly), ("with momentum", with_momentum, right * left**2, moving))
    return first_wrong(
        judge(found, value, {f"{name}: {message}": wrong for message, wrong in mistakes.items()}, **hand)
        for name, found, value, mistakes in cases
    )


def _count(angle: float, norm: float, lr: float, *, grow: bool = True, moved: int = 2, power: float = 0.0) -> int:
    """Steps until a pair is closed, or with one mistake."""
    steps, state = 0, (math.cos(angle), math.sin(angle), norm, norm)
    while state[0] < 1 - TOLERANCE:
        cosine, sine, norm1, norm2 = dynamics.cosine_step(*state, lr, power)
        if moved == 1:
            turned = math.atan2(state[1], state[0]) - math.atan(lr * state[1] / state[2] ** 2)
            cosine, sine, norm2 = math.cos(turned), abs(math.sin(turned)), norm
        state = (cosine, sine, norm1, norm2) if grow else (cosine, sine, norm, norm)
        steps += 1
    return steps


def _norms(z1: Tensor, z2: Tensor) -> Tensor:
    return torch.stack([z1, z2]).norm(dim=2, keepdim=True)
