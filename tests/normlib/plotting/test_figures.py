"""Figures: what is drawn, not how it looks."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from normlib import plotting


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
