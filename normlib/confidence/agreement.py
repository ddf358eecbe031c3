"""How well scores agree with an outcome, in one table: as detectors, by rank, one against another."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np

from normlib._utils.arguments import check_choice, check_seed, names_of
from normlib._utils.tables import check_columns, finite, outcome_of, tell_nan
from normlib.confidence import binary_metrics, bootstrap, rank_correlation
from normlib.confidence.scores import oriented_scores

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import ArrayLike

Scores = str | Iterable[str] | Mapping[str, int] | None

RANK_CORRELATIONS = {"spearman": rank_correlation.spearman, "kendall": rank_correlation.kendall}
COMPARED = {"auroc": binary_metrics.auroc, "aurc": binary_metrics.aurc}
MOST_LOST = 0.1  # of the resamples, before a warning


def detection(
    table: pd.DataFrame, outcome: str | ArrayLike, scores: Scores = None, *, within: str | None = None
) -> pd.DataFrame:
    """How well each score tells correct from wrong, or familiar from novel.

    With ``within`` each class is looked at by itself, and means over the classes are taken, weighted by their sizes, as
    in :func:`correlation`.

    Args:
        table: One row for each sample of one run.
        outcome: What the score is to find, true or false: a column, such as ``"knn_correct"``, or values row by row,
            such as ``table["split"] == "test"``. True is the side that a high familiarity speaks for.
        scores: As in :func:`oriented_scores`; they are turned so that high means familiar.
        within: Column of the classes, such as ``"label"``.

    Returns:
        One row a score; columns ``score``; ``auroc``, chance 0.5, and its 95 % interval ``low``, ``high``; ``aupr`` of
        the true side, chance ``positives`` / ``count``; ``fpr95``, the share of the false that pass where 95 % of the
        true do, chance 0.95; ``count`` and ``positives``. Ties count half. The interval describes other samples under
        the same network; for other networks take several seeds.

    Raises:
        ValueError: As :func:`oriented_scores`; ``outcome`` does not match the table or is not true or false.

    Warns:
        A score is constant, or the outcome is all true or all false: its row is NaN. In one class only: the class is
        left out. The warning names it.

    Source: the interval from the standard error of DeLong et al. 1988, on the scale of log-odds.

    >>> import pandas as pd
    >>> table = pd.DataFrame({"norm": [3.0, 2.0, 1.0, 0.0], "knn_correct": [True, False, True, False]})
    >>> detection(table, "knn_correct")[["auroc", "aupr", "fpr95"]].round(2).to_numpy().tolist()
    [[0.75, 0.83, 0.5]]
    """
    import pandas as pd

    columns, positive = oriented_scores(table, scores), outcome_of(table, outcome, binary=True)
    if within is not None:
        check_columns(table, [within])
    classes = np.zeros(len(table)) if within is None else table[within].to_numpy()
    rows = []
    for name, values in columns.items():
        x, what = values.to_numpy(), f"detection by {name!r}"
        found, entered = _detect(what, x, positive, classes, single=within is None)
        rows.append({"score": name, **found, "count": int(entered.sum()), "positives": int(positive[entered].sum())})
    return pd.DataFrame(rows)


def _detect(
    what: str, x: np.ndarray, positive: np.ndarray, classes: np.ndarray, *, single: bool
) -> tuple[dict[str, float], np.ndarray]:
    """AUROC with its interval, AUPR and FPR, as means over the classes, and which samples entered them."""
    entered, sizes, parts = np.zeros(len(x), dtype=bool), [], []
    for label in np.unique(classes):
        rows = classes == label
        if _can_rank(what if single else f"{what} in class {label}", x[rows], positive[rows]):
            totals = binary_metrics.rank(x[rows], positive[rows]).once()
            ranked = binary_metrics.auroc_with_error(x[rows], positive[rows])
            parts.append([*ranked, binary_metrics.aupr(*totals), binary_metrics.fpr_at(0.95, *totals)])
            sizes.append(rows.sum())
            entered |= rows
    if not parts:
        nothing = dict.fromkeys(("auroc", "low", "high", "aupr", "fpr95"), np.nan)
        return nothing, np.ones(len(x), dtype=bool) if single else entered
    shares = np.array(sizes) / np.sum(sizes)
    auroc, errors, aupr, fpr = np.array(parts, dtype=float).T
    found = binary_metrics.Auroc(float(shares @ auroc), float(np.sqrt(shares**2 @ errors**2)))
    low, high = binary_metrics.logit_interval(found)
    means = {"auroc": found.value, "low": low, "high": high}
    return means | {"aupr": float(shares @ aupr), "fpr95": float(shares @ fpr)}, entered


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


def partial_correlation(
    table: pd.DataFrame, outcome: str | ArrayLike, given: str | Iterable[str], scores: Scores = None
) -> pd.DataFrame:
    """Rank correlation of each score with an outcome that is left when other columns are accounted for.

    Spearman's partial correlation: the ranks of score and outcome, each less what is linear in the ranks of the given
    columns, are correlated. Does the norm say more than that an image is dark and flat?

    Args:
        table: One row for each sample of one run.
        outcome: Numbers or booleans: a column, or values row by row.
        given: Column or columns to account for.
        scores: As in :func:`oriented_scores`.

    Returns:
        One row a score; columns ``score``, ``value``, ``low``, ``high``, ``count``. Intervals of 95 % are on Fisher's
        scale, with the standard error of Fieller et al. 1957 less one sample for each given column; they describe
        other samples under the same network.

    Raises:
        ValueError: As :func:`correlation`; or a column of ``given`` is missing or not finite, or none is named.

    Warns:
        As :func:`correlation`, or nothing of a score or of the outcome is left: the value is NaN.

    >>> import pandas as pd
    >>> table = pd.DataFrame({"norm": [1.0, 2, 3, 4, 5, 6], "light": [2.0, 1, 4, 3, 6, 5], "good": [0, 0, 1, 0, 1, 1]})
    >>> partial_correlation(table, "good", "light", "norm")["value"].round(2).tolist()
    [-0.17]
    """
    import pandas as pd

    columns, y = oriented_scores(table, scores), outcome_of(table, outcome)
    names = names_of("given", given)
    check_columns(table, names)
    if not names:
        raise ValueError("given must name one column or more, got none")
    known = [rank_correlation.centred_ranks(finite(f"given: {name!r}", table[name])) for name in names]
    basis = np.stack([*known, np.ones(len(table))], axis=1)
    rows = []
    for name, values in columns.items():
        found = _correlate_beyond(f"partial correlation of {name!r}", values.to_numpy(), y, basis)
        low, high = rank_correlation.fisher_interval(found)
        rows.append({"score": name, "value": found.value, "low": low, "high": high, "count": len(table)})
    return pd.DataFrame(rows)


def _correlate_beyond(what: str, x: np.ndarray, y: np.ndarray, basis: np.ndarray) -> rank_correlation.Correlation:
    nothing = rank_correlation.Correlation(np.nan, np.nan)
    freedom = len(x) - basis.shape[1] - 2
    if freedom < 1:
        tell_nan(what, f"there are only {len(x)} samples")
        return nothing
    if not _can_rank(what, x, y):
        return nothing
    ranks = np.stack([rank_correlation.centred_ranks(values) for values in (x, y)], axis=1)
    left = ranks - basis @ np.linalg.lstsq(basis, ranks, rcond=None)[0]
    lengths = np.linalg.norm(left, axis=0)
    if (lengths < 1e-9 * np.linalg.norm(ranks, axis=0)).any():
        tell_nan(what, "the given columns leave nothing of it or of the outcome")
        return nothing
    value = float(left[:, 0] @ left[:, 1] / np.prod(lengths))
    return rank_correlation.Correlation(value, (1 - value**2) * np.sqrt(1.06 / freedom))


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
