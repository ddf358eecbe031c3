"""Figures of a per-sample table: what is drawn, not how it looks."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from normlib import confidence, plotting


def samples(n):
    random = np.random.default_rng(0)
    norm = random.normal(10, 2, n)
    return pd.DataFrame(
        {
            "norm": norm,
            "kth_distance": random.normal(size=n),
            "knn_correct": random.random(n) < stats.norm.cdf(norm, 10, 2),
            "split": np.repeat(["test", "held out"], n // 2),
        }
    )


def test_confidence_curve_draws_the_bins_in_their_intervals():
    table = samples(2000)
    ax = plotting.confidence_curve(plt.figure().subplots(), table, "knn_correct", "norm", bins=5, label="seed 0")
    expected = confidence.curve(table, "knn_correct", "norm", bins=5)
    np.testing.assert_allclose(ax.lines[0].get_ydata(), expected["value"])
    at = table.groupby(pd.qcut(table["norm"], 5), observed=True)["norm"].mean()
    np.testing.assert_allclose(ax.lines[0].get_xdata(), at)
    corners = ax.collections[0].get_paths()[0].vertices
    assert corners[:, 1].min() == pytest.approx(expected["low"].min())
    assert corners[:, 1].max() == pytest.approx(expected["high"].max())
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("norm ‖z‖", "knn_correct")


def test_risk_coverage_curves_end_at_the_error_and_lie_above_the_best():
    table = samples(2000)
    ax = plotting.risk_coverage_curves(plt.figure().subplots(), table, "knn_correct")
    lines = dict(zip(ax.get_legend_handles_labels()[1], ax.lines, strict=True))
    assert list(lines) == ["norm ‖z‖", "distance to neighbour K", "random order", "best order"]
    error, best = 1 - table["knn_correct"].mean(), lines["best order"].get_ydata()
    for score in ("norm ‖z‖", "distance to neighbour K"):
        assert lines[score].get_ydata()[-1] == pytest.approx(error)
        assert (lines[score].get_ydata() >= best - 1e-12).all()
    assert best[-1] == pytest.approx(error)


def test_reliability_draws_the_half_that_was_not_fitted():
    table = samples(2000)
    ax = plotting.reliability(plt.figure().subplots(), table, "knn_correct", "norm", bins=5, seed=1)
    found = confidence.calibrate(table, "knn_correct", "norm", bins=5, seed=1)
    np.testing.assert_allclose(ax.lines[0].get_xydata(), found.reliability[["predicted", "value"]])
    assert ax.get_legend_handles_labels()[1] == [f"norm ‖z‖: ECE {found.ece:.3f}"]


def test_score_distributions_share_bins_and_mark_the_means():
    table = samples(2000)
    ax = plotting.score_distributions(plt.figure().subplots(), table, "split", "norm", bins=20)
    means = table.groupby("split", sort=False)["norm"].mean()
    np.testing.assert_allclose([line.get_xdata()[0] for line in ax.lines], means)
    assert ax.get_legend_handles_labels()[1] == ["test", "held out"]
    with pytest.raises(ValueError, match=r"groups must have one name for each of 2000 rows, got shape \(3,\)"):
        plotting.score_distributions(ax, table, ["a", "b", "c"], "norm")
    with pytest.raises(ValueError, match="must hold one run"):
        plotting.score_distributions(ax, table.assign(seed=np.arange(2000)), "split", "norm")
