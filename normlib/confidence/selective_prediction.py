"""Answer only where a score is high: the risk that is left at each coverage, and its area."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from normlib._utils.arguments import check_count
from normlib._utils.tables import outcome_of, tell_nan
from normlib.confidence import binary_metrics
from normlib.confidence.agreement import Scores
from normlib.confidence.scores import oriented_scores

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import ArrayLike


def risk_coverage(
    table: pd.DataFrame, correct: str | ArrayLike, scores: Scores = None, *, points: int = 100
) -> pd.DataFrame:
    """Share of errors among the samples that are kept, when the most familiar are kept first.

    Args:
        table: One row for each sample of one run.
        correct: True or false: a column such as ``"knn_correct"``, or values row by row.
        scores: As in :func:`oriented_scores`; they are turned so that high means familiar.
        points: Coverages at which the risk is given, 1/points … 1.

    Returns:
        One row a score and coverage; columns ``score``, ``coverage`` in (0, 1], ``risk`` in 0..1. Among equal scores
        the risk is the mean over all orders of them.

    Raises:
        ValueError: As :func:`oriented_scores`; ``correct`` does not match the table or is not true or false, or
            ``points`` is not in 1 .. number of samples.

    Source: El-Yaniv & Wiener 2010.

    >>> import pandas as pd
    >>> table = pd.DataFrame({"norm": [4.0, 3.0, 2.0, 1.0], "knn_correct": [True, True, False, False]})
    >>> risk_coverage(table, "knn_correct", points=4)["risk"].round(2).tolist()
    [0.0, 0.0, 0.33, 0.5]
    """
    import pandas as pd

    columns, positive = oriented_scores(table, scores), outcome_of(table, correct, name="correct", binary=True)
    check_count("points", points, at_most=len(table), hint="no more than there are samples")
    coverage = np.arange(1, points + 1) / points
    kept = coverage * len(table)
    parts = []
    for name, values in columns.items():
        totals = binary_metrics.rank(values.to_numpy(), positive).once()
        risk = binary_metrics.errors_within(kept, *totals) / kept
        parts.append(pd.DataFrame({"score": name, "coverage": coverage, "risk": risk}))
    return pd.concat(parts, ignore_index=True)


def risk_coverage_area(table: pd.DataFrame, correct: str | ArrayLike, scores: Scores = None) -> pd.DataFrame:
    """Area under risk and coverage (AURC), and its excess over the best order there is.

    Args:
        table: One row for each sample of one run.
        correct: As in :func:`risk_coverage`.
        scores: As in :func:`oriented_scores`; they are turned so that high means familiar.

    Returns:
        One row a score; columns ``score``; ``aurc``, the risk averaged over coverages, low is good; ``excess`` over the
        order that has all errors last; ``gain``, the part of the way from a random order (0) to the best (1), negative
        where it is worse than random; ``error``, the risk at full coverage, which is the AURC of a random order.

    Raises:
        ValueError: As :func:`risk_coverage`.

    Warns:
        A score is constant, or all are correct or all wrong: its row is NaN.

    Source: Geifman, Uziel & El-Yaniv 2019, who call the excess E-AURC and approximate the best order; here it is exact.

    >>> import pandas as pd
    >>> table = pd.DataFrame({"norm": [4.0, 3.0, 2.0, 1.0], "knn_correct": [True, True, False, True]})
    >>> risk_coverage_area(table, "knn_correct").round(3).to_numpy().tolist()
    [['norm', 0.146, 0.083, 0.556, 0.25]]
    """
    import pandas as pd

    columns, positive = oriented_scores(table, scores), outcome_of(table, correct, name="correct", binary=True)
    best, error = binary_metrics.best_aurc(len(table), int(positive.sum())), 1 - positive.mean()
    rows = []
    for name, values in columns.items():
        area = float(binary_metrics.aurc(*binary_metrics.rank(values.to_numpy(), positive).once()))
        for which, samples in ((f"score {name!r}", values), ("outcome", positive)):
            if samples.min() == samples.max():
                area = tell_nan(f"aurc by {name!r}", f"the {which} is the same for all {len(table)} samples")
        gain = (error - area) / (error - best) if best < error else np.nan
        rows.append({"score": name, "aurc": area, "excess": area - best, "gain": gain, "error": error})
    return pd.DataFrame(rows)
