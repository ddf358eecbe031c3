"""Votes of people, joined to a table by the places of the images."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from normlib import data


def votes(labelled=True):
    counts = np.array([[9, 1, 0], [0, 10, 0], [2, 3, 5], [0, 4, 6]])
    return data.HumanVotes("ten people", counts, labels=np.array([0, 1, 2, 2]) if labelled else None)


def test_agreement_and_entropy_are_those_of_each_image():
    joined = votes().join(pd.DataFrame({"index": [2, 0, 1], "label": [2, 0, 1], "norm": [1.0, 2.0, 3.0]}))
    assert joined["human_agreement"].tolist() == [0.5, 0.9, 1]
    np.testing.assert_allclose(
        joined["human_entropy"], [stats.entropy([2, 3, 5]), stats.entropy([9, 1]), 0], atol=1e-12
    )
    assert joined["norm"].tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"label": [0]}, "table has no column 'index'; it has label"),
        ({"index": [], "label": []}, "at least one row"),
        ({"index": [4], "label": [0]}, "index must be in 0..3 of ten people, got 4..4"),
        ({"index": [-1], "label": [0]}, "index must be in 0..3"),
        ({"index": [0, 1], "label": [0, 3]}, "label must be in 0..2, got 0..3; are these the images"),
        (
            {"index": [1, 0, 2], "label": [0, 1, 2]},
            "but 2 of 3 rows differ; are these the images that ten people is about",
        ),
    ],
)
def test_rows_of_other_images_are_refused(table, message):
    with pytest.raises(ValueError, match=message):
        votes().join(pd.DataFrame(table))


def test_without_labels_the_majority_tells_another_order():
    right = pd.DataFrame({"index": range(4), "label": [0, 1, 2, 2]})
    assert votes(labelled=False).join(right)["human_agreement"].tolist() == [0.9, 1, 0.5, 0.6]
    with pytest.raises(ValueError, match="mostly be what most people chose, but is so in 25% of the rows"):
        votes(labelled=False).join(right.assign(label=[1, 0, 1, 2]))


@pytest.mark.parametrize(
    ("counts", "labels", "message"),
    [
        (np.ones(3, int), None, r"integers of shape \(N, C\), got int64 of \(3,\)"),
        (np.ones((3, 2)), None, "must be integers"),
        (np.array([[1, 0], [0, 0]]), None, "at least one vote for each image"),
        (np.array([[2, -1]]), None, "0 or more"),
        (np.ones((3, 2), int), np.zeros(2, int), r"labels must be integers of shape \(3,\), got int64 of \(2,\)"),
    ],
)
def test_what_are_no_votes_is_refused(counts, labels, message):
    with pytest.raises(ValueError, match=message):
        data.HumanVotes("votes", counts, labels)
