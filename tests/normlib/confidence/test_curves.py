"""Curves of an outcome over bins of a score, and trends."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from normlib import confidence
from normlib.confidence import bootstrap


def test_a_curve_of_equal_counts_is_the_mean_of_each_part(made):
    table = made(1000, digits=9)
    found = confidence.curve(table, "entropy", "norm", bins=5)
    expected = table.groupby(pd.qcut(table["norm"], 5), observed=True)["entropy"].mean()
    np.testing.assert_allclose(found["value"], expected)
    assert found["count"].tolist() == [200] * 5
    assert found["bin"].tolist() == [1, 2, 3, 4, 5]
    assert (found["score_from"][0], found["score_to"][4]) == (table["norm"].min(), table["norm"].max())


def test_bins_of_equal_width_are_numpys(made):
    table = made()
    found = confidence.curve(table, "knn_correct", "norm", bins=8, by="width")
    counts, edges = np.histogram(table["norm"], 8)
    assert found["count"].tolist() == counts.tolist()
    np.testing.assert_allclose(found["score_to"], edges[1:])


def test_equal_scores_share_a_bin():
    table = pd.DataFrame({"norm": [1.0] * 50 + [2.0, 3.0] * 25, "knn_correct": [True, False] * 50})
    found = confidence.curve(table, "knn_correct", "norm", bins=10)
    assert found["count"].tolist() == [50, 25, 25]


@pytest.mark.parametrize("outcome", ["knn_correct", "entropy"])
def test_bootstrap_intervals_are_those_of_a_mean(outcome, made):
    table = made(2000)
    found = confidence.curve(table, outcome, "norm", bins=4, resamples=4000)
    for _, row in found.iterrows():
        inside = table["norm"].between(row["score_from"], row["score_to"], "right")
        error = table.loc[inside | (table["norm"] == row["score_from"]) & (row["bin"] == 1), outcome].sem()
        assert (row["high"] - row["low"]) / (2 * 1.96) == pytest.approx(error, rel=0.07)
        assert row["low"] < row["value"] < row["high"]


def test_resampled_counts_and_resampled_places_agree():
    """Few distinct values are drawn as counts, many as places: the same distribution of means."""
    values = np.repeat([0.0, 1.0, 5.0], [30, 20, 10])
    random = np.random.default_rng(0)
    by_counts = bootstrap.means(values, 20_000, random)
    by_places = bootstrap.bootstrap(lambda places: values[places].mean(axis=1), len(values), 20_000, random)
    assert stats.ks_2samp(by_counts, by_places).pvalue > 0.001


def test_a_bin_without_spread_does_not_claim_certainty():
    table = pd.DataFrame({"norm": range(40), "knn_correct": [False, True] * 10 + [True] * 20})
    last = confidence.curve(table, "knn_correct", "norm", bins=2).iloc[1]
    assert (last["value"], last["high"]) == (1, 1)
    assert last["low"] == pytest.approx(1 - stats.norm.ppf(0.975) ** 2 / (20 + stats.norm.ppf(0.975) ** 2))


def test_empty_bins_and_bins_of_one_say_so():
    found = confidence.curve(
        pd.DataFrame({"norm": [0.0, 0.1, 5.0], "y": [1.0, 0.5, 2.0]}), "y", "norm", bins=3, by="width"
    )
    assert found["count"].tolist() == [2, 0, 1]
    assert found["value"].isna().tolist() == [False, True, False]
    assert found["low"].isna().tolist() == [False, True, True]


def test_trend_over_bins_and_over_samples(made):
    table = made(1000)
    bins, samples = confidence.trend(table, "knn_correct", "norm", bins=6).to_dict("records")
    drawn = confidence.curve(table, "knn_correct", "norm", bins=6)
    expected = stats.kendalltau(drawn["bin"], drawn["value"])
    assert (bins["value"], bins["p_value"], bins["count"]) == (expected.statistic, expected.pvalue, 6)
    expected = stats.kendalltau(table["norm"], table["knn_correct"])
    assert (samples["value"], samples["p_value"]) == pytest.approx((expected.statistic, expected.pvalue))
    assert 0 < samples["low"] < samples["value"] < samples["high"]
    falls = confidence.trend(table, "knn_correct", "kth_distance", bins=6)
    assert (falls["value"] < 0).all()


def test_no_trend_is_not_found(made):
    table = made(500).assign(noise=np.random.default_rng(2).normal(size=500))
    _, samples = confidence.trend(table, "noise", "norm").to_dict("records")
    assert samples["p_value"] > 0.01
    assert samples["low"] < 0 < samples["high"]
