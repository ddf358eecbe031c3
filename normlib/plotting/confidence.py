"""The figures of a per-sample table: each one call, on axes that are given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from normlib._utils.arguments import check_count, check_type
from normlib._utils.tables import check_columns, check_one_run, check_table, outcome_of
from normlib.confidence.calibration import calibrate
from normlib.confidence.curves import curve
from normlib.confidence.scores import SCORES
from normlib.confidence.selective_prediction import risk_coverage
from normlib.plotting.palette import PALETTE

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike


def confidence_curve(
    ax: Axes,
    table: pd.DataFrame,
    outcome: str | ArrayLike,
    score: str = "norm_projector",
    *,
    bins: int = 10,
    by: Literal["count", "width"] = "count",
    label: str = "",
    **line: Any,
) -> Axes:
    """Mean outcome against a score, bin by bin, in a band of 95 % bootstrap intervals.

    It draws :func:`normlib.confidence.curve`.

    Args:
        ax: Axes to draw on.
        table: One row for each sample of one run.
        outcome: Correctness, entropy, agreement: a column, or values row by row.
        score: Column to bin by. Each bin stands at its mean score.
        bins, by: As in :func:`normlib.confidence.curve`.
        label: Legend entry.
        line: Passed on to ``Axes.plot``.

    Returns:
        ``ax``.

    Raises:
        ValueError: As :func:`normlib.confidence.curve`.

    >>> import matplotlib.pyplot as plt, pandas as pd
    >>> table = pd.DataFrame({"norm": range(40), "knn_correct": [False, True] * 10 + [True] * 20})
    >>> ax = confidence_curve(plt.figure().subplots(), table, "knn_correct", "norm", bins=2)
    >>> ax.lines[0].get_xydata().tolist()
    [[9.5, 0.5], [29.5, 1.0]]
    """
    check_axes(ax)
    drawn = curve(table, outcome, score, bins=bins, by=by)
    at = curve(table, score, score, bins=bins, by=by, resamples=100)["value"]
    style: dict[str, Any] = {"marker": "o", "ms": 3.5} | line
    (shown,) = ax.plot(at, drawn["value"], label=label, **style)
    ax.fill_between(at, drawn["low"], drawn["high"], color=shown.get_color(), alpha=0.2, linewidth=0)
    ax.set(xlabel=_label(score), ylabel=outcome if isinstance(outcome, str) else "outcome")
    return ax


def risk_coverage_curves(
    ax: Axes,
    table: pd.DataFrame,
    correct: str | ArrayLike,
    scores: str | Iterable[str] | Mapping[str, int] | None = None,
) -> Axes:
    """Error among the samples that are kept, against the share that is kept, for several scores.

    Grey lines show what a random order and the best order would do.

    Args:
        ax: Axes to draw on.
        table: One row for each sample of one run.
        correct: True or false: a column such as ``"knn_correct"``, or values row by row.
        scores: As in :func:`normlib.confidence.oriented_scores`.

    Returns:
        ``ax``.

    Raises:
        ValueError: As :func:`normlib.confidence.risk_coverage`.

    >>> import matplotlib.pyplot as plt, pandas as pd
    >>> table = pd.DataFrame({"norm": range(400), "knn_correct": [i % 3 < 2 for i in range(400)]})
    >>> ax = risk_coverage_curves(plt.figure().subplots(), table, "knn_correct")
    >>> ax.get_legend_handles_labels()[1]
    ['norm ‖z‖', 'random order', 'best order']
    """
    check_axes(ax)
    check_table(table)
    points = min(100, len(table))
    for score, part in risk_coverage(table, correct, scores, points=points).groupby("score", sort=False):
        ax.plot(part["coverage"], part["risk"], label=_label(str(score)))
    coverage, error = part["coverage"].to_numpy(), 1 - outcome_of(table, correct, name="correct").mean()
    ax.axhline(error, color=PALETTE["grey"], ls="--", lw=1, label="random order")
    ax.plot(
        coverage, np.maximum(0, 1 - (1 - error) / coverage), color=PALETTE["grey"], ls=":", lw=1, label="best order"
    )
    ax.set(xlabel="coverage: share that is answered", ylabel="risk: share of errors", xlim=(0, 1), ylim=(0, None))
    return ax


def reliability(
    ax: Axes,
    table: pd.DataFrame,
    correct: str | ArrayLike,
    score: str = "norm_projector",
    *,
    bins: int = 10,
    seed: int = 0,
    label: str = "",
) -> Axes:
    """How often samples are right, against how often an isotonic map of the score says they are.

    The map is fitted on a random half of the table, the figure shows the other half; points on the diagonal are
    calibrated.

    Args:
        ax: Axes to draw on.
        table: One row for each sample of one run.
        correct: True or false: a column such as ``"knn_correct"``, or values row by row.
        score: One of ``normlib.confidence.SCORES``.
        bins, seed: As in :func:`normlib.confidence.calibrate`.
        label: Legend entry; the calibration error is put behind it.

    Returns:
        ``ax``.

    Raises:
        ValueError: As :func:`normlib.confidence.calibrate`.

    >>> import matplotlib.pyplot as plt, pandas as pd
    >>> table = pd.DataFrame({"norm": range(400), "knn_correct": [i % 10 < 4 + i // 100 for i in range(400)]})
    >>> reliability(plt.figure().subplots(), table, "knn_correct", "norm").get_ylabel()
    'share that is right'
    """
    check_axes(ax)
    found = calibrate(table, correct, score, bins=bins, seed=seed)
    at = found.reliability
    errors = np.clip([at["value"] - at["low"], at["high"] - at["value"]], 0, None)
    ax.errorbar(
        at["predicted"], at["value"], errors, fmt="o", ms=4, label=f"{label or _label(score)}: ECE {found.ece:.3f}"
    )
    ax.axline((0, 0), slope=1, color=PALETTE["grey"], ls="--", lw=1)
    ax.set(xlabel="probability that the map gives", ylabel="share that is right")
    return ax


def score_distributions(
    ax: Axes, table: pd.DataFrame, groups: str | ArrayLike, score: str = "norm_projector", *, bins: int = 40
) -> Axes:
    """Distribution of a score in each group of samples, such as seen and novel classes, with the means as dashed lines.

    Args:
        ax: Axes to draw on.
        table: One row for each sample of one run.
        groups: Name of each sample's group: a column such as ``"split"``, or values row by row.
        score: Column that is drawn.
        bins: Bins of the histograms, the same for all groups.

    Returns:
        ``ax``.

    Raises:
        ValueError: ``table`` is empty or holds several runs, a column is missing or not finite, or ``groups`` does not
            match the table.

    >>> import matplotlib.pyplot as plt, pandas as pd
    >>> table = pd.DataFrame({"norm": [3.0, 4.0, 1.0, 2.0], "split": ["test", "test", "held out", "held out"]})
    >>> score_distributions(plt.figure().subplots(), table, "split", "norm").get_legend_handles_labels()[1]
    ['test', 'held out']
    """
    import pandas as pd

    check_axes(ax)
    check_count("bins", bins)
    check_one_run(table)
    check_columns(table, [score, *([groups] if isinstance(groups, str) else [])])
    names = table[groups].to_numpy() if isinstance(groups, str) else np.asarray(groups)
    if names.shape != (len(table),):
        raise ValueError(f"groups must have one name for each of {len(table)} rows, got shape {names.shape}")
    x = outcome_of(table, score, name="score")
    edges = np.linspace(x.min(), x.max(), bins + 1).tolist() if x.min() < x.max() else bins
    for name in pd.unique(names):
        values = x[names == name]
        ax.hist(values, edges, density=True, histtype="step", lw=1.8, label=str(name))
        ax.axvline(values.mean(), color=ax.patches[-1].get_edgecolor(), ls="--", lw=1)
    ax.set(xlabel=_label(score), ylabel="density")
    return ax


def check_axes(ax: Axes) -> None:
    """Refuse what is no axes, such as a figure."""
    from matplotlib.axes import Axes

    check_type(Axes, ax=ax)


def _label(score: str) -> str:
    return SCORES[score].label if score in SCORES else score
