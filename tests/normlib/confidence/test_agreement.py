"""How far scores agree with outcomes, against scikit-learn, SciPy and DeLong."""

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from normlib import confidence
from normlib.confidence import binary_metrics

scores_and_outcomes = st.integers(4, 40).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 6), min_size=n, max_size=n), st.lists(st.booleans(), min_size=n, max_size=n)
    )
)


@given(scores_and_outcomes)
@settings(deadline=None, max_examples=60)
def test_detection_is_scikit_learns(pair):
    score, outcome = pair
    if len(set(score)) < 2 or len(set(outcome)) < 2:
        return
    row = confidence.detection(pd.DataFrame({"norm": score}), np.array(outcome)).iloc[0]
    assert row["auroc"] == pytest.approx(metrics.roc_auc_score(outcome, score))
    assert row["aupr"] == pytest.approx(metrics.average_precision_score(outcome, score))
    fpr, tpr, _ = metrics.roc_curve(outcome, score, drop_intermediate=False)
    assert row["fpr95"] == pytest.approx(fpr[tpr >= 0.95].min())
    assert (row["count"], row["positives"]) == (len(score), sum(outcome))


def test_a_score_and_its_opposite_mirror_each_other(made):
    table = made()
    one, other = (confidence.detection(table, "knn_correct", {"norm": sign})["auroc"][0] for sign in (1, -1))
    assert one > 0.6
    assert one + other == pytest.approx(1)


def test_outcomes_row_by_row_are_those_of_a_column(made):
    table = made()
    by_name = confidence.detection(table, "knn_correct")
    pd.testing.assert_frame_equal(by_name, confidence.detection(table, table["knn_correct"]))
    pd.testing.assert_frame_equal(by_name, confidence.detection(table, table["knn_correct"].tolist()))


def delong_error(first, second, outcome):
    """Standard error of the difference of two AUROCs on the same samples (DeLong et al. 1988), by brute force."""
    parts = []
    for score in (first, second):
        above = np.sign(score[outcome][:, None] - score[~outcome]) / 2 + 0.5
        parts.append((above.mean(axis=1), above.mean(axis=0)))
    of_positives, of_negatives = (one - other for one, other in zip(*parts, strict=True))
    return np.sqrt(of_positives.var(ddof=1) / len(of_positives) + of_negatives.var(ddof=1) / len(of_negatives))


def test_the_paired_bootstrap_agrees_with_delong(made):
    table = made(600)
    row = confidence.compare(table, "knn_correct", "norm", resamples=2000).iloc[0]
    first, second, outcome = (
        table["norm"].to_numpy(),
        -table["kth_distance"].to_numpy(),
        table["knn_correct"].to_numpy(),
    )
    assert row["against"] == "kth_distance"
    assert row["value"] == pytest.approx(metrics.roc_auc_score(outcome, first))
    assert row["difference"] == pytest.approx(row["value"] - metrics.roc_auc_score(outcome, second))
    assert (row["high"] - row["low"]) / (2 * 1.96) == pytest.approx(delong_error(first, second, outcome), rel=0.1)
    assert row["low"] < row["difference"] < row["high"]


@pytest.mark.parametrize("statistic", ["auroc", "aurc"])
def test_a_resample_is_scored_as_if_its_samples_were_written_out(statistic, made):
    table = made(60)
    score, positive = table["norm"].to_numpy(), table["knn_correct"].to_numpy(float)
    of, ranked = getattr(binary_metrics, statistic), binary_metrics.rank(score, positive)
    places = np.random.default_rng(0).integers(60, size=(5, 60))
    found = of(*ranked.totals(places))
    for row, drawn in enumerate(places):
        written_out = of(*binary_metrics.rank(score[drawn], positive[drawn]).once())
        assert found[row] == pytest.approx(written_out)


def test_a_score_does_not_differ_from_itself(made):
    table = made().assign(norm_backbone=lambda t: t["norm"] * 3)
    row = confidence.compare(table, "knn_correct", "norm", "norm_backbone").iloc[0]
    assert (row["difference"], row["low"], row["high"]) == (0, 0, 0)


def test_resamples_without_one_of_the_outcomes_are_left_out(made):
    table = made(200)
    rare = np.zeros(200, dtype=bool)
    rare[0] = True
    with pytest.warns(UserWarning, match=r"\d+ of 500 resamples are left out"):
        row = confidence.compare(table, rare, "norm").iloc[0]
    assert row["low"] <= row["difference"] <= row["high"]
    rare[1:4] = True  # 1.8 % of the resamples have none of them
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        row = confidence.compare(table, rare, "norm").iloc[0]
    assert row["low"] <= row["difference"] <= row["high"]


def test_a_better_score_has_the_smaller_area(made):
    table = made(800).assign(knn_margin=lambda t: np.random.default_rng(9).normal(size=len(t)))
    row = confidence.compare(table, "knn_correct", "norm", "knn_margin", statistic="aurc").iloc[0]
    assert row["high"] < 0
    areas = confidence.risk_coverage_area(table, "knn_correct", ["norm", "knn_margin"])["aurc"]
    assert row["difference"] == pytest.approx(areas[0] - areas[1])


def test_resamples_follow_their_seed(made):
    table = made()
    one, again, other = (confidence.compare(table, "knn_correct", "norm", seed=seed) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(one, again)
    assert one["low"][0] != other["low"][0]
