"""Digits held out: every pair with every seed, and scores as scikit-learn and SciPy give them."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from normcourse import experiments
from normcourse.experiments import digits_held_out


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setenv("TQDM_DISABLE", "1")


def test_every_pair_of_classes_is_held_out_with_every_seed():
    tables = experiments.smoke("digits-held-out")
    pairs = tables["scores"].groupby(["first", "second", "seed"]).size()
    assert pairs.index.tolist() == [(a, b, seed) for a, b in ((0, 1), (0, 2), (1, 2)) for seed in (0, 1)]  # of three
    assert set(pairs) == {2 * 7}  # before and after training, seven scores
    assert tables["scores"]["auroc"].between(0, 1).all()
    assert tables["runs"]["loss"].gt(0).all()
    work = digits_held_out.work(experiments.EXPERIMENTS["digits-held-out"].settings)
    assert (work.trainings, work.pairs) == (450, 10 * 50 * 36 * 1347)  # each class is in 36 of the 45 sets of eight


def test_scores_are_those_of_scikit_learn_and_scipy_turned_to_familiarity():
    random = np.random.default_rng(0)
    table = pd.DataFrame({"split": ["test"] * 60 + ["held out"] * 40, "knn_correct": random.random(100) < 0.7})
    table["norm_projector"], table["kth_distance"] = random.random((2, 100))
    found = digits_held_out.scores_of(table).set_index("score")
    seen = table["split"] == "test"
    inside = table[seen]
    for score, sign in {"norm_projector": 1, "kth_distance": -1}.items():
        row = found.loc[score]
        assert row["auroc"] == pytest.approx(roc_auc_score(seen, sign * table[score]))
        assert row["auroc_correct"] == pytest.approx(roc_auc_score(inside["knn_correct"], sign * inside[score]))
        assert row["spearman"] == pytest.approx(spearmanr(inside["knn_correct"], sign * inside[score]).statistic)


def test_scores_of_correctness_are_nan_where_all_are_right():
    table = pd.DataFrame({"split": ["test", "test", "held out"], "knn_correct": [True, True, False]})
    found = digits_held_out.scores_of(table.assign(norm_projector=[1.0, 2.0, 0.0]))
    assert found["auroc"].tolist() == [1]
    assert found[["auroc_correct", "spearman"]].isna().all(axis=None)
