"""Figures: what is drawn, not how it looks."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from normlib import confidence, plotting


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def test_band_draws_the_mean_and_students_interval():
    values = np.random.default_rng(0).normal(size=(8, 3))
    frame = pd.DataFrame([{"step": s, "seed": k, "loss": values[k, s]} for k in range(8) for s in range(3)])
    ax = plotting.band(plt.figure().subplots(), frame, "step", "loss", label="runs")
    np.testing.assert_allclose(ax.lines[0].get_ydata(), values.mean(0))
    corners = ax.collections[0].get_paths()[0].vertices
    for step in range(3):
        low, high = stats.t.interval(0.95, 7, loc=values[:, step].mean(), scale=stats.sem(values[:, step]))
        drawn = corners[corners[:, 0] == step][:, 1]
        np.testing.assert_allclose([drawn.min(), drawn.max()], [low, high])
    assert ax.get_legend_handles_labels()[1] == ["runs"]


def test_band_counts_the_repetitions_of_each_x():
    frame = pd.DataFrame({"step": [0] * 4 + [1] * 2, "seed": [0, 1, 2, 3, 0, 1], "loss": [1.0, 2, 3, 4, 1, 2]})
    ax = plotting.band(plt.figure().subplots(), frame, "step", "loss")
    corners = ax.collections[0].get_paths()[0].vertices
    drawn = corners[corners[:, 0] == 1][:, 1]
    np.testing.assert_allclose([drawn.min(), drawn.max()], stats.t.interval(0.95, 1, loc=1.5, scale=0.5))


def test_band_refuses_what_has_no_interval():
    twice = pd.DataFrame({"step": [0, 0, 0], "seed": [0, 1, 1], "loss": [1.0, 2.0, 3.0]})
    with pytest.raises(ValueError, match="several rows for one 'step' and 'seed'"):
        plotting.band(plt.figure().subplots(), twice, "step", "loss")
    frame = pd.DataFrame({"step": [0, 1], "seed": [0, 0], "loss": [1.0, 2.0]})
    with pytest.raises(ValueError, match="at least 2 repetitions in 'seed', got 1"):
        plotting.band(plt.figure().subplots(), frame, "step", "loss")
    with pytest.raises(ValueError, match="frame has no column 'norm'; it has step, seed, loss"):
        plotting.band(plt.figure().subplots(), frame, "step", "norm")


@pytest.mark.parametrize("channels", [1, 3])
def test_image_grid_puts_each_image_in_its_place(channels):
    images = torch.randint(0, 256, (4, channels, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    ax = plotting.image_grid([images, images.float() / 255], labels=["bytes", "floats"])
    canvas = np.atleast_3d(ax.images[0].get_array())
    expected = images[2].permute(1, 2, 0).numpy() / 255
    np.testing.assert_allclose(canvas[:8, 18:26], expected, rtol=1e-6)
    np.testing.assert_allclose(canvas[9:17, 18:26], expected, rtol=1e-6)
    assert (canvas[8] == 1).all()
    assert [label.get_text() for label in ax.get_yticklabels()] == ["bytes", "floats"]


def test_image_grid_refuses_rows_that_do_not_fit():
    rows = [torch.zeros(2, 1, 8, 8), torch.zeros(3, 1, 8, 8)]
    with pytest.raises(ValueError, match=r"one shape \(M, C, H, W\)"):
        plotting.image_grid(rows)
    with pytest.raises(ValueError, match="name each of the 1 rows, got 2 names"):
        plotting.image_grid(rows[:1], labels=["a", "b"])


def test_palette_can_be_told_apart_in_common_colour_blindness():
    """Simulated after Machado et al. 2009, severity 1: all colours stay 0.15 apart in the unit cube of sRGB."""
    simulations = {
        "protanopia": [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ],
        "deuteranopia": [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ],
    }
    colours = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in plotting.PALETTE.values()])
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    for matrix in simulations.values():
        seen = np.clip(linear @ np.array(matrix).T, 0, 1) ** (1 / 2.4)
        distance = np.linalg.norm(seen[:, None] - seen[None], axis=-1) + np.eye(len(seen)) * 9
        assert distance.min() > 0.15


# --- figures of a per-sample table ---


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
