"""Scores of confidence against scikit-learn and SciPy, brute force and closed forms; what cannot be told says so."""

import itertools
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics

from normlib import confidence, data, models
from normlib.confidence import binary_metrics, bootstrap, rank_correlation
from normlib.evaluation import sample_table


def made(n=400, seed=0, noise=1.0, digits=1):
    """A table in which the norm goes with being right, with ties; distances are turned the other way."""
    random = np.random.default_rng(seed)
    familiar = random.normal(size=n)
    return pd.DataFrame(
        {
            "label": random.integers(0, 4, n),
            "norm": np.round(familiar + noise * random.normal(size=n), digits) + 10,
            "kth_distance": np.round(noise * random.normal(size=n) - familiar, digits),
            "knn_correct": random.random(n) < 1 / (1 + np.exp(-familiar)),
            "entropy": np.round(np.exp(-familiar), 2),
        }
    )


scores_and_outcomes = st.integers(4, 40).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 6), min_size=n, max_size=n), st.lists(st.booleans(), min_size=n, max_size=n)
    )
)


# --- which way scores point ---


def test_every_score_of_a_sample_table_has_its_orientation():
    model = models.SimCLR(models.digits_encoder(8, 8), models.projection_head(8, 8, 4))
    table = sample_table(model, data.digits("train"), {"test": data.digits("test")}, k=20)
    known = {"split", "index", "label", "knn_correct", "probe_correct"}
    assert set(table.columns) - known == set(confidence.oriented_scores(table)) <= set(confidence.SCORES)


def test_distances_are_turned_and_norms_are_not():
    table = made()
    turned = confidence.oriented_scores(table)
    assert list(turned) == ["norm", "kth_distance"]
    np.testing.assert_array_equal(turned["norm"], table["norm"])
    np.testing.assert_array_equal(turned["kth_distance"], -table["kth_distance"])
    own = confidence.oriented_scores(table.rename(columns={"norm": "mine"}), {"mine": -1})
    np.testing.assert_array_equal(own["mine"], -table["norm"])


# --- detection ---


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


def test_a_score_and_its_opposite_mirror_each_other():
    table = made()
    one, other = (confidence.detection(table, "knn_correct", {"norm": sign})["auroc"][0] for sign in (1, -1))
    assert one > 0.6
    assert one + other == pytest.approx(1)


def test_outcomes_row_by_row_are_those_of_a_column():
    table = made()
    by_name = confidence.detection(table, "knn_correct")
    pd.testing.assert_frame_equal(by_name, confidence.detection(table, table["knn_correct"]))
    pd.testing.assert_frame_equal(by_name, confidence.detection(table, table["knn_correct"].tolist()))


# --- rank correlations ---


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
def test_standard_errors_are_those_of_leaving_one_out(method, outcome):
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


def test_within_classes_is_the_mean_over_them():
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


def test_a_class_without_spread_is_left_out_and_named():
    table = made().assign(entropy=lambda t: t["entropy"].where(t["label"] != 2, 0.5))
    with pytest.warns(UserWarning, match=r"spearman of 'norm' in class 2 is NaN: the outcome is 0.5 for all"):
        row = confidence.correlation(table, "entropy", "norm", within="label").iloc[0]
    assert row["classes"] == 3
    assert row["count"] == (table["label"] != 2).sum()
    assert np.isfinite(row["value"])


def test_no_class_with_spread_gives_nan():
    with pytest.warns(UserWarning, match="in class 0 is NaN"):
        row = confidence.correlation(made().assign(label=0, entropy=1.0), "entropy", "norm", within="label").iloc[0]
    assert np.isnan(row["value"])
    assert row["classes"] == 0


# --- comparing two scores ---


