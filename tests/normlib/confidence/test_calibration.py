"""Maps from a score to a probability, against scikit-learn."""

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from normlib import confidence


def test_the_map_is_scikit_learns_on_one_half_and_judged_on_the_other(made):
    from sklearn.isotonic import IsotonicRegression

    table = made(1000)
    found = confidence.calibrate(table, "knn_correct", "norm", bins=5, seed=3)
    first, second = np.array_split(np.random.default_rng(3).permutation(1000), 2)
    x, y = table["norm"].to_numpy(), table["knn_correct"].to_numpy(float)
    predicted = IsotonicRegression(out_of_bounds="clip").fit(x[first], y[first]).predict(x[second])
    assert found.brier == pytest.approx(metrics.brier_score_loss(y[second], predicted))
    assert found.brier_constant == pytest.approx(np.mean((y[second] - y[first].mean()) ** 2))
    bins = found.reliability
    assert found.ece == pytest.approx((bins["count"] * (bins["value"] - bins["predicted"]).abs()).sum() / 500)
    assert bins["count"].sum() == 500
    assert found.brier < found.brier_constant


def test_distances_map_to_falling_probabilities(made):
    found = confidence.calibrate(made(1000), "knn_correct", "kth_distance")
    far, near = found.model.predict([3.0, -3.0])
    assert far < near


def test_a_right_map_lies_within_chance_and_a_shifted_one_does_not():
    random = np.random.default_rng(0)
    x = random.random(4000)
    inside = confidence.calibrate(pd.DataFrame({"norm": x}), random.random(4000) < x, "norm")
    assert inside.chance_low < inside.ece < 1.5 * inside.chance_high
    # Fitted on one half, the map fails on the other where the two halves differ.
    half = np.array_split(np.random.default_rng(0).permutation(4000), 2)[0]
    correct = random.random(4000) < x**4
    correct[half] = random.random(2000) < np.sqrt(x[half])
    assert confidence.calibrate(pd.DataFrame({"norm": x}), correct, "norm").ece > 0.3
