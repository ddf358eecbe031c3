"""The bootstrap, vectorised: which samples are drawn, block by block, and the interval of what comes out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from normlib._utils.arguments import check_count

LEVEL = 0.95
FEWEST = 100  # resamples that percentiles of 2.5 % and 97.5 % need
BLOCK_ELEMENTS = 2**18  # drawn at once: few enough to stay in a processor's cache


def bootstrap(
    statistic: Callable[[np.ndarray], np.ndarray], count: int, resamples: int, random: np.random.Generator
) -> np.ndarray:
    """A statistic of each resample of ``count`` samples, stacked.

    ``statistic`` takes the places of the drawn samples, shape ``(rows, count)``, and returns ``(rows, ...)``.
    """
    rows = max(1, BLOCK_ELEMENTS // count)
    sizes = [min(rows, resamples - start) for start in range(0, resamples, rows)]
    return np.concatenate([statistic(random.integers(count, size=(size, count), dtype=np.int32)) for size in sizes])


def means(values: np.ndarray, resamples: int, random: np.random.Generator) -> np.ndarray:
    """Mean of each resample of the values, shape ``(resamples,)``; of few distinct values counts are drawn at once."""
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) <= len(values) / 8:
        return random.multinomial(len(values), counts / len(values), size=resamples) @ distinct / len(values)
    return bootstrap(lambda places: values[places].mean(axis=1), len(values), resamples, random)


def interval(resampled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Percentiles between which the middle 95 % lie, along the first axis."""
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail], axis=0)
    return low, high


def check_resamples(resamples: int) -> None:
    """Refuse fewer than the percentiles need."""
    check_count("resamples", resamples, at_least=FEWEST, hint="a 95 % interval needs as many")
