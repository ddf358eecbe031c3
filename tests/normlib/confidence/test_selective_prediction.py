"""Risk and coverage against brute force and closed forms."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from normlib import confidence
from normlib.confidence import binary_metrics


def brute_area(score, correct):
    """Mean risk over all coverages, averaged over all orders of equal scores."""
    orders = [o for o in itertools.permutations(range(len(score))) if np.all(np.diff(np.array(score)[list(o)]) <= 0)]
    wrong = 1 - np.array(correct, float)
    kept = np.arange(1, len(score) + 1)
    return np.mean([np.mean(np.cumsum(wrong[list(order)]) / kept) for order in orders])


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=2, max_size=6))
@settings(deadline=None, max_examples=40)
def test_area_is_the_mean_over_all_orders_of_ties(samples):
    score, correct = zip(*samples, strict=True)
    ranked = binary_metrics.rank(np.array(score, float), np.array(correct, float))
    assert binary_metrics.aurc(*ranked.once()) == pytest.approx(brute_area(score, correct))


def test_area_of_the_best_a_random_and_the_worst_order():
    correct = np.repeat([True, False], [70, 30])
    table = pd.DataFrame({"norm": -np.arange(100.0), "kth_distance": -np.arange(100.0)})
    best, worst = confidence.risk_coverage_area(table, correct).to_dict("records")
    assert (best["excess"], best["gain"]) == pytest.approx((0, 1))
    assert worst["gain"] < -1
    assert best["error"] == pytest.approx(0.3)
    shuffled = [
        confidence.risk_coverage_area(table, np.random.default_rng(seed).permutation(correct), "norm")["gain"][0]
        for seed in range(200)
    ]
    assert abs(np.mean(shuffled)) < 3 * np.std(shuffled) / np.sqrt(200)


def test_risk_at_full_coverage_is_the_error_and_ties_are_shared():
    table = pd.DataFrame({"norm": [2.0, 2.0, 1.0, 1.0], "knn_correct": [True, False, False, False]})
    found = confidence.risk_coverage(table, "knn_correct", points=4)
    assert found["coverage"].tolist() == [0.25, 0.5, 0.75, 1]
    np.testing.assert_allclose(found["risk"], [1 / 2, 1 / 2, 2 / 3, 3 / 4])