def delong_error(first, second, outcome):
    """Standard error of the difference of two AUROCs on the same samples (DeLong et al. 1988), by brute force."""
    parts = []
    for score in (first, second):
        above = np.sign(score[outcome][:, None] - score[~outcome]) / 2 + 0.5
        parts.append((above.mean(axis=1), above.mean(axis=0)))
    of_positives, of_negatives = (one - other for one, other in zip(*parts, strict=True))
    return np.sqrt(of_positives.var(ddof=1) / len(of_positives) + of_negatives.var(ddof=1) / len(of_negatives))


def test_the_paired_bootstrap_agrees_with_delong():
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
def test_a_resample_is_scored_as_if_its_samples_were_written_out(statistic):
    table = made(60)
    score, positive = table["norm"].to_numpy(), table["knn_correct"].to_numpy(float)
    of, ranked = getattr(binary_metrics, statistic), binary_metrics.rank(score, positive)
    places = np.random.default_rng(0).integers(60, size=(5, 60))
    found = of(*ranked.totals(places))
    for row, drawn in enumerate(places):
        written_out = of(*binary_metrics.rank(score[drawn], positive[drawn]).once())
        assert found[row] == pytest.approx(written_out)


def test_a_score_does_not_differ_from_itself():
    table = made().assign(norm_backbone=lambda t: t["norm"] * 3)
    row = confidence.compare(table, "knn_correct", "norm", "norm_backbone").iloc[0]
    assert (row["difference"], row["low"], row["high"]) == (0, 0, 0)


def test_resamples_without_one_of_the_outcomes_are_left_out():
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


def test_a_better_score_has_the_smaller_area():
    table = made(800).assign(knn_margin=lambda t: np.random.default_rng(9).normal(size=len(t)))
    row = confidence.compare(table, "knn_correct", "norm", "knn_margin", statistic="aurc").iloc[0]
    assert row["high"] < 0
    areas = confidence.risk_coverage_area(table, "knn_correct", ["norm", "knn_margin"])["aurc"]
    assert row["difference"] == pytest.approx(areas[0] - areas[1])


