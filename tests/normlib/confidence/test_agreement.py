"""How far scores agree with outcomes, against scikit-learn, SciPy and DeLong."""

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics
from sklearn.linear_model import LinearRegression

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


@given(scores_and_outcomes)
@settings(deadline=None, max_examples=60)
def test_the_error_of_an_auroc_is_delongs(pair):
    score, outcome = np.array(pair[0], dtype=float), np.array(pair[1])
    if min(outcome.sum(), (~outcome).sum()) < 2:
        return
    found = binary_metrics.auroc_with_error(score, outcome)
    above = np.sign(score[outcome][:, None] - score[~outcome]) / 2 + 0.5
    parts = (above.mean(axis=1), above.mean(axis=0))
    assert found.value == pytest.approx(above.mean())
    assert found.error == pytest.approx(np.sqrt(sum(part.var(ddof=1) / len(part) for part in parts)))


def test_intervals_of_an_auroc_hold_the_truth_in_95_percent_of_draws():
    random, truth, held = np.random.default_rng(0), stats.norm.cdf(1 / np.sqrt(2)), 0  # of two normals, 1 apart
    for _ in range(400):
        score = np.concatenate([random.normal(1, 1, 40), random.normal(0, 1, 60)])
        row = confidence.detection(pd.DataFrame({"norm": score}), np.arange(100) < 40).iloc[0]
        assert 0 < row["low"] < row["auroc"] < row["high"] < 1
        held += row["low"] <= truth <= row["high"]
    assert 0.92 <= held / 400 <= 0.98


def test_detection_within_classes_is_the_weighted_mean_over_them(made):
    table = made()
    whole = confidence.detection(table, "knn_correct", within="label").set_index("score")
    parts = confidence.per_run(table, confidence.detection, "knn_correct", by="label")
    for score, rows in parts.groupby("score"):
        for column in ("auroc", "aupr", "fpr95"):
            assert whole.loc[score, column] == pytest.approx(np.average(rows[column], weights=rows["count"]))
    assert (whole["count"] == len(table)).all()


def test_what_differs_between_classes_has_no_part_in_detection_within_them():
    label = np.repeat([0, 1], 100)
    random = np.random.default_rng(0)
    table = pd.DataFrame({"label": label, "norm": 10 * label + random.random(200)})
    correct = random.random(200) < 0.2 + 0.6 * label
    between, within = (confidence.detection(table, correct, within=by)["auroc"][0] for by in (None, "label"))
    assert between > 0.75
    assert within == pytest.approx(0.5, abs=0.1)


def test_partial_correlation_is_that_of_residuals_of_ranks(made):
    table = made()
    table["light"] = table["norm"] + np.random.default_rng(1).normal(size=len(table))
    found = confidence.partial_correlation(table, "entropy", ["light", "label"], "norm")["value"][0]
    known = np.column_stack([stats.rankdata(table[name]) for name in ("light", "label")])
    left = []
    for name in ("norm", "entropy"):
        ranks = stats.rankdata(table[name])
        left.append(ranks - LinearRegression().fit(known, ranks).predict(known))
    assert found == pytest.approx(stats.pearsonr(*left).statistic)


def test_what_the_given_columns_say_has_no_part_in_a_partial_correlation():
    random = np.random.default_rng(0)
    light = random.normal(size=3000)
    table = pd.DataFrame(
        {"light": light, "norm": light + random.normal(size=3000), "y": light + random.normal(size=3000)}
    )
    plain = confidence.correlation(table, "y", "norm").iloc[0]
    beyond = confidence.partial_correlation(table, "y", "light", "norm").iloc[0]
    assert plain["value"] > 0.4
    assert abs(beyond["value"]) < 0.06
    assert beyond["low"] < 0 < beyond["high"]


def test_intervals_of_a_partial_correlation_hold_none_in_95_percent_of_draws():
    random, held = np.random.default_rng(0), 0
    for _ in range(400):
        light = random.normal(size=100)
        table = pd.DataFrame({"light": light, "norm": light + random.normal(size=100)})
        row = confidence.partial_correlation(table, light**3 + random.normal(size=100), "light", "norm").iloc[0]
        held += row["low"] <= 0 <= row["high"]
    assert 0.92 <= held / 400 <= 0.98


def test_nothing_left_to_correlate_is_nan():
    table = pd.DataFrame({"light": range(20), "norm": range(20)})
    with pytest.warns(UserWarning, match="leave nothing of it"):
        found = confidence.partial_correlation(table, np.arange(20) % 3, "light", "norm")
    assert np.isnan(found["value"][0])


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
