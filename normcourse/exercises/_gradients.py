"""Checks of assignment 1: gradients by hand and by autograd."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from normcourse.exercises._variants import COLLEAGUES, variant
from normcourse.exercises._verdicts import Verdict, first_wrong, judge, outcome, rows
from normlib import gradients, losses

NOT_ORTHOGONAL = "your gradient is not orthogonal to z: was the normalisation differentiated?"
BY_HAND = "not right, and no mistake that we know: write down ‖z‖, u, u⁺ and u · u⁺, and look at each"
OPPOSITE = "the sign is opposite: the loss is minus the cosine, and the gradient points where the loss rises"


def hand_gradient(answer: Any, student_id: str) -> Verdict:
    """Gradient of ``-cos φ`` with respect to your ``z``, worked out by hand; three digits are enough.

    >>> hand_gradient([0.0273, -0.0655], "ada.lovelace")
    ✓ right: orthogonal to z, and of size sin φ / ‖z‖
    >>> hand_gradient([0.355, -0.852], "ada.lovelace")
    ✗ the factor 1/‖z‖ is missing: a longer z has a smaller gradient
    """
    numbers = variant(student_id, "A1")
    z, z_plus = (torch.tensor([row], dtype=torch.float64) for row in (numbers.z, numbers.z_plus))
    u_plus, right = losses.unit(z_plus), gradients.cosine_loss_grad(z, z_plus)[0]
    return judge(
        answer,
        right[0],
        {
            OPPOSITE: -right[0],
            "the factor 1/‖z‖ is missing: a longer z has a smaller gradient": (right * z.norm())[0],
            NOT_ORTHOGONAL: (-u_plus / z.norm())[0],
            "that is minus u⁺: what is left of it at right angles to z?": -u_plus[0],
            "the part along z is kept and the part at right angles is dropped": (-(u_plus / z.norm() + right))[0],
            "z⁺ must be normalised too: its length does not change the cosine": (right * z_plus.norm())[0],
            "that is the gradient with respect to z⁺": gradients.cosine_loss_grad(z, z_plus)[1][0],
            "1/‖z‖² is one factor too many": (right / z.norm())[0],
        },
        praise="right: orthogonal to z, and of size sin φ / ‖z‖",
        rtol=5e-3,
        unknown=BY_HAND,
    )


def tangent(answer: Callable) -> Verdict:
    """``tangent(z, v)``: the part of each row of ``v`` at right angles to that row of ``z``.

    >>> tangent(gradients.tangent)
    ✓ right: nothing along z is left
    >>> tangent(lambda z, v: v - z * (z * v).sum(dim=1, keepdim=True))
    ✗ z is used where u = z/‖z‖ belongs: divide by ‖z‖² once
    """
    z, v = rows(5, 4, seed=1), rows(5, 4, seed=2)
    right, along = gradients.tangent(z, v), v - gradients.tangent(z, v)
    u, inner = losses.unit(z), (z * v).sum(dim=1, keepdim=True)
    return judge(
        outcome(answer, z, v),
        right,
        {
            "that is the part along z: subtract it from v": along,
            "z is used where u = z/‖z‖ belongs: divide by ‖z‖² once": v - z * inner,
            "u · z is one normalisation short: both factors must be unit vectors": v - u * inner,
            "the inner product must be taken row by row, not over the whole batch": v - u * (u * v).sum(),
            "the norm must be taken row by row, not over the whole batch": v - z * inner / z.pow(2).sum(),
            "z and v are exchanged: the part of v is wanted": gradients.tangent(v, z),
            "the part along z is added, not removed": v + along,
        },
        praise="right: nothing along z is left",
    )


def cosine_gradient(answer: Callable) -> Verdict:
    """``cosine_gradient(z1, z2)``: gradient of the mean of ``-cos φ`` with respect to ``z1``.

    >>> cosine_gradient(lambda z1, z2: gradients.cosine_loss_grad(z1, z2)[0])
    ✓ right, and orthogonal to z1 row by row
    >>> cosine_gradient(lambda z1, z2: -gradients.tangent(z1, losses.unit(z2)) / z1.norm(dim=1, keepdim=True))
    ✗ the factor 1/N is missing: the loss is a mean over the pairs
    """
    z1, z2 = rows(6, 4, seed=3), rows(6, 4, seed=4)
    (right, other), norm1, norm2 = gradients.cosine_loss_grad(z1, z2), _norms(z1), _norms(z2)
    found = outcome(answer, z1, z2)
    return judge(
        found,
        right,
        {
            "the factor 1/N is missing: the loss is a mean over the pairs": 6 * right,
            OPPOSITE: -right,
            "the factor 1/‖z1‖ is missing": right * norm1,
            "1/‖z1‖² is one factor too many": right / norm1,
            "it is divided by the norm of the other view: each side has its own": right * norm1 / norm2,
            "z2 must be normalised too": right * norm2,
            "that is the gradient with respect to z2": other,
        },
        praise="right, and orthogonal to z1 row by row",
        unknown=_if_it_leans(found, z1),
    )


def autograd_gradient(answer: Callable) -> Verdict:
    """``autograd_gradient(loss, z1, z2)``: gradient of any ``loss(z1, z2)`` with respect to ``z1``, by autograd.

    >>> def answer(loss, z1, z2):
    ...     z1 = z1.clone().requires_grad_()
    ...     return torch.autograd.grad(loss(z1, z2), z1)[0]
    >>> autograd_gradient(answer)
    ✓ right, twice the same, and without traces in its arguments
    """
    z1, z2 = rows(6, 4, seed=5), rows(6, 4, seed=6)
    return first_wrong(_autograd_verdicts(answer, z1, z2))


def nt_xent_gradient(answer: Callable) -> Verdict:
    """``nt_xent_gradient(z1, z2, temperature)``: gradient of NT-Xent with respect to ``z1``, in closed form.

    >>> nt_xent_gradient(lambda z1, z2, temperature: gradients.info_nce_grad(z1, z2, temperature)[0])
    ✓ right: equal to autograd
    """
    z1, z2, tau = rows(5, 4, seed=7), rows(5, 4, seed=8), 0.4
    right, second = gradients.info_nce_grad(z1, z2, tau)
    found = outcome(answer, z1, z2, tau)
    return judge(
        found,
        right,
        {
            OPPOSITE: -right,
            "only rows of the weights are used: z_a also stands in the denominators of the other anchors (w_ba)": (
                _contrastive(z1, z2, tau, columns=False)
            ),
            "the positive pulls twice: once from z_a, once from its partner": _contrastive(z1, z2, tau, pull=1.0),
            "an anchor is no candidate of its own: mask the diagonal before the softmax": (
                _contrastive(z1, z2, tau, diagonal=True)
            ),
            "the factor 1/τ in front is missing": tau * right,
            "τ is missing inside the softmax": _contrastive(z1, z2, tau, inside=1.0),
            "the mean is over 2N anchors, not N": 2 * right,
            "the factor 1/(2N) is missing: the loss is a mean over the anchors": 10 * right,
            "the factor 1/‖z‖ is missing": right * _norms(z1),
            "that is the loss whose denominator leaves out the positive": (
                gradients.info_nce_grad(z1, z2, tau, denominator="decoupled")[0]
            ),
            "that is the gradient with respect to z2": second,
        },
        praise="right: equal to autograd",
        unknown=_if_it_leans(found, z1),
    )


def colleagues(student_id: str) -> dict[str, Callable]:
    """Four gradients ``f(z1, z2)`` of the mean of ``-cos φ`` by four colleagues; three of them made a mistake.

    Returns:
        Functions under the names ``"A"`` to ``"D"``, in an order of your own.

    >>> list(colleagues("ada.lovelace"))
    ['A', 'B', 'C', 'D']
    """
    made = {
        "right": lambda z1, z2: gradients.cosine_loss_grad(z1, z2)[0],
        "norm held constant": lambda z1, z2: -losses.unit(z2) / _norms(z1) / len(z1),
        "sum, not mean": lambda z1, z2: gradients.cosine_loss_grad(z1, z2)[0] * len(z1),
        "norm of the other view": lambda z1, z2: -gradients.tangent(z1, losses.unit(z2)) / _norms(z2) / len(z1),
    }
    return {name: made[what] for name, what in zip("ABCD", variant(student_id, "A1").colleagues, strict=True)}


def diagnosis(answer: Any, names: str = "ABCD", words: tuple[str, ...] = COLLEAGUES) -> Verdict:
    """Whether a diagnosis names each case once and uses the words offered; not whether it is right.

    Args:
        answer: A dictionary from the cases to words.
        names: The cases, one letter each.
        words: The words offered.

    >>> diagnosis({"A": "right", "B": "right", "C": "sum, not mean", "D": "no idea"})
    ✗ 'no idea' is none of: right, norm held constant, sum, not mean, norm of the other view
    """
    if not isinstance(answer, Mapping) or set(answer) != set(names):
        return Verdict(False, f"expected a dictionary with the keys {', '.join(names)}")
    for word in answer.values():
        if word is ...:
            return Verdict(False, "not answered yet: replace each ... by one of the words")
        if not isinstance(word, str) or word not in words:
            return Verdict(False, f"{word!r} is none of: {', '.join(words)}")
    return Verdict(True, "complete; whether it is right is for you to make sure of")


def _norms(z: Tensor) -> Tensor:
    return z.norm(dim=1, keepdim=True)


def _if_it_leans(found: Any, z: Tensor) -> str:
    """What to say of a gradient that is not orthogonal to z."""
    if not isinstance(found, Tensor) or found.shape != z.shape:
        return ""
    inner = (losses.unit(found.detach().double()) * losses.unit(z)).sum(dim=1)
    return NOT_ORTHOGONAL if inner.abs().max() > 1e-6 else ""


def _autograd_verdicts(answer: Callable, z1: Tensor, z2: Tensor) -> Iterator[Verdict]:
    right1, right2 = gradients.cosine_loss_grad(z1, z2)
    detached = {
        OPPOSITE: -right1,
        "that is the gradient with respect to z2": right2,
        "the gradient of an earlier call is added: z1.grad accumulates, torch.autograd.grad does not": 2 * right1,
    }
    found = outcome(answer, losses.cosine_loss, z1, z2)
    yield judge(found, right1, detached)
    attached = getattr(found, "requires_grad", False)  # NumPy's arrays have no graph
    yield Verdict(not attached, "the result is still attached to a graph: is create_graph needed?")
    leaf = z1.clone()
    for _ in range(2):
        again = outcome(lambda loss, a, b: answer(loss, leaf, b), losses.cosine_loss, z1, z2)
        yield judge(again, right1, detached)
    yield Verdict(not leaf.requires_grad and leaf.grad is None, "your function leaves traces in z1: work on a copy")
    contrast = gradients.info_nce_grad(z1, z2)[0]
    praise = "right, twice the same, and without traces in its arguments"
    yield judge(
        outcome(answer, losses.info_nce, z1, z2),
        contrast,
        {"the loss that is passed in is not used": right1},
        praise=praise,
    )


def _contrastive(
    z1: Tensor,
    z2: Tensor,
    tau: float,
    *,
    columns: bool = True,
    pull: float = 2.0,
    diagonal: bool = False,
    inside: float = 0.0,
) -> Tensor:
    """The gradient of NT-Xent as it comes out with one mistake."""
    z = torch.cat([z1, z2])
    u, n = losses.unit(z), len(z1)
    scores = u @ u.T / (inside or tau)
    if not diagonal:
        scores.fill_diagonal_(-math.inf)
    w = scores.softmax(dim=1)
    push = (w + w.T) @ u if columns else w @ u
    return (-gradients.tangent(z, pull * u.roll(n, 0) - push) / _norms(z) / (2 * n * tau))[:n]
