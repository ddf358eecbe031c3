"""The experiments on digits and CIFAR-10 about confidence: designs, controls, and one tiny run of each."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from normcourse import experiments
from normcourse.experiments import cifar10, cifar10_human_labels, digits_confidence
from normlib import data, models
from normlib.data import HumanVotes

CONTROLS = ["cifar10-untrained", "cifar10-untrained-cpu", "cifar10-human-labels", "cifar10-human-labels-cpu"]
NAMES = ["digits-held-out", "digits-rare", "digits-failure-modes", *CONTROLS]


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setenv("TQDM_DISABLE", "1")


@pytest.fixture(scope="module")
def smoke():
    """Each experiment's tables of a tiny run, run once."""
    found = {}

    def of(name):
        if name not in found:
            found[name] = experiments.smoke(name)
        return found[name]

    return of


@pytest.mark.parametrize("name", NAMES)
def test_plans_are_whole(name):
    experiment = experiments.EXPERIMENTS[name]
    assert json.loads(json.dumps(experiment.settings)) == experiment.settings
    assert set(experiment.smoke) <= set(experiment.settings)
    recipe, runs, pairs = experiment.work(experiment.settings)
    assert recipe in ("digits", "cpu", "paper")
    assert runs >= 1
    assert pairs >= 0
    for job in experiment.jobs(experiment.settings):
        assert json.loads(json.dumps(experiment.configuration(experiment.settings, job))) is not None


def test_every_pair_of_classes_is_held_out_with_every_seed(smoke):
    tables = smoke("digits-held-out")
    pairs = tables["scores"].groupby(["first", "second", "seed"]).size()
    assert pairs.index.tolist() == [(a, b, seed) for a, b in ((0, 1), (0, 2), (1, 2)) for seed in (0, 1)]  # of three
    assert set(pairs) == {2 * 7}  # before and after training, seven scores
    assert tables["scores"]["auroc"].between(0, 1).all()
    assert tables["runs"]["loss"].gt(0).all()
    _, runs, pairs = digits_confidence.held_out_work(experiments.EXPERIMENTS["digits-held-out"].settings)
    assert (runs, pairs) == (450, 10 * 50 * 36 * 1347)  # each class is in 36 of the 45 sets of eight


def test_scores_are_those_of_scikit_learn_and_scipy_turned_to_familiarity():
    random = np.random.default_rng(0)
    table = pd.DataFrame({"split": ["test"] * 60 + ["held out"] * 40, "knn_correct": random.random(100) < 0.7})
    table["norm_projector"], table["kth_distance"] = random.random((2, 100))
    found = digits_confidence.scores_of(table).set_index("score")
    seen = table["split"] == "test"
    inside = table[seen]
    for score, sign in {"norm_projector": 1, "kth_distance": -1}.items():
        row = found.loc[score]
        assert row["auroc"] == pytest.approx(roc_auc_score(seen, sign * table[score]))
        assert row["auroc_correct"] == pytest.approx(roc_auc_score(inside["knn_correct"], sign * inside[score]))
        assert row["spearman"] == pytest.approx(spearmanr(inside["knn_correct"], sign * inside[score]).statistic)


def test_scores_of_correctness_are_nan_where_all_are_right():
    table = pd.DataFrame({"split": ["test", "test", "held out"], "knn_correct": [True, True, False]})
    found = digits_confidence.scores_of(table.assign(norm_projector=[1.0, 2.0, 0.0]))
    assert found["auroc"].tolist() == [1]
    assert found[["auroc_correct", "spearman"]].isna().all(axis=None)


@pytest.mark.parametrize("block", [0, 3])
def test_among_as_many_seeds_as_classes_each_class_has_each_rank_once(block):
    orders = np.array([digits_confidence.class_order(10 * block + seed, 10) for seed in range(10)])
    for ranks in (orders, orders.T):
        assert all(sorted(row) == list(range(10)) for row in ranks.tolist())


def test_blocks_of_seeds_have_orders_of_their_own():
    cycles = {
        tuple(np.roll(order, -order.index(0))) for order in (digits_confidence.class_order(s, 10) for s in (0, 10, 20))
    }
    assert len(cycles) == 3


