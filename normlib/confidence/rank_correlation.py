"""Spearman's and Kendall's rank correlations, with ties, and what each sample contributes to them.

A statistic of n samples is, to first order, a mean of their contributions: of the *influence function*. The spread of
these over √n is its standard error (the infinitesimal jackknife), whatever the ties and however strong the dependence.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Correlation(NamedTuple):
    """A rank correlation and its standard error."""

    value: float
    error: float


def spearman(x: np.ndarray, y: np.ndarray) -> Correlation:
    """Correlation of mid-ranks."""
    f, g = centred_ranks(x), centred_ranks(y)
    cross, in_x, in_y = (a * b for a, b in ((f, g), (f, f), (g, g)))
    c, v, w = cross.mean(), in_x.mean(), in_y.mean()
    # A further sample near x_i also shifts the ranks of all samples beyond it.
    of_cross = cross + _mean_beyond(x, g) + _mean_beyond(y, f) - 3 * c
    of_x = in_x + 2 * _mean_beyond(x, f) - 3 * v
    of_y = in_y + 2 * _mean_beyond(y, g) - 3 * w
    value = c / np.sqrt(v * w)
    return _with_error(value, of_cross / np.sqrt(v * w) - value / 2 * (of_x / v + of_y / w))


def kendall(x: np.ndarray, y: np.ndarray) -> Correlation:
    """Kendall's τ-b: concordant less discordant pairs, over the geometric mean of pairs untied in x and in y."""
    n = len(x)
    x, y = (np.unique(values, return_inverse=True)[1] for values in (x, y))
    surplus = _concordance(x, y) / (n - 1)  # of each sample, over all others
    untied_x, untied_y = ((n - np.bincount(values)[values]) / (n - 1) for values in (x, y))
    s, v, w = surplus.mean(), untied_x.mean(), untied_y.mean()
    value = s / np.sqrt(v * w)
    return _with_error(
        value, 2 * ((surplus - s) / np.sqrt(v * w) - value / 2 * ((untied_x - v) / v + (untied_y - w) / w))
    )


def fisher_interval(found: Correlation) -> tuple[float, float]:
    """95 % interval, symmetric after Fisher's transformation; NaN at ±1, where the samples show no spread."""
    from scipy import stats

    if not abs(found.value) < 1 - 1e-12:
        return np.nan, np.nan
    half = stats.norm.ppf(0.975) * found.error / (1 - found.value**2)
    centre = np.arctanh(found.value)
    return float(np.tanh(centre - half)), float(np.tanh(centre + half))


def _with_error(value: float, influence: np.ndarray) -> Correlation:
    return Correlation(float(value), float(np.sqrt((influence**2).sum() / (len(influence) * (len(influence) - 1)))))


def centred_ranks(values: np.ndarray) -> np.ndarray:
    """Mid-ranks as shares of the sample, less their mean, one half."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2  # of scipy.stats.rankdata, whose package takes a second to load
    return (ranks[places] - 0.5) / len(values) - 0.5


def _mean_beyond(at: np.ndarray, values: np.ndarray) -> np.ndarray:
    """For each sample, sum of ``values`` over those with a larger ``at``, half of those with an equal one, over n."""
    places = np.unique(at, return_inverse=True)[1]
    sums = np.bincount(places, weights=values)
    beyond = sums.sum() - np.cumsum(sums) + sums / 2
    return beyond[places] / len(values)


def _concordance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Σ_j sign(x_j − x_i) sign(y_j − y_i) for each i, of integers from 0, in n log² n steps.

    Only the pairs below in both are counted one by one; the other three quarters follow from ranks.
    """
    order = np.lexsort((-y, x))  # of equal x the largest y first: none of them is counted below another
    both_below = np.empty(len(x), dtype=np.int64)
    both_below[order] = _smaller_before(y[order])
    below_x, tied_x = _below_and_tied(x)
    below_y, tied_y = _below_and_tied(y)
    below_x_at_y, tied = _below_and_tied(x, within=y)
    below_y_at_x, _ = _below_and_tied(y, within=x)
    above_x_at_y = tied_y - below_x_at_y - tied
    below_x_above_y = below_x - below_x_at_y - both_below
    above_x_below_y = below_y - below_y_at_x - both_below
    both_above = len(x) - below_x - tied_x - above_x_at_y - above_x_below_y
    return both_below + both_above - below_x_above_y - above_x_below_y


def _below_and_tied(values: np.ndarray, within: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """For each sample, how many have a smaller value and how many the same (itself included), in its group."""
    group = np.zeros_like(values) if within is None else within
    keys = group * (values.max() + 1) + values
    _, places, counts = np.unique(keys, return_inverse=True, return_counts=True)
    first_of_group = np.cumsum(np.bincount(group)) - np.bincount(group)
    return (np.cumsum(counts) - counts)[places] - first_of_group[group], counts[places]


def _smaller_before(values: np.ndarray) -> np.ndarray:
    """For each place, how many earlier ones hold a smaller value: a merge sort from the bottom, all blocks at once."""
    n, count = len(values), np.zeros(len(values), dtype=np.int64)
    sorted_places = np.arange(n)
    for level in range(max(0, n - 1).bit_length()):
        in_left = (sorted_places >> level) & 1 == 0
        # Within each pair of blocks by value; of equal values the right block's first, so that they do not count.
        key = ((sorted_places >> (level + 1)) * (values.max() + 1) + values[sorted_places]) * 2 + in_left
        merged = np.argsort(key, kind="stable")
        sorted_places, in_left = sorted_places[merged], in_left[merged]
        seen = np.cumsum(in_left) - (sorted_places >> (level + 1) << level)  # left blocks before are full
        count[sorted_places] += np.where(in_left, 0, seen)
    return count
