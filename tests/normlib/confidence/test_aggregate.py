"""Several runs: each by itself, and the interval over seeds."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from normlib import confidence


def test_each_run_is_scored_by_itself(made):
    runs = pd.concat([made(seed=seed).assign(seed=seed, condition="default") for seed in range(3)])
    found = confidence.per_run(runs, confidence.detection, "knn_correct", scores="norm")
    assert found.columns[:3].tolist() == ["condition", "seed", "score"]
    for seed in range(3):
        alone = confidence.detection(made(seed=seed), "knn_correct", "norm")["auroc"][0]
        assert found.loc[found["seed"] == seed, "auroc"].item() == alone
    by_class = confidence.per_run(runs, confidence.detection, "knn_correct", by=["seed", "label"], scores="norm")
    assert len(by_class) == 12


@pytest.mark.parametrize("by", [None, ["lr", "seed"]])
def test_a_run_without_a_learning_rate_is_a_run(by, made):
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
