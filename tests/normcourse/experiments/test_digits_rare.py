"""Rare digits: orders of the classes, the balanced control, and norms by class."""

import numpy as np
import pandas as pd
import pytest
import torch

from normcourse import experiments
from normcourse.experiments import digits_rare
from normlib import data, models


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setenv("TQDM_DISABLE", "1")


@pytest.mark.parametrize("block", [0, 3])
def test_among_as_many_seeds_as_classes_each_class_has_each_rank_once(block):
    orders = np.array([digits_rare.class_order(10 * block + seed, 10) for seed in range(10)])
    for ranks in (orders, orders.T):
        assert all(sorted(row) == list(range(10)) for row in ranks.tolist())


def test_blocks_of_seeds_have_orders_of_their_own():
    cycles = {tuple(np.roll(order, -order.index(0))) for order in (digits_rare.class_order(s, 10) for s in (0, 10, 20))}
    assert len(cycles) == 3


def test_the_long_tail_and_its_balanced_control_have_the_same_size():
    classes = experiments.smoke("digits-rare")["classes"]
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
    table = digits_rare.class_norms(model, test).set_index("label")
    with torch.no_grad():
        z = model(threes.images.float() / 255)
    assert len(table) == 10
    assert table.loc[3, "norm_projector"] == pytest.approx(z.norm(dim=1).mean().item(), rel=1e-5)
