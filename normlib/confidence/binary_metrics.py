"""A binary outcome in the order of a score: AUROC, AUPR, FPR at 95 % TPR, risk and coverage.

All of them depend only on how many samples, and how many positive ones, share each value of the score. So they are
functions of these totals, from the most familiar value to the least, along the last axis; the axis before is free for
resamples. Ties are not broken: where samples share a score, the statistics are means over all orders of them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Ranked(NamedTuple):
    """Where each sample stands: its score's place among the distinct scores, the most familiar first, and its outcome.

    ``cells`` is twice that place, plus 1 for a positive.
    """

    cells: np.ndarray
    distinct: int

    def totals(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Samples and positives of each distinct score, shape ``(rows, G)``, among drawn samples ``(rows, n)``."""
        rows, width = len(places), 2 * self.distinct
        cells = self.cells[places] + width * np.arange(rows)[:, None]
        return _split(np.bincount(cells.ravel(), minlength=rows * width).reshape(rows, self.distinct, 2))

    def once(self) -> tuple[np.ndarray, np.ndarray]:
        """The same with each sample drawn once, shape ``(G,)``."""
        return _split(np.bincount(self.cells, minlength=2 * self.distinct).reshape(self.distinct, 2))


def rank(score: np.ndarray, positive: np.ndarray) -> Ranked:
    """Order samples by a score that is high where familiar; ``positive`` is 0 or 1."""
    values, places = np.unique(-score, return_inverse=True)
    return Ranked(2 * places + positive.astype(np.int64), len(values))


def _split(totals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return totals.sum(axis=-1), totals[..., 1]


def auroc(count: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Chance that a positive scores above a negative, ties counted half."""
    negative = count - positive
    above = np.cumsum(positive, axis=-1) - positive / 2
    pairs = positive.sum(-1, dtype=float) * negative.sum(-1)
    return (above * negative).sum(-1) / np.where(pairs > 0, pairs, np.nan)


def auroc_of(score: np.ndarray, positive: np.ndarray) -> float:
    """AUROC of a score that is high for positives; NaN where all samples are of one class.

    >>> auroc_of(np.array([3.0, 2.0, 2.0, 1.0]), np.array([True, True, False, False]))
    0.875
    """
    return float(auroc(*rank(score, positive).once()))


class Auroc(NamedTuple):
    """An AUROC and its standard error."""

    value: float
    error: float


def auroc_with_error(score: np.ndarray, positive: np.ndarray) -> Auroc:
    """AUROC of a score that is high for positives, with the standard error of DeLong et al. 1988; NaN for one class.

    >>> auroc_with_error(np.array([3.0, 2.0, 2.0, 1.0]), np.array([True, True, False, False])).value
    0.875
    """
    positive = positive.astype(bool)
    m, n = int(positive.sum()), int((~positive).sum())
    if min(m, n) == 0:
        return Auroc(np.nan, np.nan)
    ranks = _mid_ranks(score)
    # For each positive the share of the negatives below it, and for each negative that of the positives above it.
    below = (ranks[positive] - _mid_ranks(score[positive])) / n
    above = 1 - (ranks[~positive] - _mid_ranks(score[~positive])) / m
    variance = sum(part.var(ddof=1) / len(part) if len(part) > 1 else np.nan for part in (below, above))
    return Auroc(float(below.mean()), float(np.sqrt(variance)))


def logit_interval(found: Auroc) -> tuple[float, float]:
    """95 % interval, symmetric on the scale of log-odds, so that it stays within [0, 1]; NaN at 0 and 1."""
    if not 0 < found.value < 1:
        return np.nan, np.nan
    centre = np.log(found.value / (1 - found.value))
    half = 1.959964 * found.error / (found.value * (1 - found.value))
    low, high = 1 / (1 + np.exp(half - centre)), 1 / (1 + np.exp(-half - centre))
    return float(low), float(high)


def _mid_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1; equal values share the mean of theirs."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[places]


def aupr(count: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Average precision: precision at each distinct score, weighted by the positives found there."""
    precision = np.cumsum(positive, axis=-1) / np.maximum(np.cumsum(count, axis=-1), 1)
    found = positive.sum(-1)
    return (precision * positive).sum(-1) / np.where(found > 0, found, np.nan)


def fpr_at(tpr: float, count: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Share of negatives that pass the strictest threshold that at least ``tpr`` of the positives pass."""
    found, passed = np.cumsum(positive, axis=-1), np.cumsum(count - positive, axis=-1)
    enough = found >= tpr * found[..., -1:]
    return np.where(enough, passed, np.inf).min(-1) / np.where(passed[..., -1] > 0, passed[..., -1], np.nan)


def errors_within(kept: np.ndarray, count: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Expected negatives among the ``kept`` most familiar samples, of one ranking."""
    seen = np.concatenate([[0], np.cumsum(count)])
    return np.interp(kept, seen, np.concatenate([[0], np.cumsum(count - positive)]))


def aurc(count: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Area under risk and coverage: the share of negatives among the k most familiar samples, mean over k = 1 … n.

    Among equal scores, errors are spread evenly, so the sum over a run of them is closed, with harmonic numbers.
    """
    negative = count - positive
    seen, wrong = np.cumsum(count, axis=-1), np.cumsum(negative, axis=-1)
    total = int(seen.max())
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, total + 1))])
    share = negative / np.maximum(count, 1)
    before = wrong - negative - share * (seen - count)
    areas = negative + before * (harmonic[seen] - harmonic[seen - count])
    return areas.sum(-1) / seen[..., -1]


def best_aurc(count: int, positive: int) -> float:
    """Area of the best ranking there is, which has all positives first."""
    return float(aurc(np.array([positive, count - positive]), np.array([positive, 0]))) if count else np.nan