def test_resamples_follow_their_seed():
    table = made()
    one, again, other = (confidence.compare(table, "knn_correct", "norm", seed=seed) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(one, again)
    assert one["low"][0] != other["low"][0]


# --- curves and trends ---


def test_a_curve_of_equal_counts_is_the_mean_of_each_part():
    table = made(1000, digits=9)
    found = confidence.curve(table, "entropy", "norm", bins=5)
    expected = table.groupby(pd.qcut(table["norm"], 5), observed=True)["entropy"].mean()
    np.testing.assert_allclose(found["value"], expected)
    assert found["count"].tolist() == [200] * 5
    assert found["bin"].tolist() == [1, 2, 3, 4, 5]
    assert (found["score_from"][0], found["score_to"][4]) == (table["norm"].min(), table["norm"].max())


def test_bins_of_equal_width_are_numpys():
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
def test_bootstrap_intervals_are_those_of_a_mean(outcome):
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


def test_trend_over_bins_and_over_samples():
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


def test_no_trend_is_not_found():
    table = made(500).assign(noise=np.random.default_rng(2).normal(size=500))
    _, samples = confidence.trend(table, "noise", "norm").to_dict("records")
    assert samples["p_value"] > 0.01
    assert samples["low"] < 0 < samples["high"]


# --- risk and coverage ---


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


# --- calibration ---


def test_the_map_is_scikit_learns_on_one_half_and_judged_on_the_other():
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


def test_distances_map_to_falling_probabilities():
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


# --- several runs ---


def test_each_run_is_scored_by_itself():
    runs = pd.concat([made(seed=seed).assign(seed=seed, condition="default") for seed in range(3)])
    found = confidence.per_run(runs, confidence.detection, "knn_correct", scores="norm")
    assert found.columns[:3].tolist() == ["condition", "seed", "score"]
    for seed in range(3):
        alone = confidence.detection(made(seed=seed), "knn_correct", "norm")["auroc"][0]
        assert found.loc[found["seed"] == seed, "auroc"].item() == alone
    by_class = confidence.per_run(runs, confidence.detection, "knn_correct", by=["seed", "label"], scores="norm")
    assert len(by_class) == 12


@pytest.mark.parametrize("by", [None, ["lr", "seed"]])
def test_a_run_without_a_learning_rate_is_a_run(by):
    runs = pd.concat([made(seed=seed).assign(seed=seed, lr=lr) for seed in range(2) for lr in (0.1, np.nan)])
    found = confidence.per_run(runs, confidence.detection, "knn_correct", by=by, scores="norm")
    assert found["lr"].isna().tolist() == [False, True] * 2
    groups = confidence.mean_over_seeds(found, "auroc", "lr")
    assert groups["lr"].isna().tolist() == [False, True]
    assert groups["seeds"].tolist() == [2, 2]


def test_interval_over_seeds_is_students():
    values = np.random.default_rng(0).normal(size=(2, 5))
    frame = pd.DataFrame([{"score": s, "seed": k, "auroc": values[s, k]} for s in (1, 0) for k in range(5)])
    found = confidence.mean_over_seeds(frame, "auroc", "score")
    assert found["score"].tolist() == [1, 0]
    for _, row in found.iterrows():
        of = values[int(row["score"])]
        expected = stats.t.interval(0.95, 4, loc=of.mean(), scale=stats.sem(of))
        np.testing.assert_allclose(row[["value", "low", "high"]], [of.mean(), *expected])
    with pytest.warns(UserWarning, match=r"interval of 'auroc' .* is NaN: it has the 1 values"):
        assert np.isnan(confidence.mean_over_seeds(frame[frame["seed"] == 0], "auroc", "score")["low"]).all()


# --- bad input: a named error, or NaN that is told ---

FUNCTIONS = {
    "detection": lambda table: confidence.detection(table, "knn_correct", "norm"),
    "correlation": lambda table: confidence.correlation(table, "knn_correct", "norm"),
    "compare": lambda table: confidence.compare(table, "knn_correct", "norm", "kth_distance"),
    "curve": lambda table: confidence.curve(table, "knn_correct", "norm"),
    "trend": lambda table: confidence.trend(table, "knn_correct", "norm"),
    "risk_coverage": lambda table: confidence.risk_coverage(table, "knn_correct", "norm"),
    "risk_coverage_area": lambda table: confidence.risk_coverage_area(table, "knn_correct", "norm"),
    "calibrate": lambda table: confidence.calibrate(table, "knn_correct", "norm"),
}


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.drop(columns="norm"), "table has no column 'norm'; it has label, "),
        (lambda t: t.drop(columns="knn_correct"), "table has no column 'knn_correct'"),
        (lambda t: t.iloc[:0], "at least one row, got none"),
        (lambda t: t.assign(norm=t["norm"].where(t.index != 3)), "norm.* must be finite, got 1 of 400"),
        (lambda t: t.assign(norm=np.inf), "norm.* must be finite, got 400 of 400"),
        (lambda t: t.assign(norm="long"), "norm.* must be numbers or booleans"),
        (
            lambda t: t.assign(knn_correct=t["knn_correct"].astype(float).where(t.index > 1)),
            "'knn_correct' must be finite",
        ),
        (lambda t: pd.concat([t.assign(seed=0), t.assign(seed=1)]), r"must hold one run, got several in column 'seed'"),
        (lambda t: t.assign(condition=["a", "b"] * 200), "got several in column 'condition': .*per_run"),
    ],
)
def test_what_cannot_be_scored_is_refused(function, spoil, message):
    with pytest.raises(ValueError, match=message):
        function(spoil(made()))


@pytest.mark.parametrize("function", [FUNCTIONS[f] for f in ("detection", "compare", "risk_coverage", "calibrate")])
def test_outcomes_of_detection_are_true_or_false(function):
    with pytest.raises(
        ValueError, match=r"(outcome|correct) 'knn_correct' must be true or false .* got values such as \[0.0, 2.0\]"
    ):
        function(made().assign(knn_correct=[0, 2] * 200))


