"""How well scores agree with an outcome, in one table: as detectors, by rank, one against another."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np

from normlib._utils.arguments import check_choice, check_seed
from normlib._utils.tables import check_columns, outcome_of, tell_nan
from normlib.confidence import binary_metrics, bootstrap, rank_correlation
from normlib.confidence.scores import oriented_scores

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import ArrayLike

Scores = str | Iterable[str] | Mapping[str, int] | None

RANK_CORRELATIONS = {"spearman": rank_correlation.spearman, "kendall": rank_correlation.kendall}
COMPARED = {"auroc": binary_metrics.auroc, "aurc": binary_metrics.aurc}
MOST_LOST = 0.1  # of the resamples, before a warning


def detection(table: pd.DataFrame, outcome: str | ArrayLike, scores: Scores = None) -> pd.DataFrame:
    """How well each score tells correct from wrong, or familiar from novel.

    Args:
        table: One row for each sample of one run.
        outcome: What the score is to find, true or false: a column, such as ``"knn_correct"``, or values row by row,
            such as ``table["split"] == "test"``. True is the side that a high familiarity speaks for.
        scores: As in :func:`oriented_scores`; they are turned so that high means familiar.

    Returns:
        One row a score; columns ``score``; ``auroc``, chance 0.5; ``aupr`` of the true side, chance ``positives`` /
        ``count``; ``fpr95``, the share of the false that pass where 95 % of the true do, chance 0.95; ``count`` and
        ``positives``. Ties count half.

    Raises:
        ValueError: As :func:`oriented_scores`; ``outcome`` does not match the table or is not true or false.

    Warns:
        A score is constant, or the outcome is all true or all false: its row is NaN.

    >>> import pandas as pd
    >>> table = pd.DataFrame({"norm": [3.0, 2.0, 1.0, 0.0], "knn_correct": [True, False, True, False]})
    >>> detection(table, "knn_correct")[["auroc", "aupr", "fpr95"]].round(2).to_numpy().tolist()
    [[0.75, 0.83, 0.5]]
    """
    import pandas as pd

    columns, positive = oriented_scores(table, scores), outcome_of(table, outcome, binary=True)
    rows = []
    for name, values in columns.items():
        row = dict.fromkeys(("auroc", "aupr", "fpr95"), np.nan)
        if _can_rank(f"detection by {name!r}", values.to_numpy(), positive):
            totals = binary_metrics.rank(values.to_numpy(), positive).once()
            row = {
                "auroc": float(binary_metrics.auroc(*totals)),
                "aupr": float(binary_metrics.aupr(*totals)),
                "fpr95": float(binary_metrics.fpr_at(0.95, *totals)),
            }
        rows.append({"score": name, **row, "count": len(table), "positives": int(positive.sum())})
    return pd.DataFrame(rows)


def correlation(
    table: pd.DataFrame,
    outcome: str | ArrayLike,
    scores: Scores = None,
    *,
    method: Literal["spearman", "kendall"] = "spearman",
    within: str | None = None,
) -> pd.DataFrame:
    """Rank correlation of each score, turned to familiarity, with an outcome, with 95 % intervals.

    With ``within`` each class is correlated by itself, and the mean over the classes is taken, weighted by their sizes.
    What differs between classes then has no part in it: is the norm more than the name of the class?

    Args:
        table: One row for each sample of one run.
        outcome: Numbers or booleans: a column, or values row by row.
        scores: As in :func:`oriented_scores`.
        method: ``"spearman"``, or ``"kendall"`` for τ-b. Both take ties into account.
        within: Column of the classes, such as ``"label"``.

    Returns:
        One row a score; columns ``score``, ``method``, ``value``, ``low``, ``high``, ``count``, and with ``within``
        the number of ``classes`` that entered. Intervals come from the influence function on Fisher's scale. They
        describe other samples under the same network; for other networks take several seeds.

    Raises:
        ValueError: As :func:`oriented_scores`; ``outcome`` does not match the table, or ``method`` is unknown.

    Warns:
        Score or outcome is constant, or there are fewer than four samples: the value is NaN. In one class only: the
        class is left out. The warning names it.

    >>> import pandas as pd
    >>> table = pd.DataFrame({"norm": [1.0, 2.0, 3.0, 4.0, 5.0], "entropy": [0.9, 0.8, 0.4, 0.5, 0.1]})
    >>> correlation(table, "entropy").round(2).to_numpy().tolist()
    [['norm', 'spearman', -0.9, -1.0, 0.4, 5]]
    """
    import pandas as pd

    check_choice("method", method, RANK_CORRELATIONS)
    columns, y = oriented_scores(table, scores), outcome_of(table, outcome)
    if within is not None:
        check_columns(table, [within])
    rows = []
    for name, values in columns.items():
        x, what = values.to_numpy(), f"{method} of {name!r}"
        if within is None:
            found, more = _correlate(what, x, y, method), {"count": len(table)}
        else:
            found, more = _correlate_within(what, x, y, table[within].to_numpy(), method)
        low, high = rank_correlation.fisher_interval(found)
        rows.append({"score": name, "method": method, "value": found.value, "low": low, "high": high, **more})
    return pd.DataFrame(rows)


def compare(
    table: pd.DataFrame,
    outcome: str | ArrayLike,
    score: str,
    against: Scores = None,
    *,
    statistic: Literal["auroc", "aurc"] = "auroc",
    resamples: int = 500,
    seed: int = 0,
) -> pd.DataFrame:
    """Difference between one score and others on the same samples, with 95 % intervals of a paired bootstrap.

    Each resample draws the samples anew, and all scores see the same draws. What makes a sample hard for all of them
    cancels, so the interval of a difference is much narrower than the two intervals suggest. A resample in which the
    outcome is all true or all false has no AUROC, and is left out.

    Args:
        table: One row for each sample of one run.
        outcome: True or false, as in :func:`detection`.
        score: The score whose advantage is asked for.
        against: Other scores; by default all others that the table has.
        statistic: ``"auroc"``, high is good, or ``"aurc"`` of :func:`risk_coverage_area`, low is good.
        resamples: Resamples, 100 or more.
        seed: Of the resamples.

    Returns:
        One row a rival; columns ``score``, ``against``, ``statistic``, ``value`` of the score, ``other`` of the
        other, ``difference`` (``value`` − ``other``), and its ``low`` and ``high``.

    Raises:
        ValueError: As :func:`detection`; or a score is constant, the outcome all true or all false, ``score`` is the
            only one, ``statistic`` is unknown, or ``resamples`` is below 100.

    Warns:
        More than one resample in ten is left out: the rarer outcome is too rare for the interval to be trusted.

    >>> import pandas as pd
    >>> table = pd.DataFrame({"norm": [5, 4, 3, 2, 1], "knn_margin": [1, 5, 2, 4, 3], "good": [1, 1, 1, 0, 0]})
    >>> compare(table, "good", "norm")[["value", "other"]].round(2).to_numpy().tolist()
    [[1.0, 0.33]]
    """
    import pandas as pd

    check_choice("statistic", statistic, COMPARED)
    check_columns(table, [score])
    positive, of = outcome_of(table, outcome, binary=True), COMPARED[statistic]
    bootstrap.check_resamples(resamples)
    check_seed(seed)
    columns = oriented_scores(table, against).drop(columns=score, errors="ignore")
    if columns.empty:
        raise ValueError(f"against must name another score than {score!r}, got none")
    columns = pd.concat([oriented_scores(table, score), columns], axis=1)
    if constant := [name for name, values in columns.items() if values.nunique() == 1]:
        raise ValueError(f"scores must differ between samples, got one value only in {', '.join(map(repr, constant))}")
    if positive.min() == positive.max():
        raise ValueError(f"outcome must be true for some samples and false for others, got {positive[0]:g} for all")
    ranked = [binary_metrics.rank(values.to_numpy(), positive) for _, values in columns.items()]
    found = [float(of(*one.once())) for one in ranked]
    drawn = bootstrap.bootstrap(
        lambda places: np.stack([of(*one.totals(places)) for one in ranked], axis=1),
        len(table),
        resamples,
        np.random.default_rng(seed),
    )
    lost = np.isnan(drawn).any(axis=1)
    if lost.mean() > MOST_LOST:
        warnings.warn(
            f"{lost.sum()} of {resamples} resamples are left out, since the outcome is the same for all their samples; "
            "it is too rare for the interval to be trusted",
            stacklevel=2,
        )
    low, high = bootstrap.interval((drawn[:, :1] - drawn[:, 1:])[~lost])
    result = pd.DataFrame({"score": score, "against": columns.columns[1:], "statistic": statistic, "value": found[0]})
    return result.assign(other=found[1:], difference=result["value"] - found[1:], low=low, high=high)


def _can_rank(what: str, x: np.ndarray, y: np.ndarray) -> bool:
    for name, values in (("the score", x), ("the outcome", y)):
        if values.min() == values.max():
            tell_nan(what, f"{name} is {values[0]:g} for all {len(values)} samples")
            return False
    return True


def _correlate(what: str, x: np.ndarray, y: np.ndarray, method: str) -> rank_correlation.Correlation:
    if len(x) < 4:
        tell_nan(what, f"there are only {len(x)} samples")
    elif _can_rank(what, x, y):
        return RANK_CORRELATIONS[method](x, y)
    return rank_correlation.Correlation(np.nan, np.nan)


def _correlate_within(
    what: str, x: np.ndarray, y: np.ndarray, classes: np.ndarray, method: str
) -> tuple[rank_correlation.Correlation, dict[str, int]]:
    """Mean over the classes, weighted by size, and how many samples and classes entered it."""
    parts = {label: classes == label for label in np.unique(classes)}
    found = {label: _correlate(f"{what} in class {label}", x[rows], y[rows], method) for label, rows in parts.items()}
    entered = [label for label in parts if np.isfinite(found[label].value)]
    sizes = np.array([parts[label].sum() for label in entered])
    values, errors = np.array([found[label] for label in entered]).reshape(-1, 2).T
    shares = sizes / sizes.sum()
    mean = rank_correlation.Correlation(shares @ values, np.sqrt(shares**2 @ errors**2))
    if not entered:
        mean = rank_correlation.Correlation(np.nan, np.nan)
    return mean, {"count": int(sizes.sum()), "classes": len(entered)}
