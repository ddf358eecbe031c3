"""Human labels of CIFAR-10: each run against what people saw, as aggregates only."""

import numpy as np
import pandas as pd
import pytest

from normcourse import experiments
from normcourse.experiments import cifar10_human_labels
from normlib.data import HumanVotes


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


def test_human_labels_leave_aggregates_only(monkeypatch):
    monkeypatch.setenv("TQDM_DISABLE", "1")
    tables = experiments.smoke("cifar10-human-labels-cpu")
    assert sorted(tables) == ["correlations", "curves", "trends"]
    assert not any("index" in table or len(table) > 200 for table in tables.values())
    assert tables["curves"]["count"].min() > 10


def test_a_missing_record_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(cifar10_human_labels, "RESULTS", tmp_path)
    with pytest.raises(FileNotFoundError, match="no recorded runs of 'default'; record it with: python -m normcourse"):
        cifar10_human_labels.recorded_samples({"cifar10-interventions-cpu": "default"})
