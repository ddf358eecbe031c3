"""Intervals of means: the one home of Student's t."""

from __future__ import annotations

from typing import Any

LEVEL = 0.95  # of all intervals in the course


def half_width(deviation: Any, count: Any) -> Any:
    """Half the 95 % interval of the mean of independent values: Student's t times the standard error.

    Args:
        deviation: Standard deviation of the values, with ``ddof=1``: a number, or an array or table of them.
        count: How many values there are, 2 or more; a number, or as many as there are deviations.

    Returns:
        Like ``deviation``.

    >>> import numpy as np
    >>> print(f"{half_width(np.std([0.6, 0.7, 0.8], ddof=1), 3):.3f}")
    0.248
    """
    from scipy.special import stdtrit  # scipy.stats takes a second to load

    return stdtrit(count - 1, (1 + LEVEL) / 2) * deviation / count**0.5
