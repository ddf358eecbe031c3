"""Hidden tests of assignment 5, a sample to start from: in your own copy, change inputs and seeds and add to them.

They use no function of the course's library: areas come from scikit-learn, the recorded table is read from the
checkout, and the numbers of a student are drawn here again. ``TESTS`` lists, for each question, functions of the
submission's variables with their points; the first line of a docstring is what the student's report shows.
"""

import hashlib
import math
import os
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.metrics import roc_auc_score

# What the notebook draws from too
CHOICES = {"lr": (0.03, 0.1, 0.3, 1.0), "seeds": tuple(combinations(range(8), 6))}


def own(env, name):
    """The number of the student whom the class list names."""
    student = os.environ.get("ASSIGNMENT_STUDENT_ID") or env["STUDENT_ID"]
    digest = hashlib.sha256(f"{student.strip().casefold()}/A5/{name}".encode()).hexdigest()
    return CHOICES[name][int(digest, 16) % len(CHOICES[name])]


def close(found, right, rtol=1e-6):
    """Fail unless a number is close to another."""
    assert math.isclose(float(found), float(right), rel_tol=rtol, abs_tol=1e-9), "another number"


def samples(n, seed, classes=4):
    """Scores with ties, whether each is correct, and labels; the last class has no wrong sample."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, classes, n)
    correct = (rng.random(n) < 0.5 + 0.1 * label) | (label == classes - 1)
    return np.round(rng.normal(size=n) + 0.5 * correct + 0.5 * label, 1), correct, label


def over_pairs_of_a_class(score, correct, label):
    """The area over pairs of one class."""
    won, pairs = 0.0, 0
    for c in np.unique(label):
        good, bad = score[(label == c) & correct], score[(label == c) & ~correct]
        gaps = good[:, None] - bad[None]
        won, pairs = won + (gaps > 0).sum() + (gaps == 0).sum() / 2, pairs + gaps.size
    return won / pairs


def gain_of(env, measure):
    """Mean and half width of a measure's difference between trained and untrained networks of the own slice."""
    places = [Path(folder, "results/digits-simclr/samples.parquet") for folder in [*sys.path, "..", "."]]
    table = pd.read_parquet(next(place for place in places if place.exists()))
    differences = []
    for seed in own(env, "seeds"):
        one = table[(table["lr"] == own(env, "lr")) & (table["seed"] == seed)]
        before, after = (one[one["epoch"] == epoch] for epoch in (0, 200))
        differences.append(measure(after) - measure(before))
    half = stats.sem(differences) * stats.t.ppf(0.975, len(differences) - 1)
    return np.mean(differences), half


def area_with_ties(env):
    """auroc where many scores are equal, against scikit-learn."""
    score, correct, _ = samples(500, 41)
    close(env["auroc"](score, correct), roc_auc_score(correct, score))


def area_of_many_samples(env):
    """auroc of 200,000 samples."""
    score, correct, _ = samples(200_000, 42)
    close(env["auroc"](score, correct), roc_auc_score(correct, score))


def intervals_elsewhere(env):
    """interval of 3 and of 12 values."""
    for n in (3, 12):
        values = np.random.default_rng(n).normal(size=n)
        low, high = stats.t.interval(0.95, n - 1, loc=values.mean(), scale=stats.sem(values))
        mean, half = env["interval"](values)
        close(mean, values.mean())
        close(half, (high - low) / 2)


def own_gain(env):
    """The gain of your slice."""
    mean, _ = gain_of(env, lambda group: roc_auc_score(group["correct"], group["norm"]))
    assert abs(float(env["gain"]) - mean) < 6e-4


def own_gain_half(env):
    """The half width of your gain."""
    _, half = gain_of(env, lambda group: roc_auc_score(group["correct"], group["norm"]))
    assert abs(float(env["gain_half"]) - half) < 6e-4


def accuracy_elsewhere(env):
    """selective_accuracy at large and tiny coverage."""
    rng = np.random.default_rng(43)
    score, correct = rng.permutation(97) / 7.0, rng.random(97) < 0.6
    for coverage in (0.001, 0.37, 0.93):
        best = sorted(zip(score, correct, strict=True), reverse=True)[: max(1, round(coverage * 97))]
        close(env["selective_accuracy"](score, correct, coverage), np.mean([right for _, right in best]))


def area_within_classes(env):
    """within_class_auroc with ties, and a class without mistakes."""
    sample = samples(300, 44)
    close(env["within_class_auroc"](*sample), over_pairs_of_a_class(*sample))


def own_gain_within(env):
    """The gain of your slice within classes, and its half width."""
    columns = ["norm", "correct", "label"]
    mean, half = gain_of(env, lambda group: over_pairs_of_a_class(*(group[column].to_numpy() for column in columns)))
    assert abs(float(env["gain_within"]) - mean) < 6e-4
    assert abs(float(env["gain_within_half"]) - half) < 6e-4


TESTS = {
    "q1": [(area_with_ties, 1), (area_of_many_samples, 1)],
    "q2": [(intervals_elsewhere, 1)],
    "q3": [(own_gain, 1), (own_gain_half, 1)],
    "q4": [(accuracy_elsewhere, 1)],
    "q5": [(area_within_classes, 1), (own_gain_within, 1)],
}
