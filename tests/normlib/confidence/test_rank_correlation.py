"""Rank correlations against SciPy and brute force; with their intervals, over all and within classes."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from normlib import confidence
from normlib.confidence import rank_correlation

scores_and_outcomes = st.integers(4, 40).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 6), min_size=n, max_size=n), st.lists(st.booleans(), min_size=n, max_size=n)
    )
)


@pytest.mark.parametrize(("method", "peer"), [("spearman", stats.spearmanr), ("kendall", stats.kendalltau)])
@given(scores_and_outcomes, st.booleans())
@settings(deadline=None, max_examples=40)
def test_rank_correlations_are_scipys(method, peer, pair, binary):
    x, y = np.array(pair[0]), np.array(pair[1])
    y = y if binary else y + x // 3
    if len(set(x)) < 2 or len(set(y)) < 2:
        return
    row = confidence.correlation(pd.DataFrame({"norm": x}), y, method=method).iloc[0]
    assert row["value"] == pytest.approx(peer(x, y).statistic, abs=1e-12)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=40))
@settings(deadline=None, max_examples=60)
def test_concordance_counts_each_pair(pairs):
    x, y = np.array(pairs).T
    brute = (np.sign(x[:, None] - x) * np.sign(y[:, None] - y)).sum(axis=1)
    x, y = (np.unique(values, return_inverse=True)[1] for values in (x, y))
    assert rank_correlation._concordance(x, y).tolist() == brute.tolist()


@pytest.mark.parametrize("method", ["spearman", "kendall"])
@pytest.mark.parametrize("outcome", ["entropy", "knn_correct"])
def test_standard_errors_are_those_of_leaving_one_out(method, outcome, made):
    table = made(150)
    x, y = table["norm"].to_numpy(), table[outcome].to_numpy(float)
    of = getattr(rank_correlation, method)
    left_out = np.array([of(np.delete(x, i), np.delete(y, i)).value for i in range(len(x))])
    jackknife = np.sqrt((len(x) - 1) * left_out.var())
    assert of(x, y).error == pytest.approx(jackknife, rel=0.05)


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    """Normal pairs with correlation 0.6 have Kendall's τ = (2/π) asin 0.6 and Spearman's ρ = (6/π) asin 0.3."""
    truth = {"kendall": 2 / np.pi * np.arcsin(0.6), "spearman": 6 / np.pi * np.arcsin(0.3)}
    hits, random = dict.fromkeys(truth, 0), np.random.default_rng(1)
    for _ in range(300):
        x, noise = random.normal(size=(2, 80))
        table = pd.DataFrame({"norm": x, "y": 0.6 * x + 0.8 * noise})
        for method, value in truth.items():
            row = confidence.correlation(table, "y", method=method).iloc[0]
            hits[method] += row["low"] < value < row["high"]
    assert all(0.92 <= count / 300 <= 0.98 for count in hits.values()), hits


def test_a_perfect_order_has_no_interval():
    row = confidence.correlation(pd.DataFrame({"norm": range(9)}), -np.arange(9.0)).iloc[0]
    assert row["value"] == -1
    assert np.isnan([row["low"], row["high"]]).all()


def test_within_classes_is_the_mean_over_them(made):
    table = made()
    row = confidence.correlation(table, "entropy", "norm", within="label").iloc[0]
    parts = [group for _, group in table.groupby("label")]
    each = [stats.spearmanr(part["norm"], part["entropy"]).statistic for part in parts]
    assert row["value"] == pytest.approx(np.average(each, weights=[len(part) for part in parts]))
    assert row["low"] < row["value"] < row["high"]
    assert (row["count"], row["classes"]) == (len(table), 4)


def test_what_only_the_class_explains_vanishes_within_classes():
    random = np.random.default_rng(0)
    label = np.repeat(np.arange(5), 300)
    table = pd.DataFrame({"label": label, "norm": label + random.normal(size=1500)})
    entropy = random.normal(size=1500) - label
    assert confidence.correlation(table, entropy)["value"][0] < -0.4
    within = confidence.correlation(table, entropy, within="label").iloc[0]
    assert within["low"] < 0 < within["high"]


def test_a_class_without_spread_is_left_out_and_named(made):
    table = made().assign(entropy=lambda t: t["entropy"].where(t["label"] != 2, 0.5))
    with pytest.warns(UserWarning, match=r"spearman of 'norm' in class 2 is NaN: the outcome is 0.5 for all"):
        row = confidence.correlation(table, "entropy", "norm", within="label").iloc[0]
    assert row["classes"] == 3
    assert row["count"] == (table["label"] != 2).sum()
    assert np.isfinite(row["value"])


def test_no_class_with_spread_gives_nan(made):
    with pytest.warns(UserWarning, match="in class 0 is NaN"):
        row = confidence.correlation(made().assign(label=0, entropy=1.0), "entropy", "norm", within="label").iloc[0]
    assert np.isnan(row["value"])
    assert row["classes"] == 0