def test_the_long_tail_and_its_balanced_control_have_the_same_size(smoke):
    classes = smoke("digits-rare")["classes"]
    images = classes[classes["trained"] & (classes["seed"] == 0)].set_index(["condition", "rank"])["images"]
    assert images["long-tailed"].sort_index().tolist() == [120, 80, 53, 36, 24, 16, 11, 7, 5, 3]
    assert set(images["balanced"]) == {36}
    untrained = classes[~classes["trained"]].set_index(["condition", "seed", "label"])[
        ["norm_backbone", "norm_projector"]
    ]
    pd.testing.assert_frame_equal(untrained.loc["balanced"], untrained.loc["long-tailed"])  # the same network


def test_class_norms_are_means_over_a_classs_images():
    model = models.SimCLR(models.digits_encoder(8, 8), models.projection_head(8, 8, 4))
    test = data.digits("test")
    threes = test.subset(test.labels == 3)
    table = digits_confidence.class_norms(model, test).set_index("label")
    with torch.no_grad():
        z = model(threes.images.float() / 255)
    assert len(table) == 10
    assert table.loc[3, "norm_projector"] == pytest.approx(z.norm(dim=1).mean().item(), rel=1e-5)


def test_untrained_networks_are_scored_as_trained_ones_are(smoke):
    samples = smoke("cifar10-untrained-cpu")["samples"]
    assert samples.groupby("split").size().to_dict() == {"blur 3": 50, "test": 450, "train": 1347}
    assert samples[["condition", "lr", "seed"]].drop_duplicates().to_numpy().tolist() == [["untrained", 0.0, 0]]


def samples_of(n, split, condition, seed, sign):
    """Norms that follow how far people agree, up or down."""
    agreement = (np.arange(n) % 50 + 1) / 50
    table = {"split": split, "index": np.arange(n), "label": np.arange(n) % 10, "norm_backbone": 1 + agreement}
    table |= {"norm_projector": 2 + sign * agreement, "condition": condition, "lr": 0.1, "seed": seed}
    return pd.DataFrame(table)


def votes_for(n):
    agree = np.arange(n) % 50 + 1
    counts = np.zeros((n, 10), dtype=np.int64)
    counts[np.arange(n), np.arange(n) % 10] = 950 + agree
    counts[np.arange(n), (np.arange(n) + 1) % 10] = 50 - agree
    return HumanVotes("made up", counts)


def test_runs_are_compared_with_people_one_by_one():
    samples = pd.concat(
        [
            samples_of(200, "test", "default", 0, +1),
            samples_of(200, "test", "default", 1, -1),
            samples_of(300, "train", "default", 0, +1),
        ]
    )
    votes = {"CIFAR-10H": votes_for(200), "CIFAR-10N": votes_for(300)}
    tables = cifar10_human_labels.compare_with_people(samples, votes, bins=5, resamples=100)
    curves, correlations = tables["curves"], tables["correlations"]
    runs = curves[["source", "seed"]].drop_duplicates().to_numpy().tolist()
    assert runs == [["CIFAR-10H", 0], ["CIFAR-10H", 1], ["CIFAR-10N", 0]]
    assert curves.groupby(["source", "seed", "score"])["count"].sum().tolist() == [200] * 4 + [300] * 2
    rank = correlations.query("method == 'spearman' and within == ''").set_index(["source", "seed", "score"])["value"]
    assert rank["CIFAR-10H", 0, "norm_projector"] == pytest.approx(-1)  # entropy falls where people agree
    assert rank["CIFAR-10H", 1, "norm_projector"] == pytest.approx(1)
    assert rank["CIFAR-10N", 0, "norm_projector"] == pytest.approx(1)
    assert set(correlations["within"]) == {"", "label"}
    assert set(tables["trends"]["over"]) == {"bins", "samples"}


def test_labels_of_other_images_are_refused():
    samples = samples_of(200, "test", "default", 0, +1).assign(label=lambda table: (table["label"] + 1) % 10)
    with pytest.raises(ValueError, match="label must mostly be what most people chose"):
        cifar10_human_labels.compare_with_people(samples, {"CIFAR-10H": votes_for(200)}, bins=5, resamples=100)


def test_human_labels_leave_aggregates_only(smoke):
    tables = smoke("cifar10-human-labels-cpu")
    assert sorted(tables) == ["correlations", "curves", "trends"]
    assert not any("index" in table or len(table) > 200 for table in tables.values())
    assert tables["curves"]["count"].min() > 10


def test_a_missing_record_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(cifar10, "RESULTS", tmp_path)
    with pytest.raises(FileNotFoundError, match="no recorded runs of 'default'; record it with: python -m normlib"):
        cifar10_human_labels.recorded_samples({"cifar10-interventions-cpu": "default"})
