"""Which way a score of confidence points."""

import numpy as np

from normlib import confidence, data, models
from normlib.evaluation import sample_table


def test_every_score_of_a_sample_table_has_its_orientation():
    model = models.SimCLR(models.digits_encoder(8, 8), models.projection_head(8, 8, 4))
    table = sample_table(model, data.digits("train"), {"test": data.digits("test")}, k=20)
    known = {"split", "index", "label", "knn_correct", "probe_correct"}
    assert set(table.columns) - known == set(confidence.oriented_scores(table)) <= set(confidence.SCORES)


def test_distances_are_turned_and_norms_are_not(made):
    table = made()
    turned = confidence.oriented_scores(table)
    assert list(turned) == ["norm", "kth_distance"]
    np.testing.assert_array_equal(turned["norm"], table["norm"])
    np.testing.assert_array_equal(turned["kth_distance"], -table["kth_distance"])
    own = confidence.oriented_scores(table.rename(columns={"norm": "mine"}), {"mine": -1})
    np.testing.assert_array_equal(own["mine"], -table["norm"])