@pytest.mark.parametrize("name", ["detection", "correlation", "trend", "risk_coverage_area"])
@pytest.mark.parametrize(("column", "value"), [("norm", 3.0), ("knn_correct", True), ("knn_correct", False)])
def test_a_constant_gives_a_nan_that_is_told(name, column, value):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "An input array is constant")
        with pytest.warns(UserWarning, match="is NaN: "):
            found = FUNCTIONS[name](made().assign(**{column: value}))
    told = {"detection": "auroc", "correlation": "value", "trend": "value", "risk_coverage_area": "aurc"}[name]
    assert found[told].isna().all()


@pytest.mark.parametrize("name", ["compare", "calibrate"])
@pytest.mark.parametrize(("column", "value"), [("norm", 3.0), ("knn_correct", True)])
def test_a_constant_cannot_be_compared_or_mapped(name, column, value):
    with pytest.raises(ValueError, match=r"must (differ|be true for some)"):
        FUNCTIONS[name](made().assign(**{column: value}))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: confidence.detection(t, [True, False]), r"one value for each of 400 rows, got shape \(2,\)"),
        (lambda t: confidence.detection(t, t["knn_correct"].sort_values()), "outcome must have the index of table"),
        (
            lambda t: confidence.detection(t, "knn_correct", "entropy"),
            r"which way 'entropy' points is not known.*mapping",
        ),
        (lambda t: confidence.detection(t, "knn_correct", {"entropy": 2}), "high = familiar.* got {'entropy': 2}"),
        (
            lambda t: confidence.detection(t[["entropy", "knn_correct"]], "knn_correct"),
            "has none of the columns norm, ",
        ),
        (lambda t: confidence.correlation(t, "entropy", method="pearson"), "'spearman', 'kendall', got 'pearson'"),
        (lambda t: confidence.correlation(t, "entropy", within="class"), "table has no column 'class'"),
        (lambda t: confidence.compare(t, "knn_correct", "norm", "norm"), "another score than 'norm', got none"),
        (lambda t: confidence.compare(t, "knn_correct", "norm", statistic="f1"), "'auroc', 'aurc', got 'f1'"),
        (
            lambda t: confidence.compare(t, "knn_correct", "norm", resamples=20),
            "resamples must be an integer ≥ 100, got 20",
        ),
        (lambda t: confidence.curve(t, "entropy", "norm", bins=1), "bins must be an integer ≥ 2, got 1"),
        (lambda t: confidence.curve(t, "entropy", "norm", by="max"), "by must be one of 'count', 'width', got 'max'"),
        (lambda t: confidence.curve(t, "entropy", "norm", resamples=9), "resamples must be an integer ≥ 100, got 9"),
        (
            lambda t: confidence.risk_coverage(t, "knn_correct", points=0),
            "points must be an integer ≥ 1 and ≤ 400, got 0",
        ),
        (lambda t: confidence.calibrate(t, "knn_correct", "norm", bins=1), "bins must be an integer ≥ 2, got 1"),
        (
            lambda t: confidence.per_run(t, confidence.detection, "knn_correct"),
            "name those that tell runs apart in by=",
        ),
        (
            lambda t: confidence.mean_over_seeds(t.assign(seed=0)[:0], "norm"),
            "frame must have at least one row, got none",
        ),
        (
            lambda t: confidence.mean_over_seeds(t.assign(seed=0), "norm"),
            "one row for each group and 'seed', got several",
        ),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(made())


def test_few_samples_have_no_correlation():
    with pytest.warns(UserWarning, match="there are only 3 samples"):
        assert np.isnan(confidence.correlation(pd.DataFrame({"norm": [1, 2, 3]}), [1, 3, 2])["value"][0])
