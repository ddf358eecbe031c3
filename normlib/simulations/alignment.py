"""Experiments without images: free points that a cosine loss moves, and small encoders on mixtures of directions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from normlib._utils.arguments import check_count, check_number, check_seed, listed
from normlib.dynamics import cosine_step

if TYPE_CHECKING:
    import pandas as pd


def steps_to_align(
    norms: Sequence[float] | None = None,
    angles: Sequence | None = None,
    *,
    n_pairs: int = 500,
    dim: int = 20,
    lr: float = 10.0,
    tol: float = 1e-3,
    max_steps: int = 100_000,
    seed: int = 0,
    power: float = 0.0,
) -> pd.DataFrame:
    """Steps of SGD until free pairs agree under the cosine loss, for each initial norm and each initial angle.

    Both embeddings of every pair are moved. The loss is the mean over pairs, so a pair feels the step size
    ``lr / n_pairs``. A pair stays in the plane that it spans, so its angle and its norms are its whole state, and
    :func:`normlib.dynamics.cosine_step` advances it exactly. Conditions that have converged are retired.

    Args:
        norms: Initial norms of both embeddings, > 0; ``None``: 1.
        angles: Initial angles, radians in [0, π]. Each entry is one condition: a number for all pairs, or a sequence of
            ``n_pairs`` numbers. ``None``: one condition whose directions are drawn uniformly on the sphere.
        n_pairs: Pairs in the batch.
        dim: D, for drawn directions.
        lr: Step size of the mean loss, > 0.
        tol: A condition has converged when the mean of cos φ reaches ``1 - tol``.
        max_steps: Steps after which a condition is given up.
        seed: Seed of the drawn directions; all norms start from the same ones.
        power: GradScale power p in [0, 2].

    Returns:
        One row per condition, with ``norm``, ``angle`` (mean over the pairs), ``steps`` and ``converged``. A condition
        that was given up has ``steps == max_steps``.

    Raises:
        TypeError: ``norms`` or ``angles`` is no sequence.
        ValueError: An argument out of its range, or an entry of ``angles`` with another number of pairs.

    Source: the experiment of Draganov et al. 2025 on norms and angles, with its settings as defaults; the law is
    derived in the chapter on convergence.

    >>> steps_to_align([1.0, 2.0]).round(2)
       norm  angle  steps  converged
    0   1.0   1.59     97       True
    1   2.0   1.59    387       True
    """
    import pandas as pd

    for name, count, least in (("n_pairs", n_pairs, 1), ("dim", dim, 2), ("max_steps", max_steps, 0)):
        check_count(name, count, at_least=least)
    check_seed(seed)
    check_number("lr", lr, above=0)
    check_number("tol", tol, above=0)
    check_number("power", power, at_least=0, at_most=2, hint="longer embeddings would turn faster without bound")
    norms = [1.0] if norms is None else listed("norms", norms)
    for name, given in (("norms", norms), ("angles", [0.0] if angles is None else listed("angles", angles))):
        if not given:
            raise ValueError(f"{name} is empty; name at least one condition")
    for norm in norms:
        check_number("norms", norm, above=0, hint="a zero embedding has no direction")
    starts = [_random_angles(n_pairs, dim, seed)] if angles is None else [_angles(angle, n_pairs) for angle in angles]
    conditions = [(norm, start) for norm in norms for start in starts]
    steps, converged = _run_pairs(conditions, lr / n_pairs, tol, max_steps, power)
    return pd.DataFrame(
        {
            "norm": [float(norm) for norm, _ in conditions],
            "angle": [float(start.mean()) for _, start in conditions],
            "steps": steps,
            "converged": converged,
        }
    )


def _random_angles(n_pairs: int, dim: int, seed: int) -> np.ndarray:
    z1, z2 = np.random.default_rng(seed).standard_normal((2, n_pairs, dim))
    cosine = (z1 * z2).sum(axis=1) / np.linalg.norm(z1, axis=1) / np.linalg.norm(z2, axis=1)
    return np.arccos(cosine)


def _angles(angle: Any, n_pairs: int) -> np.ndarray:
    """Angles of the pairs of one condition; pairs that share their angle move alike, so one stands for all."""
    try:
        start = np.atleast_1d(np.asarray(angle, dtype=np.float64))
    except (TypeError, ValueError):
        raise ValueError(f"an entry of angles must be a number or {n_pairs} numbers, got {angle!r}") from None
    if start.shape not in ((1,), (n_pairs,)):
        raise ValueError(f"an entry of angles must be a number or {n_pairs} numbers, got shape {start.shape}")
    if not ((start >= 0) & (start <= math.pi)).all():
        raise ValueError(f"angles must be in radians, from 0 to π, got {angle!r}")
    return start


def _run_pairs(conditions: list, lr: float, tol: float, max_steps: int, power: float) -> tuple[np.ndarray, np.ndarray]:
    """Steps of each condition, and whether it converged; the state has one row per condition that still runs."""
    angles = np.stack(np.broadcast_arrays(*(start for _, start in conditions)))
    cosine, sine = np.cos(angles), np.where(angles == math.pi, 0.0, np.sin(angles))
    norm = np.array([[norm] for norm, _ in conditions]) * np.ones_like(angles)  # of both: they start and stay equal
    steps, converged = np.full(len(conditions), max_steps), np.zeros(len(conditions), dtype=bool)
    running = np.arange(len(conditions))
    for step in range(max_steps + 1):
        done = cosine.sum(axis=1) >= (1 - tol) * cosine.shape[1]
        if done.any():
            steps[running[done]], converged[running[done]] = step, True
            running, cosine, sine, norm = (part[~done] for part in (running, cosine, sine, norm))
        if len(running) == 0 or step == max_steps:
            break
        cosine, sine, norm, _ = cosine_step(cosine, sine, norm, norm, lr, power)
    return steps, converged
