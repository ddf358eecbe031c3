"""Intervals of means: the one home of Student's t."""

from __future__ import annotations

from typing import Any

LEVEL = 0.95  # of all intervals in the course


def half_width(deviation: Any, count: Any, level: float = LEVEL) -> Any:
    """Half the interval, by default of 95 %, of the mean of independent values: Student's t times the standard error.

    Args:
        deviation: Standard deviation of the values, with ``ddof=1``: a number, or an array or table of them.
        count: How many values there are, 2 or more; a number, or as many as there are deviations.
        level: The interval's level.

    Returns:
        Like ``deviation``.

    >>> import numpy as np
    >>> print(f"{half_width(np.std([0.6, 0.7, 0.8], ddof=1), 3):.3f}")
    0.248
    """
    from scipy.special import stdtrit  # scipy.stats takes a second to load

    return stdtrit(count - 1, (1 + level) / 2) * deviation / count**0.5


def p_value(mean: float, deviation: float, count: int) -> float:
    """Two-sided p-value of Student's t-test that the mean of independent values is 0.

    Args:
        mean: Mean of the values.
        deviation: Their standard deviation, with ``ddof=1``.
        count: How many there are, 2 or more.

    >>> print(f"{p_value(0.248, 0.1, 3):.3f}")
    0.050
    """
    from scipy.special import stdtr

    if deviation == 0:
        return 1.0 if mean == 0 else 0.0
    return float(2 * stdtr(count - 1, -abs(mean) * count**0.5 / deviation))


def holm_levels(p_values: list[float]) -> list[float]:
    """The level that each of several intervals needs, so that all together err in 5 % of cases at most.

    Holm's procedure goes through the comparisons from the smallest p-value on: of m, the k-th (from 0) is tested at
    5 % / (m - k), and after the first that fails no other passes.

    Args:
        p_values: One for each comparison.

    Returns:
        For each, the level at which its interval excludes no effect exactly if Holm's procedure finds one.

    Source: Holm 1979.

    >>> [round(1 - level, 4) for level in holm_levels([0.03, 0.001, 0.2])]
    [0.025, 0.0167, 0.025]
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    levels, alpha, failed = [LEVEL] * len(p_values), 0.0, False
    for rank, i in enumerate(order):
        if not failed:
            alpha = (1 - LEVEL) / (len(p_values) - rank)
            failed = p_values[i] > alpha
        levels[i] = 1 - alpha
    return levels
