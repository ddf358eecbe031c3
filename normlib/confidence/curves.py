"""An outcome against a score: binned curves with intervals, and whether there is a trend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from normlib._utils.arguments import check_choice, check_count, check_seed
from normlib._utils.tables import check_columns, check_one_run, outcome_of
from normlib.confidence import bootstrap
from normlib.confidence.agreement import correlation

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import ArrayLike


def curve(
    table: pd.DataFrame,
    outcome: str | ArrayLike,
    score: str = "norm_projector",
    *,
    bins: int = 10,
    by: Literal["count", "width"] = "count",
    resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Mean outcome in bins of a score, from its smallest values to its largest, with 95 % bootstrap intervals.

    Args:
        table: One row for each sample of one run.
        outcome: Correctness, entropy, agreement: a column, or values row by row.
        score: Column to bin by, as it is: distances are not turned.
        bins: Number of bins, 2 or more.
        by: ``"count"`` for bins of equal numbers of samples; equal scores share a bin. ``"width"`` for bins of equal
            width from the smallest score to the largest, as in the paper's figures; the outermost hold few samples.
        resamples: Resamples within each bin, 100 or more.
        seed: Of the resamples.

    Returns:
        A row a bin; columns ``score``, ``bin`` from 1, ``score_from`` and ``score_to``, ``count``, ``value``, ``low``,
        ``high``. The value of an empty bin is NaN, and so is the interval of a bin of one sample. Where all samples of
        a bin are right, or all wrong, resampling shows no spread; the interval is then Wilson's for shares.

    Raises:
        ValueError: As :func:`oriented_scores`; ``outcome`` does not match the table, or ``bins``, ``by`` or
            ``resamples`` are none.

    >>> import pandas as pd
    >>> table = pd.DataFrame({"norm": range(40), "knn_correct": [False, True] * 10 + [True] * 20})
    >>> curve(table, "knn_correct", "norm", bins=2)[["bin", "count", "value"]].to_numpy().tolist()
    [[1.0, 20.0, 0.5], [2.0, 20.0, 1.0]]
    """
    import pandas as pd

    check_count("bins", bins, at_least=2)
    check_choice("by", by, ("count", "width"))
    bootstrap.check_resamples(resamples)
    check_seed(seed)
    check_one_run(table)
    check_columns(table, [score])
    x, y = outcome_of(table, score, name="score"), outcome_of(table, outcome)
    places, edges = bin_places(x, bins, by)
    is_share, random = bool(np.isin(y, (0, 1)).all()), np.random.default_rng(seed)
    rows = []
    for place in range(len(edges) - 1):
        values = y[places == place]
        low, high = _interval_of_mean(values, is_share, resamples, random)
        row = {"score": score, "bin": place + 1, "score_from": edges[place], "score_to": edges[place + 1]}
        mean = values.mean() if len(values) else np.nan
        rows.append(row | {"count": len(values), "value": mean, "low": low, "high": high})
    return pd.DataFrame(rows)


def trend(
    table: pd.DataFrame,
    outcome: str | ArrayLike,
    score: str = "norm_projector",
    *,
    bins: int = 10,
    by: Literal["count", "width"] = "count",
) -> pd.DataFrame:
    """Whether an outcome rises or falls with a score: over the bins of a curve, and over the samples.

    The test over bins asks what an eye asks of the figure, whether the curve is monotone. It knows nothing of the
    samples in a bin: even perfect order of four bins has p = 0.08. The test over samples sees a weak trend as well, so
    its p says little where samples are many; its τ and interval say how strong the trend is.

    Args:
        table: One row for each sample of one run.
        outcome: As in :func:`curve`.
        score: Column, as it is: distances are not turned.
        bins, by: Of the curve.

    Returns:
        Two rows, ``over`` bins and ``over`` samples. Kendall's τ-b as ``value``, for samples with its 95 % interval
        ``low``, ``high``; ``p_value`` of no trend, two-sided, exact for untied bins; ``count`` of bins or samples.

    Raises:
        ValueError: As :func:`curve`.

    Warns:
        Score or outcome is constant: the values are NaN.

    >>> import pandas as pd
    >>> table = pd.DataFrame({"norm": range(40), "share": [i % 3 + i for i in range(40)]})
    >>> trend(table, "share", "norm", bins=5)[["over", "value"]].round(2).to_numpy().tolist()
    [['bins', 1.0], ['samples', 0.97]]
    """
    import pandas as pd
    from scipy import stats

    drawn = curve(table, outcome, score, bins=bins, by=by, resamples=bootstrap.FEWEST).dropna(subset="value")
    over_samples = correlation(table, outcome, {score: +1}, method="kendall").iloc[0]
    tau, p_value = stats.kendalltau(drawn["bin"], drawn["value"]) if len(drawn) > 1 else (np.nan, np.nan)
    of_samples = stats.kendalltau(outcome_of(table, score), outcome_of(table, outcome))
    rows = [
        ("bins", tau, np.nan, np.nan, p_value, len(drawn)),
        ("samples", *over_samples[["value", "low", "high"]], of_samples.pvalue, len(table)),
    ]
    return pd.DataFrame(rows, columns=["over", "value", "low", "high", "p_value", "count"])


def bin_places(x: np.ndarray, bins: int, by: str) -> tuple[np.ndarray, np.ndarray]:
    """Number of each value's bin, from 0, and the edges of the bins; a constant has one bin."""
    edges = _edges(x, bins, by)
    return np.searchsorted(edges[1:-1], x, side="left" if by == "count" else "right"), edges


def _edges(x: np.ndarray, bins: int, by: str) -> np.ndarray:
    if x.min() == x.max():
        return np.array([x.min(), x.max()])
    if by == "width":
        return np.linspace(x.min(), x.max(), bins + 1)
    inner = np.unique(np.quantile(x, np.arange(1, bins) / bins, method="inverted_cdf"))
    return np.array([x.min(), *inner[inner < x.max()], x.max()])


def _interval_of_mean(
    values: np.ndarray, is_share: bool, resamples: int, random: np.random.Generator
) -> tuple[float, float]:
    if len(values) < 2:
        return np.nan, np.nan
    if is_share and values.min() == values.max():
        from scipy.stats import binomtest

        return tuple(binomtest(int(values.sum()), len(values)).proportion_ci(bootstrap.LEVEL, method="wilson"))
    low, high = bootstrap.interval(bootstrap.means(values, resamples, random))
    return float(low), float(high)
